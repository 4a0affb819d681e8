"""Files and folders that cannot be read or written: one line each, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud.datasets import Dataset, DatasetError, LabeledImage, read_dataset, write_dataset
from cloud.datasets.files import FileError, write_file
from cloud.datasets.page import write_page
from tests.labelled import frame, jpeg, label, reasons, write

LONG = "x" * 300


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    picture = write(tmp_path / "a.jpg", jpeg())
    dataset = Dataset((LabeledImage("a.jpg", picture, None, None, (), {}, "a"),))
    for inside, reason in (("a.jpg/out", "Not a directory"), (LONG, "File name too long")):
        with pytest.raises((FileError, DatasetError), match=f"cannot be written.*: {reason}"):
            write_dataset(tmp_path / inside, dataset)
    with pytest.raises(FileError, match=r"page\.html: cannot be written"):
        write_page(picture / "page.html", dataset, "title")


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(FileError, match=r"page\.html: cannot be written: Is a directory"):
        write_file(tmp_path / "page.html", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "車" * 85):
        write_file(tmp_path / name, "text")
        assert (tmp_path / name).read_text() == "text"


def test_a_path_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read: File name too long"):
        read_dataset(tmp_path / LONG)


def test_an_unreadable_label_file_costs_itself_alone(tmp_path: Path) -> None:
    """Folders stand for what cannot be opened: whoever runs the tests may be allowed everything."""
    write(tmp_path / "json" / "a.json", [frame("a.jpg", label())])
    (tmp_path / "json" / "b.json").mkdir()
    assert reasons(read_dataset(tmp_path / "json")) == ["label file cannot be read"]

    write(tmp_path / "yolo" / "classes.txt", "car")
    for name in "ab":
        write(tmp_path / "yolo" / "images" / f"{name}.jpg", jpeg())
    write(tmp_path / "yolo" / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5")
    (tmp_path / "yolo" / "labels" / "b.txt").mkdir()
    dataset = read_dataset(tmp_path / "yolo")
    assert [image.name for image in dataset.images] == ["a.jpg"]
    assert reasons(dataset) == ["label file cannot be read"]


def test_a_picture_that_cannot_be_opened_is_not_called_corrupt(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    write(tmp_path / "b.jpg", jpeg())
    labels = write(tmp_path / "labels.json", [frame("a.jpg", label()), frame("b.jpg")])
    assert reasons(read_dataset(labels)) == ["image cannot be read"]
