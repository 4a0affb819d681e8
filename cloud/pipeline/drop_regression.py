"""From a meta-set to slopes: how much mAP50 goes with how much of each feature. Rules alone.

Ridge regression (Hoerl and Kennard, 1970) without an intercept: nothing changed is no loss. How strongly the
slopes are held back is chosen by leaving each kind of change out in turn, and what is missed on the kind left
out is the residual: what a vehicle meets is of no kind that was fitted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge.drift.drop import DropModel, change_of

# The confidences tell; the count does where nothing is found whose confidence could. One fit of both tells of
# corruptions better, and of nights worse, real and simulated ones (docs/drop.md).
FEATURE_SETS = (("mean_confidence", "low_confidence_share"), ("count",))
PENALTIES = tuple(10.0**exponent for exponent in np.arange(-4, 1.5, 0.5))
MIN_KINDS = 3

_Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MetaPoint:
    """What a model did on one version of the pictures.

    Attributes:
        kind, severity: of the corruption; 0: none.
        means: of the model's features, each over the pictures that have it, if any has.
        map50: measured, 0 to 1.
    """

    kind: str
    severity: int
    means: Mapping[str, float]
    map50: float


def fit_drop_model(clean: MetaPoint, points: Sequence[MetaPoint], method: str) -> DropModel | None:
    """Regress the changes of mAP50 on those of the features.

    Args:
        clean: the pictures as they are.
        points: the same pictures, corrupted.
        method: goes into the result.

    Returns:
        None where too few kinds of corruption leave anything that can be compared.
    """
    found = [_fit(clean, points, features, method) for features in FEATURE_SETS]
    fits = [one for one in found if one is not None]
    return replace(fits[0], alternatives=tuple(fits[1:])) if fits else None


def _fit(
    clean: MetaPoint, points: Sequence[MetaPoint], features: tuple[str, ...], method: str
) -> DropModel | None:
    rows = [
        [
            change_of(name, point.means.get(name, math.nan), clean.means.get(name, math.nan))
            for name in features
        ]
        for point in points
    ]
    there = [number for number, row in enumerate(rows) if all(map(math.isfinite, row))]
    kinds = np.array([points[number].kind for number in there])
    if len(set(kinds.tolist())) < MIN_KINDS:
        return None
    changes = np.array([rows[number] for number in there])
    losses = np.array([points[number].map50 - clean.map50 for number in there])
    penalty, residual = choose_penalty(changes, losses, kinds, clean.map50)
    slopes = ridge(changes, losses, penalty)
    return DropModel(features, tuple(slopes.tolist()), residual, clean.map50, method)


def ridge(changes: _Array, losses: _Array, penalty: float) -> _Array:
    """The slopes that explain the losses best, held back by a penalty on each change's own scale.

    Args:
        changes: `float64[n, F]`.
        losses: `float64[n]`.
        penalty: more than 0; 1 halves the slope of a change that stands alone.

    Returns:
        `float64[F]`, of the changes as they are given; 0 for one that never is.
    """
    scale = np.sqrt(np.mean(changes**2, axis=0))
    scale[scale == 0] = 1.0
    scaled = changes / scale
    gram = scaled.T @ scaled / len(scaled) + penalty * np.eye(scaled.shape[1])
    return np.asarray(np.linalg.solve(gram, scaled.T @ losses / len(scaled)) / scale, np.float64)


def choose_penalty(
    changes: _Array, losses: _Array, kinds: npt.NDArray[np.str_], map50: float
) -> tuple[float, float]:
    """The penalty that misses least on kinds that were left out, and the root mean square of what it misses.

    Of penalties that miss as much, the largest.
    """
    residuals = [(_left_out(changes, losses, kinds, penalty, map50), -penalty) for penalty in PENALTIES]
    residual, negative = min(residuals)
    return -negative, residual


def _left_out(
    changes: _Array, losses: _Array, kinds: npt.NDArray[np.str_], penalty: float, map50: float
) -> float:
    missed = []
    for kind in sorted(set(kinds.tolist())):
        out = kinds == kind
        told = changes[out] @ ridge(changes[~out], losses[~out], penalty)
        missed.append(np.clip(told, -map50, 1.0 - map50) - losses[out])
    return float(np.sqrt(np.mean(np.concatenate(missed) ** 2)))
