"""Reading a dataset, whatever its shape."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path, PurePosixPath

from cloud.datasets import bdd100k, yolo
from cloud.datasets.dataset import Dataset, DatasetError, LabeledImage, Refusal, fit_boxes, safe_name
from cloud.datasets.pictures import PictureError, PictureFinder, picture_size, without_suffix
from cloud.datasets.writing import LABELS_FILE

EXPECTED = (
    "expected a BDD100K label file (.json), a folder of them, an Ultralytics data.yaml or its folder, "
    "a folder with classes.txt, labels and images, or a .txt list of images in such a folder"
)


def read_dataset(path: Path, images: Path | None = None) -> Dataset:
    """Read labelled images, finding out the shape.

    Args:
        path: a JSON file of BDD100K's or Scalabel's shapes; a data.yaml; a classes.txt; a .txt list of the
            pictures of one split, in the folder of a dataset; or a folder. In a folder `det_20.json`
            counts before `data.yaml`, that before `classes.txt`, and that before any other JSON files.
        images: where the pictures are, searched with its subfolders; not for a data.yaml, which says so
            itself. Without it those of JSON labels are looked for beside the labels, in `images/` beside
            them, and where BDD100K keeps them (`images` for `labels` in the path, `images/100k`). They may
            be missing: `path` is None.

    Returns:
        The images in their source's order. Each piece of bad input is a refusal and costs itself alone.

    Raises:
        DatasetError: the path is missing or of no known shape, or nothing in it is usable.
    """
    try:
        if not path.exists():
            raise DatasetError(f"{path} does not exist")
        if images is not None and not images.is_dir():
            raise DatasetError(f"{images} is not a folder of images")
        dataset = _read_folder(path, images) if path.is_dir() else _read_file(path, images)
    except OSError as error:
        raise DatasetError(f"{error.filename or path} cannot be read: {error.strerror or error}") from None
    if not dataset.images:
        reasons = Counter(refusal.reason for refusal in dataset.refusals).most_common(3)
        why = ", ".join(f"{reason} ({count})" for reason, count in reasons)
        raise DatasetError(f"{path} has no usable image" + (f": {why}" if why else ""))
    if images is not None and all(image.path is None for image in dataset.images):
        raise DatasetError(
            f"{images} has none of the {len(dataset.images)} images that {path} names, "
            f"such as {dataset.images[0].name}"
        )
    return dataset


def _read_file(path: Path, images: Path | None) -> Dataset:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _read_json([path], images)
    if suffix in (".yaml", ".yml"):
        return _read_yaml(path, images)
    if path.name in yolo.CLASS_FILES:
        return yolo.read_plain_folder(path.parent, images)
    if suffix == ".txt":
        return _read_split(path, images)
    raise DatasetError(f"{path} is no dataset: {EXPECTED}")


def _read_folder(folder: Path, images: Path | None) -> Dataset:
    if (folder / LABELS_FILE).is_file():
        return _read_json([folder / LABELS_FILE], images)
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (folder / name).is_file():
            return _read_yaml(folder / name, images)
    if yolo.class_file_of(folder):
        return yolo.read_plain_folder(folder, images)
    below = sorted(file.parent for name in (LABELS_FILE, "data.yaml") for file in folder.glob(f"*/{name}"))
    if below:
        raise DatasetError(f"{folder} holds datasets, give one of them: {', '.join(map(str, below[:5]))}")
    # The 2018 release has its files for each image in train/, val/ and test/.
    files = sorted(folder.glob("*.json")) or sorted(folder.glob("*/*.json"))
    if files:
        return _read_json(files, images)
    descriptions = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    if len(descriptions) == 1:
        return _read_yaml(descriptions[0], images)
    raise DatasetError(f"{folder} is no dataset: {EXPECTED}")


def _read_yaml(description: Path, images: Path | None) -> Dataset:
    if images is not None:
        raise DatasetError(f"{description} says itself where its images are: leave {images} out")
    return yolo.read_yaml_folder(description)


def _read_split(path: Path, images: Path | None) -> Dataset:
    dataset = read_dataset(path.parent, images)
    refusals = list(dataset.refusals)
    wanted = {picture.resolve() for picture in yolo.read_list(path, path.parent, refusals)}
    chosen = tuple(image for image in dataset.images if image.path and image.path.resolve() in wanted)
    if not chosen:
        raise DatasetError(f"{path} lists no image of the dataset in {path.parent}: {EXPECTED}")
    return Dataset(chosen, tuple(refusals), dataset.skipped, dataset.clipped)


def _read_json(files: list[Path], images: Path | None) -> Dataset:
    parsed = bdd100k.Parsed()
    for file in files:
        try:
            bdd100k.parse(_load_json(file), str(file), parsed)
        except DatasetError as error:
            if len(files) == 1:
                raise
            parsed.refuse(str(file), _REASONS.get(type(error), "label file is of no known shape"))
    if not parsed.images and len(files) > 1:
        raise DatasetError(
            f"none of {len(files)} JSON files in {files[0].parent} has labels: {bdd100k.EXPECTED}"
        )
    finder = _finder({file.parent for file in files}, images)
    refusals = parsed.refusals
    candidates = _candidates(parsed, refusals)
    uses = Counter(name for _, names in candidates for name in names)
    settled: list[LabeledImage] = []
    clipped: list[Refusal] = []
    for image, names in candidates:
        # A picture may be found by less than its name, but not if another image could claim it so.
        own = [name for name in names if name == image.name or uses[name] == 1]
        found = _settle(image, finder, own, refusals, clipped)
        if found:
            settled.append(found)
    return Dataset(tuple(settled), tuple(refusals), parsed.skipped, tuple(clipped))


class _NotJsonError(DatasetError):
    pass


class _UnreadableError(DatasetError):
    pass


_REASONS = {_NotJsonError: "label file is not JSON", _UnreadableError: "label file cannot be read"}


def _load_json(file: Path) -> object:
    try:
        return json.loads(file.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise _UnreadableError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise _NotJsonError(f"{file} is not JSON ({error}): {bdd100k.EXPECTED}") from None


def _finder(folders: set[Path], images: Path | None) -> PictureFinder:
    if images is not None:
        return PictureFinder([], [images])
    flat = sorted(folder.absolute() for folder in folders)
    deep = [folder / "images" for folder in flat]
    for folder in flat:
        parts = list(folder.parts)
        if "labels" in parts:
            place = len(parts) - 1 - parts[::-1].index("labels")
            pictures = Path(*parts[:place], "images")
            # labels/det_20 and the lists of 2018 are for images/100k; images/10k has some of the same names.
            beside = [pictures.joinpath(*parts[place + 1 :])] if parts[place + 1 :] else []
            deep += [*beside, pictures / "100k", pictures]
    return PictureFinder(flat, deep)


def _candidates(
    parsed: bdd100k.Parsed, refusals: list[Refusal]
) -> list[tuple[LabeledImage, dict[str, None]]]:
    """Give each image a name of its own, and the names under which its picture may lie, the best first."""
    videos: dict[str, set[str]] = defaultdict(set)
    for image, video in zip(parsed.images, parsed.videos, strict=True):
        videos[image.name].add(video)
    seen: set[str] = set()
    candidates = []
    for image, video in zip(parsed.images, parsed.videos, strict=True):
        inside = f"{video}/{image.name}"
        if len(videos[image.name]) > 1 and safe_name(inside):
            image = replace(image, name=inside)
        if image.name in seen:
            refusals.append(Refusal(image.name, "image name comes twice"))
            continue
        seen.add(image.name)
        names = (inside, image.name, PurePosixPath(image.name).name)
        candidates.append(
            (image, dict.fromkeys(key for name in names for key in (name, without_suffix(name))))
        )
    return candidates


def _settle(
    image: LabeledImage,
    finder: PictureFinder,
    names: list[str],
    refusals: list[Refusal],
    clipped: list[Refusal],
) -> LabeledImage | None:
    try:
        path = finder.find(*names)
        size = picture_size(path) if path else (image.width, image.height)
    except PictureError as error:
        refusals.append(Refusal(image.name, str(error)))
        return None
    if path and image.width is not None and size != (image.width, image.height):
        refusals.append(Refusal(image.name, "image is not of the size that its labels say"))
        return None
    image, refused = fit_boxes(replace(image, path=path, width=size[0], height=size[1]), clipped)
    refusals.extend(refused)
    return image
