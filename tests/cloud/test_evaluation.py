"""How a model file is judged: COCO's figures, per slice, through the vehicle's detector."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.datasets import Box, DatasetWriter, LabeledImage, read_dataset
from cloud.pipeline.evaluation import EvaluationError, evaluate_detections, evaluate_model_file
from cloud.pipeline.evaluation_coco import Matches
from edge.perception.model_file import ModelFileError
from tests.labelled import frame, jpeg, label, write
from tests.models_factory import constant_model, picture, rectangles_model
from tests.models_factory import jpeg as exact_jpeg

HW = (64, 96)


def image(name: str, *boxes: Box, **attributes: str) -> LabeledImage:
    return LabeledImage(name, None, 100, 100, boxes, attributes, name)


def found(*rows: tuple[float, float, float, float, float, int]) -> npt.NDArray[np.float32]:
    return np.array(rows, np.float32).reshape(-1, 6)


CAR, BUS = Box(10, 10, 50, 50, "car"), Box(60, 60, 90, 90, "bus")


def test_half_of_the_boxes_found() -> None:
    images = [image("a", CAR), image("b", CAR)]
    score = evaluate_detections(images, [found((10, 10, 50, 50, 0.9, 0)), found()], ["car"]).overall
    # Precision 1 up to recall .5: 51 of COCO's 101 recall thresholds.
    assert score.map50 == pytest.approx(51 / 101)
    assert score.map50_95 == pytest.approx(51 / 101)
    assert (score.images, score.boxes, score.classes["car"].boxes) == (2, 2, 2)


def test_a_loose_box_counts_at_the_loose_thresholds() -> None:
    # IoU 40 * 31 / (40 * 40) = .775: right at .5 to .75, six of ten thresholds.
    score = evaluate_detections([image("a", CAR)], [found((10, 10, 50, 41, 0.9, 0))], ["car"]).overall
    assert score.map50 == pytest.approx(1)
    assert score.map50_95 == pytest.approx(0.6)


def test_a_false_alarm_before_the_right_box() -> None:
    rows = found((60, 60, 90, 90, 0.9, 0), (10, 10, 50, 50, 0.8, 0))
    assert evaluate_detections([image("a", CAR)], [rows], ["car"]).overall.map50 == pytest.approx(0.5)
    elsewhere = [found((10, 10, 50, 50, 0.8, 0)), found((60, 60, 90, 90, 0.9, 0))]
    nothing_there = [image("a", CAR), image("b")]
    assert evaluate_detections(nothing_there, elsewhere, ["car"]).overall.map50 == pytest.approx(0.5)


def test_a_crowd_is_neither_missed_nor_a_false_alarm() -> None:
    crowd = Box(60, 60, 90, 90, "car", crowd=True)
    rows = found((60, 60, 90, 90, 0.9, 0), (10, 10, 50, 50, 0.8, 0))
    score = evaluate_detections([image("a", CAR, crowd)], [rows], ["car"]).overall
    assert (score.map50, score.boxes) == (pytest.approx(1), 1)


def test_what_bdd100k_is_unsure_of_is_neither_missed_nor_a_false_alarm() -> None:
    van = Box(60, 60, 90, 90, "other vehicle")
    rows = found((60, 60, 90, 90, 0.9, 0), (10, 10, 50, 50, 0.8, 0))
    evaluation = evaluate_detections([image("a", CAR, van)], [rows], ["car"])
    assert (evaluation.overall.map50, evaluation.overall.boxes) == (pytest.approx(1), 1)
    assert evaluation.only_in_data == {"other vehicle": 1}
    # Of another class they excuse nothing, and a model that knows them is asked for them.
    rows = found((60, 60, 90, 90, 0.9, 1), (10, 10, 50, 50, 0.8, 0))
    bus = evaluate_detections([image("a", CAR, BUS, van)], [rows], ["car", "bus"]).overall
    assert bus.classes["bus"].ap50 == pytest.approx(1)
    both = evaluate_detections([image("a", CAR, van)], [rows], ["car", "other vehicle"]).overall
    assert (both.map50, both.boxes) == (pytest.approx(1), 2)


def test_a_coco_model_is_judged_on_bdd100k_s_spellings(tmp_path: Path) -> None:
    spellings = [
        ("person", "person"),
        ("motor", "motorcycle"),
        ("bike", "bicycle"),
        ("traffic light", "traffic light"),
    ]
    labels = [label(ours, 10 + 30 * n, 10, 30 + 30 * n, 40) for n, (ours, _) in enumerate(spellings)]
    write(tmp_path / "a.jpg", jpeg())
    images = read_dataset(write(tmp_path / "labels.json", [frame("a.jpg", *labels)])).images
    rows = found(*((10 + 30 * n, 10, 30 + 30 * n, 40, 0.9, n) for n in range(len(spellings))))
    score = evaluate_detections(images, [rows], [coco for _, coco in spellings]).overall
    assert {name: one.ap50 for name, one in score.classes.items()} == pytest.approx(
        {"pedestrian": 1, "motorcycle": 1, "bicycle": 1, "traffic light": 1}
    )


def test_classes_meet_through_the_alias_table_and_others_are_listed() -> None:
    images = [
        image("a", Box(10, 10, 50, 50, "pedestrian"), Box(1, 1, 9, 9, "rider"), Box(2, 2, 8, 8, "rider"))
    ]
    rows = found((10, 10, 50, 50, 0.9, 1), (60, 60, 90, 90, 0.95, 0))
    evaluation = evaluate_detections(images, [rows], ["zebra", "Person"])
    assert evaluation.overall.map50 == pytest.approx(1)
    assert list(evaluation.overall.classes) == ["pedestrian"]
    assert evaluation.only_in_data == {"rider": 2}
    assert evaluation.only_in_model == ("zebra",)


def test_a_class_without_boxes_in_a_slice_is_not_averaged_there() -> None:
    images = [image("a", CAR, BUS, timeofday="daytime"), image("b", CAR, timeofday="night"), image("c")]
    car, bus = (10, 10, 50, 50, 0.9, 0), (60, 60, 90, 90, 0.9, 1)
    evaluation = evaluate_detections(
        images, [found(car), found(car, bus), found()], ["car", "bus"], ["timeofday"]
    )
    by_day, by_night, neither = (
        evaluation.slices["timeofday"][value] for value in ("daytime", "night", "(none)")
    )
    assert by_day.map50 == pytest.approx(0.5)
    assert by_night.map50 == pytest.approx(1)
    assert by_night.classes["bus"].ap50 is None
    assert (neither.images, neither.map50) == (1, None)
    # The bus seen in the second image is a false alarm for the whole.
    assert evaluation.overall.classes["bus"].ap50 == pytest.approx(0)


@st.composite
def judged_images(draw: st.DrawFn) -> tuple[list[LabeledImage], list[npt.NDArray[np.float32]]]:
    side = st.integers(0, 8).map(float)
    corners = st.tuples(side, side, st.integers(1, 6), st.integers(1, 6)).map(
        lambda c: (c[0], c[1], c[0] + c[2], c[1] + c[3])
    )
    images, predictions = [], []
    for number in range(draw(st.integers(1, 5))):
        boxes = draw(st.lists(st.tuples(corners, st.sampled_from(["car", "bus"])), max_size=4))
        rows = draw(st.lists(st.tuples(corners, st.integers(1, 99), st.integers(0, 1)), max_size=5))
        value = draw(st.sampled_from(["day", "night"]))
        images.append(image(str(number), *(Box(*c, name) for c, name in boxes), time=value))
        # Scores differ: among equal ones the order of the images would decide.
        predictions.append(
            found(*((*c, s / 100 + number / 1000 + n / 10000, k) for n, (c, s, k) in enumerate(rows)))
        )
    return images, predictions


@settings(max_examples=60, deadline=None)
@given(judged_images())
def test_a_slice_scores_as_if_it_were_all_there_is(
    drawn: tuple[list[LabeledImage], list[npt.NDArray[np.float32]]],
) -> None:
    images, predictions = drawn
    whole = Matches(images, predictions, ["car", "bus"], ["car", "bus"])
    for value in ("day", "night"):
        places = [n for n, labelled in enumerate(images) if labelled.attributes["time"] == value]
        if places:
            alone = Matches(
                [images[n] for n in places], [predictions[n] for n in places], ["car", "bus"], ["car", "bus"]
            )
            assert whole.score(places) == alone.score()


@settings(max_examples=30, deadline=None)
@given(judged_images())
def test_figures_are_those_of_the_reference_code(
    drawn: tuple[list[LabeledImage], list[npt.NDArray[np.float32]]],
) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images, predictions = drawn
    rows = [
        [n, r[0], r[1], r[2] - r[0], r[3] - r[1], r[4], r[5] + 1]
        for n, of_image in enumerate(predictions)
        for r in of_image.astype(float)
    ]
    if not rows or not any(labelled.boxes for labelled in images):
        return
    truth = COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        boxes = [(n, box) for n, labelled in enumerate(images) for box in labelled.boxes]
        truth.dataset = {
            "info": {},
            "images": [{"id": n} for n in range(len(images))],
            "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}],
            "annotations": [
                {
                    "id": number,
                    "image_id": n,
                    "category_id": 1 if box.category == "car" else 2,
                    "bbox": [box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1],
                    "area": (box.x2 - box.x1) * (box.y2 - box.y1),
                    "iscrowd": 0,
                }
                for number, (n, box) in enumerate(boxes, start=1)
            ],
        }
        truth.createIndex()
        reference = COCOeval(truth, truth.loadRes(np.array(rows)), "bbox")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    score = evaluate_detections(images, predictions, ["car", "bus"]).overall
    assert score.map50_95 == pytest.approx(reference.stats[0], abs=1e-9)
    assert score.map50 == pytest.approx(reference.stats[1], abs=1e-9)


RED, BLUE = (10, 8, 40, 30, "red"), (50, 34, 90, 60, "blue")


@pytest.fixture
def rectangles(tmp_path: Path) -> Path:
    """Three pictures of rectangles; the label of one is wrong."""
    by_day = {"timeofday": "daytime"}
    images = {
        "a.jpg": ([RED, BLUE], by_day),
        "b.jpg": ([RED], {"timeofday": "night"}),
        "c.jpg": ([BLUE], by_day),
    }
    with DatasetWriter(tmp_path / "data", ("red", "blue", "car")) as writer:
        for name, (drawn, attributes) in images.items():
            boxes = tuple(Box(*map(float, box[:4]), box[4]) for box in drawn)
            if name == "b.jpg":
                boxes = (Box(50, 34, 90, 60, "red"), Box(1, 1, 9, 9, "car"))
            labelled = LabeledImage(name, None, 96, 64, boxes, attributes, name)
            writer.add(labelled, exact_jpeg(picture(HW, *drawn)))
    return tmp_path / "data"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "model.onnx", rectangles_model(HW))


def test_a_model_file_through_the_detector(rectangles: Path, model: Path) -> None:
    evaluation = evaluate_model_file(model, rectangles, ["timeofday"])
    result = json.loads(json.dumps(evaluation.to_json()))
    assert result["slices"]["timeofday"]["daytime"]["map50"] == pytest.approx(1)
    assert result["slices"]["timeofday"]["night"]["map50"] == pytest.approx(0)
    # Red: of two boxes one is found, one detection is wrong, with equal scores.
    assert result["overall"]["classes"]["red"]["ap50"] == pytest.approx(51 / 101)
    assert result["overall"]["classes"]["blue"]["ap50"] == pytest.approx(1)
    assert result["overall"]["boxes"] == 4
    assert result["only_in_data"] == {"car": 1}
    assert result["only_in_model"] == ["green"]
    assert result["data"]["images"] == 3
    assert len(result["model"]["sha256"]) == len(result["data"]["sha256"]) == 64
    text = evaluation.to_text()
    assert "1.000 (3)" in text
    assert "the model does not know them: car (1)" in text


def test_a_bad_picture_costs_itself_alone(rectangles: Path, model: Path) -> None:
    whole = (rectangles / "images" / "c.jpg").read_bytes()
    (rectangles / "images" / "c.jpg").write_bytes(whole[: len(whole) // 2])
    (rectangles / "images" / "b.jpg").unlink()
    evaluation = evaluate_model_file(model, rectangles)
    assert evaluation.refusals == {"image is missing": 1, "image is corrupt": 1}
    assert (evaluation.overall.images, evaluation.overall.map50) == (1, pytest.approx(1))
    (rectangles / "images" / "a.jpg").write_bytes(b"")
    with pytest.raises(
        EvaluationError, match=r"could be used: image is corrupt \(2\), image is missing \(1\)"
    ):
        evaluate_model_file(model, rectangles)


def test_what_cannot_be_judged_is_said_before_any_inference(
    rectangles: Path, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match=r"no image has the attribute 'weather'.*there are: timeofday"):
        evaluate_model_file(model, rectangles, ["weather"])
    write(tmp_path / "blank" / "a.jpg", jpeg())
    blank = write(tmp_path / "blank" / "labels.json", [frame("a.jpg")])
    with pytest.raises(EvaluationError, match="none of 1 images has a labelled box"):
        evaluate_model_file(model, blank)
    cars = write(tmp_path / "cars.json", [frame("a.jpg", label())])
    with pytest.raises(EvaluationError, match=r"no class in common: the data have car; the model has blue"):
        evaluate_model_file(model, cars)
    reds = write(tmp_path / "reds.json", [frame("a.jpg", label("red"))])
    with pytest.raises(EvaluationError, match="pictures of its 1 labelled images were not found"):
        evaluate_model_file(model, reds)
    with pytest.raises(ModelFileError):
        evaluate_model_file(reds, rectangles)


def test_all_candidates_count_not_only_those_above_the_file_s_threshold(
    rectangles: Path, tmp_path: Path
) -> None:
    # cx, cy, w, h in input pixels, then blue, green and red: two classes of one box, both scored low.
    rows = [[25, 19, 30, 22, 0.05, 0, 0.002], [70, 47, 40, 26, 0.04, 0, 0]]
    low = constant_model(rows, HW, class_names=("blue", "green", "red"), score_threshold=0.5)
    evaluation = evaluate_model_file(write(tmp_path / "low.onnx", low), rectangles, ["timeofday"])
    by_day = evaluation.slices["timeofday"]["daytime"].classes
    assert by_day["red"].ap50 == pytest.approx(1)
    # Two false alarms where red is come before the two right ones.
    assert by_day["blue"].ap50 == pytest.approx(0.5)


def test_nothing_is_printed(rectangles: Path, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    evaluate_model_file(model, rectangles)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_pictures_are_read_as_the_vehicle_reads_them(rectangles: Path, model: Path) -> None:
    """PNG with an alpha channel and grey JPEG decode to BGR too."""
    image = cv2.imread(str(rectangles / "images" / "a.jpg"))
    cv2.imwrite(str(rectangles / "images" / "a.jpg"), cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    assert evaluate_model_file(model, rectangles).overall.images == 3
