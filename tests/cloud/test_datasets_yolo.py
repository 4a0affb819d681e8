"""YOLO folders: Ultralytics' and plain ones, and what is wrong in them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from cloud.datasets import Box, DatasetError, read_dataset
from tests.labelled import HEIGHT, WIDTH, jpeg, reasons, write
from tests.shared_data import shared_data

LINE = "0 0.5 0.5 0.25 0.5\n"
MIDDLE = Box(60, 24, 100, 72, "pedestrian")


def folder_of(tmp_path: Path, description: dict[str, object], *pictures: str) -> Path:
    """Write data.yaml, pictures, and LINE as the label of each."""
    write(tmp_path / "data.yaml", yaml.safe_dump(description))
    for picture in pictures:
        write(tmp_path / picture, jpeg())
        parts = picture.split("/")
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
        write((tmp_path / "/".join(parts)).with_suffix(".txt"), LINE)
    return tmp_path


@pytest.mark.parametrize("names", [["person", "bike"], {0: "person", 1: "bike"}])
def test_names_as_list_or_map_and_splits_as_folders(tmp_path: Path, names: object) -> None:
    description = {"path": ".", "train": "images/train", "val": ["images/val", "images/more"], "names": names}
    folder = folder_of(
        tmp_path,
        description,
        "images/train/a-1.jpg",
        "images/val/b-1.jpg",
        "images/more/c-1.jpg",
        "images/x/d.jpg",
    )
    dataset = read_dataset(folder)
    assert dataset == read_dataset(folder / "data.yaml")
    assert [(image.name, image.drive) for image in dataset.images] == [
        ("a-1.jpg", "a"),
        ("b-1.jpg", "b"),
        ("more/c-1.jpg", "more/c"),
    ]
    assert all(image.boxes == (MIDDLE,) for image in dataset.images)
    assert all((image.width, image.height) == (WIDTH, HEIGHT) for image in dataset.images)


def test_splits_as_lists_of_images(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        {"train": "train.txt", "val": "val.txt", "names": ["person"]},
        *(f"images/{name}.jpg" for name in "abc"),
    )
    write(folder / "train.txt", "./images/a.jpg\n\nimages/gone.jpg\n")
    write(folder / "val.txt", f"{folder / 'images' / 'b.jpg'}\n")
    dataset = read_dataset(folder)
    assert [image.name for image in dataset.images] == ["a.jpg", "b.jpg"]
    assert reasons(dataset) == ["image is missing"]
    assert [image.name for image in read_dataset(folder / "val.txt").images] == ["b.jpg"]
    with pytest.raises(DatasetError, match="lists no image of the dataset"):
        read_dataset(write(folder / "none.txt", "images/c.jpg"))


def test_an_export_with_the_splits_above(tmp_path: Path) -> None:
    description = {"train": "../train/images", "val": "../valid/images", "nc": 1, "names": ["person"]}
    pictures = ("train/images/a.jpg", "train/images/0001.jpg", "valid/images/0001.jpg")
    dataset = read_dataset(folder_of(tmp_path, description, *pictures))
    assert sorted(image.name for image in dataset.images) == ["a.jpg", "train/0001.jpg", "valid/0001.jpg"]
    assert dataset.refusals == ()


def test_train_and_val_may_be_the_same_folder(tmp_path: Path) -> None:
    dataset = read_dataset(
        folder_of(tmp_path, {"train": "images", "val": "images", "names": ["person"]}, "images/a.jpg")
    )
    assert len(dataset.images) == 1
    assert dataset.refusals == ()


def test_other_keys_are_splits_only_if_they_lead_to_images(tmp_path: Path) -> None:
    about = {"author": "somebody", "license": "LICENSE.txt", "version": "8", "tags": ["city", "rain"]}
    splits = {"train": "images/a", "test": "images/none", "holdout": "holdout.txt"}
    folder = folder_of(tmp_path, {**about, **splits, "names": ["person"]}, "images/a/a.jpg", "images/b/b.jpg")
    write(folder / "LICENSE.txt", "Do as you like.\n")
    write(folder / "holdout.txt", "images/b/b.jpg\nimages/b/gone.jpg\n")
    dataset = read_dataset(folder)
    assert sorted(image.name for image in dataset.images) == ["a/a.jpg", "b/b.jpg"]
    assert reasons(dataset) == ["image is missing", "split is missing"]


def test_keypoints_are_not_taken_for_a_polygon(tmp_path: Path) -> None:
    description = {"train": "images", "kpt_shape": [3, 2], "names": ["person"]}
    folder = folder_of(tmp_path, description, "images/a.jpg")
    write(folder / "labels" / "a.txt", LINE.strip() + " 0.1 0.1 0.9 0.9 0.3 0.3\n")
    assert read_dataset(folder).images[0].boxes == (MIDDLE,)


def test_an_image_without_label_file_shows_nothing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"train": "images", "names": ["person"]}, "images/a.jpg")
    write(folder / "images" / "empty.png", jpeg())
    assert [len(image.boxes) for image in read_dataset(folder).images] == [1, 0]


def test_a_rotated_picture_has_the_size_that_it_decodes_to(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"train": "images", "names": ["person"]}, "images/a.jpg")
    exif = bytes.fromhex("45786966000049492a00080000000100120103000100000006000000000000000000")
    write(folder / "images" / "a.jpg", jpeg(exif=exif))
    image = read_dataset(folder).images[0]
    assert (image.width, image.height) == (HEIGHT, WIDTH)
    assert image.boxes == (Box(36, 40, 60, 120, "pedestrian"),)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.25", "label line is malformed"),
        ("0 0.5 0.5 0.25 0.5 0.9", "label line is malformed"),
        ("zero 0.5 0.5 0.25 0.5", "label line is malformed"),
        ("1 0.5 0.5 0.25 0.5", "class id is not in the class list"),
        ("-1 0.5 0.5 0.25 0.5", "class id is not in the class list"),
        ("0.5 0.5 0.5 0.25 0.5", "class id is not in the class list"),
        ("nan 0.5 0.5 0.25 0.5", "class id is not in the class list"),
        ("0 nan 0.5 0.25 0.5", "box is not finite"),
        ("0 0.5 0.5 -0.25 0.5", "box is inverted"),
        ("0 0.5 0.5 0 0.5", "box has no area"),
        ("0 3 0.5 0.25 0.5", "box lies outside its image"),
        (LINE, "box comes twice"),
    ],
)
def test_a_bad_line_costs_itself_alone(tmp_path: Path, line: str, reason: str) -> None:
    folder = folder_of(tmp_path, {"train": "images", "names": ["person"]}, "images/a.jpg")
    write(folder / "labels" / "a.txt", LINE + line)
    dataset = read_dataset(folder)
    assert dataset.images[0].boxes == (MIDDLE,)
    assert reasons(dataset) == [reason]


def test_a_polygon_gives_the_box_around_it_and_a_box_over_the_edge_is_clipped(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"train": "images", "names": ["person"]}, "images/a.jpg")
    write(folder / "labels" / "a.txt", "0 0.25 0.5 0.75 0.5 0.5 0.75\n0.0 0 0.5 0.5 1\n")
    boxes = read_dataset(folder).images[0].boxes
    assert boxes == (Box(40, 48, 120, 72, "pedestrian"), Box(0, 0, 40, 96, "pedestrian"))


def test_a_bad_image_costs_itself_alone(tmp_path: Path) -> None:
    pictures = [f"images/{name}.jpg" for name in ("good", "torn", "binary")]
    folder = folder_of(tmp_path, {"train": "images", "names": ["person"]}, *pictures)
    write(folder / "images" / "torn.jpg", b"\xff\xd8")
    write(folder / "labels" / "binary.txt", b"\xff\xfe0 0.5")
    dataset = read_dataset(folder)
    assert [image.name for image in dataset.images] == ["good.jpg"]
    assert reasons(dataset) == ["image is corrupt", "label file is not text"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "is not YAML"),
        ("just text", "is not an Ultralytics data.yaml"),
        ("train: images", "has no class names"),
        ("train: images\nnames: []", "has no class names"),
        ("train: images\nnames: {a: b}", "has no class names"),
        ("train: nowhere\nnames: [car]", "leads to no image"),
        ("names: [car]", "leads to no image"),
    ],
)
def test_what_is_no_data_yaml_is_refused(tmp_path: Path, content: str, message: str) -> None:
    write(tmp_path / "images" / "a.jpg", jpeg())
    with pytest.raises(DatasetError, match=message):
        read_dataset(write(tmp_path / "data.yaml", content))


def test_images_without_any_label_file_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "images" / "a.jpg", jpeg())
    write(tmp_path / "data.yaml", "train: images\nnames: [car]")
    with pytest.raises(DatasetError, match=r"none of 1 images has a label file: looked for .*labels/a.txt"):
        read_dataset(tmp_path)


def test_a_plain_folder_with_its_index(tmp_path: Path) -> None:
    write(tmp_path / "classes.txt", "bike\nperson\n")
    write(tmp_path / "images" / "a.jpg", jpeg())
    write(tmp_path / "labels_yolo" / "a.txt", "1 0.5 0.5 0.25 0.5")
    write(tmp_path / "index.csv", "image,timeofday,drive,sha256,empty\na.jpg,night,tuesday,00ff,\n")
    image = read_dataset(tmp_path).images[0]
    assert image.boxes == (MIDDLE,)
    assert image.attributes == {"timeofday": "night"}
    assert image.drive == "tuesday"


def test_a_plain_folder_by_its_class_file_and_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "set" / "classes.txt", "person\n")
    write(tmp_path / "set" / "images" / "a.jpg", jpeg())
    write(tmp_path / "set" / "labels" / "a.txt", LINE)
    monkeypatch.chdir(tmp_path)
    dataset = read_dataset(Path("set"))
    assert dataset.images[0].boxes == (MIDDLE,)
    assert dataset == read_dataset(tmp_path / "set" / "classes.txt")
    # Labels in full go first in a folder that has both.
    write(tmp_path / "set" / "det_20.json", "[]")
    assert dataset == read_dataset(Path("set", "classes.txt"))


def test_class_names_among_the_labels(tmp_path: Path) -> None:
    write(tmp_path / "labels" / "classes.txt", "person\n")
    write(tmp_path / "labels" / "a.txt", LINE)
    write(tmp_path / "images" / "a.jpg", jpeg())
    assert read_dataset(tmp_path).images[0].boxes == (MIDDLE,)


def test_a_plain_folder_whose_splits_have_images_and_labels_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "classes.txt", "person\n")
    for split in ("train", "valid"):
        write(tmp_path / split / "images" / f"{split}.jpg", jpeg())
        write(tmp_path / split / "labels" / f"{split}.txt", LINE)
    assert [image.boxes for image in read_dataset(tmp_path).images] == [(MIDDLE,), (MIDDLE,)]


def test_pictures_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "set" / "classes.txt", "person\n")
    write(tmp_path / "set" / "labels" / "day" / "a.txt", LINE)
    picture = write(tmp_path / "pictures" / "day" / "a.jpg", jpeg())
    image = read_dataset(tmp_path / "set", tmp_path / "pictures").images[0]
    assert (image.boxes, image.path) == ((MIDDLE,), picture)
    described = folder_of(tmp_path / "other", {"train": "images", "names": ["person"]}, "images/a.jpg")
    with pytest.raises(
        DatasetError, match=r"data\.yaml says itself where its images are: leave .*pictures out"
    ):
        read_dataset(described, tmp_path / "pictures")


def test_the_drive_in_an_index_may_be_bdd100k_s(tmp_path: Path) -> None:
    write(tmp_path / "classes.txt", "person\n")
    write(tmp_path / "a.jpg", jpeg())
    write(tmp_path / "a.txt", LINE)
    write(tmp_path / "index.csv", "image,drive\na.jpg,0000f77c-6257be58\n")
    assert read_dataset(tmp_path).images[0].drive == "0000f77c"


def test_a_flat_folder_as_labelling_tools_write_it(tmp_path: Path) -> None:
    write(tmp_path / "classes.txt", "person\n")
    write(tmp_path / "a.jpg", jpeg())
    write(tmp_path / "a.txt", LINE)
    assert read_dataset(tmp_path).images[0].boxes == (MIDDLE,)


def test_plain_folder_and_json_say_the_same(tmp_path: Path) -> None:
    folder = shared_data("bdd100k-mini")
    for name in ("classes.txt", "index.csv"):
        shutil.copyfile(folder / name, tmp_path / name)
    for name in ("images", "labels_yolo"):
        (tmp_path / name).symlink_to(folder / name)
    plain, full = read_dataset(tmp_path), read_dataset(folder)
    assert plain.refusals == ()
    assert plain.class_counts() == full.class_counts()
    by_name = {image.name: image for image in full.images}
    for image in plain.images:
        other = by_name[image.name]
        assert image.drive == other.drive
        assert image.attributes["timeofday"] == other.attributes["timeofday"]
        for box, twin in zip(image.boxes, other.boxes, strict=True):
            assert box.category == twin.category
            assert (box.x1, box.y1, box.x2, box.y2) == pytest.approx(
                (twin.x1, twin.y1, twin.x2, twin.y2), abs=0.01
            )
