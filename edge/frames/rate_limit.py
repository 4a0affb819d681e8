"""A limit on frames per second that leaves a camera alone which keeps it."""

from __future__ import annotations


class RateLimit:
    """A token bucket over the frames' own time.

    It holds one frame and a half: a camera at just the limit, whose frames come up to a quarter of a period
    early or late, loses none; over any time, at most `rate * seconds + 1.5` frames pass.
    """

    CAPACITY = 1.5  # frames

    def __init__(self, rate_hz: float | None) -> None:
        """A full bucket; None limits nothing."""
        self._rate_hz = rate_hz
        self._frames = self.CAPACITY
        self._last_ns: int | None = None

    def passes(self, time_ns: int) -> bool:
        """Whether the frame of that time passes. Time that runs backwards (a new start) fills the bucket."""
        if self._rate_hz is None:
            return True
        if self._last_ns is not None:
            elapsed_s = (time_ns - self._last_ns) / 1e9
            gained = elapsed_s * self._rate_hz if elapsed_s >= 0 else self.CAPACITY
            self._frames = min(self.CAPACITY, self._frames + gained)
        self._last_ns = time_ns
        # Rounding of nanoseconds must not cost a frame.
        if self._frames < 1.0 - 1e-6:
            return False
        self._frames -= 1.0
        return True
