"""How often something may be done: token buckets, one for each who does it, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic


class RateLimit:
    """Buckets that hold `burst` at most and fill at `per_s`. For one thread at a time."""

    def __init__(
        self, per_s: float, burst: float, *, keys: int = 1024, clock: Callable[[], float] = monotonic
    ) -> None:
        """All full.

        Args:
            per_s: in the long run.
            burst: at once, after a quiet time.
            keys: buckets that are remembered; beyond it, who was quiet longest has a full one again.
            clock: seconds, never backward.
        """
        self._per_s = per_s
        self._burst = burst
        self._keys = keys
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when that was

    def take(self, key: str = "") -> bool:
        """Tell whether `key` may now, and count it where it may."""
        now = self._clock()
        left, then = self._left.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._per_s)
        may = left >= 1.0
        self._left[key] = (left - 1.0 if may else left, now)
        if len(self._left) > self._keys:
            self._left.popitem(last=False)
        return may
