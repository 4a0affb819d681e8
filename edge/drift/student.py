"""Student's distribution: the vehicle has no scipy."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np


def student_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t for a probability above one half.

    By the density's integral over the angle, where it is smooth; of many degrees of freedom by the expansion
    about the normal quantile (Abramowitz & Stegun, 1964, 26.7.5).
    """
    if freedom > 200:
        normal = NormalDist().inv_cdf(probability)
        return normal + (normal**3 + normal) / (4 * freedom)
    # With x = sqrt(freedom) * tan(angle), the density becomes cos(angle)^(freedom - 1) up to a factor.
    angles = np.linspace(0.0, math.pi / 2, 20_001)
    density = np.cos(angles) ** (freedom - 1)
    steps = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    share = 0.5 + 0.5 * steps / steps[-1]
    return math.sqrt(freedom) * math.tan(float(np.interp(probability, share, angles)))
