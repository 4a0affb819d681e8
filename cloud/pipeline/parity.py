"""Whether a model file computes what the checkpoint computes that it was made of, on real pictures.

Both get the same letterboxed picture: the file as the camera gives it, PyTorch as training had it. What is
held against each other are the graph's own outputs, before any suppression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cloud.pipeline.ultralytics_boundary import import_ultralytics
from edge.errors import TrafficVisionError
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.letterbox import PAD, Letterbox
from edge.perception.model_file import ModelFile

# What rounding in another order makes of float32; a wrong colour order or size makes hundreds of times more.
MAX_SCORE = 0.005
MAX_BOX_PX = 0.5
STRONGEST = 100  # rows of a picture that are compared

Rows = npt.NDArray[np.float32]


class ParityError(TrafficVisionError):
    """A model file does not compute what its checkpoint does."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How far model file and checkpoint are apart.

    Attributes:
        pictures: that were looked at.
        score: the largest difference of a score.
        box_px: the largest difference of a box's coordinate, pixels of the model's input.
    """

    pictures: int
    score: float
    box_px: float


def check_parity(checkpoint: Path, model: ModelFile, pictures: Sequence[bytes]) -> Parity:
    """Hold a model file against its checkpoint.

    Args:
        checkpoint: Ultralytics'; it is unpickled, so it must be one's own.
        model: made of it, in float32.
        pictures: encoded.

    Raises:
        ParityError: they differ by more than rounding does.
    """
    net = _net(checkpoint, model.metadata.layout)
    detector = Detector(model, DetectorOptions(providers=("CPUExecutionProvider",)))
    found = Parity(0, 0.0, 0.0)
    for encoded in pictures:
        image = np.asarray(cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR), np.uint8)
        score, box_px = compare(
            model.metadata.layout, _torch_output(net, image, model.input_hw), detector.raw_output(image)[0]
        )
        found = Parity(found.pictures + 1, max(found.score, score), max(found.box_px, box_px))
    if not (found.score <= MAX_SCORE and found.box_px <= MAX_BOX_PX):
        raise ParityError(
            f"the model file does not compute what its checkpoint does: scores differ by {found.score:.4f} "
            f"(at most {MAX_SCORE} is rounding), boxes by {found.box_px:.2f} pixels (at most {MAX_BOX_PX})"
        )
    return found


def compare(layout: str, expected: Rows, got: Rows) -> tuple[float, float]:
    """Give the largest difference of scores and of boxes among the strongest rows.

    Args:
        layout: `raw` (`[4 + classes, n]`) or `nms_free` (`[n, 6]`, in any order).
        expected: what one of them gives for a picture.
        got: what the other gives.
    """
    if layout == "raw":
        strongest = np.argsort(-expected[4:].max(axis=0), kind="stable")[:STRONGEST]
        return (
            float(np.abs(expected[4:] - got[4:]).max(initial=0.0)),
            float(np.abs(expected[:4, strongest] - got[:4, strongest]).max(initial=0.0)),
        )
    return _compare_rows(expected, got)


def _compare_rows(expected: Rows, got: Rows) -> tuple[float, float]:
    """Each of the strongest rows has its like, unless it is as weak as the weakest that the other lists."""
    score = box_px = 0.0
    weakest = float(got[:, 4].min()) if len(got) else 0.0
    free = np.ones(len(got), bool)
    for row in expected[np.argsort(-expected[:, 4], kind="stable")][:STRONGEST]:
        alike = np.flatnonzero(free & (got[:, 5] == row[5]) & (np.abs(got[:, 4] - row[4]) <= MAX_SCORE))
        if not len(alike):
            score = max(score, float(row[4]) - weakest)
            continue
        distances = np.abs(got[alike, :4] - row[:4]).max(axis=1)
        if distances.min() > MAX_BOX_PX and row[4] - weakest <= MAX_SCORE:
            continue  # of equals, which are listed is a matter of rounding
        nearest = alike[int(distances.argmin())]
        free[nearest] = False
        score = max(score, abs(float(got[nearest, 4] - row[4])))
        box_px = max(box_px, float(distances.min()))
    return score, box_px


def _net(checkpoint: Path, layout: str) -> Any:
    """Load the checkpoint, with that of its heads in use which the file has."""
    ultralytics = import_ultralytics()
    net = ultralytics.YOLO(str(checkpoint)).model.float().eval()
    if getattr(net, "end2end", False) is not (layout == "nms_free"):
        net.end2end = layout == "nms_free"
    return net


def _torch_output(net: Any, image: npt.NDArray[np.uint8], input_hw: tuple[int, int]) -> Rows:
    """What PyTorch makes of a picture: RGB, 0 to 1, planes first."""
    import torch

    boxed = np.full((*input_hw, 3), PAD, np.uint8)
    Letterbox.between(image.shape[:2], input_hw).apply(image, boxed)
    planes = np.ascontiguousarray(boxed[:, :, ::-1].transpose(2, 0, 1))
    with torch.no_grad():
        output = net(torch.from_numpy(planes).float().div(255)[None])
    rows: Rows = (output[0] if isinstance(output, (tuple, list)) else output)[0].numpy()
    return rows
