"""The features of what the model found: another model changes what they mean."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from edge.drift.feature import Feature, Invariance
from edge.drift.look import Look
from edge.drift.state import Origin
from edge.perception.class_names import canonical

_LOW_CONFIDENCE = 0.5
_VULNERABLE = frozenset({"pedestrian", "rider", "bicycle", "motorcycle"})
_HEAVY = frozenset({"truck", "bus", "train"})
_VEHICLES = _HEAVY | {"car"}


def count(look: Look) -> float:
    """Number of detections: the one that is to be had where there are none."""
    return float(len(look.boxes))


def _mean_confidence(look: Look) -> float:
    return float(look.boxes[:, 4].mean())


def _low_confidence_share(look: Look) -> float:
    return float((look.boxes[:, 4] < _LOW_CONFIDENCE).mean())


def _top_confidence(look: Look) -> float:
    return float(look.boxes[:, 4].max())


def _mean_size(look: Look) -> float:
    return float(np.sqrt(np.clip(look.sides.prod(axis=1), 0.0, 1.0)).mean())


def _mean_height(look: Look) -> float:
    return float((look.boxes[:, 1] + look.boxes[:, 3]).mean() / 2 / look.height)


def _mean_x(look: Look) -> float:
    return float((look.boxes[:, 0] + look.boxes[:, 2]).mean() / 2 / look.width)


def _class_diversity(look: Look) -> float:
    counts = np.bincount(look.boxes[:, 5].astype(np.intp))
    return float(1.0 - np.square(counts / len(look.boxes)).sum())


def _vulnerable_share(look: Look) -> float:
    if not look.class_names:
        return math.nan
    return float(np.count_nonzero(_are(look, _VULNERABLE))) / len(look.boxes)


def _heavy_share(look: Look) -> float:
    if not look.class_names:
        return math.nan
    vehicles = int(np.count_nonzero(_are(look, _VEHICLES)))
    return np.count_nonzero(_are(look, _HEAVY)) / vehicles if vehicles else math.nan


def _are(look: Look, names: frozenset[str]) -> npt.NDArray[np.bool_]:
    """Tell which of the detections are of these canonical classes, `bool[N]`."""
    return _table(look.class_names, names)[look.boxes[:, 5].astype(np.intp)]


@lru_cache(maxsize=16)
def _table(class_names: tuple[str, ...], names: frozenset[str]) -> npt.NDArray[np.bool_]:
    """Tell which of the model's classes are of these, `bool[classes]`."""
    return np.array([canonical(name) in names for name in class_names], np.bool_)


_OF = Origin.DETECTIONS
# Of the same boxes they depend on neither resolution nor levels; but what a model finds in a picture that was
# changed is the model's affair, and some of it is always found otherwise.
_NONE: frozenset[Invariance] = frozenset()

DETECTION_FEATURES: tuple[Feature, ...] = (
    Feature("count", _OF, 0, math.inf, "Detections in the frame.", count, 1, _NONE),
    Feature("mean_confidence", _OF, 0, 1, "Mean score.", _mean_confidence, 8, _NONE),
    Feature(
        "low_confidence_share", _OF, 0, 1, "Share that scores below 0.5.", _low_confidence_share, 7, _NONE
    ),
    Feature("mean_size", _OF, 0, 1, "Mean root of a box's share of the frame.", _mean_size, 20, _NONE),
    Feature("mean_height", _OF, 0, 1, "Mean of the centres' y, 0 at the top edge.", _mean_height, 6, _NONE),
    Feature(
        "class_diversity",
        _OF,
        0,
        1,
        "Chance that two detections drawn with replacement differ in class (Gini-Simpson).",
        _class_diversity,
        6,
        _NONE,
    ),
    Feature("top_confidence", _OF, 0, 1, "Highest score.", _top_confidence, 3, _NONE),
    Feature(
        "mean_x",
        _OF,
        0,
        1,
        "Mean of the centres' x, 0 at the left edge.",
        _mean_x,
        6,
        _NONE,
    ),
    Feature(
        "vulnerable_share",
        _OF,
        0,
        1,
        "Share of pedestrians, riders, bicycles and motorcycles; by the classes' names.",
        _vulnerable_share,
        3,
        _NONE,
    ),
    Feature(
        "heavy_share",
        _OF,
        0,
        1,
        "Share of trucks, buses and trains among these and cars; by the classes' names.",
        _heavy_share,
        4,
        _NONE,
    ),
)
