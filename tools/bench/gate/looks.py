"""What a model finds on labelled pictures, and on the same ones mirrored: as good, and not the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cloud.datasets import Dataset, LabeledImage, dataset_sha256
from cloud.pipeline.evaluation import evaluation_options, load_picture
from cloud.pipeline.predictions_file import Predictions, load_predictions, save_predictions
from edge.perception.detector import Detector
from edge.perception.model_file import ModelFile

Tell = Callable[[str, int, int], None]


def look(
    model: ModelFile,
    images: Sequence[LabeledImage],
    threads: int,
    cache: Path | None,
    tell: Tell,
    *,
    mirrored: bool = False,
) -> Predictions:
    """Run a model on pictures by the vehicle's detector, all that counts for an evaluation.

    Args:
        model: a model file.
        images: pictures that are there.
        threads: of the inference.
        cache: folder where what was found is kept; None: it is not.
        tell: is told what is done, how many pictures of how many.
        mirrored: look at mirrored pictures; what is found is mirrored back.

    Raises:
        PictureError: a picture cannot be used.
    """
    what = "mirrored" if mirrored else "as it is"
    key = f"{model.digest} {dataset_sha256(Dataset(tuple(images)))} {what}"
    kept = None if cache is None else cache / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
    if kept is not None and kept.is_file():
        return load_predictions(kept)
    detector = Detector(model, evaluation_options(threads))
    found: Predictions = []
    for number, image in enumerate(images):
        tell(f"{model.metadata.name}, {what}", number, len(images))
        picture = load_picture(image)
        if not mirrored:
            found.append(detector.detect(picture).boxes)
            continue
        boxes = detector.detect(np.ascontiguousarray(picture[:, ::-1])).boxes.copy()
        boxes[:, [0, 2]] = picture.shape[1] - boxes[:, [2, 0]]
        found.append(boxes)
    if kept is not None:
        save_predictions(kept, found)
    return found
