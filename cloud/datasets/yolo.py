"""Ultralytics YOLO folders, and plain ones with a classes.txt.

Source: https://docs.ultralytics.com/datasets/detect/ ; where its documentation is silent (lists of folders,
"./" in lists of images, labels beside images), `ultralytics.data.utils` and `ultralytics.data.base`.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from cloud.datasets.classes import canonical
from cloud.datasets.dataset import (
    IMAGE_SUFFIXES,
    Box,
    Dataset,
    DatasetError,
    LabeledImage,
    Refusal,
    drive_of,
    fit_boxes,
    safe_name,
)
from cloud.datasets.pictures import PictureError, picture_size

INDEX_FILE = "index.csv"
CLASS_FILES = ("classes.txt", "obj.names")
LABEL_FOLDERS = ("labels", "labels_yolo")
_NO_ATTRIBUTES = {"image", "drive", "sha256", "n_boxes", "width", "height"}
_NO_SPLITS = {"path", "names", "nc", "download", "channels", "kpt_shape", "flip_idx"}
_SPLITS = {"train", "val", "validation", "test", "minival"}
_SPLIT_FOLDER = re.compile(r"^(train|val|valid|validation|test|minival)(\d{4})?$")


def read_yaml_folder(description: Path) -> Dataset:
    """Read the dataset that an Ultralytics data.yaml describes, all its splits together.

    Raises:
        DatasetError: it is not such a file, or no image or no label file is found.
    """
    document = _read_description(description)
    names = _class_names(document.get("names"), description)
    root = _root(document.get("path"), description.parent)
    refusals: list[Refusal] = []
    splits = _splits(document, root, description, refusals)
    pictures = dict.fromkeys(picture for found in splits.values() for picture in found)
    if not pictures:
        raise DatasetError(
            f"{description} leads to no image: expected train, val or test to be folders or .txt lists of "
            f"images, relative to {root}"
        )
    keypoints = "kpt_shape" in document
    return _read(list(pictures), names, description.parent / INDEX_FILE, _label_file, refusals, keypoints)


def pictures_by_split(description: Path) -> dict[str, list[Path]]:
    """List the pictures of each split that an Ultralytics data.yaml names, without those that are missing.

    Raises:
        DatasetError: it is not such a file.
    """
    document = _read_description(description)
    return _splits(document, _root(document.get("path"), description.parent), description, [])


def _read_description(description: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(description.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise DatasetError(f"{description} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, Mapping):
        raise DatasetError(f"{description} is not an Ultralytics data.yaml: expected names, train and val")
    return document


def _splits(
    document: Mapping[str, Any], root: Path, description: Path, refusals: list[Refusal]
) -> dict[str, list[Path]]:
    splits: dict[str, list[Path]] = {}
    for key, value in document.items():
        if key in _NO_SPLITS or not isinstance(value, str | list):
            continue
        missing: list[Refusal] = []
        found = [
            picture
            for place in (value if isinstance(value, list) else [value])
            for picture in _pictures_of(place, root, f"{description}, {key}", missing)
        ]
        # Any other key may be a split of somebody's own, or say who made the dataset.
        if found or key in _SPLITS:
            splits[str(key)] = found
            refusals.extend(missing)
    return splits


def class_file_of(folder: Path) -> Path | None:
    """Find the class names of a plain folder: in itself, or among its labels, where LabelImg writes them."""
    places = [folder, *(folder / labels for labels in LABEL_FOLDERS)]
    return next((place / name for place in places for name in CLASS_FILES if (place / name).is_file()), None)


def read_plain_folder(folder: Path, images: Path | None = None) -> Dataset:
    """Read a folder with classes.txt (or obj.names), labels/ or labels_yolo/, and images/.

    Pictures, labels or both may also lie in the folder itself, and each split may have its own images/
    and labels/. `index.csv`, where it is there, gives attributes by picture: a column `image`, perhaps
    `drive`, and any others.

    Args:
        folder: with the class names and the labels.
        images: where the pictures are, if elsewhere.

    Raises:
        DatasetError: no class names, no image or no label file is found.
    """
    class_file = class_file_of(folder)
    if class_file is None:
        raise DatasetError(f"{folder} has no {' or '.join(CLASS_FILES)}")
    lines = class_file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    names = {number: canonical(line) for number, line in enumerate(lines) if line.strip()}
    top = images or (folder / "images" if (folder / "images").is_dir() else folder)
    pictures = _walk(top)
    if not pictures:
        raise DatasetError(
            f"{top} has no images" + ("" if images else ": expected them in images/ or in the folder itself")
        )
    labels = next((folder / name for name in LABEL_FOLDERS if (folder / name).is_dir()), folder)
    start = _plain(top)

    def label_file(picture: Path) -> Path:
        place = (labels / picture.relative_to(start)).with_suffix(".txt")
        return place if images or place.exists() else _label_file(picture, place)

    return _read(pictures, names, folder / INDEX_FILE, label_file, [])


def parse_label_line(
    line: str, names: Mapping[int, str], width: int, height: int, keypoints: bool = False
) -> Box | str:
    """Read one line of a label file: class id and centre x, centre y, width, height as parts of the image.

    What follows is left out if it is keypoints. Otherwise a polygon (class id and at least three points)
    gives the box around it.

    Returns:
        The box in pixels, not yet clipped, or the reason why there is none.
    """
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        return "label line is malformed"
    if keypoints:
        values = values[:5]
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        return "label line is malformed"
    if not math.isfinite(values[0]) or int(values[0]) != values[0] or int(values[0]) not in names:
        return "class id is not in the class list"
    category = names[int(values[0])]
    if not all(math.isfinite(value) for value in values):
        return "box is not finite"
    xs, ys = values[1::2], values[2::2]
    if len(values) == 5:
        (x, half_width), (y, half_height) = (xs[0], xs[1] / 2), (ys[0], ys[1] / 2)
        if half_width < 0 or half_height < 0:
            return "box is inverted"
        xs, ys = [x - half_width, x + half_width], [y - half_height, y + half_height]
    return Box(min(xs) * width, min(ys) * height, max(xs) * width, max(ys) * height, category)


def _class_names(value: Any, description: Path) -> dict[int, str]:
    if isinstance(value, list):
        value = dict(enumerate(value))
    if isinstance(value, Mapping) and value:
        try:
            return {int(number): canonical(str(name)) for number, name in value.items()}
        except (TypeError, ValueError):
            pass
    raise DatasetError(f"{description} has no class names: expected names, a list or a map from id to name")


def _root(path: object, folder: Path) -> Path:
    if isinstance(path, str) and path:
        for base in (folder / path, Path(path)):
            if base.is_dir():
                return base
    return folder


def _pictures_of(place: object, root: Path, where: str, refusals: list[Refusal]) -> list[Path]:
    if not isinstance(place, str):
        refusals.append(Refusal(where, "split is not a path"))
        return []
    # Roboflow writes "../train/images" for what lies beside data.yaml; Ultralytics forgives it too.
    candidates = [root / place, root / place.removeprefix("../")]
    path = next((candidate for candidate in candidates if candidate.exists()), None)
    if path is None:
        refusals.append(Refusal(f"{where}: {place}", "split is missing"))
        return []
    if path.is_dir():
        return _walk(path)
    return read_list(path, root, refusals)


def read_list(path: Path, root: Path, refusals: list[Refusal]) -> list[Path]:
    """Read a .txt list of pictures: one a line, absolute, or relative to the list or to `root`."""
    found = []
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        name = line.strip()
        if not name:
            continue
        picture = next((base / name for base in (path.parent, root) if (base / name).is_file()), None)
        if picture:
            found.append(_plain(picture))
        else:
            refusals.append(Refusal(f"{path}: {name}", "image is missing"))
    return found


def _walk(folder: Path) -> list[Path]:
    return sorted(
        _plain(path)
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _plain(path: Path) -> Path:
    # Not resolved: DVC and others link pictures into place, and labels lie beside the link, not its target.
    return Path(*(part for part in path.absolute().parts if part != "."))


def _label_file(picture: Path, otherwise: Path | None = None) -> Path:
    """Give labels/ for the last images/ in a picture's path; without images/, `otherwise` or beside it."""
    parts = list(picture.parts)
    if "images" not in parts[:-1]:
        return otherwise or picture.with_suffix(".txt")
    parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def _names(picture: Path) -> tuple[str, ...]:
    """Give a picture's possible names, shortest first: folders of splits and above images/ tell little."""
    parts = picture.parts[:-1]
    start = len(parts) - parts[::-1].index("images") if "images" in parts else len(parts)
    inside, above = parts[start:], parts[max(1, start - 2) : start - 1]
    without_split = inside[1:] if inside and _SPLIT_FOLDER.match(inside[0]) else inside
    return tuple(
        str(PurePosixPath(*folders, picture.name)) for folders in (without_split, inside, (*above, *inside))
    )


