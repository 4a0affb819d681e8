"""Streams of features without any change."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter


def ar1(rng: np.random.Generator, rho: float, frames: int, features: int = 1) -> npt.NDArray[np.float64]:
    """Autoregressive streams of variance 1, `float64[frames, features]`; tau = (1 + rho) / (1 - rho)."""
    noise = rng.normal(size=(frames, features)) * np.sqrt(1 - rho**2)
    noise[0] /= np.sqrt(1 - rho**2)
    return np.asarray(lfilter([1.0], [1.0, -rho], noise, axis=0), np.float64)
