"""Distances at which alarms begin, and how far windows are from the reference: what a report draws."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.drift import Reference
from edge.drift.distances import distance
from edge.drift.reference import ContextReference, FeatureReference
from edge.drift.unknown import UsualShare
from edge.drift.windows import DAY_S, Yardstick

_SHARES = 2001  # steps of a share that are told apart


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


def share_limits(
    usual: UsualShare, reference: Reference, context: ContextReference, step_s: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Share of frames that fit no context at which each window's alarm begins, `float64[J, W]`.

    Infinite where none is unusual enough.

    Args:
        usual: what the reference says of it.
        reference: what is judged by.
        context: that is driven in.
        step_s: `float[J]` time between two frames.
    """
    per_day = Yardstick.of(context.features, reference.rate_hz).limit(reference.target_hours, context.joint)
    shares = np.linspace(usual.usual, 1.0, _SHARES)
    rates = usual.rate(shares[:, None])
    found = np.full((len(step_s), len(usual.windows)), np.inf)
    for window, frames in enumerate(usual.windows):
        at = np.searchsorted(-rates[:, window], -per_day * frames * step_s / DAY_S)
        found[:, window] = np.append(shares, np.inf)[at]
    return found


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
