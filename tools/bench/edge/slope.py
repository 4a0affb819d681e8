"""Whether a series grows: its slope with an interval, robust against the spikes that a busy machine makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BLOCKS = 60


@dataclass(frozen=True, slots=True)
class Slope:
    """Change per unit of time: the estimate and its 95 % interval. Infinite ends: too few points to say."""

    estimate: float
    low: float
    high: float


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
    if count < 2:
        return Slope(0.0, -np.inf, np.inf)
    at = np.array([np.median(part) for part in np.array_split(np.asarray(times, float), count)])
    of = np.array([np.median(part) for part in np.array_split(np.asarray(values, float), count)])
    first, second = np.triu_indices(count, 1)
    apart = at[second] - at[first]
    slopes = np.sort((of[second] - of[first])[apart > 0] / apart[apart > 0])
    if not len(slopes):
        return Slope(0.0, -np.inf, np.inf)
    reach = 1.96 * np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low, high = int(np.floor((len(slopes) - reach) / 2)) - 1, int(np.ceil((len(slopes) + reach) / 2))
    return Slope(
        float(np.median(slopes)),
        float(slopes[low]) if low >= 0 else -np.inf,
        float(slopes[high]) if high < len(slopes) else np.inf,
    )
