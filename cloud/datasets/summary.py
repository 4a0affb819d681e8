"""Counts of a dataset: per class, per slice, by size, and what was refused."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from cloud.datasets.dataset import Dataset, LabeledImage

# Box sizes as the square root of the area in pixels; 32 and 96 are COCO's bounds of small, medium, large.
SIZE_EDGES = (0.0, 8.0, 16.0, 32.0, 64.0, 96.0, 192.0, math.inf)
# An attribute with more values than this is an identifier, not a slice.
MAX_SLICE_VALUES = 50


@dataclass(frozen=True, slots=True)
class Counts:
    """Images, drives and boxes of one part of a dataset, and its boxes by class."""

    images: int
    drives: int
    boxes: int
    classes: dict[str, int]

    def to_json(self) -> dict[str, object]:
        """Give the counts as JSON-able values."""
        return {
            "images": self.images,
            "drives": self.drives,
            "boxes": self.boxes,
            "classes": self.classes,
        }

    def to_text(self) -> str:
        """Say them in one line."""
        parts = [(self.images, "image"), (self.drives, "drive"), (self.boxes, "box")]
        plural = {"image": "images", "drive": "drives", "box": "boxes"}
        return ", ".join(f"{number:,} {noun if number == 1 else plural[noun]}" for number, noun in parts)


@dataclass(frozen=True, slots=True)
class Summary:
    """What `data inspect` tells.

    Attributes:
        total: the whole dataset.
        slices: attribute name to value to its part; images without the attribute are under "(none)".
        sizes: (label, boxes) for each range of the square root of a box's area in pixels.
        without_picture: images whose picture is not at hand.
        refusals: reason to count; `examples`: reason to the first places.
        skipped: labels that are no boxes, category to count.
    """

    total: Counts
    slices: dict[str, dict[str, Counts]]
    sizes: tuple[tuple[str, int], ...]
    without_picture: int
    refusals: dict[str, int]
    examples: dict[str, tuple[str, ...]]
    skipped: dict[str, int]

    def to_json(self) -> dict[str, object]:
        """Give the summary as JSON-able values."""
        return {
            **self.total.to_json(),
            "without_picture": self.without_picture,
            "slices": {
                key: {value: counts.to_json() for value, counts in values.items()}
                for key, values in self.slices.items()
            },
            "box_sizes": dict(self.sizes),
            "refusals": self.refusals,
            "refusal_examples": {reason: list(places) for reason, places in self.examples.items()},
            "skipped": self.skipped,
        }


def summarize(dataset: Dataset) -> Summary:
    """Count a dataset's images, drives and boxes."""
    parts: dict[str, dict[str, list[LabeledImage]]] = {}
    for key in sorted({key for image in dataset.images for key in image.attributes}):
        values: dict[str, list[LabeledImage]] = defaultdict(list)
        for image in dataset.images:
            values[image.attributes.get(key, "(none)")].append(image)
        if len(values) <= MAX_SLICE_VALUES:
            parts[key] = dict(sorted(values.items(), key=lambda item: (-len(item[1]), item[0])))
    examples: dict[str, list[str]] = defaultdict(list)
    for refusal in dataset.refusals:
        if len(examples[refusal.reason]) < 3:
            # What was refused may be a name that cannot be printed.
            examples[refusal.reason].append(refusal.where.encode("utf-8", "backslashreplace").decode())
    return Summary(
        total=count(dataset.images),
        slices={
            key: {value: count(images) for value, images in values.items()} for key, values in parts.items()
        },
        sizes=_sizes(dataset.images),
        without_picture=sum(image.path is None for image in dataset.images),
        refusals=dict(Counter(refusal.reason for refusal in dataset.refusals).most_common()),
        examples={reason: tuple(places) for reason, places in examples.items()},
        skipped=dict(Counter(dataset.skipped).most_common()),
    )


def count(images: Iterable[LabeledImage]) -> Counts:
    """Count images, drives and boxes; the classes come with the most frequent first."""
    images = list(images)
    classes = Counter(box.category for image in images for box in image.boxes)
    ranked = dict(sorted(classes.items(), key=lambda item: (-item[1], item[0])))
    return Counts(len(images), len({image.drive for image in images}), classes.total(), ranked)


def _sizes(images: Iterable[LabeledImage]) -> tuple[tuple[str, int], ...]:
    roots = [math.sqrt((box.x2 - box.x1) * (box.y2 - box.y1)) for image in images for box in image.boxes]
    return tuple(
        (
            f"{low:g} and more" if math.isinf(high) else f"{low:g} to {high:g}",
            sum(low <= root < high for root in roots),
        )
        for low, high in pairwise(SIZE_EDGES)
    )


def to_text(summary: Summary) -> str:
    """Lay the summary out as tables for a terminal."""
    total = summary.total
    lines = [total.to_text()]
    if summary.without_picture:
        lines.append(f"labels without their picture: {summary.without_picture:,}")
    lines += ["", *table(["class", "boxes"], [[name, f"{n:,}"] for name, n in total.classes.items()])]
    for key, values in summary.slices.items():
        rows = [
            [value, f"{c.images:,}", f"{c.drives:,}", f"{c.boxes:,}", f"{c.boxes / c.images:.1f}"]
            for value, c in values.items()
        ]
        lines += ["", *table([key, "images", "drives", "boxes", "boxes/image"], rows)]
    rows = [[label, f"{number:,}"] for label, number in summary.sizes]
    lines += ["", *table(["box size, px", "boxes"], rows)]
    if summary.skipped:
        rows = [[category, f"{number:,}"] for category, number in summary.skipped.items()]
        lines += ["", *table(["labels without a box", "number"], rows)]
    if summary.refusals:
        rows = [
            [reason, f"{number:,}", summary.examples[reason][0]]
            for reason, number in summary.refusals.items()
        ]
        lines += ["", *table(["refused", "number", "first"], rows, left=(0, 2))]
    else:
        lines += ["", "nothing refused"]
    return "\n".join(lines)


def table(heads: list[str], rows: list[list[str]], left: tuple[int, ...] = (0,)) -> list[str]:
    """Align cells in columns; those in `left` to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [heads, *rows]
    ]
