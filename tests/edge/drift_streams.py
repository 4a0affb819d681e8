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


def cuts(rng: np.random.Generator, mean_frames: float, frames: int, features: int) -> npt.NDArray[np.float64]:
    """Scenes that change at random: half the variance is the scene's, `float64[frames, features]`."""
    begins = rng.random(frames) < 1 / mean_frames
    begins[0] = True
    scene = np.cumsum(begins) - 1
    levels = rng.normal(size=(scene[-1] + 1, features))
    return np.asarray((levels[scene] + ar1(rng, 0.8, frames, features)) / np.sqrt(2), np.float64)


def counts(rng: np.random.Generator, rho: float, frames: int, features: int) -> npt.NDArray[np.float64]:
    """Numbers of things whose rate comes and goes, three on the average: many are the same."""
    return rng.poisson(3 * np.exp(0.5 * ar1(rng, rho, frames, features))).astype(np.float64)
