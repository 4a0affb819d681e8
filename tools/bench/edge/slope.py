"""Whether a series grows: its slope with an interval, robust against the spikes that a busy machine makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import theilslopes

BLOCKS = 60
_LEAST_BLOCKS = 6  # with fewer, Sen's interval has no ends at 95 %


@dataclass(frozen=True, slots=True)
class Slope:
    """Change per unit of time: the estimate and its 95 % interval. Infinite ends: too few points to say."""

    estimate: float
    low: float
    high: float

    def verdict(self, limit: float, of: str) -> list[str]:
        """A line where the interval holds the limit, so that the run decides nothing about it."""
        if not self.low <= limit < self.high:
            return []
        return [f"the verdict on {of} is open: {self.low:.3g} to {self.high:.3g}, the limit is {limit:g}"]


def slope(times: Sequence[float], values: Sequence[float], blocks: int = BLOCKS) -> Slope:
    """The Theil-Sen slope over medians of blocks, with Sen's interval (Sen 1968, section 3; Kendall's tau).

    Neighbouring samples are no independent witnesses, and an interval over all of them would be far too
    narrow; medians of blocks are much nearer to that.

    Args:
        times: rising.
        values: as many.
        blocks: how many medians at most.
    """
    count = min(blocks, len(times))
    if count < _LEAST_BLOCKS:
        return Slope(0.0, -np.inf, np.inf)
    at = [np.median(part) for part in np.array_split(np.asarray(times, float), count)]
    of = [np.median(part) for part in np.array_split(np.asarray(values, float), count)]
    found = theilslopes(of, at, alpha=0.95)
    return Slope(float(found.slope), float(found.low_slope), float(found.high_slope))
