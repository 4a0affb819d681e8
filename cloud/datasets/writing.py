"""Writing a dataset: one folder that BDD100K's tools, Ultralytics and this project can all read.

DIR/images/NAME.jpg   the pictures
DIR/labels/NAME.txt   YOLO labels: class id, centre x, centre y, width, height, as parts of the image
DIR/data.yaml         Ultralytics' description of the folder
DIR/SPLIT.txt         the pictures of each split, where there are splits
DIR/det_20.json       the labels in full, in the shape of BDD100K's 2020 detection release; written last,
                      so that a folder that has it is whole
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

import yaml

from cloud.datasets.classes import CANONICAL
from cloud.datasets.dataset import (
    IMAGE_SUFFIXES,
    Box,
    Dataset,
    DatasetError,
    LabeledImage,
    Refusal,
    fit_boxes,
    safe_name,
)
from cloud.datasets.files import atomic_file, link_or_copy, write_file
from cloud.datasets.pictures import PictureError, picture_size
from cloud.datasets.splitting import check_split_name

LABELS_FILE = "det_20.json"


def picture_path(name: str) -> str:
    """Give the place of a picture in a dataset's folder."""
    return f"images/{name}"


def label_path(name: str) -> str:
    """Give the place of a picture's YOLO labels in a dataset's folder."""
    return str(PurePosixPath("labels", name).with_suffix(".txt"))


class ImageRefusedError(DatasetError):
    """One image cannot be written; `reason` is the same for all of its kind."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"image {name!r}: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer wrote.

    Attributes:
        images, boxes: written.
        refusals: images and boxes that were not.
        left_out: boxes without a YOLO label, count by category: no class of the dataset, or a crowd.
    """

    images: int
    boxes: int
    refusals: tuple[Refusal, ...]
    left_out: Counter[str]


class DatasetWriter:
    """Writes a dataset image by image, with constant memory; `close` makes it whole.

    As a context manager it closes when the block ends well and leaves no `det_20.json` when it does not.
    """

    def __init__(self, directory: Path, class_names: Sequence[str] = CANONICAL) -> None:
        """Begin in a new or empty folder.

        Args:
            directory: created if need be.
            class_names: canonical names; their order gives the YOLO class ids.

        Raises:
            DatasetError: the folder holds something already, or a class name comes twice.
            FileError: it cannot be written to.
        """
        try:
            taken = directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
        except OSError as error:
            raise DatasetError(f"{directory} cannot be written to: {error.strerror}") from None
        if taken:
            raise DatasetError(f"{directory} exists and is not an empty folder: give another, or remove it")
        if not class_names or len(set(class_names)) != len(class_names):
            raise DatasetError(f"class names {list(class_names)} must be given and differ from each other")
        self._directory = directory
        self._class_names = tuple(class_names)
        self._class_ids = {name: number for number, name in enumerate(class_names)}
        self._stems: set[PurePosixPath] = set()
        self._splits: dict[str, list[str]] = {}
        self._images = 0
        self._boxes = 0
        self._refusals: list[Refusal] = []
        self._left_out: Counter[str] = Counter()
        self._written: Written | None = None
        self._stack = ExitStack()
        self._labels = self._stack.enter_context(atomic_file(directory / LABELS_FILE))
        self._labels.write(b"[")

    def add(
        self, image: LabeledImage, encoded: bytes | Path, split: str | None = None, link: bool = False
    ) -> None:
        """Write one image and its labels.

        Args:
            image: `path` is not used; a size that is None is read from the picture. Boxes are clipped to
                the picture; those that cannot be are refused and counted.
            encoded: the picture as JPEG (or as the name's suffix says), or the file to take it from.
            split: its side of the split, such as "train".
            link: hard-link a file instead of copying it, where the file system can.

        Raises:
            ImageRefusedError: the picture is corrupt or not of the stated size, or its name cannot be used
                or was used before. Nothing is written then, and the writer goes on.
            DatasetError: a split's name cannot be used.
        """
        if split is not None:
            check_split_name(split)
        width, height = self._check(image, encoded)
        target = self._directory / picture_path(image.name)
        if isinstance(encoded, bytes):
            write_file(target, encoded)
        elif link:
            link_or_copy(encoded, target)
        else:
            write_file(target, encoded.read_bytes())
        image, refusals = fit_boxes(replace(image, width=width, height=height))
        self._refusals.extend(refusals)
        labels, left_out = yolo_labels(image.boxes, width, height, self._class_ids)
        write_file(self._directory / label_path(image.name), labels)
        self._left_out.update(left_out)
        record = scalabel_record(image)
        self._labels.write(b",\n" if self._images else b"\n")
        self._labels.write(json.dumps(record, separators=(",", ":"), allow_nan=False).encode())
        if split is not None:
            self._splits.setdefault(split, []).append(f"./images/{image.name}")
        self._images += 1
        self._boxes += len(image.boxes)

    def refuse(self, where: str, reason: str) -> None:
        """Count something that was left out before it came here."""
        self._refusals.append(Refusal(where, reason))

    def close(self) -> Written:
        """Finish: write the split lists, `data.yaml`, and `det_20.json` last. A second call changes nothing.

        Raises:
            DatasetError: no image was added.
        """
        if self._written:
            return self._written
        if not self._images:
            self.abort()
            reasons = Counter(refusal.reason for refusal in self._refusals).most_common(3)
            why = ", ".join(f"{count} {reason}" for reason, count in reasons)
            raise DatasetError(
                f"nothing to write to {self._directory}: no image was usable" + (f" ({why})" if why else "")
            )
        for split, names in self._splits.items():
            write_file(self._directory / f"{split}.txt", "".join(f"{name}\n" for name in names))
        places = {split: f"{split}.txt" for split in self._splits} or {"train": "images", "val": "images"}
        description = {**places, "names": dict(enumerate(self._class_names))}
        write_file(self._directory / "data.yaml", yaml.safe_dump(description, sort_keys=False))
        self._labels.write(b"\n]\n")
        self._stack.close()
        self._written = Written(self._images, self._boxes, tuple(self._refusals), self._left_out)
        return self._written

    def abort(self) -> None:
        """Leave the folder without `det_20.json`."""
        reason = DatasetError("aborted")
        self._stack.__exit__(DatasetError, reason, None)

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _check(self, image: LabeledImage, encoded: bytes | Path) -> tuple[int, int]:
        name = image.name
        if not safe_name(name) or not name.lower().endswith(IMAGE_SUFFIXES):
            raise ImageRefusedError(name, "image name cannot be a file's")
        stem = PurePosixPath(name.lower()).with_suffix("")
        if stem in self._stems:
            raise ImageRefusedError(name, "image name comes twice")
        try:
            width, height = picture_size(encoded, decode=True)
        except PictureError as error:
            raise ImageRefusedError(name, str(error)) from None
        if image.width not in (None, width) or image.height not in (None, height):
            raise ImageRefusedError(name, "image is not of the size that its labels say")
        self._stems.add(stem)
        return width, height


