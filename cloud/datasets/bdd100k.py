"""BDD100K's label files, in every shape in which people have them. Rules only, no file is read here.

- 2018 release, a file per image: `{"name", "attributes", "frames": [{"objects": [...]}]}`, and lists of it;
- 2018 release, one list: `[{"name", "attributes", "labels": [{"category", "box2d" | "poly2d"}]}]`;
- 2020 detection release (det_20), and Scalabel for detection and box tracking (`videoName`): the same
  list, or `{"frames": [...], "config": {"imageSize": ...}}`.

Sources: https://doc.bdd100k.com/format.html, https://doc.scalabel.ai/format.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloud.datasets.classes import canonical
from cloud.datasets.dataset import (
    IMAGE_SUFFIXES,
    Box,
    DatasetError,
    LabeledImage,
    Refusal,
    drive_of,
    is_text,
    safe_name,
)

EXPECTED = (
    "expected BDD100K labels: the 2018 release (name, frames, objects), a 2018 or 2020 list of images "
    "(name, labels), or Scalabel's {frames, config}"
)


@dataclass(slots=True)
class Parsed:
    """Images as their labels give them: no picture looked for, no box clipped yet.

    `videos` has for each image the video that it is from, or its drive: a drive may have several videos.
    """

    images: list[LabeledImage] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def refuse(self, where: str, reason: str) -> None:
        """Count one thing that is left out."""
        self.refusals.append(Refusal(where, reason))


def parse(document: object, where: str, parsed: Parsed) -> None:
    """Add the images of one JSON document.

    Args:
        document: as `json.loads` gives it.
        where: the document's file, for messages.
        parsed: what is found and what is refused goes here.

    Raises:
        DatasetError: the document is of none of the known shapes.
    """
    size: tuple[int, int] | None = None
    if isinstance(document, Mapping):
        frames = document.get("frames")
        config = document.get("config")
        if isinstance(config, Mapping):
            size = _size(config.get("imageSize"))
        if _is_2018(document):
            frames = [document]
    else:
        frames = document
    if not isinstance(frames, list):
        raise DatasetError(f"{where} is of an unknown shape: {EXPECTED}")
    if not any(isinstance(frame, Mapping) and ("labels" in frame or _is_2018(frame)) for frame in frames):
        raise DatasetError(f"{where} has no labelled image: {EXPECTED}")
    for number, frame in enumerate(frames):
        _parse_frame(frame, f"{where}, image {number}", size, parsed)


def _is_2018(frame: Mapping[str, Any]) -> bool:
    frames = frame.get("frames")
    return (
        "name" in frame
        and isinstance(frames, list)
        and all(isinstance(inner, Mapping) and "objects" in inner for inner in frames)
    )


def _parse_frame(frame: object, where: str, size: tuple[int, int] | None, parsed: Parsed) -> None:
    if not isinstance(frame, Mapping) or not isinstance(frame.get("name"), str):
        parsed.refuse(where, "image has no name")
        return
    name: str = frame["name"]
    where = f"{where} ({name})"
    if not name.lower().endswith(IMAGE_SUFFIXES):
        name = f"{name}.jpg"
    if not safe_name(frame["name"]) or not safe_name(name):
        parsed.refuse(where, "image name cannot be a file's")
        return
    labels = frame.get("labels")
    if "labels" not in frame and _is_2018(frame):
        labels = frame["frames"][0]["objects"] if frame["frames"] else []
        for number in range(1, len(frame["frames"])):
            parsed.refuse(f"{where}, frame {number}", "label file holds more than one frame")
    if not isinstance(labels, list | None):
        parsed.refuse(where, "labels are not a list")
        return
    boxes = [
        box
        for number, label in enumerate(labels or [])
        if (box := _parse_label(label, f"{where}, label {number}", parsed))
    ]
    video = frame.get("videoName")
    video = video if isinstance(video, str) and video and is_text(video) else None
    width, height = _size(frame.get("size")) or size or (None, None)
    drive = drive_of(name, video)
    attributes = _attributes(frame.get("attributes"), where, parsed)
    parsed.images.append(LabeledImage(name, None, width, height, tuple(boxes), attributes, drive))
    parsed.videos.append(video or drive)


def _parse_label(label: object, where: str, parsed: Parsed) -> Box | None:
    if not isinstance(label, Mapping):
        parsed.refuse(where, "label is malformed")
        return None
    category = label.get("category")
    if not isinstance(category, str) or not category.strip():
        parsed.refuse(where, "label has no category")
        return None
    if not is_text(category):
        parsed.refuse(where, "category is not text")
        return None
    category = canonical(category)
    corners = label.get("box2d")
    if corners is None:
        parsed.skipped[category] += 1
        return None
    x1, y1, x2, y2 = (
        _number(corners.get(key)) if isinstance(corners, Mapping) else None
        for key in ("x1", "y1", "x2", "y2")
    )
    if x1 is None or y1 is None or x2 is None or y2 is None:
        parsed.refuse(where, "box is malformed")
        return None
    attributes = label.get("attributes")
    flags = attributes if isinstance(attributes, Mapping) else {}
    occluded, truncated = (
        value if isinstance(value := flags.get(key), bool) else None for key in ("occluded", "truncated")
    )
    # Scalabel's own evaluation takes both for COCO's crowd.
    crowd = flags.get("crowd") is True or flags.get("ignored") is True
    return Box(x1, y1, x2, y2, category, occluded, truncated, crowd)


def _number(value: object) -> float | None:
    if isinstance(value, float):
        return value
    # An integer of thousands of digits is JSON, but no float.
    return float(value) if type(value) is int and abs(value) < 1e15 else None


def _size(value: object) -> tuple[int, int] | None:
    if not isinstance(value, Mapping):
        return None
    width, height = value.get("width"), value.get("height")
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width, height
    return None


def _attributes(value: object, where: str, parsed: Parsed) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    attributes = {}
    for key, item in value.items():
        if not isinstance(item, str | int | float):
            continue
        text = str(item).lower() if isinstance(item, bool) else str(item)
        if is_text(key) and is_text(text):
            attributes[key] = text
        else:
            parsed.refuse(where, "attribute is not text")
    return attributes
