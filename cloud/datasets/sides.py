"""Which side of its split each picture of a dataset on disk is on."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from cloud.datasets.dataset import Dataset
from cloud.datasets.yolo import pictures_by_split

DESCRIPTIONS = ("data.yaml", "data.yml", "dataset.yaml")


def read_sides(path: Path, dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """Read a dataset's splits, as its data.yaml has them.

    Args:
        path: the dataset's folder, or its data.yaml.
        dataset: what was read there.

    Returns:
        Image name to the sides that it is on, in the order of the data.yaml. Empty where there is no split:
        no data.yaml, one side alone, or the same pictures on all.

    Raises:
        DatasetError: the data.yaml cannot be read.
    """
    description = _description(path)
    if description is None:
        return {}
    listed = {
        side: {_plain(picture) for picture in pictures}
        for side, pictures in pictures_by_split(description).items()
        if pictures
    }
    if len(listed) < 2 or len({frozenset(pictures) for pictures in listed.values()}) == 1:
        return {}
    names = {_plain(image.path): image.name for image in dataset.images if image.path is not None}
    sides: dict[str, list[str]] = defaultdict(list)
    for side, pictures in listed.items():
        for picture in pictures & names.keys():
            sides[names[picture]].append(side)
    return {name: tuple(found) for name, found in sides.items()}


def _description(path: Path) -> Path | None:
    if path.is_dir():
        return next((path / name for name in DESCRIPTIONS if (path / name).is_file()), None)
    return path if path.suffix.lower() in (".yaml", ".yml") else None


def _plain(path: Path) -> str:
    # Not resolved: DVC links all pictures of the same content to one file.
    return os.path.normpath(path.absolute())
