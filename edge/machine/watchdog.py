"""The threads that speak for the daemon to its service manager: while it starts, and while it runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType

from edge.logs import Repeated
from edge.machine.notify import Notifier

logger = logging.getLogger(__name__)

_EXTEND_EVERY_S = 5.0
_EXTEND_BY_S = 20.0
_JOIN_S = 2.0


class Watchdog:
    """Gives signs of life, four in the manager's period, as long as nothing speaks against it.

    A process that merely lives proves nothing, so this thread asks what the pipeline has done. It stops to
    ping where it should, and the manager does the rest: it ends the process and starts it anew.
    """

    def __init__(
        self, notifier: Notifier, period_s: float | None, reasons: Callable[[], tuple[str, ...]]
    ) -> None:
        """Make ready.

        Args:
            notifier: to the manager.
            period_s: after which it takes silence for death; None: it does not watch, nothing is started.
            reasons: why the daemon is not well; empty where it is. Never waits.
        """
        self._notifier = notifier
        self._period_s = period_s
        self._reasons = reasons
        self._is_well = True
        self._silences, self._recoveries = Repeated(logger, logging.ERROR), Repeated(logger, logging.INFO)
        self._defects = Repeated(logger, logging.ERROR)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start the thread, where the manager watches."""
        if self._period_s is not None:
            self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopping.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; False where it hangs."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def look(self) -> bool:
        """Ping, or say why not; whether it pinged."""
        reasons = self._reasons()
        if not reasons:
            if not self._is_well:
                self._recoveries.log("the daemon is well again", extra={"event": "watchdog_well"})
                self._notifier.status("running")
            self._notifier.alive()
        else:
            text = "; ".join(reasons)
            self._silences.log(
                "no sign of life to the watchdog: %s", text, extra={"event": "watchdog_silent"}
            )
            self._notifier.status(f"not well: {text}")
        self._is_well = not reasons
        return self._is_well

    def _run(self) -> None:
        assert self._period_s is not None
        # Oftener than the half that sd_watchdog_enabled(3) advises: a look that falls into a short trouble (a
        # camera between two tries, inference between two starts) must not be the death of the daemon.
        while not self._stopping.wait(self._period_s / 4):
            try:
                self.look()
            except Exception:  # noqa: BLE001  # the thread's top; silence is what a defect deserves
                self._defects.log("the watchdog's look failed", exc_info=True)


class StartingUp:
    """A context in which the manager is asked for more time again and again, up to a limit.

    A provider that builds engines takes minutes to the first inference. The limit keeps a start that hangs
    from hanging for ever.
    """

    def __init__(self, notifier: Notifier, limit_s: float, *, every_s: float = _EXTEND_EVERY_S) -> None:
        """For a start-up that may take `limit_s`."""
        self._notifier = notifier
        self._every_s = every_s
        self._until = time.monotonic() + limit_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="starting-up", daemon=True)

    def __enter__(self) -> StartingUp:
        """Begin, where somebody listens."""
        if self._notifier.address:
            self._notifier.status("starting: model, cameras, server")
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """End."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while time.monotonic() < self._until:
            self._notifier.extend_timeout(self._every_s + _EXTEND_BY_S)
            if self._over.wait(self._every_s):
                return
