"""What the daemon tells its service manager: sd_notify(3), without its library.

One datagram a message to the socket that `$NOTIFY_SOCKET` names. A manager that does not listen is no trouble
of the daemon's: nothing here raises.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

logger = logging.getLogger(__name__)

_SEND_TIMEOUT_S = 1.0  # the manager's queue is full: it has other troubles than ours
_STATUS_LIMIT = 300  # characters; systemctl shows one line


@dataclass(frozen=True, slots=True)
class Notifier:
    """Sends to one manager. From any thread.

    Attributes:
        address: of its socket, a path or `@` and an abstract name; empty: nobody listens.
    """

    address: str = ""

    def ready(self, status: str) -> None:
        """Start-up is over, or a reload is."""
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """The configuration is read again; `ready` ends it. The time stamp is for `Type=notify-reload`."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The daemon ends by itself or was asked to."""
        self._send("STOPPING=1", _status("stopping"))

    def alive(self) -> None:
        """A sign of life to the watchdog."""
        self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> None:
        """Ask for so much time from now on, before the phase that is under way counts as failed."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(_status(text))

    def _send(self, *lines: str) -> None:
        if not self.address:
            return
        # An abstract name begins with a zero byte, which no environment variable can hold (unix(7)).
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(_SEND_TIMEOUT_S)
                sender.sendto("\n".join(lines).encode(), address)
        except (OSError, ValueError) as error:
            logger.debug("the service manager at %r was not told: %s", self.address, error)


NOBODY = Notifier()


def notifier(environment: Mapping[str, str] = os.environ) -> Notifier:
    """For the manager that started this process; one that does nothing where there is none."""
    address = environment.get("NOTIFY_SOCKET", "")
    return Notifier(address if address.startswith(("/", "@")) else "")


def watchdog_period_s(environment: Mapping[str, str] = os.environ, pid: int | None = None) -> float | None:
    """How long the manager waits for a sign of life (sd_watchdog_enabled(3)); None: it does not watch us."""
    watched = environment.get("WATCHDOG_PID", "")
    if watched and watched != str(os.getpid() if pid is None else pid):
        return None
    period = environment.get("WATCHDOG_USEC", "")
    return int(period) / 1e6 if period.isascii() and period.isdecimal() and int(period) > 0 else None


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())[:_STATUS_LIMIT]}"
