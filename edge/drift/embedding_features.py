"""The features of the model's embedding: what it makes of the picture as a whole, before it sees objects.

A model file may have a second output: the mean over the picture of the last map of its backbone, along the
few directions in which that differs most between the pictures that it was trained on
(`cloud.release.embedding`). A change of the world that no other feature is made for moves it. Another model
changes what they mean.
"""

from __future__ import annotations

import math
from functools import partial

from edge.drift.feature import Feature
from edge.drift.look import Look
from edge.drift.state import Origin

WATCHED = 4  # of what a model gives; the first are those that differ most


def _number(index: int, look: Look) -> float:
    embedding = look.embedding
    return math.nan if embedding is None or index >= len(embedding) else float(embedding[index])


EMBEDDING_FEATURES: tuple[Feature, ...] = tuple(
    Feature(
        f"embedding_{number}",
        Origin.EMBEDDING,
        -math.inf,
        math.inf,
        f"The backbone's last map, averaged over the picture, along principal axis {number} of the training"
        " pictures (Pearson 1901), in their standard deviations.",
        partial(_number, number - 1),
        1,
        frozenset(),  # what a model makes of a picture that was changed is the model's affair
    )
    for number in range(1, WATCHED + 1)
)
