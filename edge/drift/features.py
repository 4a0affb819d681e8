"""What is watched of a frame: one number a feature, of the picture or of what the model makes of it.

Each feature is defined once: a new one is a function of `Look` and an entry in PICTURE_FEATURES,
DETECTION_FEATURES or EMBEDDING_FEATURES. Which change moves which of them: docs/drift-features.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edge.drift.detection_features import DETECTION_FEATURES, count
from edge.drift.embedding_features import EMBEDDING_FEATURES
from edge.drift.feature import Feature
from edge.drift.look import Look
from edge.drift.picture_features import PICTURE_FEATURES
from edge.drift.reference import DriftReferenceError, Reference, align
from edge.drift.state import Origin, Scope

Array = npt.NDArray[np.float32]

# What the look costs before any feature: the small copy, its planes and luma, the histogram; as `cost_us`.
SHARED_US = 530

FEATURES: tuple[Feature, ...] = (*PICTURE_FEATURES, *DETECTION_FEATURES, *EMBEDDING_FEATURES)
NAMES = tuple(feature.name for feature in FEATURES)
ORIGINS = tuple(feature.origin for feature in FEATURES)


def watched_reference(reference: Reference) -> Reference:
    """The reference as one of these features; see `align`.

    Raises:
        DriftReferenceError: it has none of them.
    """
    return align(reference, NAMES, ORIGINS)


def fleet_prior(text: str) -> Reference:
    """The reference that a model file brings, as one of these features: of the fleet's other cameras.

    A file that does not say whose it is keeps its digest where it would promise nothing anyway.

    Raises:
        DriftReferenceError: it is no reference, or has none of the features.
    """
    prior = watched_reference(Reference.from_bytes(text.encode()))
    return prior.scoped(Scope.FLEET) if any(prior.promises(one.name) for one in prior.contexts) else prior


def prior_text(reference: Reference, version: int) -> str:
    """The reference as a model file brings it.

    Args:
        reference: goes into it.
        version: of the file that all daemons read which may get the model (`reference_file.version_for`): one
            that does not read it judges as without a prior.
    """
    return reference.to_bytes(version).decode()


def require_features(reference: Reference) -> Reference:
    """Give the reference back, if it is of these features and no others: what is made now must be.

    Raises:
        DriftReferenceError: it is of others.
    """
    if (reference.names, reference.origins) != (NAMES, ORIGINS):
        raise DriftReferenceError(
            f"the reference is of {', '.join(reference.names)}; the daemon's features are"
            f" {', '.join(NAMES)}: make it anew with `traffic-vision drift fit`"
        )
    return reference


def extract(
    image: npt.NDArray[np.uint8],
    boxes: Array,
    *,
    class_names: Sequence[str] = (),
    embedding: Array | None = None,
) -> Array:
    """Compute all features of one frame, in the order of FEATURES.

    Args:
        image: `uint8[H, W, 3]`, BGR, not empty.
        boxes: `float32[N, 6]` x1, y1, x2, y2 (pixels of the image), score, class.
        class_names: of the model's classes, in their order, as any dataset spells them.
        embedding: `float32[k]` of the model; None: it gives none.

    Returns:
        `float32[F]`; NaN where a feature is not to be had: means over detections where there are none, the
        mix of classes without their names, the vanishing point of a picture without edges, the embedding of a
        model that gives none.
    """
    look = Look(image, boxes, class_names, embedding)
    empty = len(boxes) == 0
    return np.array(
        [
            math.nan
            if empty and feature.origin == Origin.DETECTIONS and feature.of is not count
            else feature.of(look)
            for feature in FEATURES
        ],
        np.float32,
    )
