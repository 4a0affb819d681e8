"""What one labelled picture must be to be trained on. Rules alone: no database, no disk.

Each reason is the same text for all of its kind, so that refusals can be counted by it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageOps

from cloud.datasets.classes import CANONICAL, UNSURE, canonical
from cloud.datasets.dataset import Box, fit_box
from cloud.datasets.pictures import PICTURE_ERRORS
from cloud.pipeline.purity.findings import Kind

JPEG_END = b"\xff\xd9"
_JPEG_START = b"\xff\xd8\xff"
# What datasets on disk come in; samples of vehicles are JPEGs.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")


class ImpureError(ValueError):
    """A picture or its labels cannot be trained on; the message is a reason to count by."""

    def __init__(self, reason: str, kind: Kind, box: int | None = None) -> None:
        """With the kind that the reason is of, and the place of the box that it is about."""
        super().__init__(reason)
        self.kind = kind
        self.box = box


@dataclass(frozen=True, slots=True)
class LabelRules:
    """What labels must be.

    Attributes:
        class_names: canonical names of all classes that there are.
        box_slack_px: so far a box may reach beyond its picture.
        min_box_px: no side of a box may be shorter.
        max_box_share: no box may cover more of its picture.
        max_box_aspect: no side of a box may be so many times the other.
    """

    class_names: Collection[str]
    box_slack_px: float
    min_box_px: float = 0.0
    max_box_share: float = 1.0
    max_box_aspect: float = float("inf")


def known_classes(names: Collection[str] = ()) -> frozenset[str]:
    """Give all class names that labels may have: the canonical ones, BDD100K's unsure ones, a model's."""
    return frozenset({*CANONICAL, *UNSURE, *map(canonical, names)})


def label_faults(boxes: Sequence[Box], width: int, height: int, rules: LabelRules) -> list[ImpureError]:
    """Find what is wrong with a picture's labels, at most one thing a box, in the order of the boxes.

    One bad box spoils them all: what it should have covered would be taught as background.
    """
    seen: set[Box] = set()
    faults = []
    for number, box in enumerate(boxes):
        fault = _box_fault(box, width, height, rules)
        if fault is None and box in seen:
            fault = Kind.BOX, "box comes twice"
        seen.add(box)
        if fault is not None:
            faults.append(ImpureError(fault[1], fault[0], number))
    return faults


def _box_fault(box: Box, width: int, height: int, rules: LabelRules) -> tuple[Kind, str] | None:
    slack = rules.box_slack_px
    if box.category not in rules.class_names:
        return Kind.CLASS, "unknown class"
    corners = fit_box(box.x1, box.y1, box.x2, box.y2, width, height)
    if isinstance(corners, str):
        return Kind.BOX, corners
    if min(box.x1, box.y1) < -slack or box.x2 > width + slack or box.y2 > height + slack:
        return Kind.BOX, "box reaches out of its picture"
    sides = (corners[2] - corners[0], corners[3] - corners[1])
    if min(sides) < rules.min_box_px:
        return Kind.SIZE, "box is too small to be seen"
    if sides[0] * sides[1] > rules.max_box_share * width * height:
        return Kind.SIZE, "box covers nearly its whole picture"
    if max(sides) > rules.max_box_aspect * min(sides):
        return Kind.SIZE, "box is a line"
    return None


def open_picture(
    encoded: bytes, width: int | None, height: int | None, formats: Sequence[str] = FORMATS
) -> Image.Image:
    """Decode a picture whole, upright, RGB.

    Args:
        encoded: the file.
        width: that its labels are for, pixels; None: any. So for the height.
        height: see there.
        formats: of Pillow's, that it may have.

    Raises:
        ImpureError: it does not decode, is cut short, or is of another size than its labels.
    """
    # Ultralytics writes a JPEG anew, in place, that does not end like one.
    if encoded.startswith(_JPEG_START) and not encoded.rstrip(b"\0").endswith(JPEG_END):
        raise ImpureError("picture is cut short", Kind.PICTURE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded), formats=list(formats)) as opened:
                picture = ImageOps.exif_transpose(opened).convert("RGB")
    except PICTURE_ERRORS:
        raise ImpureError("picture does not decode", Kind.PICTURE) from None
    if width is not None and picture.size != (width, height):
        raise ImpureError("picture is not of the size that its labels are for", Kind.PICTURE)
    return picture


def listed(reasons: Mapping[str, int]) -> str:
    """Lay out reasons with their counts, the most frequent first."""
    ordered = sorted(reasons.items(), key=lambda item: -item[1])
    return ", ".join(f"{reason} ({count})" for reason, count in ordered)
