"""Intervals of medians, for times: they have no distribution that could be presumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Interval:
    """A median and its 95 % interval, by the sign test.

    Ranks by the normal approximation of the binomial distribution (W. Conover, Practical Nonparametric
    Statistics, 1999, section 3.2).
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """Of one value at least; of a few the interval is all there is."""
        ordered = np.sort(np.asarray(values, np.float64))
        count = len(ordered)
        reach = 0.98 * count**0.5
        low, high = int(np.floor(count / 2 - reach)), int(np.ceil(count / 2 + reach))
        return cls(
            float(np.median(ordered)),
            float(ordered[max(low - 1, 0)]),
            float(ordered[min(high, count - 1)]),
        )
