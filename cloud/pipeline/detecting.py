"""Detection by an Ultralytics checkpoint behind one small class, for models that no vehicle runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cloud.pipeline.ultralytics_boundary import WeightsError, import_ultralytics, reading_checkpoint

# x1, y1, x2, y2 (pixels of the picture), score, class name.
Found = tuple[float, float, float, float, float, str]

# Ultralytics' default for its own evaluation.
SUPPRESSION_IOU = 0.7
MAX_BOXES = 300


class Detector:
    """A loaded checkpoint.

    Attributes:
        class_names: as the checkpoint spells them.
    """

    def __init__(self, model: Any, imgsz: int, least_score: float, device: str | None) -> None:
        """Wrap a model; `open_detector` opens one."""
        self.class_names = tuple(str(name) for name in model.names.values())
        self._model = model
        self._settings = {
            "imgsz": imgsz,
            "conf": least_score,
            "iou": SUPPRESSION_IOU,
            "max_det": MAX_BOXES,
            "device": device,
            "verbose": False,
            "save": False,
        }

    def detect(self, jpegs: Sequence[bytes]) -> list[list[Found] | None]:
        """Find objects in pictures, which the model looks at together.

        Returns:
            For each picture its boxes by falling score; None where it does not decode.
        """
        how = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        pictures = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), how) if jpeg else None for jpeg in jpegs]
        decoded = [picture for picture in pictures if picture is not None]
        results = iter(self._model.predict(decoded, **self._settings) if decoded else [])
        return [None if picture is None else _found(next(results)) for picture in pictures]


def open_detector(weights: Path, imgsz: int, least_score: float, device: str | None = None) -> Detector:
    """Open a detection checkpoint.

    A checkpoint is a Python pickle: reading one runs what is in it, so only give those of known origin.

    Args:
        weights: the `.pt` file.
        imgsz: side of the square that pictures are fitted into, pixels, a multiple of 32.
        least_score: weaker boxes are not given.
        device: `cpu`, `0`, or None for a GPU if there is one.

    Raises:
        WeightsError: it is no checkpoint, or none of a detector.
        MissingCloudExtraError: Ultralytics is not installed.
    """
    ultralytics = import_ultralytics()
    with reading_checkpoint(weights, "no checkpoint that Ultralytics can read"):
        model = ultralytics.YOLO(str(weights))
    if model.task != "detect":
        raise WeightsError(f"{weights}: a checkpoint for task {model.task!r}, expected 'detect'")
    return Detector(model, imgsz, least_score, device)


def _found(result: Any) -> list[Found]:
    boxes = result.boxes
    rows = zip(boxes.xyxy.tolist(), boxes.conf.tolist(), boxes.cls.tolist(), strict=True)
    return [
        (float(x1), float(y1), float(x2), float(y2), float(score), str(result.names[int(number)]))
        for (x1, y1, x2, y2), score, number in rows
    ]
