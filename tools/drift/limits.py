"""Distances at which alarms begin, and how far windows are from the reference: what a report draws."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.drift import Reference
from edge.drift.distances import distance
from edge.drift.reference import ContextReference, FeatureReference
from edge.drift.windows import Yardstick


def limits(
    reference: Reference, context: ContextReference, step_s: float | npt.NDArray[np.floating] | None = None
) -> npt.NDArray[np.float64]:
    """Distance at which each window's alarm begins, `float64[..., W, F]`; infinite where it is not judged.

    Args:
        reference: what is judged by.
        context: of it.
        step_s: `float[...]` time between two frames; None: as at the reference's rate.
    """
    yardstick = Yardstick.of(context.features, reference.rate_hz)
    return yardstick.limits(yardstick.limit(reference.target_hours, context.joint), step_s)


def window_distances(feature: FeatureReference, content: npt.NDArray[np.float32]) -> list[float]:
    """Distance of each window that ends with the newest value, the short one first; NaN where not full.

    Args:
        feature: its reference.
        content: `float32[n]` consecutive values, the oldest first.
    """
    bins = np.searchsorted(feature.edges, content, side="left")
    found = []
    for tail in feature.tails:
        if len(content) < tail.frames:
            found.append(np.nan)
            continue
        counts = np.bincount(bins[-tail.frames :], minlength=len(feature.edges) + 1)
        found.append(float(distance(counts, feature.lower, feature.upper)))
    return found