def _read(
    pictures: list[Path],
    names: Mapping[int, str],
    index_file: Path,
    label_file: Callable[[Path], Path],
    refusals: list[Refusal],
    keypoints: bool = False,
) -> Dataset:
    index = _read_index(index_file, refusals)
    places = {picture: label_file(picture) for picture in pictures}
    if not any(place.is_file() for place in places.values()):
        example = places[pictures[0]]
        raise DatasetError(f"none of {len(pictures)} images has a label file: looked for {example} and so on")
    uses = Counter(name for picture in pictures for name in set(_names(picture)))
    seen: set[str] = set()
    images = []
    clipped: list[Refusal] = []
    for picture in pictures:
        candidates = _names(picture)
        name = next((name for name in candidates if uses[name] == 1), candidates[-1])
        if name in seen or not safe_name(name):
            reason = "image name comes twice" if name in seen else "image name cannot be a file's"
            refusals.append(Refusal(str(picture), reason))
            continue
        row = index.get(name) or index.get(picture.name) or {}
        attributes = {key: value for key, value in row.items() if key not in _NO_ATTRIBUTES}
        drive = drive_of(candidates[0], row.get("drive"))
        image = LabeledImage(name, picture, None, None, (), attributes, drive)
        read = _read_image(image, places[picture], names, refusals, clipped, keypoints)
        if read:
            seen.add(name)
            images.append(read)
    return Dataset(tuple(images), tuple(refusals), clipped=tuple(clipped))


