"""Rows of drift features for what judges drives, without a drive."""

from __future__ import annotations

import numpy as np

from edge.drift.features import NAMES
from edge.frames.frame import Frame
from tools.drift.replay import Row

RATE_HZ = 2.0


def noise(seed: int, frames: int) -> np.ndarray:
    """Features that go up and down by themselves, `float32[frames, F]`, each around 10 by 1."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(frames, len(NAMES)))
    for row in range(1, frames):
        steps[row] = 0.5 * steps[row - 1] + steps[row]
    return (10 + steps).astype(np.float32)


def rows(values: np.ndarray, step_s: float = 1 / RATE_HZ) -> list[Row]:
    """A drive of these features, a frame each `step_s`."""
    image = np.full((48, 640, 3), 90, np.uint8)
    times = (np.arange(len(values)) * step_s * 1e9).astype(np.int64).tolist()
    return [
        Row(time_ns, vector, Frame("front", number, 0, time_ns, image))
        for number, (time_ns, vector) in enumerate(zip(times, values, strict=True))
    ]
