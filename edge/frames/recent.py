"""What happened over the last seconds: how often, and how large."""

from __future__ import annotations

import math
import threading
import time
from collections import deque

WINDOW_S = 5.0
_MOST = 4096  # events: bounds memory, whatever the rate


class Recent:
    """Values of the last seconds. Safe to use from several threads."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        """Nothing yet."""
        self._window_ns = round(window_s * 1e9)
        self._started_ns = time.monotonic_ns()
        self._lock = threading.Lock()
        self._events: deque[tuple[int, int]] = deque(maxlen=_MOST)

    def add(self, value: int = 0, *, now_ns: int | None = None) -> None:
        """Count an event, with a value where it has one."""
        now_ns = time.monotonic_ns() if now_ns is None else now_ns
        with self._lock:
            self._events.append((now_ns, value))
            self._forget(now_ns)

    def rate_hz(self, *, now_ns: int | None = None) -> float:
        """Events per second over the window, or since the start where that is shorter."""
        now_ns = time.monotonic_ns() if now_ns is None else now_ns
        seconds = min(self._window_ns, max(now_ns - self._started_ns, 1)) / 1e9
        return len(self._values(now_ns)) / seconds

    def percentile(self, share: float, *, now_ns: int | None = None) -> int:
        """The value that this share of the window's values does not exceed (nearest rank); 0 without any."""
        now_ns = time.monotonic_ns() if now_ns is None else now_ns
        values = sorted(self._values(now_ns))
        return values[max(0, math.ceil(share * len(values)) - 1)] if values else 0

    def _values(self, now_ns: int) -> list[int]:
        with self._lock:
            self._forget(now_ns)
            return [value for _, value in self._events]

    def _forget(self, now_ns: int) -> None:
        while self._events and self._events[0][0] < now_ns - self._window_ns:
            self._events.popleft()
