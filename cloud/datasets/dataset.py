"""A labelled dataset in memory: what every reader gives and every writer takes."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from edge.errors import TrafficVisionError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

# What file systems allow for a name.
MAX_NAME_BYTES = 255
# Less is rounding.
CLIPPED_PX = 1.0

_HALF_PAIR = re.compile("[\ud800-\udfff]")
_BDD100K_NAME = re.compile(r"^([0-9a-f]{8})-[0-9a-f]{8}(?![0-9a-zA-Z])")
_FRAME_OF_DRIVE = re.compile(r"^(.+)-\d+$")
_FRAME_IN_FOLDER = re.compile(r"^(.+)/[A-Za-z_]*\d+$")


class DatasetError(TrafficVisionError):
    """A dataset as a whole cannot be read or written."""


@dataclass(frozen=True, slots=True)
class Box:
    """One labelled object.

    Attributes:
        x1, y1, x2, y2: corners in pixels of the image, continuous coordinates (the image spans 0..width).
        category: canonical class name, see `cloud.datasets.classes.canonical`.
        occluded, truncated: None where the labels do not say.
        crowd: the box holds several objects; COCO's evaluation then ignores it, and YOLO labels omit it.
    """

    x1: float
    y1: float
    x2: float
    y2: float
    category: str
    occluded: bool | None = None
    truncated: bool | None = None
    crowd: bool = False


@dataclass(frozen=True, slots=True)
class LabeledImage:
    """One picture with its labels.

    Attributes:
        name: unique in its dataset; a file name, or a relative path with forward slashes.
        path: the picture, None where only the labels are at hand.
        width, height: pixels as decoded (EXIF orientation applied), None where nothing tells them.
        boxes: may be empty, the picture then shows no object.
        attributes: what slices are made of, such as timeofday, weather and scene.
        drive: the recording that the picture is from; a split never divides a drive.
    """

    name: str
    path: Path | None
    width: int | None
    height: int | None
    boxes: tuple[Box, ...]
    attributes: Mapping[str, str]
    drive: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that was left out: where it is, and a reason that is the same for all of its kind."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled images, what was refused on the way, and labels that are no boxes.

    Attributes:
        images: in the order of their source.
        refusals: bad input; each cost itself alone.
        skipped: labels that are not objects with a 2D box (lanes, drivable areas), count by category.
        clipped: boxes that reached out of their image by more than CLIPPED_PX; they are here, cut to it.
    """

    images: tuple[LabeledImage, ...]
    refusals: tuple[Refusal, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    clipped: tuple[Refusal, ...] = ()

    def class_counts(self) -> Counter[str]:
        """Count the boxes of each class."""
        return Counter(box.category for image in self.images for box in image.boxes)


def drive_of(name: str, video: str | None = None) -> str:
    """Name the drive that a picture is from.

    BDD100K cuts several clips from a drive and gives them its first eight hex digits, so these count
    before the video's own name. Otherwise the video, otherwise the part before a last "-<frame number>",
    otherwise the folder of a name like "town/000123.png", otherwise the name without its suffix.
    """
    stem = str(PurePosixPath(name).with_suffix(""))
    frame = _FRAME_OF_DRIVE.match(stem) or _FRAME_IN_FOLDER.match(stem)
    recording = frame.group(1) if frame else stem
    for clip in [video] if video else [stem, recording]:
        bdd100k = _BDD100K_NAME.match(PurePosixPath(clip).name)
        if bdd100k:
            return bdd100k.group(1)
    return video or recording


def is_text(value: str) -> bool:
    """Tell whether a text can be written: JSON may hold half of a UTF-16 pair, and UTF-8 cannot."""
    return value.isascii() or not _HALF_PAIR.search(value)


def safe_name(name: str) -> bool:
    """Tell whether a picture's name stays inside its folder and can be a file on every system."""
    parts = name.split("/")
    return (
        bool(name)
        and is_text(name)
        and all(part not in ("", ".", "..") and len(part.encode()) <= MAX_NAME_BYTES for part in parts)
        and not any(char in name for char in '\\:\0"')
        # One line: the lists of a split have a name on each.
        and name.splitlines() == [name.strip()]
    )


def fit_box(
    x1: float, y1: float, x2: float, y2: float, width: int | None, height: int | None
) -> tuple[float, float, float, float] | str:
    """Clip a box to its image, or say why it cannot be one.

    Returns:
        The clipped corners (equal to those given for a box inside), or the reason as text.
    """
    if not all(math.isfinite(value) for value in (x1, y1, x2, y2)):
        return "box is not finite"
    if x2 < x1 or y2 < y1:
        return "box is inverted"
    right, bottom = (math.inf if side is None else float(side) for side in (width, height))
    if x2 <= 0 or y2 <= 0 or x1 >= right or y1 >= bottom:
        return "box lies outside its image"
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, right), min(y2, bottom)
    if x2 <= x1 or y2 <= y1:
        return "box has no area"
    return x1, y1, x2, y2


def fit_boxes(
    image: LabeledImage, clipped: list[Refusal] | None = None
) -> tuple[LabeledImage, list[Refusal]]:
    """Clip an image's boxes to it; refuse those that cannot be boxes and those that come twice.

    Args:
        image: with its boxes as they were labelled.
        clipped: takes note of boxes that reached out by more than CLIPPED_PX.
    """
    fitted: dict[Box, None] = {}
    refusals: list[Refusal] = []
    for number, box in enumerate(image.boxes):
        corners = fit_box(box.x1, box.y1, box.x2, box.y2, image.width, image.height)
        if isinstance(corners, str):
            refusals.append(Refusal(f"{image.name}, box {number}", corners))
            continue
        x1, y1, x2, y2 = (float(value) for value in corners)
        reach = max(x1 - box.x1, y1 - box.y1, box.x2 - x2, box.y2 - y2)
        if clipped is not None and reach > CLIPPED_PX:
            clipped.append(Refusal(f"{image.name}, box {number}", "box reaches out of its picture"))
        box = replace(box, x1=x1, y1=y1, x2=x2, y2=y2)
        if box in fitted:
            refusals.append(Refusal(f"{image.name}, box {number}", "box comes twice"))
        fitted[box] = None
    return replace(image, boxes=tuple(fitted)), refusals