def yolo_labels(
    boxes: Iterable[Box], width: int, height: int, class_ids: Mapping[str, int]
) -> tuple[str, list[str]]:
    """Return the text of a YOLO label file, and the categories of the boxes that have no line in it."""
    lines, left_out = [], []
    for box in boxes:
        class_id = class_ids.get(box.category)
        if class_id is None or box.crowd:
            left_out.append(box.category)
            continue
        parts = (
            (box.x1 + box.x2) / 2 / width,
            (box.y1 + box.y2) / 2 / height,
            (box.x2 - box.x1) / width,
            (box.y2 - box.y1) / height,
        )
        lines.append(f"{class_id} " + " ".join(f"{part:.9f}" for part in parts) + "\n")
    return "".join(lines), left_out


def write_dataset(
    directory: Path,
    dataset: Dataset,
    class_names: Sequence[str] | None = None,
    split_of: Callable[[LabeledImage], str] | None = None,
    link: bool = False,
    progress: Callable[[Iterable[LabeledImage]], Iterable[LabeledImage]] = iter,
) -> Written:
    """Write a whole dataset whose images are files.

    Args:
        directory: new or empty.
        dataset: images without a picture, and pictures that do not decode, are refused and counted.
        class_names: those with YOLO ids; None: the canonical ten, then any others of the dataset by name.
        split_of: gives each image its split.
        link: hard-link the pictures instead of copying them, where the file system can.
        progress: wraps the images, to show how far it is.

    Raises:
        DatasetError: the folder is not empty, or no image is usable.
    """
    if class_names is None:
        class_names = (*CANONICAL, *sorted(set(dataset.class_counts()) - set(CANONICAL)))
    writer = DatasetWriter(directory, class_names)
    try:
        for image in progress(dataset.images):
            if image.path is None:
                writer.refuse(image.name, "image is missing")
                continue
            try:
                writer.add(image, image.path, split_of(image) if split_of else None, link)
            except ImageRefusedError as error:
                writer.refuse(image.name, error.reason)
    except BaseException:
        writer.abort()
        raise
    return writer.close()


def scalabel_record(image: LabeledImage) -> dict[str, Any]:
    """Return an image's labels as one record of BDD100K's 2020 detection release."""
    return {
        "name": image.name,
        "videoName": image.drive,
        "attributes": dict(image.attributes),
        "size": {"width": image.width, "height": image.height},
        "labels": [
            {
                "id": str(number),
                "category": box.category,
                "attributes": {
                    key: value
                    for key, value in (("occluded", box.occluded), ("truncated", box.truncated))
                    if value is not None
                }
                | ({"crowd": True} if box.crowd else {}),
                "box2d": {"x1": box.x1, "y1": box.y1, "x2": box.x2, "y2": box.y2},
            }
            for number, box in enumerate(image.boxes)
        ],
    }
