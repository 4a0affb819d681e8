"""When alarms begin in a long series without a gap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.drift import Reference, scan_arrays

Onsets = npt.NDArray[np.int64]


def alarm_onsets(reference: Reference, series: npt.NDArray[np.floating]) -> Onsets:
    """The frames at whose judgement an alarm begins, `int64[k]`.

    Args:
        reference: what to judge by.
        series: `float[frames, features]` at the reference's rate.

    Raises:
        DriftReferenceError: the series has other features.
    """
    scan = scan_arrays(reference, series, reference.rate_hz)
    return np.round(scan.time_ns[scan.onsets()] * reference.rate_hz / 1e9).astype(np.int64)


def fill_frames(reference: Reference) -> int:
    """So many frames pass before every window is full; there can be no alarm of all before."""
    return max(
        (tail.frames for feature in reference.contexts[0].features for tail in feature.tails), default=0
    )
