"""What people said of a task, as labels. Rules alone: nothing is asked of the server here.

What cannot be a label is told in words with what to do about it; the sample waits until somebody has.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from cloud.datasets.classes import canonical
from cloud.datasets.dataset import Box, fit_box
from cloud.labeling.service import Labels, UnlabeledSample
from edge.perception.overlap import overlaps

SKIPPED = "skipped in Label Studio"
# Two people mean the same object where their boxes overlap so far: COCO's lowest threshold.
SAME_OBJECT_IOU = 0.5


class SkippedError(Exception):
    """Everybody who saw the task skipped it: it is not to be trained on."""


class UnusableError(ValueError):
    """What was handed in is no label; the message says what to do about it."""


def labels_of(
    task: Mapping[str, Any], sample: UnlabeledSample, class_names: Collection[str]
) -> Labels | None:
    """Read a task as the server exports it.

    Args:
        task: with its annotations.
        sample: that it is of.
        class_names: canonical names of all classes that there are.

    Returns:
        Its labels; None while nobody has handed it in.

    Raises:
        SkippedError: it was skipped, and nobody labelled it.
        UnusableError: it was handed in, and cannot be used as it is.
    """
    given = [each for each in task.get("annotations") or () if isinstance(each, Mapping)]
    done = [each for each in given if not each.get("was_cancelled")]
    if not done:
        if given:
            raise SkippedError(SKIPPED)
        return None
    true = [each for each in done if each.get("ground_truth")]
    chosen = sorted(true or done, key=_age)
    read = [_read(each, sample, class_names) for each in chosen]
    if any(not alike(one, read[-1]) for one in read[:-1]):
        raise UnusableError(
            f"{len(read)} annotations that differ: remove all but one, or mark one as ground truth (star)"
        )
    return read[-1]


def alike(one: Labels, other: Labels) -> bool:
    """Tell whether two people found the same: as many boxes of each class, each with one of the other's."""
    if Counter(box.category for box in one.boxes) != Counter(box.category for box in other.boxes):
        return False
    if any(other.attributes.get(name, value) != value for name, value in one.attributes.items()):
        return False
    return all(
        _paired(
            [box for box in one.boxes if box.category == name],
            [box for box in other.boxes if box.category == name],
        )
        for name in {box.category for box in one.boxes}
    )


def _paired(left: Sequence[Box], right: Sequence[Box]) -> bool:
    """Pair boxes, those that overlap most first; True: none is left over."""
    shares = overlaps(_array(left), _array(right))
    for _ in left:
        row, column = np.unravel_index(int(shares.argmax()), shares.shape)
        if shares[row, column] < SAME_OBJECT_IOU:
            return False
        shares[row, :], shares[:, column] = -1, -1
    return True


def _array(boxes: Sequence[Box]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array([(box.x1, box.y1, box.x2, box.y2) for box in boxes], np.float32)


def _age(annotation: Mapping[str, Any]) -> tuple[str, int]:
    """ISO 8601 in one time zone is in order as text."""
    return str(annotation.get("updated_at") or ""), int(annotation.get("id") or 0)


def _read(annotation: Mapping[str, Any], sample: UnlabeledSample, class_names: Collection[str]) -> Labels:
    result = annotation.get("result")
    if not isinstance(result, list):
        raise UnusableError("an annotation without a result: remove it")
    boxes: list[Box] = []
    attributes: dict[str, str] = {}
    for region in result:
        kind = region.get("type") if isinstance(region, Mapping) else None
        if kind == "rectanglelabels":
            boxes.append(_box(region, sample, class_names))
        elif kind == "choices":
            chosen = _value(region).get("choices") or []
            if len(chosen) != 1:
                raise UnusableError(f"{len(chosen)} values of {region.get('from_name')}: choose one")
            attributes[str(region.get("from_name"))] = str(chosen[0])
        elif kind == "rectangle":
            raise UnusableError("a box without a class: choose one, or remove the box")
        else:
            raise UnusableError(f"a {kind}, which is no box: remove it")
    return Labels(tuple(dict.fromkeys(boxes)), attributes)


def _box(region: Mapping[str, Any], sample: UnlabeledSample, class_names: Collection[str]) -> Box:
    value = _value(region)
    names = value.get("rectanglelabels") or []
    if len(names) != 1:
        raise UnusableError(f"a box with {len(names)} classes: choose one")
    name = canonical(str(names[0]))
    if name not in class_names:
        raise UnusableError(
            f"the label {str(names[0])!r}, which the model has no class for: choose one of "
            f"{', '.join(sorted(class_names))}"
        )
    if _number(value.get("rotation", 0)) % 360 or _number(region.get("image_rotation") or 0) % 360:
        raise UnusableError(f"a rotated box of {name}: draw it upright")
    x, y, wide, high = (_number(value.get(key)) for key in ("x", "y", "width", "height"))
    across, down = sample.width / 100, sample.height / 100
    corners = fit_box(
        x * across, y * down, (x + wide) * across, (y + high) * down, sample.width, sample.height
    )
    if isinstance(corners, str):
        raise UnusableError(f"a {name} whose {corners}: remove it, or draw it anew")
    return Box(*corners, name)


def _value(region: Mapping[str, Any]) -> Mapping[str, Any]:
    value = region.get("value")
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float:
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    raise UnusableError("a box without coordinates: remove it, or draw it anew")
