"""Splits by drive."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.datasets import Box, DatasetError, DatasetWriter, LabeledImage, read_dataset
from cloud.datasets.dataset import drive_of
from cloud.datasets.preparing import split_dataset
from cloud.datasets.splitting import FRACTIONS, parse_fractions, split_of_drive
from tests.labelled import jpeg


@given(st.lists(st.text(), unique=True, max_size=50), st.lists(st.text(), max_size=50), st.text())
def test_adding_drives_moves_none(drives: list[str], more: list[str], salt: str) -> None:
    before = {drive: split_of_drive(drive, FRACTIONS, salt) for drive in drives}
    after = {drive: split_of_drive(drive, FRACTIONS, salt) for drive in [*more, *drives]}
    assert before.items() <= after.items()


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_growing_the_last_split_takes_from_its_neighbour_only(drive: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    smaller = split_of_drive(drive, {"train": low, "val": 1 - low})
    larger = split_of_drive(drive, {"train": high, "val": 1 - high})
    assert (smaller, larger) != ("train", "val")


def test_fractions_are_kept_and_salts_differ() -> None:
    drives = [f"{number:08x}" for number in range(4000)]
    sides = Counter(split_of_drive(drive, FRACTIONS) for drive in drives)
    # Four standard deviations of a binomial count.
    assert abs(sides["train"] - 3200) < 101
    assert abs(sides["val"] - 400) < 76
    salted = [split_of_drive(drive, FRACTIONS, "again") for drive in drives]
    assert salted != [split_of_drive(drive, FRACTIONS) for drive in drives]


def test_the_split_of_a_drive_is_fixed_for_good() -> None:
    """Known answers: if these change, drives move between the splits of data that people already have."""
    drives = ("0000f77c", "sim00000001", "b1c66a42", "d6")
    assert [split_of_drive(drive, FRACTIONS) for drive in drives] == ["train", "test", "train", "val"]


@pytest.mark.parametrize(
    "text", ["train=0.8", "train=0.5,train=0.5", "train", "train=x", "train=1.5,val=-0.5", "=1"]
)
def test_fractions_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(DatasetError, match="fractions"):
        parse_fractions(text)


@pytest.mark.parametrize("name", ["Train", "../up", "names", "channels", "a b"])
def test_a_name_that_cannot_be_a_split_s_is_refused_before_anything_is_written(name: str) -> None:
    with pytest.raises(DatasetError, match="must be a lower-case word"):
        parse_fractions(f"val=0.5,{name}=0.5")


def test_fractions_in_their_order() -> None:
    assert list(parse_fractions(" val=0.25, train = 0.75").items()) == [("val", 0.25), ("train", 0.75)]


@pytest.mark.parametrize(
    ("name", "video", "drive"),
    [
        ("0000f77c-6257be58.jpg", None, "0000f77c"),
        ("0000f77c-6257be58-0000123.jpg", "0000f77c-6257be58", "0000f77c"),
        ("train/0000f77c-6257be58.jpg", None, "0000f77c"),
        ("0000f77c-6257be58/0000123.jpg", None, "0000f77c"),
        ("0000123.jpg", "train/0000f77c-6257be58", "0000f77c"),
        ("frame-12.jpg", "tuesday", "tuesday"),
        ("sim00000007-night-000012.jpg", None, "sim00000007-night"),
        ("town/000012.png", None, "town"),
        ("town/frame_12.png", None, "town"),
        ("000012.png", None, "000012"),
        ("holiday.jpg", None, "holiday"),
    ],
)
def test_the_drive_of_a_name(name: str, video: str | None, drive: str) -> None:
    assert drive_of(name, video) == drive
    assert drive_of(name, drive) == drive


@pytest.fixture
def drives(tmp_path: Path) -> Path:
    with DatasetWriter(tmp_path / "drives") as writer:
        for drive in range(12):
            for number in range(3):
                labeled = LabeledImage(
                    f"d{drive}-{number}.jpg", None, None, None, (Box(1, 1, 9, 9, "car"),), {}, f"d{drive}"
                )
                writer.add(labeled, jpeg(shade=drive * 3 + number))
    return tmp_path / "drives"


def test_no_drive_is_on_two_sides(drives: Path, tmp_path: Path) -> None:
    report = split_dataset(drives, tmp_path / "out", {"train": 0.5, "val": 0.3, "test": 0.2})
    sides = {name: read_dataset(tmp_path / "out" / f"{name}.txt") for name in ("train", "val", "test")}
    found = [{image.drive for image in side.images} for side in sides.values()]
    assert sum(len(part) for part in found) == len(set().union(*found)) == 12
    assert sum(len(side.images) for side in sides.values()) == 36
    assert {name: counts.images for name, counts in report.splits.items()} == {
        name: len(side.images) for name, side in sides.items()
    }
    assert report.counts.images == 36


def test_a_split_without_a_drive_is_refused(drives: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="12 drives, and none of them falls to val"):
        split_dataset(drives, tmp_path / "out", {"train": 1 - 1e-9, "val": 1e-9})
    assert not (tmp_path / "out").exists()
