"""What a model's output must be like before anyone trusts it: checks of the numbers themselves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.errors import TrafficVisionError

SCORE_SLACK = 0.01  # quantised sigmoids may round to a little outside of 0..1
_FAR = 0.5  # of the input's side: how far outside a box may begin or end
_NORMALISED = 2.0  # pixels: boxes that all end before it are fractions of the input


class UnsoundModelError(TrafficVisionError):
    """The model's output on a picture makes no sense; the message says what does not."""


def check_output(
    output: npt.NDArray[np.float32],
    layout: str,
    input_hw: tuple[int, int],
    score_threshold: float,
    classes: int,
) -> None:
    """Check one picture's raw output.

    Args:
        output: in the given layout, boxes in pixels of the input.
        layout: `raw` or `nms_free`.
        input_hw: height and width of the input.
        score_threshold: boxes that score above it are looked at.
        classes: how many classes the model has.

    Raises:
        UnsoundModelError: numbers that are not finite, scores that are no probabilities, boxes far outside of
            the picture or of no size, classes that are no indices.
    """
    broken = output.size - np.count_nonzero(np.isfinite(output))
    if broken:
        raise UnsoundModelError(f"{broken} of {output.size} numbers that it gives are not finite")
    scores = output[0, 4:] if layout == "raw" else output[0, :, 4]
    low, high = float(scores.min()), float(scores.max())
    if low < -SCORE_SLACK or high > 1 + SCORE_SLACK:
        raise UnsoundModelError(
            f"its scores run from {low:.3g} to {high:.3g}, expected 0 to 1 (before the sigmoid? or"
            " quantised on one scale with the boxes?)"
        )
    if layout == "raw":
        chosen = scores.max(axis=0) > score_threshold
        cx, cy, width, height = output[0, :4][:, chosen]
        boxes = np.stack([cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2], axis=1)
    else:
        rows = output[0, scores > score_threshold]
        indices = rows[:, 5]
        odd = (np.abs(indices - np.rint(indices)) > 1e-3) | (indices < -0.5) | (indices > classes - 0.5)
        if odd.any():
            raise UnsoundModelError(
                f"its sixth column holds {indices[odd][0]:.3g}, expected class indices below {classes}"
                " (RT-DETR's layout, or YOLOX's of one class?)"
            )
        boxes = rows[:, :4]
    if not len(boxes):
        return
    side = np.array([input_hw[1], input_hw[0]] * 2, np.float32)
    if (boxes < -_FAR * side).any() or (boxes > (1 + _FAR) * side).any():
        worst = boxes[np.argmax(np.abs(boxes / side - 0.5).max(axis=1))]
        raise UnsoundModelError(
            f"it gives a box at ({', '.join(f'{value:.0f}' for value in worst)}), far outside of its input of"
            f" {input_hw[1]}x{input_hw[0]} pixels"
        )
    if boxes.max() <= _NORMALISED:
        raise UnsoundModelError("its boxes are fractions of the picture, expected pixels of the input")
    if (boxes[:, 2:] <= boxes[:, :2]).any(axis=1).mean() > 0.5:
        raise UnsoundModelError("most of its boxes end before they begin: another box format?")
