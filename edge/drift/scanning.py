"""A whole series at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.drift.monitor import DriftMonitor
from edge.drift.reference import Reference
from edge.drift.state import DriftState


def scan(
    reference: Reference,
    features: npt.NDArray[np.floating],
    rate_hz: float,
    *,
    target_hours: float | None = None,
) -> list[DriftState]:
    """The states that a monitor gives of a series.

    Args:
        reference: what to judge by.
        features: `float[frames, F]`, consecutive frames.
        rate_hz: frames per second; more than the reference's are thinned as a monitor would.
        target_hours: hours of driving to one false alarm, in place of the reference's own.

    Raises:
        DriftReferenceError: the series has other features than the reference.
    """
    monitor = DriftMonitor(reference, target_hours=target_hours)
    times = np.round(np.arange(len(features)) * (1e9 / rate_hz)).astype(np.int64)
    states = (monitor.observe(int(time), row) for time, row in zip(times, features, strict=True))
    return [state for state in states if state is not None]
