"""Drives by day and by night, the references that are made of them, and a monitor that watches."""

from __future__ import annotations

import numpy as np

from edge.drift import DriftMonitor, DriftState, FeatureDrift, Reference, fit
from tests.edge.drift_streams import ar1

NAMES = ["light", "colour", "cars"]
ORIGINS = ["picture", "picture", "detections"]
RATE_HZ = 2.0
SECOND = 1_000_000_000


def drive(seed: int, seconds: float = 120, level: float = 0.0) -> np.ndarray:
    """A drive: a level of its own, small against what day and night differ by."""
    rng = np.random.default_rng(seed)
    return ar1(rng, 0.6, round(seconds * RATE_HZ), 3) + rng.normal(level, 0.3, 3)


def reference_of(context: str = "day", level: float = 0.0, seed: int = 0) -> Reference:
    drives = [drive(1000 * seed + number, level=level) for number in range(8)]
    return fit(drives, RATE_HZ, NAMES, origins=ORIGINS, context=context)


DAY = reference_of()
NIGHT = reference_of("night", -12.0, seed=1)


def watch(
    monitor: DriftMonitor, series: np.ndarray, start_s: float = 0.0, rate_hz: float = RATE_HZ
) -> list[DriftState]:
    states = (
        monitor.observe(round((start_s + number / rate_hz) * SECOND), row)
        for number, row in enumerate(series)
    )
    return [state for state in states if state is not None]


def first_alarm_s(states: list[DriftState]) -> float | None:
    return next((state.time_ns / SECOND for state in states if state.alarm), None)


def feature(state: DriftState, name: str) -> FeatureDrift:
    return next(one for one in state.features if one.name == name)
