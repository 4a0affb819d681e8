"""A batch that is bad in known places: labelled pictures, with faults planted by a seed."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from cloud.datasets import CANONICAL, Box, Dataset, DatasetWriter, LabeledImage
from cloud.datasets.splitting import split_of_drive
from tools.bench.rounds import BenchError

FRACTIONS = {"train": 0.8, "val": 0.2}
LEAKED_PICTURES = (4, 2)  # of the leaked drive, on train and on val
LEAST_OF_CLASS = 30  # boxes of a class that is renamed
COPIES = ("same file", "quality 50", "three quarters of the size", "a tenth brighter", "one percent cropped")

BoxPlace = tuple[str, int]  # image name and place in its labels


@dataclass(frozen=True, slots=True)
class Plan:
    """What is planted.

    Attributes:
        seed: another one plants elsewhere.
        shuffled_share: of all boxes, whose places are exchanged.
        duplicates: pictures that are there twice, half of them on the other side of the split.
        leak: a drive is on both sides.
        rename: a class has another name.
    """

    seed: int = 0
    shuffled_share: float = 0.05
    duplicates: int = 30
    leak: bool = True
    rename: bool = True


NOTHING = Plan(shuffled_share=0.0, duplicates=0, leak=False, rename=False)


@dataclass(frozen=True, slots=True)
class Planted:
    """What was planted, and where.

    Attributes:
        shuffled: boxes that are where another one was.
        orphans: image name and corners of the objects that lost their label so.
        renamed: boxes of the class with another name.
        renamed_class: which.
        duplicates: name of a copy to the name of the picture that it is of.
        across: copies that are on the other side of the split.
        leaked: drives on both sides.
    """

    shuffled: frozenset[BoxPlace]
    orphans: tuple[tuple[str, tuple[float, float, float, float]], ...]
    renamed: frozenset[BoxPlace]
    renamed_class: str
    duplicates: dict[str, str]
    across: frozenset[str]
    leaked: frozenset[str]


def plant(folder: Path, dataset: Dataset, plan: Plan) -> Planted:
    """Write a dataset with faults; the same data and plan always give the same.

    Args:
        folder: new or empty.
        dataset: right, as far as anybody knows; with pictures.
        plan: what is planted.

    Raises:
        BenchError: there are too few pictures or boxes for it.
    """
    rng = np.random.default_rng(plan.seed)
    images = [image for image in dataset.images if image.path is not None]
    sides = {image.name: split_of_drive(image.drive, FRACTIONS) for image in images}
    if plan.leak:
        images, leaked = _leaked(images, sides, rng)
    else:
        leaked = frozenset()
    renamed_class = _frequent_class(images, rng) if plan.rename else ""
    clean = {image.name: image for image in images}
    images, shuffled, orphans = _shuffled(images, plan.shuffled_share, renamed_class, rng)
    images = [_renamed(image, renamed_class) for image in images]
    renamed = {*_boxes_of(images, renamed_class)}
    torn = {image.name for image in images if image.drive in leaked}
    candidates = [image for image in images if image.name not in torn]
    if len(candidates) < plan.duplicates:
        raise BenchError(f"{len(candidates)} pictures are too few for {plan.duplicates} duplicates")
    copied = [candidates[place] for place in rng.choice(len(candidates), plan.duplicates, replace=False)]
    duplicates, across = {}, set()
    names = (*CANONICAL, *sorted({box.category for image in images for box in image.boxes} - set(CANONICAL)))
    with DatasetWriter(folder, names) as writer:
        for image in images:
            assert image.path is not None
            writer.add(image, image.path, sides[image.name], link=True)
        for number, image in enumerate(copied):
            name = f"copy-{number:02d}.jpg"
            side = sides[image.name]
            if number % 2:
                side = "val" if side == "train" else "train"
                across.add(name)
            assert image.path is not None
            original = _renamed(clean[image.name], renamed_class)
            encoded, size = _copy(image.path.read_bytes(), number % len(COPIES))
            copy = _as_copy(original, name, number, size)
            writer.add(copy, encoded, side)
            renamed.update(_boxes_of([copy], renamed_class))
            duplicates[name] = image.name
    return Planted(
        shuffled, tuple(orphans), frozenset(renamed), renamed_class, duplicates, frozenset(across), leaked
    )


def new_name(category: str) -> str:
    """Give the name that a renamed class has: one that no table of class names knows."""
    return f"{category} class"


def _boxes_of(images: Iterable[LabeledImage], category: str) -> Iterator[BoxPlace]:
    """The boxes of a class that has another name now."""
    for image in images:
        for place, box in enumerate(image.boxes):
            if category and box.category == new_name(category):
                yield image.name, place


def _leaked(
    images: Sequence[LabeledImage], sides: dict[str, str], rng: np.random.Generator
) -> tuple[list[LabeledImage], frozenset[str]]:
    chosen: list[LabeledImage] = []
    for side, count in zip(FRACTIONS, LEAKED_PICTURES, strict=True):
        there = [image for image in images if sides[image.name] == side]
        if len(there) < count:
            raise BenchError(f"{len(there)} pictures on {side} are too few to leak a drive of {count}")
        chosen += [there[place] for place in rng.choice(len(there), count, replace=False)]
    drive = chosen[0].drive
    names = {image.name for image in chosen}
    return [replace(image, drive=drive) if image.name in names else image for image in images], frozenset(
        {drive}
    )


def _frequent_class(images: Sequence[LabeledImage], rng: np.random.Generator) -> str:
    counts = Dataset(tuple(images)).class_counts()
    frequent = sorted(name for name, count in counts.items() if count >= LEAST_OF_CLASS)
    if not frequent:
        raise BenchError(f"no class has {LEAST_OF_CLASS} boxes, to rename it")
    return str(frequent[int(rng.integers(len(frequent)))])


def _shuffled(
    images: Sequence[LabeledImage], share: float, left_alone: str, rng: np.random.Generator
) -> tuple[list[LabeledImage], frozenset[BoxPlace], list[tuple[str, tuple[float, float, float, float]]]]:
    """Exchange the places of boxes, over all pictures; their classes stay."""
    everything = [
        (number, place)
        for number, image in enumerate(images)
        for place, box in enumerate(image.boxes)
        if box.category != left_alone
    ]
    total = sum(len(image.boxes) for image in images)
    count = round(share * total)
    if count == 0:
        return list(images), frozenset(), []
    if count < 2 or count > len(everything):
        raise BenchError(f"{total} boxes are too few, or {share:g} of them too many, to shuffle")
    chosen = [everything[place] for place in rng.choice(len(everything), count, replace=False)]
    boxes = [list(image.boxes) for image in images]
    shares = [_shares(images[number], boxes[number][place]) for number, place in chosen]
    orphans = [(images[number].name, _corners(boxes[number][place])) for number, place in chosen]
    for (number, place), corners in zip(chosen, [*shares[1:], shares[0]], strict=True):
        boxes[number][place] = _placed(images[number], boxes[number][place], corners)
    changed = [replace(image, boxes=tuple(some)) for image, some in zip(images, boxes, strict=True)]
    return changed, frozenset((images[number].name, place) for number, place in chosen), orphans


def _corners(box: Box) -> tuple[float, float, float, float]:
    return box.x1, box.y1, box.x2, box.y2


def _shares(image: LabeledImage, box: Box) -> tuple[float, float, float, float]:
    assert image.width and image.height
    return box.x1 / image.width, box.y1 / image.height, box.x2 / image.width, box.y2 / image.height


def _placed(image: LabeledImage, box: Box, shares: tuple[float, float, float, float]) -> Box:
    assert image.width and image.height
    x1, y1, x2, y2 = shares
    return replace(box, x1=x1 * image.width, y1=y1 * image.height, x2=x2 * image.width, y2=y2 * image.height)


def _renamed(image: LabeledImage, category: str) -> LabeledImage:
    boxes = tuple(
        replace(box, category=new_name(category)) if category and box.category == category else box
        for box in image.boxes
    )
    return replace(image, boxes=boxes)


def _copy(jpeg: bytes, how: int) -> tuple[bytes, tuple[int, int]]:
    """A picture as it comes back from somebody else; and its size."""
    with Image.open(io.BytesIO(jpeg)) as opened:
        picture = opened.convert("RGB")
    width, height = picture.size
    if how == 0:
        return jpeg, picture.size
    if how == 2:
        picture = picture.resize((width * 3 // 4, height * 3 // 4), Image.Resampling.LANCZOS)
    elif how == 3:
        picture = ImageEnhance.Brightness(picture).enhance(1.1)
    elif how == 4:
        edge = (round(width * 0.005), round(height * 0.005))
        picture = picture.crop((*edge, width - edge[0], height - edge[1])).resize((width, height))
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=50 if how == 1 else 90)
    return encoded.getvalue(), picture.size


def _as_copy(image: LabeledImage, name: str, number: int, size: tuple[int, int]) -> LabeledImage:
    sized = replace(image, width=size[0], height=size[1])
    boxes = tuple(_placed(sized, box, _shares(image, box)) for box in image.boxes)
    return replace(sized, name=name, boxes=boxes, drive=f"copied{number:02d}")
