"""A picture against its own slice: night is dark and right. Rules alone.

What a slice's pictures usually are is their median, and how far from it they usually are is the median of
their distances from it, times 1.4826 (for a normal distribution the standard deviation): up to half of them
may be bad without moving either much. Source: P. J. Rousseeuw and C. Croux, Alternatives to the Median
Absolute Deviation, JASA 88, 1993.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_TO_SIGMA = 1.4826
# Slices of near-equal pictures exist (a simulated drive); below this a difference means nothing.
LEAST_SIGMA = 0.05


@dataclass(frozen=True, slots=True)
class Norm:
    """What a measure usually is in one slice.

    Attributes:
        median: of the slice's pictures.
        sigma: robust standard deviation.
        pictures: that it is made of.
    """

    median: float
    sigma: float
    pictures: int

    def deviations(self, value: float) -> float:
        """How many standard deviations above the median a value is; below it is negative."""
        return (value - self.median) / self.sigma


def slice_norms(slices: Sequence[str], values: Sequence[float], least: int) -> dict[str, Norm]:
    """Learn each slice's norm.

    Args:
        slices: of each picture.
        values: what was measured of each.
        least: slices with fewer pictures have no norm.
    """
    by_slice: dict[str, list[float]] = defaultdict(list)
    for name, value in zip(slices, values, strict=True):
        by_slice[name].append(value)
    return {name: _norm(found) for name, found in sorted(by_slice.items()) if len(found) >= least}


def _norm(values: Sequence[float]) -> Norm:
    median = float(np.median(values))
    spread = float(np.median(np.abs(np.asarray(values) - median)))
    return Norm(median, max(_TO_SIGMA * spread, LEAST_SIGMA), len(values))
