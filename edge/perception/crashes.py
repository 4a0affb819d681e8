"""When inference breaks down: how long to wait before it starts again, and when to give a model up."""

from __future__ import annotations

from collections import deque

from edge.backoff import Backoff, BackoffOptions

WINDOW_S = 60.0
RESTART = BackoffOptions(initial_s=0.1, limit_s=30.0)
LIMIT = 3  # crashes within the window that call for another model


class CrashRules:
    """Counts the crashes of the last minute. Times are monotonic seconds."""

    def __init__(self, backoff: Backoff | None = None) -> None:
        """None so far."""
        self._backoff = backoff or Backoff(RESTART)
        self._crashes: deque[float] = deque(maxlen=LIMIT)

    def crashed(self, now_s: float) -> tuple[float, bool]:
        """Note a crash.

        Returns:
            Seconds to wait before inference is started again, and whether this was the third within a minute
            (the count then begins anew, so that the next model has its own three).
        """
        if self._crashes and now_s - self._crashes[-1] > WINDOW_S:
            self._backoff.reset()
        self._crashes.append(now_s)
        wait_s = self._backoff.next_s()
        too_many = len(self._crashes) == LIMIT and now_s - self._crashes[0] <= WINDOW_S
        if too_many:
            self._crashes.clear()
        return wait_s, too_many

    def another_model(self) -> None:
        """A swap: what the model before it did is not held against this one."""
        self._crashes.clear()
        self._backoff.reset()
