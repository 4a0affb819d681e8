"""Streams of features without any change, and the alarms that a reference's promise is about."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from edge.drift import Reference
from edge.drift.distances import distances_over_time
from edge.drift.windows import DAY_S


def ar1(rng: np.random.Generator, rho: float, frames: int, features: int = 1) -> npt.NDArray[np.float64]:
    """Autoregressive streams of variance 1, `float64[frames, features]`; tau = (1 + rho) / (1 - rho)."""
    noise = rng.normal(size=(frames, features)) * np.sqrt(1 - rho**2)
    noise[0] /= np.sqrt(1 - rho**2)
    return np.asarray(lfilter([1.0], [1.0, -rho], noise, axis=0), np.float64)


def alarm_onsets(
    reference: Reference, series: npt.NDArray[np.float64], ordinary: float = 0.2
) -> npt.NDArray[np.int64]:
    """The judgements at which an alarm begins: the monitor's rule on whole series, for weeks of frames."""
    features = reference.contexts[0].features
    stride = max(1, round(reference.rate_hz))
    steps = len(series) // stride
    limit = 24.0 / reference.target_hours / (2 * len(features))
    unusual = np.zeros(steps, np.bool_)
    held = np.zeros(steps, np.bool_)
    for column, feature in enumerate(features):
        bins = np.searchsorted(feature.edges, series[:, column], side="left")
        windows = [tail.frames for tail in feature.tails]
        found = distances_over_time(bins, windows, stride, feature.lower, feature.upper)
        for tail, distances in zip(feature.tails, found, strict=True):
            per_day = DAY_S * reference.rate_hz / tail.frames
            latest = steps - len(distances)
            unusual[latest:] |= distances >= tail.limit(limit / per_day)
            held[latest:] |= distances > tail.limit(ordinary)
    onsets = []
    alarm = False
    for step in np.flatnonzero(unusual | ~held):
        if unusual[step] and not alarm:
            onsets.append(step)
        alarm = bool(unusual[step])
    return np.array(onsets, np.int64)
