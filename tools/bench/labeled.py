"""Labelled pictures that a benchmark of models needs: of two slices, both there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from cloud.datasets import LabeledImage, read_dataset
from tools.bench.rounds import BenchError


def pictures_of(data: Path, slice_by: str, kept: str, target: str) -> list[LabeledImage]:
    """Read the pictures of two slices that are there.

    Args:
        data: see `cloud.datasets.read_dataset`.
        slice_by: an attribute of the pictures.
        kept: one of its values.
        target: another one.

    Raises:
        BenchError: one of them has no picture.
        DatasetError: the data cannot be read.
    """
    found = [
        image
        for image in read_dataset(data).images
        if image.path is not None and image.attributes.get(slice_by) in (kept, target)
    ]
    counts = Counter(image.attributes[slice_by] for image in found)
    if len(counts) < len({kept, target}):
        raise BenchError(
            f"{data}: pictures with {slice_by} {kept} and {target} are needed, "
            f"and it has {dict(counts) or 'none'}"
        )
    return found
