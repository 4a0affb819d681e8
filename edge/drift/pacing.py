"""The frames' time: which frames are taken at the reference's rate, and when a stretch of driving ends."""

from __future__ import annotations

import enum

import numpy as np
import numpy.typing as npt

# After so long without a frame, what was seen before does not count: see `gap_at`.
GAP_S = 60.0
BACK_S = 1.0  # clocks are put right by less; that much is waited for


def gap_at(rate_hz: float) -> float:
    """GAP_S, or two frames' time where frames are wanted so seldom: seconds."""
    return max(GAP_S, 2 / rate_hz)


def breaks(times_ns: npt.NDArray[np.int64], gap_s: float) -> npt.NDArray[np.int64]:
    """`int64[k]` the frames at which another stretch of driving begins: after a gap, or where time goes back.

    Args:
        times_ns: `int64[n]` of a series.
        gap_s: so long without a frame ends a stretch.
    """
    steps = np.diff(times_ns)
    return np.flatnonzero((steps < 0) | (steps > gap_s * 1e9)) + 1


class Step(enum.Enum):
    """What a frame's time says."""

    TAKE = "take"
    # Too close to the frame before, or of a clock that was put back a little: time has to catch up.
    SKIP = "skip"
    # Taken, and nothing before it counts any more.
    GAP = "gap"
    BACK = "back"


class Pace:
    """Takes frames at about the reference's rate. Only times go in: a slower source is taken whole."""

    def __init__(self, rate_hz: float) -> None:
        """Begin; the first frame is taken."""
        self._period = 1e9 / rate_hz
        self._gap = gap_at(rate_hz) * 1e9
        self._back = max(BACK_S * 1e9, self._period)
        self.last: int | None = None  # the latest time of the stretch
        self._due = 0.0

    def wants(self, time_ns: int) -> bool:
        """Whether a frame of this time would be taken; it is not taken by asking."""
        before = self.last
        return (
            before is None
            or not -self._back <= time_ns - before <= self._gap
            or time_ns >= self._due - self._period / 10
        )

    def step(self, time_ns: int) -> Step:
        """Take the next frame's time, ns."""
        before = self.last
        if before is not None and -self._back <= time_ns - before <= self._gap:
            self.last = max(before, time_ns)
            # A tenth of a period early is on time: cameras jitter.
            if time_ns < self._due - self._period / 10:
                return Step.SKIP
            late = time_ns - self._due
            self._due = self._due + self._period if late < self._period else time_ns + self._period
            return Step.TAKE
        self.last, self._due = time_ns, time_ns + self._period
        if before is None:
            return Step.TAKE
        return Step.BACK if time_ns < before else Step.GAP
