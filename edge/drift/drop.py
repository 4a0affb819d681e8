"""How much worse the detector has become, told without labels from what the monitor sees.

A model that meets what it was not made for is less sure of itself, and the difference of its confidences
tells how much accuracy is lost (DoC: Guillory, Shankar, Ebrahimi, Darrell and Schmidt, "Predicting with
Confidence on Unseen Distributions", ICCV 2021). How much of the one goes with how much of the other is
regressed over a meta-set of labelled pictures that were corrupted in many ways (AutoEval: Deng and Zheng,
"Are Labels Always Necessary for Classifier Accuracy Evaluation?", CVPR 2021), for each model before its
release: `cloud.pipeline.drop_estimate`. On the vehicle a dot product is left of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# Numbers of things change by their ratio, with the traffic as well as with the detector; and only to be fewer
# is a loss that can be told: noise makes a detector find more, and be wrong.
COUNTS = frozenset({"count"})


@dataclass(frozen=True, slots=True)
class DropModel:
    """How the model's accuracy falls with its features, as measured on labelled pictures.

    Attributes:
        features: names of those that tell.
        slopes: change of mAP50 per unit of each feature's change (see `change_of`), in their order.
        residual: standard deviation of what was measured about what the slopes say, mAP50, for kinds of
            change that they were not fitted on.
        map50: of the model on the pictures as they were, 0 to 1.
        method: how it was fitted, for people.
        alternatives: of fewer features, tried in turn where one of these is not to be had; they have none.
    """

    features: tuple[str, ...]
    slopes: tuple[float, ...]
    residual: float
    map50: float
    method: str
    alternatives: tuple[DropModel, ...] = ()


def change_of(name: str, mean: float, reference_mean: float) -> float:
    """By how much a feature's mean has changed: the difference; of COUNTS the share that is missing, below 0.

    Cameras see different amounts of traffic; their means of the other features are of one scale.

    Returns:
        NaN where it is not to be had.
    """
    if name not in COUNTS:
        return mean - reference_mean
    return min(mean / reference_mean - 1.0, 0.0) if reference_mean > 0 else math.nan


def usable(
    model: DropModel, means: Mapping[str, float], reference_means: Mapping[str, float]
) -> DropModel | None:
    """The model, or the first of its alternatives, whose features can all be compared; None: no one."""
    for one in (model, *model.alternatives):
        changes = _changes(one, means, reference_means)
        if changes and all(map(math.isfinite, changes)):
            return one
    return None


def estimate(
    model: DropModel, means: Mapping[str, float], reference_means: Mapping[str, float]
) -> float | None:
    """The change of mAP50 since the reference; negative: a loss.

    Args:
        model: of the detector that runs.
        means: of its features now, each over the frames that have it.
        reference_means: the same while the model was right.

    Returns:
        At least what takes mAP50 to 0, at most what takes it to 1; None where nothing can be compared.
    """
    chosen = usable(model, means, reference_means)
    if chosen is None:
        return None
    changes = _changes(chosen, means, reference_means)
    told = sum(slope * change for slope, change in zip(chosen.slopes, changes, strict=True))
    return min(max(told, -chosen.map50), 1.0 - chosen.map50)


def _changes(
    model: DropModel, means: Mapping[str, float], reference_means: Mapping[str, float]
) -> list[float]:
    return [
        change_of(name, means.get(name, math.nan), reference_means.get(name, math.nan))
        for name in model.features
    ]
