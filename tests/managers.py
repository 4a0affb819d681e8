"""A service manager's end of sd_notify: its socket, and the messages that came."""

from __future__ import annotations

import socket
import time
from types import TracebackType

LONG_S = 60.0  # a wait that is never waited out


class Manager:
    """Listens at an address as systemd does: a path, or `@` and an abstract name."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(LONG_S)

    def __enter__(self) -> Manager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._socket.close()

    def next(self) -> dict[str, str]:
        """The next message, as variables."""
        return dict(line.split("=", 1) for line in self._socket.recv(65536).decode().splitlines())

    def until(self, variable: str) -> dict[str, str]:
        """The next message that has a variable; what comes before it is passed over."""
        while True:
            message = self.next()
            if variable in message:
                return message

    def waiting(self) -> list[dict[str, str]]:
        """What has come and was not read yet."""
        messages = []
        self._socket.setblocking(False)
        try:
            while True:
                messages.append(self.next())
        except BlockingIOError:
            return messages
        finally:
            self._socket.settimeout(LONG_S)

    def silent_for(self, seconds: float, variable: str) -> bool:
        """Whether no message with that variable comes for so long."""
        until = time.monotonic() + seconds
        try:
            while (left := until - time.monotonic()) > 0:
                self._socket.settimeout(left)
                if variable in self.next():
                    return False
        except TimeoutError:
            pass
        finally:
            self._socket.settimeout(LONG_S)
        return True
