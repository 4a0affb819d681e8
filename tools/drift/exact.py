"""The exact test of an alarm: the textbook's, on values far enough apart for it to hold.

The monitor's own yardstick is a bootstrap that knows how alike neighbouring frames are. Frames that are an
autocorrelation time apart are nearly independent, and on those `scipy.stats.ks_2samp` may be asked: fewer
values, and so less power, but nothing in it of our own.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tools.drift.values import Array


@dataclass(frozen=True, slots=True)
class Confirmation:
    """One feature's window against its reference, exactly.

    Attributes:
        feature, context: what is compared with what.
        n: values of the window that are an autocorrelation time apart.
        m: the reference's.
        d: two-sample Kolmogorov-Smirnov statistic of these, 0 to 1.
        p: its two-sided p-value.
    """

    feature: str
    context: str
    n: int
    m: int
    d: float
    p: float


def confirm(
    feature: str, context: str, window: npt.NDArray[np.floating], tau: float, reference: Array
) -> Confirmation:
    """Ask `scipy.stats.ks_2samp`.

    Args:
        feature: its name.
        context: whose reference it is.
        window: `float[n]` consecutive frames, the oldest first.
        tau: autocorrelation time, frames.
        reference: `float32[m]` as `tools.drift.values` keeps them.

    Raises:
        ValueError: one of the two is empty.
    """
    from scipy.stats import ks_2samp

    # From the newest back: what is to be confirmed is how it is now.
    sample = np.asarray(window, np.float64)[::-1][:: max(1, math.ceil(tau))]
    with warnings.catch_warnings():
        # Ties make the exact distribution impossible, and it takes the asymptotic one, as documented.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = ks_2samp(sample, reference)
    return Confirmation(
        feature, context, len(sample), len(reference), float(found.statistic), float(found.pvalue)
    )
