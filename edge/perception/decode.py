"""From a model's output to boxes: one function for each output layout.

Non-finite numbers mean that the arithmetic broke (a float16 overflow, a damaged engine), and then the other
rows are not to be trusted either: they are an error of the frame, never a frame without detections.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.errors import TrafficVisionError


class InferenceError(TrafficVisionError):
    """A frame that cannot be inferred: a picture that is none, or an output that makes no sense."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Boxes above the score threshold, in the order of the output.

    Attributes:
        xyxy: `float32[N, 4]` x1, y1, x2, y2 in pixels of the input; all have positive area.
        scores: `float32[N]`, at most 1.
        classes: `int64[N]`.
    """

    xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]


def decode_raw(output: npt.NDArray[np.float32], score_threshold: float, multi_label: bool) -> Candidates:
    """Read the raw layout.

    Args:
        output: `float32[1, 4 + classes, n]`: cx, cy, w, h in input pixels, then a score for each class.
        score_threshold: only scores above it.
        multi_label: a box for each class above the threshold, not only the best: Ultralytics' validation.

    Raises:
        InferenceError: a score, or the box of a candidate, is not finite.
    """
    scores = output[0, 4:]
    best = scores.max(axis=0)  # NaN wins every maximum, so nothing non-finite hides behind it but -inf
    require_finite(best, "scores")
    if multi_label:
        classes, columns = np.nonzero(scores > score_threshold)
        chosen = scores[classes, columns]
    else:
        columns = np.flatnonzero(best > score_threshold)
        classes = scores[:, columns].argmax(axis=0)
        chosen = best[columns]
    cx, cy, w, h = output[0, :4][:, columns]
    xyxy = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], axis=1)
    return _candidates(xyxy, chosen, classes)


def decode_nms_free(output: npt.NDArray[np.float32], score_threshold: float, classes: int) -> Candidates:
    """Read the NMS-free layout.

    Args:
        output: `float32[1, n, 6]`: x1, y1, x2, y2 in pixels of the input, score, class.
        score_threshold: only scores above it.
        classes: how many classes the model has.

    Raises:
        InferenceError: a score, or the box of a candidate, is not finite; a class out of range.
    """
    rows = output[0]
    require_finite(rows[:, 4], "scores")
    rows = rows[rows[:, 4] > score_threshold]
    require_finite(rows[:, 5], "classes")
    indices = np.rint(rows[:, 5]).astype(np.int64)
    if indices.size and not 0 <= indices.min() <= indices.max() < classes:
        raise InferenceError(f"the model gave class {indices.max()} of {classes}")
    return _candidates(rows[:, :4], rows[:, 4], indices)


def _candidates(
    xyxy: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], classes: npt.NDArray[np.int64]
) -> Candidates:
    require_finite(xyxy, "boxes")
    solid = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    # Sigmoids of quantised models may round to a little over 1.
    return Candidates(xyxy[solid], np.minimum(scores[solid], np.float32(1)), classes[solid])


def require_finite(values: npt.NDArray[np.float32], what: str) -> None:
    """Hold what a model gave against NaN and infinity.

    Raises:
        InferenceError: some of it is not finite; `what` says what it is.
    """
    broken = values.size - np.count_nonzero(np.isfinite(values))
    if broken:
        raise InferenceError(f"the model gave {what} that are not finite ({broken} of {values.size})")
