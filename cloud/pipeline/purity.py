"""What a labelled picture must be to be trained on. Rules alone: no database, no disk.

Each reason is the same text for all of its kind, so that refusals can be counted by it.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from cloud.datasets.dataset import Box, fit_box

JPEG_END = b"\xff\xd9"
HASH_SIDE = 8


class ImpureError(ValueError):
    """A picture or its labels cannot be trained on; the message is a reason to count by."""


@dataclass(frozen=True, slots=True)
class LabelRules:
    """What labels must be.

    Attributes:
        class_names: canonical names of all classes that there are.
        box_slack_px: so far a box may reach beyond its picture.
    """

    class_names: Collection[str]
    box_slack_px: float


def check_labels(boxes: Sequence[Box], width: int, height: int, rules: LabelRules) -> None:
    """Judge a picture's labels. One bad box spoils them all: what it should have covered would be taught
    as background.

    Raises:
        ImpureError: a box is out of bounds or malformed, comes twice, or is of an unknown class.
    """
    slack = rules.box_slack_px
    for box in boxes:
        if box.category not in rules.class_names:
            raise ImpureError("unknown class")
        corners = fit_box(box.x1, box.y1, box.x2, box.y2, width, height)
        if isinstance(corners, str):
            raise ImpureError(corners)
        if min(box.x1, box.y1) < -slack or box.x2 > width + slack or box.y2 > height + slack:
            raise ImpureError("box reaches out of its picture")
    if len(set(boxes)) < len(boxes):
        raise ImpureError("box comes twice")


def decode(jpeg: bytes, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Decode a picture whole, and give its grey values, `uint8[H, W]`.

    Raises:
        ImpureError: it does not decode, is cut short, or is of another size than its labels.
    """
    # Ultralytics writes a JPEG anew, in place, that does not end like one.
    if not jpeg.rstrip(b"\0").endswith(JPEG_END):
        raise ImpureError("picture is cut short")
    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as picture:
            picture.load()
            if picture.size != (width, height):
                raise ImpureError("picture is not of the size that its labels are for")
            return np.asarray(picture.convert("L"))
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError):
        raise ImpureError("picture does not decode") from None


def difference_hash(grey: npt.NDArray[np.uint8]) -> int:
    """Hash what a picture shows: 64 bits, near for pictures that look alike.

    Each bit tells whether a cell of a 9 x 8 grid is brighter than its left neighbour. Source: N. Krawetz,
    Kind of Like That, 2013, https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html
    """
    small = Image.fromarray(grey).resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)
    cells = np.asarray(small, np.int16)
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big")


def near_duplicates(hashes: Sequence[int], known: Iterable[int], bits: int) -> list[bool]:
    """Tell which pictures are the same as an earlier one, or as a known one.

    Args:
        hashes: of the new pictures; of two that are alike the later one is the duplicate.
        known: hashes of pictures that are there already.
        bits: so many may differ.
    """
    kept = np.array(list(known), np.uint64)
    found = []
    for value in hashes:
        alike = bool((np.bitwise_count(kept ^ np.uint64(value)) <= bits).any())
        if not alike:
            kept = np.append(kept, np.uint64(value))
        found.append(alike)
    return found


def drives_on_both_sides(sides: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Find the drives that are on more than one side of a split, from pairs of drive and side."""
    by_drive: dict[str, set[str]] = {}
    for drive, side in sides:
        by_drive.setdefault(drive, set()).add(side)
    return {drive: names for drive, names in by_drive.items() if len(names) > 1}


def listed(reasons: Mapping[str, int]) -> str:
    """Lay out reasons with their counts, the most frequent first."""
    ordered = sorted(reasons.items(), key=lambda item: -item[1])
    return ", ".join(f"{reason} ({count})" for reason, count in ordered)
