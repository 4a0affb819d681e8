"""ObjectLab: how well a picture's labels agree with what a model finds in it. Rules alone.

Source: U. Tkachenko, A. Thyagarajan, J. Mueller, ObjectLab: Automated Diagnosis of Mislabeled Images in
Object Detection Data, ICML 2023 workshop on data-centric machine learning, https://arxiv.org/abs/2309.00832.
Scores are from 0 to 1, and low ones are suspicious. The model must not have been trained on these labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# As published: how much overlap counts against nearness, how fast nearness falls, and how sure is sure.
OVERLAP_WEIGHT = 0.9
NEARNESS_PER_PX = 0.1
SURE = 0.95
LIKELY = 0.5
TEMPERATURE = 0.1
_LEAST = 1e-6


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one picture.

    Attributes:
        overlooked: `float64[M]`, of each detection: low if it is sure and no label is like it; NaN for one
            that is not sure.
        located: `float64[L]`, of each label: low if likely detections of its class are elsewhere.
        swapped: `float64[L]`, of each label: low if a sure detection of another class is in its place.
    """

    overlooked: Array
    located: Array
    swapped: Array

    @property
    def quality(self) -> float:
        """The picture's: geometric mean of the three kinds, each pooled by its soft minimum."""
        pooled = [_softmin(values) for values in (self.overlooked, self.located, self.swapped)]
        return float(np.exp(np.mean(np.log(np.maximum(pooled, _LEAST)))))


def overlap(first: Boxes, second: Boxes) -> Array:
    """Intersection over union of boxes `float64[L, 4]` and `float64[M, 4]`: `float64[L, M]`."""
    left_top = np.maximum(first[:, np.newaxis, :2], second[np.newaxis, :, :2])
    right_bottom = np.minimum(first[:, np.newaxis, 2:], second[np.newaxis, :, 2:])
    common = np.prod(np.maximum(right_bottom - left_top, 0.0), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    union = areas[0][:, np.newaxis] + areas[1][np.newaxis, :] - common
    return np.asarray(common / np.maximum(union, 1e-12), np.float64)


def similarity(labels: Boxes, found: Boxes) -> Array:
    """How like each other boxes are: overlap, and nearness of their centres. `float64[L, M]`."""
    centres = [(boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (labels, found)]
    distance = np.linalg.norm(centres[0][:, np.newaxis] - centres[1][np.newaxis, :], axis=2)
    nearness = np.exp(-NEARNESS_PER_PX * distance)
    return np.asarray(OVERLAP_WEIGHT * overlap(labels, found) + (1 - OVERLAP_WEIGHT) * nearness, np.float64)


def objectlab(
    labels: Boxes,
    label_classes: npt.NDArray[np.int64],
    found: Boxes,
    found_classes: npt.NDArray[np.int64],
    sureness: Array,
    *,
    sure: float = SURE,
    likely: float = LIKELY,
) -> Scores:
    """Score a picture's labels.

    Args:
        labels: `float64[L, 4]` x1, y1, x2, y2, pixels.
        label_classes: `int64[L]`.
        found: `float64[M, 4]`, what the model finds.
        found_classes: `int64[M]`.
        sureness: `float64[M]`, its scores.
        sure: from this score on a detection accuses labels by itself.
        likely: above this score it is taken for what its label should be like.
    """
    alike = similarity(labels, found)
    same = label_classes[:, np.newaxis] == found_classes[np.newaxis, :]
    least = min(1.0, float(alike[alike > 0].min(initial=1.0)))
    overlooked = _best(alike, same, axis=0, otherwise=least * (1 - sureness))
    overlooked[sureness < sure] = np.nan
    located = _best(alike, same & (sureness > likely)[np.newaxis, :], axis=1, otherwise=1.0)
    wrong = _best(alike, ~same & (sureness >= sure)[np.newaxis, :], axis=1, otherwise=0.0)
    return Scores(overlooked, located, np.maximum(1 - wrong, _LEAST))


def _best(values: Array, where: npt.NDArray[np.bool_], *, axis: int, otherwise: float | Array) -> Array:
    """The largest value along an axis, of those that count; `otherwise` where none does."""
    best = np.where(where, values, -1.0).max(axis=axis, initial=-1.0)
    return np.asarray(np.where(best < 0, otherwise, best), np.float64)


def _softmin(values: Array) -> float:
    values = values[~np.isnan(values)]
    if not len(values):
        return 1.0
    weights = np.exp((values.min() - values) / TEMPERATURE)
    return float(values @ weights / weights.sum())
