"""The sides of a split, as a dataset on disk has them, and what is cut when it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud.datasets import Box, DatasetWriter, LabeledImage, read_dataset
from cloud.datasets.sides import read_sides
from tests.labelled import frame, jpeg, label, write


def written(folder: Path, sides: dict[str, str | None]) -> Path:
    with DatasetWriter(folder) as writer:
        for shade, (name, side) in enumerate(sides.items()):
            image = LabeledImage(name, None, None, None, (Box(1, 1, 9, 9, "car"),), {}, name)
            writer.add(image, jpeg(shade=shade), side)
    return folder


def test_sides_are_those_of_the_lists(tmp_path: Path) -> None:
    sides = {"a.jpg": "train", "town/b.jpg": "val", "c.jpg": None}
    folder = written(tmp_path / "data", sides)
    for place in (folder, folder / "data.yaml"):
        assert read_sides(place, read_dataset(place)) == {"a.jpg": ("train",), "town/b.jpg": ("val",)}


def test_a_picture_may_be_on_two_sides(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", {"a.jpg": "train", "b.jpg": "val"})
    with (folder / "val.txt").open("a") as file:
        file.write("./images/a.jpg\n")
    assert read_sides(folder, read_dataset(folder))["a.jpg"] == ("train", "val")


def test_one_side_alone_and_the_same_on_both_are_no_split(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole", {"a.jpg": None, "b.jpg": None})
    assert read_sides(whole, read_dataset(whole)) == {}
    one = written(tmp_path / "one", {"a.jpg": "train", "b.jpg": "train"})
    assert read_sides(one, read_dataset(one)) == {}


def test_labels_alone_have_no_split(tmp_path: Path) -> None:
    file = write(tmp_path / "labels.json", [frame("a.jpg", label())])
    assert read_sides(file, read_dataset(file)) == {}


def test_folders_of_splits_are_sides(tmp_path: Path) -> None:
    for side in ("train", "val"):
        write(tmp_path / "images" / side / f"{side}.jpg", jpeg())
        write(tmp_path / "labels" / side / f"{side}.txt", "0 0.5 0.5 0.1 0.1\n")
    write(tmp_path / "data.yaml", "train: images/train\nval: images/val\nnames: [car]\n")
    assert read_sides(tmp_path, read_dataset(tmp_path)) == {"train.jpg": ("train",), "val.jpg": ("val",)}


@pytest.mark.parametrize("shape", ["yolo", "json"])
def test_boxes_that_reach_out_are_cut_and_told(tmp_path: Path, shape: str) -> None:
    write(tmp_path / "images" / "a.jpg", jpeg(100, 100))
    if shape == "yolo":
        write(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.2 0.2\n0 0.95 0.5 0.2 0.2\n0 0.9 0.5 0.21 0.2\n")
        write(tmp_path / "classes.txt", "car\n")
        place = tmp_path
    else:
        boxes = [label(x1=40, x2=60), label(x1=85, x2=105), label(x1=80, x2=100.5)]
        place = write(tmp_path / "labels.json", [frame("a.jpg", *boxes)])
    dataset = read_dataset(place)
    assert [(one.where, one.reason) for one in dataset.clipped] == [
        ("a.jpg, box 1", "box reaches out of its picture")
    ]
    assert [box.x2 for box in dataset.images[0].boxes] == pytest.approx([60, 100, 100])
    assert dataset.refusals == ()
