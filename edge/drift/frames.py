"""The features of a frame as the daemon watches them: of the part that is looked at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.drift.features import extract
from edge.frames.frame import Frame
from edge.publication import Publication


def frame_features(frame: Frame, published: Publication) -> npt.NDArray[np.float32]:
    """All features of a frame, `float32[F]` in the order of `features.FEATURES`; NaN where not to be had.

    Args:
        frame: with its image, the camera's mask painted over it.
        published: what was found in it; boxes in pixels of the whole image.
    """
    detections = published.detections
    return extract(
        frame.part,
        frame.to_part(detections.boxes),
        class_names=published.model.class_names,
        embedding=detections.embedding,
    )
