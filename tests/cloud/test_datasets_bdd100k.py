"""BDD100K's label files: every shape, and what is wrong in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloud.datasets import Box, DatasetError, read_dataset
from tests.labelled import HEIGHT, WIDTH, frame, jpeg, label, reasons, write
from tests.shared_data import shared_data

BDD_A, BDD_B = "0000f77c-6257be58", "0000f77c-62c2a288"
CAR = Box(10, 20, 50, 60, "car")


def release_2018(name: str, *objects: dict[str, Any]) -> dict[str, Any]:
    attributes = {"weather": "clear", "scene": "highway", "timeofday": "dawn/dusk"}
    return {
        "name": name,
        "attributes": attributes,
        "frames": [{"timestamp": 10000, "objects": list(objects)}],
    }


def test_2018_release_has_a_file_for_each_image(tmp_path: Path) -> None:
    write(
        tmp_path / "labels" / "train" / f"{BDD_A}.json", release_2018(BDD_A, label("person"), label("bike"))
    )
    write(tmp_path / "labels" / "val" / f"{BDD_B}.json", release_2018(BDD_B, label("motor")))
    write(tmp_path / "images" / "train" / f"{BDD_A}.jpg", jpeg())
    dataset = read_dataset(tmp_path / "labels")
    first, second = dataset.images
    assert [box.category for box in first.boxes] == ["pedestrian", "bicycle"]
    assert [box.category for box in second.boxes] == ["motorcycle"]
    assert first.path == tmp_path / "images" / "train" / f"{BDD_A}.jpg"
    assert (first.width, first.height) == (WIDTH, HEIGHT)
    assert (second.name, second.path, second.width) == (f"{BDD_B}.jpg", None, None)
    assert first.attributes == {"weather": "clear", "scene": "highway", "timeofday": "dawn/dusk"}
    assert first.drive == second.drive == "0000f77c"


def test_2018_release_as_one_list_and_as_one_file(tmp_path: Path) -> None:
    one = release_2018(BDD_A, label())
    as_list = read_dataset(write(tmp_path / "list.json", [one, release_2018(BDD_B, label())]))
    as_file = read_dataset(write(tmp_path / "one.json", one))
    assert [image.boxes for image in as_list.images] == [(CAR,), (CAR,)]
    assert as_file.images == as_list.images[:1]


def test_2018_list_skips_and_counts_what_has_no_box(tmp_path: Path) -> None:
    lane = {"category": "lane", "poly2d": [{"vertices": [[1, 2], [3, 4]], "types": "LL", "closed": False}]}
    area = {"category": "drivable area", "poly2d": [], "box2d": None}
    dataset = read_dataset(write(tmp_path / "a.json", [frame(f"{BDD_A}.jpg", lane, label(), lane, area)]))
    assert dataset.images[0].boxes == (CAR,)
    assert dataset.skipped == {"lane": 2, "drivable area": 1}
    assert dataset.refusals == ()


def test_2020_detection_release(tmp_path: Path) -> None:
    flags = {"occluded": True, "truncated": False, "trafficLightColor": "NA"}
    unlabelled = {"name": f"{BDD_B}.jpg", "attributes": {"weather": "rainy"}, "timestamp": 10000}
    labels = write(
        tmp_path / "det.json", [frame(f"{BDD_A}.jpg", {**label(), "attributes": flags}), unlabelled]
    )
    first, second = read_dataset(labels).images
    assert first.boxes == (Box(10, 20, 50, 60, "car", occluded=True, truncated=False),)
    assert second.boxes == ()


def test_scalabel_document_gives_the_size_and_the_video(tmp_path: Path) -> None:
    document = {
        "frames": [
            frame(
                "0001.jpg",
                {**label("other person"), "attributes": {"crowd": True}},
                videoName="town",
                frameIndex=1,
            ),
            frame("0001.jpg", label("trailer", x2=500), videoName="coast", frameIndex=1),
            frame("0002.jpg", label(), videoName="town", labels=None, size={"width": 64, "height": 32}),
        ],
        "config": {"imageSize": {"width": 200, "height": 100}, "categories": [{"name": "car"}]},
    }
    images = read_dataset(write(tmp_path / "track.json", document)).images
    assert [(image.name, image.drive) for image in images] == [
        ("town/0001.jpg", "town"),
        ("coast/0001.jpg", "coast"),
        ("0002.jpg", "town"),
    ]
    assert images[0].boxes == (Box(10, 20, 50, 60, "other person", crowd=True),)
    assert images[1].boxes == (Box(10, 20, 200, 60, "trailer"),)
    assert (images[2].width, images[2].height, images[2].boxes) == (64, 32, ())


def test_pictures_of_the_same_name_are_found_by_their_video(tmp_path: Path) -> None:
    frames = [frame("1.jpg", label(), videoName="town"), frame("1.jpg", label(), videoName="coast")]
    for shade, video in enumerate(["town", "coast"]):
        write(tmp_path / "pictures" / video / "1.jpg", jpeg(shade=shade))
    images = read_dataset(write(tmp_path / "a.json", frames), tmp_path / "pictures").images
    assert [image.path for image in images] == [
        tmp_path / "pictures" / "town" / "1.jpg",
        tmp_path / "pictures" / "coast" / "1.jpg",
    ]


def test_clips_of_one_drive_have_pictures_of_their_own(tmp_path: Path) -> None:
    clips = [f"b1c66a42-{clip}" for clip in ("6f7d68ca", "79c6d9c8")]
    frames = [
        frame("0001.jpg", label(category), videoName=clip)
        for clip, category in zip(clips, ["car", "bus"], strict=True)
    ]
    for clip in clips:
        write(tmp_path / "images" / "track" / "train" / clip / "0001.jpg", jpeg())
    images = read_dataset(write(tmp_path / "a.json", frames)).images
    assert [image.name for image in images] == [f"{clip}/0001.jpg" for clip in clips]
    assert [image.path and image.path.parent.name for image in images] == clips
    assert {image.drive for image in images} == {"b1c66a42"}


@pytest.mark.parametrize(
    "frames",
    [
        [frame("town/1.jpg", label()), frame("coast/1.jpg", label("bus"))],
        [frame("1.jpg", label(), videoName="town"), frame("1.jpg", label("bus"), videoName="coast")],
    ],
)
@pytest.mark.parametrize(("place", "found"), [("town/1.jpg", [True, False]), ("1.jpg", [False, False])])
def test_a_picture_is_never_that_of_two_images(
    tmp_path: Path, frames: list[Any], place: str, found: list[bool]
) -> None:
    write(tmp_path / "pictures" / place, jpeg())
    write(tmp_path / "pictures" / "sea.jpg", jpeg())
    labels = write(tmp_path / "labels.json", [*frames, frame("sea.jpg")])
    images = read_dataset(labels, tmp_path / "pictures").images
    assert [image.path is not None for image in images] == [*found, True]


def test_a_name_in_full_goes_before_the_end_of_a_longer_one(tmp_path: Path) -> None:
    places = [tmp_path / "images" / name for name in ("1.jpg", "town/1.jpg")]
    for place in places:
        write(place, jpeg())
    labels = write(tmp_path / "a.json", [frame("1.jpg", label()), frame("town/1.jpg", label())])
    assert [image.path for image in read_dataset(labels).images] == places


@pytest.mark.parametrize("suffix", [".JPG", ".png"])
def test_a_picture_of_another_suffix_is_found(tmp_path: Path, suffix: str) -> None:
    picture = write(tmp_path / "images" / f"{BDD_A}{suffix}", jpeg())
    for name in (BDD_A, f"{BDD_A}.jpg"):
        image = read_dataset(write(tmp_path / "a.json", [frame(name, label())])).images[0]
        assert (image.name, image.path) == (f"{BDD_A}.jpg", picture)


@pytest.mark.parametrize(
    "labels", ["labels/det_20/det_train.json", "labels/bdd100k_labels_images_train.json"]
)
def test_pictures_where_bdd100k_s_archives_put_them(tmp_path: Path, labels: str) -> None:
    picture = write(tmp_path / "images" / "100k" / "train" / f"{BDD_A}.jpg", jpeg())
    write(tmp_path / "images" / "10k" / "val" / f"{BDD_A}.jpg", jpeg())
    dataset = read_dataset(write(tmp_path / labels, [frame(f"{BDD_A}.jpg", label())]))
    assert [image.path for image in dataset.images] == [picture]


def test_a_name_in_several_folders_is_not_guessed(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        write(tmp_path / "pictures" / folder / "a.jpg", jpeg())
    write(tmp_path / "pictures" / "b.jpg", jpeg())
    labels = write(tmp_path / "labels.json", [frame("a.jpg", label()), frame("b.jpg", label())])
    dataset = read_dataset(labels, tmp_path / "pictures")
    assert [image.name for image in dataset.images] == ["b.jpg"]
    assert reasons(dataset) == ["image name is found in several folders"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (label(x1=60), "box is inverted"),
        (label(x1=50), "box has no area"),
        (label(x1=170, x2=180), "box lies outside its image"),
        (label(x1=-20, x2=0), "box lies outside its image"),
        (label(x1=float("nan")), "box is not finite"),
        (label(x2=float("inf")), "box is not finite"),
        ({"category": "car", "box2d": {"x1": 1, "y1": 2, "x2": "3", "y2": 4}}, "box is malformed"),
        ({"category": "car", "box2d": {"x1": 1, "y1": 2, "x2": True, "y2": 4}}, "box is malformed"),
        ({"category": "car", "box2d": {"x1": 10**400, "y1": 2, "x2": 3, "y2": 4}}, "box is malformed"),
        ({"category": "car", "box2d": [1, 2, 3, 4]}, "box is malformed"),
        ({"category": None, "box2d": {"x1": 1, "y1": 2, "x2": 3, "y2": 4}}, "label has no category"),
        ({"category": " "}, "label has no category"),
        (label("\ud800"), "category is not text"),
        ("car", "label is malformed"),
        (label(), "box comes twice"),
    ],
)
def test_a_bad_label_costs_itself_alone(tmp_path: Path, bad: Any, reason: str) -> None:
    write(tmp_path / "a.jpg", jpeg())
    dataset = read_dataset(write(tmp_path / "det.json", [frame("a.jpg", label(), bad)]))
    assert dataset.images[0].boxes == (CAR,)
    assert reasons(dataset) == [reason]


def test_a_box_over_the_edge_is_clipped(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", jpeg())
    dataset = read_dataset(write(tmp_path / "det.json", [frame("a.jpg", label("car", -5.5, 20, 1e9, 60))]))
    assert dataset.images[0].boxes == (Box(0, 20, WIDTH, 60, "car"),)
    assert dataset.refusals == ()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (frame("a.jpg", label()), "image name comes twice"),
        (frame("../a.jpg", label()), "image name cannot be a file's"),
        (frame("/etc/a.jpg", label()), "image name cannot be a file's"),
        (frame("folder/", label()), "image name cannot be a file's"),
        (frame("", label()), "image name cannot be a file's"),
        (frame("\ud800.jpg", label()), "image name cannot be a file's"),
        (frame("é" * 126 + ".jpg", label()), "image name cannot be a file's"),
        (frame("two\u2028lines.jpg", label()), "image name cannot be a file's"),
        (frame("torn.jpg", label()), "image is corrupt"),
        (
            frame("b.jpg", label(), size={"width": 1280, "height": 720}),
            "image is not of the size that its labels say",
        ),
        (frame("b.jpg", labels={"car": 1}), "labels are not a list"),
        ({"name": "b.jpg", "frames": [{"objects": 5}]}, "labels are not a list"),
        ({"name": "b.jpg", "frames": [{"objects": "car"}]}, "labels are not a list"),
        ({"labels": []}, "image has no name"),
        (7, "image has no name"),
    ],
)
def test_a_bad_image_costs_itself_alone(tmp_path: Path, bad: Any, reason: str) -> None:
    write(tmp_path / "a.jpg", jpeg())
    write(tmp_path / "b.jpg", jpeg())
    write(tmp_path / "torn.jpg", b"\xff\xd8\xff\xe0 no picture")
    dataset = read_dataset(write(tmp_path / "det.json", [frame("a.jpg", label()), bad]))
    assert [image.name for image in dataset.images] == ["a.jpg"]
    assert reasons(dataset) == [reason]


def test_an_attribute_that_is_no_text_costs_itself_alone(tmp_path: Path) -> None:
    attributes = {"timeofday": "\udfff", "weather": "clear", "scene": None}
    dataset = read_dataset(write(tmp_path / "det.json", [{**frame(), "attributes": attributes}]))
    assert dataset.images[0].attributes == {"weather": "clear"}
    assert reasons(dataset) == ["attribute is not text"]


@pytest.mark.parametrize("flag", ["crowd", "ignored"])
def test_what_scalabel_leaves_out_of_an_evaluation_is_a_crowd(tmp_path: Path, flag: str) -> None:
    marked = [{**label(), "attributes": {flag: value}} for value in (True, False)]
    boxes = read_dataset(write(tmp_path / "det.json", [frame("a.jpg", *marked)])).images[0].boxes
    assert [box.crowd for box in boxes] == [True, False]


def test_a_bad_file_among_many_costs_itself_alone(tmp_path: Path) -> None:
    write(tmp_path / "a.json", release_2018(BDD_A, label()))
    write(tmp_path / "b.json", "{ torn")
    write(tmp_path / "c.json", {"version": 3})
    dataset = read_dataset(tmp_path)
    assert len(dataset.images) == 1
    assert reasons(dataset) == ["label file is not JSON", "label file is of no known shape"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "is not JSON"),
        (b"\xff\xfe\x00\xd8", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "has no labelled image"),
        ({"images": [], "annotations": []}, "of an unknown shape"),
        ("3", "of an unknown shape"),
        ([{"name": "a.jpg", "url": "somewhere"}], "has no labelled image"),
        ([{"labels": []}], "has no usable image: image has no name"),
    ],
)
def test_what_is_no_label_file_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_dataset(write(tmp_path / "labels.json", content))


def test_wrong_paths_are_refused(tmp_path: Path) -> None:
    labels = write(tmp_path / "labels.json", [frame("a.jpg", label())])
    with pytest.raises(DatasetError, match=r"nowhere does not exist"):
        read_dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="is not a folder of images"):
        read_dataset(labels, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="has none of the 1 images"):
        read_dataset(labels, tmp_path / "empty")
    with pytest.raises(DatasetError, match="is no dataset: expected"):
        read_dataset(tmp_path / "empty")
    with pytest.raises(DatasetError, match="is no dataset: expected"):
        read_dataset(write(tmp_path / "film.mp4", b"0"))
    write(tmp_path / "sets" / "one" / "det_20.json", [frame()])
    with pytest.raises(DatasetError, match=r"holds datasets, give one of them: .*one"):
        read_dataset(tmp_path / "sets")


# What the five files hold, counted by another program.
SHARED = {
    "det_20.json": ({"pedestrian": 3, "traffic light": 2, "traffic sign": 6, "car": 2}, {}, []),
    "det_20_single.json": ({"traffic light": 5, "traffic sign": 1, "car": 4}, {}, []),
    "release_2018_list.json": (
        {"pedestrian": 3, "traffic light": 2, "traffic sign": 6, "car": 2},
        {"lane": 11, "drivable area": 4},
        [],
    ),
    "scalabel_box_track.json": (
        {"car": 19, "traffic light": 7, "traffic sign": 6, "rider": 1, "motorcycle": 1},
        {},
        ["image name comes twice"],
    ),
    "scalabel_det.json": (
        {"car": 19, "traffic light": 7, "traffic sign": 6, "rider": 1, "motorcycle": 1},
        {},
        [],
    ),
}


@pytest.mark.parametrize("name", SHARED)
def test_files_as_the_dataset_s_own_tools_write_them(name: str) -> None:
    dataset = read_dataset(shared_data(f"bdd100k-json/{name}"))
    classes, skipped, refused = SHARED[name]
    assert (dataset.class_counts(), dataset.skipped, reasons(dataset)) == (classes, skipped, refused)
    assert all(image.attributes["timeofday"] for image in dataset.images)


def test_three_ways_to_the_same_boxes() -> None:
    folder = shared_data("bdd100k-mini")
    det_20, by_folder = read_dataset(folder / "det_20.json"), read_dataset(folder)
    assert by_folder == det_20 == read_dataset(folder / "images_2018.json")
    assert len(det_20.images) == 500
    assert det_20.class_counts().total() == 9022
    assert det_20.refusals == ()
    assert len({image.drive for image in det_20.images}) == 499
    assert all(image.path and (image.width, image.height) == (1280, 720) for image in det_20.images)
