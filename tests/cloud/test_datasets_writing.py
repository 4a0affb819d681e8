"""Writing datasets, reading them back, their content hash."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.datasets import (
    CANONICAL,
    Box,
    Dataset,
    DatasetError,
    DatasetWriter,
    LabeledImage,
    canonical,
    dataset_sha256,
    read_dataset,
    write_dataset,
)
from cloud.datasets.writing import ImageRefusedError
from tests.labelled import HEIGHT, WIDTH, jpeg, write

CAR = Box(10, 20, 50, 60, "car")
PICTURE = jpeg()


def image(name: str = "a.jpg", *boxes: Box, path: Path | None = None, **attributes: str) -> LabeledImage:
    return LabeledImage(name, path, None, None, boxes, attributes, "drive")


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x1, x2 = sorted(
        draw(st.tuples(st.floats(0, WIDTH), st.floats(0, WIDTH)).filter(lambda p: abs(p[0] - p[1]) > 0.01))
    )
    y1, y2 = sorted(
        draw(st.tuples(st.floats(0, HEIGHT), st.floats(0, HEIGHT)).filter(lambda p: abs(p[0] - p[1]) > 0.01))
    )
    flag = st.none() | st.booleans()
    return Box(x1, y1, x2, y2, draw(st.sampled_from(CANONICAL)), draw(flag), draw(flag), draw(st.booleans()))


NAMES = st.from_regex(r"[a-z0-9_ é]{0,8}[a-z0-9](/[a-z0-9-]{1,8})?", fullmatch=True).map(
    lambda name: name + ".jpg"
)
IMAGES = st.lists(
    st.builds(
        LabeledImage,
        NAMES.filter(lambda name: name == name.strip()),
        st.none(),
        st.just(WIDTH),
        st.just(HEIGHT),
        st.lists(boxes(), max_size=4, unique=True).map(tuple),
        st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=3),
        st.from_regex(r"[a-z]{1,8}", fullmatch=True),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda image: image.name,
)


@settings(max_examples=25, deadline=None)
@given(IMAGES)
def test_what_is_written_is_read_back(images: list[LabeledImage]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "out")
        with DatasetWriter(output) as writer:
            for labeled in images:
                writer.add(labeled, PICTURE)
        read = read_dataset(output)
        assert [replace(labeled, path=None) for labeled in read.images] == images
        assert read.refusals == ()
        by_name = {labeled.name: labeled for labeled in read_dataset(output / "data.yaml").images}
        for labeled in images:
            twins = by_name[labeled.name].boxes
            expected = [box for box in labeled.boxes if not box.crowd]
            assert [twin.category for twin in twins] == [box.category for box in expected]
            for box, twin in zip(expected, twins, strict=True):
                corners = (box.x1, box.y1, box.x2, box.y2)
                assert (twin.x1, twin.y1, twin.x2, twin.y2) == pytest.approx(corners, abs=1e-5)


def test_the_folder_has_what_each_reader_of_it_expects(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "out", ("car", "bus")) as writer:
        night = image("night-1.jpg", replace(CAR, occluded=True), Box(0, 0, 80, 96, "bus"), timeofday="night")
        writer.add(night, PICTURE, "train")
        writer.add(image("day-1.jpg"), PICTURE, "val")
    out = tmp_path / "out"
    assert (out / "labels" / "night-1.txt").read_text() == (
        "0 0.187500000 0.416666667 0.250000000 0.416666667\n"
        "1 0.250000000 0.500000000 0.500000000 1.000000000\n"
    )
    assert (out / "labels" / "day-1.txt").read_text() == ""
    assert (out / "images" / "day-1.jpg").read_bytes() == PICTURE
    assert (out / "train.txt").read_text() == "./images/night-1.jpg\n"
    assert yaml.safe_load((out / "data.yaml").read_text()) == {
        "train": "train.txt",
        "val": "val.txt",
        "names": {0: "car", 1: "bus"},
    }
    record = json.loads((out / "det_20.json").read_text())[0]
    assert record == {
        "name": "night-1.jpg",
        "videoName": "drive",
        "attributes": {"timeofday": "night"},
        "size": {"width": WIDTH, "height": HEIGHT},
        "labels": [
            {
                "id": "0",
                "category": "car",
                "attributes": {"occluded": True},
                "box2d": {"x1": 10, "y1": 20, "x2": 50, "y2": 60},
            },
            {"id": "1", "category": "bus", "attributes": {}, "box2d": {"x1": 0, "y1": 0, "x2": 80, "y2": 96}},
        ],
    }
    assert [path.name for path in out.rglob("*.tmp")] == []


def test_bad_boxes_and_unknown_classes_are_counted(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "out", ("car",)) as writer:
        bad = Box(float("nan"), 0, 1, 1, "car")
        writer.add(image("a.jpg", Box(-10, 20, 50, 200, "car"), bad, Box(1, 1, 9, 9, "drone")), PICTURE)
    written = writer.close()
    assert (written.images, written.boxes, written.left_out) == (1, 2, Counter({"drone": 1}))
    assert [(refusal.where, refusal.reason) for refusal in written.refusals] == [
        ("a.jpg, box 1", "box is not finite")
    ]
    kept = read_dataset(tmp_path / "out").images[0].boxes
    assert kept == (Box(0, 20, 50, HEIGHT, "car"), Box(1, 1, 9, 9, "drone"))


@pytest.mark.parametrize(
    ("labeled", "encoded", "reason"),
    [
        (image("a.jpg"), PICTURE, "image name comes twice"),
        (image("a.PNG"), PICTURE, "image name comes twice"),
        (image("../b.jpg"), PICTURE, "image name cannot be a file's"),
        (image("b.txt"), PICTURE, "image name cannot be a file's"),
        (image("b.jpg"), PICTURE[: len(PICTURE) // 2], "image is corrupt"),
        (image("b.jpg"), b"", "image is corrupt"),
        (
            replace(image("b.jpg"), width=1280, height=720),
            PICTURE,
            "image is not of the size that its labels say",
        ),
    ],
)
def test_a_bad_image_is_refused_and_the_writer_goes_on(
    tmp_path: Path, labeled: LabeledImage, encoded: bytes, reason: str
) -> None:
    with DatasetWriter(tmp_path / "out") as writer:
        writer.add(image("a.jpg"), PICTURE)
        with pytest.raises(ImageRefusedError, match=reason) as refused:
            writer.add(labeled, encoded)
        writer.add(image("c.jpg"), PICTURE)
    assert refused.value.reason == reason
    assert [labeled.name for labeled in read_dataset(tmp_path / "out").images] == ["a.jpg", "c.jpg"]


def test_write_dataset_refuses_pictures_one_by_one(tmp_path: Path) -> None:
    good = write(tmp_path / "good.jpg", PICTURE)
    torn = write(tmp_path / "torn.jpg", jpeg(640, 480)[:-400])
    images = (
        image("a.jpg", CAR, path=good),
        image("b.jpg", path=torn),
        image("c.jpg"),
        image("d.jpg", path=good),
    )
    written = write_dataset(tmp_path / "out", Dataset(images), link=True)
    assert [(refusal.where, refusal.reason) for refusal in written.refusals] == [
        ("b.jpg", "image is corrupt"),
        ("c.jpg", "image is missing"),
    ]
    assert (tmp_path / "out" / "images" / "a.jpg").samefile(good)
    assert written.images == 2


def test_an_interrupted_or_empty_dataset_is_not_whole(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), DatasetWriter(tmp_path / "cut") as writer:
        writer.add(image("a.jpg"), PICTURE)
        raise ZeroDivisionError
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["images", "labels"]
    with pytest.raises(DatasetError, match="no image was usable"), DatasetWriter(tmp_path / "empty"):
        pass
    assert list((tmp_path / "empty").iterdir()) == []


def test_only_a_new_or_empty_folder_is_written_to(tmp_path: Path) -> None:
    write(tmp_path / "notes.txt", "mine")
    with pytest.raises(DatasetError, match="not an empty folder"):
        DatasetWriter(tmp_path)
    with pytest.raises(DatasetError, match="must be given and differ"):
        DatasetWriter(tmp_path / "out", ("car", "car"))
    with DatasetWriter(tmp_path / "out") as writer:
        for name in ("names", "../up", "Train"):
            with pytest.raises(DatasetError, match="must be a lower-case word"):
                writer.add(image("a.jpg"), PICTURE, name)
        writer.add(image("a.jpg"), PICTURE)


def dataset(tmp_path: Path, *images: LabeledImage, picture: bytes = PICTURE) -> Dataset:
    path = write(tmp_path / f"{len(list(tmp_path.iterdir()))}.jpg", picture)
    return Dataset(tuple(replace(labeled, path=path) for labeled in images))


def test_the_hash_is_of_the_content_alone(tmp_path: Path) -> None:
    one, two = image("a.jpg", CAR, Box(1, 2, 3, 4, "bus"), timeofday="night"), image("b.jpg")
    base = dataset_sha256(dataset(tmp_path, one, two))
    assert base == dataset_sha256(dataset(tmp_path, two, replace(one, boxes=one.boxes[::-1])))
    others = [
        dataset(tmp_path, one),
        dataset(tmp_path, one, two, picture=jpeg(shade=200)),
        dataset(tmp_path, replace(one, name="c.jpg"), two),
        dataset(tmp_path, replace(one, drive="other"), two),
        dataset(tmp_path, replace(one, attributes={"timeofday": "daytime"}), two),
        dataset(tmp_path, replace(one, boxes=one.boxes[:1]), two),
        dataset(tmp_path, replace(one, boxes=(replace(CAR, x1=10.000001), one.boxes[1])), two),
        dataset(tmp_path, replace(one, boxes=(replace(CAR, category="truck"), one.boxes[1])), two),
        dataset(tmp_path, replace(one, boxes=(replace(CAR, occluded=False), one.boxes[1])), two),
    ]
    hashes = {dataset_sha256(other) for other in others}
    assert len(hashes) == len(others)
    assert base not in hashes


def test_writing_and_reading_keeps_the_hash(tmp_path: Path) -> None:
    source = dataset(tmp_path, image("a.jpg", CAR, timeofday="night"), image("b.jpg", CAR))
    write_dataset(tmp_path / "out", source)
    assert dataset_sha256(read_dataset(tmp_path / "out")) == dataset_sha256(source)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("person", "pedestrian"),
        ("Pedestrian ", "pedestrian"),
        ("bike", "bicycle"),
        ("motor", "motorcycle"),
        ("motorbike", "motorcycle"),
        ("traffic_light", "traffic light"),
        ("trafficLight", "traffic light"),
        ("Traffic-Sign", "traffic sign"),
        ("stop sign", "stop sign"),
        ("other  Vehicle", "other vehicle"),
    ],
)
def test_one_table_of_class_names(name: str, expected: str) -> None:
    assert canonical(name) == expected
    assert canonical(expected) == expected
