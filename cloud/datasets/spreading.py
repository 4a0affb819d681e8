"""Some pictures of many, the same each time: rules alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from cloud.datasets.dataset import LabeledImage


def spread_out(images: Sequence[LabeledImage], count: int, slice_by: str | None = None) -> list[LabeledImage]:
    """Choose some pictures by the hashes of their names, one of each drive before a drive's second.

    Args:
        images: to choose from.
        count: so many at most.
        slice_by: an attribute whose values take turns; None: all are of one slice.
    """
    turns: Counter[tuple[str, str]] = Counter()
    by_slice: dict[str, list[tuple[int, int, LabeledImage]]] = {}
    for place, image in enumerate(sorted(images, key=_chance)):
        value = image.attributes.get(slice_by, "") if slice_by else ""
        by_slice.setdefault(value, []).append((turns[value, image.drive], place, image))
        turns[value, image.drive] += 1
    order = [
        (turn, value, image)
        for value, some in by_slice.items()
        for turn, (_, _, image) in enumerate(sorted(some, key=lambda item: item[:2]))
    ]
    return [image for *_, image in sorted(order, key=lambda item: item[:2])[:count]]


def _chance(image: LabeledImage) -> bytes:
    return hashlib.sha256(image.name.encode()).digest()