def _read_image(
    image: LabeledImage,
    label_file: Path,
    names: Mapping[int, str],
    refusals: list[Refusal],
    clipped: list[Refusal],
    keypoints: bool,
) -> LabeledImage | None:
    assert image.path is not None
    try:
        width, height = picture_size(image.path)
        text = label_file.read_bytes().decode("utf-8-sig") if label_file.exists() else ""
    except PictureError as error:
        refusals.append(Refusal(str(image.path), str(error)))
        return None
    except UnicodeDecodeError:
        refusals.append(Refusal(str(label_file), "label file is not text"))
        return None
    except OSError:
        refusals.append(Refusal(str(label_file), "label file cannot be read"))
        return None
    boxes = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        box = parse_label_line(line, names, width, height, keypoints)
        if isinstance(box, str):
            refusals.append(Refusal(f"{label_file}, line {number}", box))
        else:
            boxes.append(box)
    image, refused = fit_boxes(replace(image, width=width, height=height, boxes=tuple(boxes)), clipped)
    refusals.extend(refused)
    return image


def _read_index(path: Path, refusals: list[Refusal]) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig", errors="replace")))
    try:
        rows = [row for row in reader if isinstance(row.get("image"), str)]
    except csv.Error:
        refusals.append(Refusal(str(path), "index is not CSV"))
        return {}
    return {
        row["image"]: {key: value for key, value in row.items() if isinstance(key, str) and value}
        for row in rows
    }
