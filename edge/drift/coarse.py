"""Numbers of a reference no finer than they are worth: what is rounded here need not be kept, sent and read.

An edge of a bin may lie anywhere, as long as the shares up to it are counted at the very edge: a distance is
as exact by one as by another. The rest are estimates, rounded far below what they are uncertain by.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

SHARE_BITS = 18  # D within 2e-6
DISTANCE_BITS = 13  # of the table of p
ESTIMATE_BITS = 16  # relative 1e-5
MEAN_BITS = 24  # as float32: a mean may be large against its deviation

_FINER = 64  # than the least distance of two edges


def significant(value: float, bits: int = ESTIMATE_BITS) -> float:
    """The nearest number of so many binary digits."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, bits)), exponent - bits)


def fraction(values: Values, bits: int) -> Values:
    """The nearest multiples of 2^-bits."""
    return np.asarray(np.round(np.ldexp(values, bits)) / 2.0**bits, np.float64)


def edges(exact: Values) -> Values:
    """Edges of bins on a grid of a power of two, as float32 has them: each at most a 64th of a bin higher.

    Higher, never lower: a value of which there are many, as of counts, stays below the edge at it. Edges that
    float32 does not tell apart are one.

    Args:
        exact: `float64[n]`, rising.
    """
    plain = np.unique(exact.astype(np.float32)).astype(np.float64)
    if len(plain) < 2:
        return plain
    step = 2.0 ** math.floor(math.log2(float(np.diff(plain).min()) / _FINER))
    places = np.ceil(plain / step)
    # Float32 would round them, up or down.
    return plain if np.abs(places).max() >= 2.0**24 else places * step
