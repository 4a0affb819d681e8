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
from collections.abc import Mapping
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
_SPLIT_FOLDER = re.compile(r"^(train|val|valid|validation|test|minival)(\d{4})?$")


def read_yaml_folder(description: Path) -> Dataset:
    """Read the dataset that an Ultralytics data.yaml describes, all its splits together.

    Raises:
        DatasetError: it is not such a file, or no image or no label file is found.
    """
    try:
        document = yaml.safe_load(description.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise DatasetError(f"{description} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, Mapping):
        raise DatasetError(f"{description} is not an Ultralytics data.yaml: expected names, train and val")
    names = _class_names(document.get("names"), description)
    root = _root(document.get("path"), description.parent)
    refusals: list[Refusal] = []
    pictures: dict[Path, None] = {}
    for key, value in document.items():
        if key in _NO_SPLITS or not isinstance(value, str | list):
            continue
        for place in value if isinstance(value, list) else [value]:
            found = _pictures_of(place, root, f"{description}, {key}", refusals)
            pictures.update(dict.fromkeys(found))
    if not pictures:
        raise DatasetError(
            f"{description} leads to no image: expected train, val or test to be folders or .txt lists of "
            f"images, relative to {root}"
        )
    return _read(list(pictures), names, description.parent / INDEX_FILE, None, refusals)


def read_plain_folder(folder: Path) -> Dataset:
    """Read a folder with classes.txt (or obj.names), labels/ or labels_yolo/, and images/.

    Pictures, labels or both may also lie in the folder itself. `index.csv`, where it is there, gives
    attributes by picture: a column `image`, perhaps `drive`, and any others.

    Raises:
        DatasetError: no class names, no image or no label file is found.
    """
    class_file = next((folder / name for name in CLASS_FILES if (folder / name).is_file()), None)
    if class_file is None:
        raise DatasetError(f"{folder} has no {' or '.join(CLASS_FILES)}")
    lines = class_file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    names = {number: canonical(line) for number, line in enumerate(lines) if line.strip()}
    images = folder / "images" if (folder / "images").is_dir() else folder
    pictures = _walk(images)
    if not pictures:
        raise DatasetError(f"{folder} has no images: expected them in images/ or in the folder itself")
    labels = next((folder / name for name in LABEL_FOLDERS if (folder / name).is_dir()), folder)
    places = {picture: (labels / picture.relative_to(images)).with_suffix(".txt") for picture in pictures}
    return _read(pictures, names, folder / INDEX_FILE, places, [])


def parse_label_line(line: str, names: Mapping[int, str], width: int, height: int) -> Box | str:
    """Read one line of a label file: class id and centre x, centre y, width, height as parts of the image.

    A polygon (class id and at least three points) gives the box around it.

    Returns:
        The box in pixels, not yet clipped, or the reason why there is none.
    """
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        return "label line is malformed"
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


def _label_file(picture: Path) -> Path:
    parts = list(picture.parts)
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        parts[last] = "labels"
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
    label_files: Mapping[Path, Path] | None,
    refusals: list[Refusal],
) -> Dataset:
    index = _read_index(index_file, refusals)
    places = label_files or {picture: _label_file(picture) for picture in pictures}
    if not any(place.is_file() for place in places.values()):
        example = places[pictures[0]]
        raise DatasetError(f"none of {len(pictures)} images has a label file: looked for {example} and so on")
    uses = Counter(name for picture in pictures for name in set(_names(picture)))
    seen: set[str] = set()
    images = []
    for picture in pictures:
        candidates = _names(picture)
        drive = drive_of(candidates[0])
        name = next((name for name in candidates if uses[name] == 1), candidates[-1])
        if name in seen or not safe_name(name):
            reason = "image name comes twice" if name in seen else "image name cannot be a file's"
            refusals.append(Refusal(str(picture), reason))
            continue
        row = index.get(name) or index.get(picture.name) or {}
        attributes = {key: value for key, value in row.items() if key not in _NO_ATTRIBUTES}
        image = LabeledImage(name, picture, None, None, (), attributes, row.get("drive") or drive)
        read = _read_image(image, places[picture], names, refusals)
        if read:
            seen.add(name)
            images.append(read)
    return Dataset(tuple(images), tuple(refusals))


def _read_image(
    image: LabeledImage, label_file: Path, names: Mapping[int, str], refusals: list[Refusal]
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
        box = parse_label_line(line, names, width, height)
        if isinstance(box, str):
            refusals.append(Refusal(f"{label_file}, line {number}", box))
        else:
            boxes.append(box)
    image, refused = fit_boxes(replace(image, width=width, height=height, boxes=tuple(boxes)))
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
