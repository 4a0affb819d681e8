"""Building a dataset version: the old pictures and the new ones in one folder, with their manifest."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from cloud.datasets import Dataset, DatasetWriter, LabeledImage, Written
from cloud.datasets.writing import ImageRefusedError
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.manifest import Entry, Manifest
from cloud.pipeline.purity import difference_hash, drives_on_both_sides, listed

NO_SLICE = "(none)"
TELL_EVERY = 100


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What goes into a version.

    Attributes:
        tag: of the version.
        class_names: in the order of the model's output.
        slice_by: the attribute that the gate judges by.
        old: the earlier version's pictures; `manifest` tells what they are.
        manifest: the earlier version's.
        used_old: names of the old pictures of the side `train` that are trained on again.
        new: pictures that come to it.
        sides: drive of a new picture to its side.
        trainable: it must have pictures to train on and to choose by.
    """

    tag: str
    class_names: Sequence[str]
    slice_by: str
    old: Sequence[LabeledImage]
    manifest: Manifest
    used_old: set[str]
    new: Sequence[LabeledImage]
    sides: Mapping[str, str]
    trainable: bool = True


def build(
    folder: Path, ingredients: Ingredients, tell: Callable[[int, int], None] = lambda done, of: None
) -> tuple[Manifest, Written]:
    """Write a version's folder anew.

    Args:
        folder: what is there is removed.
        ingredients: what goes in.
        tell: is told how many of how many pictures are done.

    Returns:
        What its pictures are, and what the writer counted.

    Raises:
        PipelineError: a drive would be on two sides, or a list that training needs would be empty.
        DatasetError: no picture can be used.
    """
    shutil.rmtree(folder, ignore_errors=True)
    known = {entry.name: entry for entry in ingredients.manifest.entries}
    images = [*ingredients.old, *ingredients.new]
    entries: list[Entry] = []
    with DatasetWriter(folder, ingredients.class_names) as writer:
        for number, image in enumerate(images):
            if number % TELL_EVERY == 0:
                tell(number, len(images))
            assert image.path is not None
            entry = _entry(image, known.get(image.name), ingredients)
            try:
                writer.add(image, image.path, entry.side if entry.used else None, link=True)
            except ImageRefusedError as error:
                writer.refuse(image.name, error.reason)
                continue
            entries.append(entry)
        written = writer.close()
    manifest = Manifest(tuple(entries))
    _check(manifest, ingredients.trainable)
    return manifest, written


def usable(dataset: Dataset) -> list[LabeledImage]:
    """Give the pictures of a dataset that are there."""
    return [image for image in dataset.images if image.path is not None]


def _entry(image: LabeledImage, known: Entry | None, ingredients: Ingredients) -> Entry:
    if known is not None:
        used = known.side != "train" or image.name in ingredients.used_old
        return replace(known, used=used)
    assert image.path is not None
    return Entry(
        name=image.name,
        drive=image.drive,
        side=ingredients.sides[image.drive],
        used=True,
        slice=image.attributes.get(ingredients.slice_by, NO_SLICE),
        dhash=_hash(image.path),
        origin=ingredients.tag,
    )


def _hash(path: Path) -> str:
    try:
        with Image.open(path) as picture:
            return f"{difference_hash(np.asarray(picture.convert('L'))):016x}"
    except (OSError, SyntaxError):
        return "0" * 16  # the writer refuses it, and says why


def _check(manifest: Manifest, trainable: bool) -> None:
    torn = drives_on_both_sides((entry.drive, entry.side) for entry in manifest.entries)
    if torn:
        named = [f"{drive} in {' and '.join(sorted(sides))}" for drive, sides in sorted(torn.items())[:5]]
        raise PipelineError(
            f"{len(torn)} drives are on more than one side of the split, so that training would know what "
            f"it is judged by: {', '.join(named)}"
        )
    counts = Counter(entry.side for entry in manifest.entries if entry.used)
    for side in ("train", "val"):
        if trainable and not counts[side]:
            raise PipelineError(f"no picture on the side {side!r}, and training needs some: {listed(counts)}")
