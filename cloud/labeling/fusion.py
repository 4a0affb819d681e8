"""Boxes of several models fused into one set, and how far the models agree on each.

The fusion is Weighted Boxes Fusion: R. Solovyev, W. Wang, T. Gabruseva, Weighted boxes fusion: Ensembling
boxes from different object detection models, Image and Vision Computing 107 (2021), 104117,
https://arxiv.org/abs/1910.13302, section 3. Here the share of models that found a box stands beside its
score, instead of being multiplied into it; and a model that does not know a class has no say in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cloud.datasets.dataset import Box
from cloud.labeling.service import Suggestion


@dataclass(frozen=True, slots=True)
class Fused:
    """One object as several models see it.

    Attributes:
        box: corners are the means of theirs, weighted by their scores.
        score: the mean of theirs, 0 to 1.
        agreement: the share of the models that know the class and found it, above 0, to 1.
    """

    box: Box
    score: float
    agreement: float


def fuse(
    found: Sequence[Sequence[Suggestion]], knowing: Mapping[str, int], overlap: float = 0.55
) -> list[Fused]:
    """Fuse what several models found in one picture.

    Args:
        found: of each model, its boxes of one picture.
        knowing: how many of the models know a class; one that is not there is known to all.
        overlap: boxes of a class are one object where they overlap by more, IoU; the paper's default.

    Returns:
        By falling score times agreement.
    """
    clusters: list[_Cluster] = []
    every = [(model, each) for model, boxes in enumerate(found) for each in boxes if each.score > 0]
    for model, each in sorted(every, key=lambda pair: -pair[1].score):
        same = [cluster for cluster in clusters if cluster.box.category == each.box.category]
        shares = [_iou(cluster.box, each.box) for cluster in same]
        if shares and max(shares) > overlap:
            same[shares.index(max(shares))].add(model, each)
        else:
            clusters.append(_Cluster(model, each))
    fused = [
        Fused(
            cluster.box,
            sum(each.score for each in cluster.boxes) / len(cluster.boxes),
            min(len(cluster.models) / knowing.get(cluster.box.category, len(found)), 1.0),
        )
        for cluster in clusters
    ]
    return sorted(fused, key=lambda each: -each.score * each.agreement)


class _Cluster:
    def __init__(self, model: int, first: Suggestion) -> None:
        self.models, self.boxes, self.box = {model}, [first], first.box

    def add(self, model: int, other: Suggestion) -> None:
        self.models.add(model)
        self.boxes.append(other)
        corners = np.array([(each.box.x1, each.box.y1, each.box.x2, each.box.y2) for each in self.boxes])
        mean = np.average(corners, axis=0, weights=[each.score for each in self.boxes])
        x1, y1, x2, y2 = (float(value) for value in mean)
        self.box = replace(self.box, x1=x1, y1=y1, x2=x2, y2=y2)


def _iou(one: Box, other: Box) -> float:
    """Of one pair: for that, plain numbers are many times faster than arrays."""
    wide = min(one.x2, other.x2) - max(one.x1, other.x1)
    high = min(one.y2, other.y2) - max(one.y1, other.y1)
    if wide <= 0 or high <= 0:
        return 0.0
    areas = [(box.x2 - box.x1) * (box.y2 - box.y1) for box in (one, other)]
    return wide * high / (sum(areas) - wide * high)
