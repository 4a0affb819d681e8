"""What a model sees in labelled pictures, for the review of their labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from cloud.datasets.dataset import LabeledImage
from cloud.datasets.pictures import PictureError
from cloud.pipeline.evaluation import load_picture
from cloud.pipeline.purity.review import LEAST_SCORE
from edge.perception.detector import Detector, DetectorOptions, InferenceError
from edge.perception.model_file import ModelFile

TELL_EVERY = 8
# Two boxes with more overlap are of the same object.
_IOU = 0.6
_MAX_DETECTIONS = 300


def predictor(
    model: ModelFile, threads: int, tell: Callable[[str, int, int], None]
) -> Callable[[Sequence[LabeledImage]], list[npt.NDArray[np.float32] | None]]:
    """Make a function that runs a model over pictures; it loads the model when it is called.

    Args:
        model: that was not trained on the pictures' labels.
        threads: of the inference.
        tell: is told how many of how many pictures are done.
    """

    def predict(images: Sequence[LabeledImage]) -> list[npt.NDArray[np.float32] | None]:
        options = DetectorOptions(
            threads=threads,
            score_threshold=LEAST_SCORE,
            iou_threshold=_IOU,
            max_detections=_MAX_DETECTIONS,
            # What a box is besides its best class counts for a label of that class.
            multi_label=True,
        )
        detector = Detector(model, options)
        found: list[npt.NDArray[np.float32] | None] = []
        for number, image in enumerate(images, start=1):
            try:
                found.append(detector.detect(load_picture(image)).boxes)
            except (PictureError, InferenceError):
                found.append(None)
            if number % TELL_EVERY == 0 or number == len(images):
                tell("labels looked at by the model", number, len(images))
        return found

    return predict
