from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from edge.errors import TrafficVisionError
from edge.perception.detector import Detector, DetectorOptions, DetectorOptionsError, InferenceError
from edge.perception.model_file import ModelFileError
from tests import models_factory as factory

LAYOUTS = ("raw", "nms_free")


def detector(data: bytes, **options) -> Detector:
    return Detector(factory.loaded(data), DetectorOptions(threads=1, **options))


@pytest.fixture(scope="module", params=LAYOUTS)
def rectangles(request) -> Detector:
    return detector(factory.rectangles_model(layout=request.param))


def row(centre, size, *scores):
    return [*centre, *size, *scores]


def test_finds_each_colour_as_its_class(rectangles):
    image = factory.picture(
        (64, 96), (8, 8, 24, 24, "red"), (32, 10, 60, 30, "green"), (70, 40, 90, 60, "blue")
    )

    found = rectangles.detect(image)

    by_class = {rectangles.class_names[int(label)]: tuple(box) for *box, _, label in found.boxes.tolist()}
    assert by_class == {"red": (8, 8, 24, 24), "green": (32, 10, 60, 30), "blue": (70, 40, 90, 60)}
    assert found.boxes.dtype == np.float32
    assert found.boxes[:, 4] == pytest.approx([0.9] * 3)
    assert found.model_digest == rectangles.model.digest


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_gives_boxes_in_pixels_of_any_frame(rectangles, data):
    height, width = data.draw(st.integers(40, 700)), data.draw(st.integers(40, 700))
    x1, y1 = data.draw(st.integers(0, width // 2)), data.draw(st.integers(0, height // 2))
    x2 = data.draw(st.integers(x1 + width // 4 + 4, width))
    y2 = data.draw(st.integers(y1 + height // 4 + 4, height))

    found = rectangles.detect(factory.picture((height, width), (x1, y1, x2, y2, "green"))).boxes

    input_pixel = max(height / 64, width / 96, 1)
    if min(x2 - x1, y2 - y1) > 3 * input_pixel:
        assert found[0, :4] == pytest.approx([x1, y1, x2, y2], abs=1.5 * input_pixel)
    assert (found[:, :2] >= 0).all() and (found[:, 2] <= width).all() and (found[:, 3] <= height).all()


def test_one_run_is_read_by_each_detectors_thresholds():
    rows = [row((20, 20), (20, 20), 0.9), row((60, 30), (20, 20), 0.4)]
    data = factory.constant_model(rows)
    sure, unsure = (detector(data, score_threshold=score) for score in (0.5, 0.1))
    image = factory.picture((128, 250))

    output = sure.raw_output(image)

    for one, count in ((sure, 1), (unsure, 2)):
        boxes = one.decode(output, (128, 250))
        assert len(boxes) == count
        assert np.array_equal(boxes, one.detect(image).boxes)


def test_a_picture_of_nothing_has_no_detections(rectangles):
    assert rectangles.detect(factory.picture((50, 50))).boxes.shape == (0, 6)


def test_takes_a_view_that_is_not_contiguous(rectangles):
    image = factory.picture((128, 192), (20, 20, 60, 60, "red"))
    expected = rectangles.detect(np.ascontiguousarray(image[:64, :96])).boxes

    assert np.array_equal(rectangles.detect(image[:64, :96]).boxes, expected)
    mirrored = rectangles.detect(image[:64, 95::-1]).boxes
    assert mirrored[0, :4].tolist() == [36, 20, 76, 60]


def test_one_frame_leaves_nothing_behind_in_the_next(rectangles):
    small = factory.picture((20, 20), (5, 5, 15, 15, "red"))
    alone = rectangles.detect(small).boxes
    rectangles.detect(factory.picture((64, 96), (0, 0, 96, 64, "blue")))

    assert np.array_equal(rectangles.detect(small).boxes, alone)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((48, 64), np.uint8), r"uint8\[48, 64\]"),
        (np.zeros((48, 64, 4), np.uint8), r"uint8\[48, 64, 4\]"),
        (np.zeros((48, 64, 1), np.uint8), r"uint8\[48, 64, 1\]"),
        (np.zeros((0, 64, 3), np.uint8), r"uint8\[0, 64, 3\]"),
        (np.zeros((1, 48, 64, 3), np.uint8), r"uint8\[1, 48, 64, 3\]"),
        (np.zeros((48, 64, 3), np.float32), "float32"),
        (np.zeros((48, 64, 3), np.uint16), "uint16"),
        (None, "NoneType"),
    ],
)
def test_refuses_what_is_no_picture(rectangles, image, reason):
    with pytest.raises(InferenceError, match=reason):
        rectangles.detect(image)


def test_suppresses_within_a_class_only():
    same_place = [row((30, 30), (20, 20), 0.9, 0.0), row((31, 30), (20, 20), 0.8, 0.0)]
    other_class = row((30, 30), (20, 20), 0.0, 0.7)

    found = (
        detector(factory.constant_model([*same_place, other_class])).detect(factory.picture((64, 96))).boxes
    )

    assert found[:, 4:].tolist() == [[pytest.approx(0.9), 0], [pytest.approx(0.7), 1]]


def test_options_stand_in_for_the_files_own_thresholds():
    rows = [row((10 + 20 * index, 30), (10, 10), 0.1 + 0.2 * index) for index in range(4)]
    rows.append(row((14, 30), (10, 10), 0.05))  # IoU 3/7 with the first
    data = factory.constant_model(rows, score_threshold=0.6, iou_threshold=0.9, max_detections=1)
    image = factory.picture((64, 96))

    assert len(detector(data).detect(image).boxes) == 1
    assert len(detector(data, score_threshold=0.2, max_detections=5).detect(image).boxes) == 3
    everything = {"score_threshold": 0.01, "max_detections": 9}
    assert len(detector(data, **everything).detect(image).boxes) == 5
    assert len(detector(data, iou_threshold=0.3, **everything).detect(image).boxes) == 4


def test_the_score_must_be_above_the_threshold():
    image = factory.picture((64, 96))
    data = factory.constant_model([row((30, 30), (20, 20), 0.5)], score_threshold=0.5)

    assert len(detector(data).detect(image).boxes) == 0
    assert len(detector(data, score_threshold=0.49).detect(image).boxes) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_falls_by_score_and_keeps_the_best(layout):
    scores = [0.4, 0.9, 0.6, 0.8, 0.3]
    if layout == "raw":
        rows = [row((10 + 16 * index, 30), (10, 10), score) for index, score in enumerate(scores)]
    else:
        rows = [[10 * i, 10, 10 * i + 8, 20, score, 1] for i, score in enumerate(scores)]
    found = detector(factory.constant_model(rows, layout=layout), max_detections=3).detect(
        factory.picture((64, 96))
    )

    assert found.boxes[:, 4] == pytest.approx([0.9, 0.8, 0.6])


def test_multi_label_gives_a_box_for_each_class():
    data = factory.constant_model([row((30, 30), (20, 20), 0.9, 0.1, 0.5)])
    image = factory.picture((64, 96))

    assert detector(data).detect(image).boxes[:, 5].tolist() == [0]
    assert detector(data, multi_label=True).detect(image).boxes[:, 5].tolist() == [0, 2]


def test_scores_that_round_to_over_one_are_one():
    data = factory.constant_model([row((30, 30), (20, 20), 1.004)])

    assert detector(data).detect(factory.picture((64, 96))).boxes[0, 4] == 1


def test_leaves_out_boxes_without_area_in_the_frame():
    rows = [
        row((48, 2), (40, 4), 0.9),  # in the padding above a wide frame
        row((48, 32), (0, 10), 0.9),
        row((48, 32), (-10, 10), 0.9),
        row((20, 32), (10, 10), 0.5),
    ]
    found = detector(factory.constant_model(rows)).detect(factory.picture((30, 90))).boxes

    assert found[:, 4].tolist() == [0.5]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 3, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_numbers_that_are_not_finite_are_an_error_of_the_frame(value, column, layout):
    good = row((30, 30), (20, 20), 0.9) if layout == "raw" else [10, 10, 30, 30, 0.9, 1]
    bad = list(good)
    bad[column] = value
    broken = detector(factory.constant_model([good, bad], layout=layout))

    with pytest.raises(InferenceError, match="not finite"):
        broken.detect(factory.picture((64, 96)))


@pytest.mark.parametrize("label", [-1, 3, 1000])
def test_a_class_that_the_model_does_not_have_is_an_error_of_the_frame(label):
    data = factory.constant_model([[10, 10, 30, 30, 0.9, label]], layout="nms_free")

    with pytest.raises(InferenceError, match=f"class {label} of 3"):
        detector(data).detect(factory.picture((64, 96)))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"score_threshold": 1.5}, "score_threshold is 1.5"),
        ({"score_threshold": float("nan")}, "score_threshold"),
        ({"iou_threshold": -1.0}, "iou_threshold is -1"),
        ({"max_detections": 0}, "max_detections is 0"),
        ({"threads": -1}, "threads is -1"),
        ({"threads": 1_000_000}, "threads is 1000000, expected 0 .* to 1024"),
    ],
)
def test_refuses_options_out_of_range(options, reason):
    with pytest.raises(DetectorOptionsError, match=reason):
        Detector(factory.loaded(factory.rectangles_model()), DetectorOptions(**options))


def test_a_graph_that_cannot_be_loaded_is_refused_at_start():
    model = onnx.load_model_from_string(factory.rectangles_model())
    model.graph.node[0].op_type = "NoSuchOperator"

    with pytest.raises(ModelFileError, match="NoSuchOperator") as refused:
        detector(model.SerializeToString())
    assert "\n" not in str(refused.value)


def test_a_graph_that_cannot_run_is_refused_at_start():
    model = onnx.load_model_from_string(factory.rectangles_model())
    order = next(tensor for tensor in model.graph.initializer if tensor.name == "rgb")
    order.CopyFrom(onnx.numpy_helper.from_array(np.array([2, 1, 77], np.int64), "rgb"))

    with pytest.raises((InferenceError, ModelFileError), match="77"):
        detector(model.SerializeToString())


def test_an_output_that_is_not_as_declared_is_refused_at_start():
    model = onnx.load_model_from_string(factory.constant_model([row((30, 30), (20, 20), 0.5)]))
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 2

    with pytest.raises((InferenceError, ModelFileError)):
        detector(model.SerializeToString())


def test_an_output_whose_shape_the_picture_decides_is_an_error_of_the_frame():
    """No file that is read has one; the detector would notice it all the same."""
    constant = factory.constant_model([row((30, 30), (20, 20), 0.5)] * 2)
    model = onnx.load_model_from_string(constant)
    # As many columns as there are bright pixels, and as declared on the grey picture of the first run.
    nodes = [
        onnx.helper.make_node("ReduceMin", ["scaled"], ["darkest"], keepdims=0),
        onnx.helper.make_node("Greater", ["darkest", "dim"], ["bright"]),
        onnx.helper.make_node("Cast", ["bright"], ["one_more"], to=TensorProto.INT64),
        onnx.helper.make_node("Add", ["one_more", "one"], ["ends"]),
        onnx.helper.make_node("Slice", ["output0", "zero_at", "ends", "columns"], ["cut"]),
    ]
    model.graph.node.extend(nodes)
    for name, value in (
        ("dim", np.float32(0.1)),
        ("one", np.array([1], np.int64)),
        ("zero_at", np.array([0], np.int64)),
        ("columns", np.array([2], np.int64)),
    ):
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    model.graph.output[0].name = "cut"
    with pytest.raises(ModelFileError, match="takes a shape that follows from the picture"):
        detector(model.SerializeToString())
    changing = Detector(replace(factory.loaded(constant), data=model.SerializeToString()))

    assert len(changing.detect(factory.picture((64, 96))).boxes) == 1
    with pytest.raises(InferenceError, match=r"gives \[1, 5, 1\], it declares \[1, 5, 2\]"):
        changing.detect(factory.picture((64, 96), grey=0))


def test_says_how_long_each_stage_took(rectangles):
    times = rectangles.detect(factory.picture((64, 96))).stage_ns

    assert min(times.preprocess, times.inference, times.postprocess) > 0


# The same mutations each time: native code runs them.
@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.data())
def test_any_mutated_model_file_is_refused_or_runs(data):
    mutated = bytearray(factory.rectangles_model(golden=()))
    for _ in range(data.draw(st.integers(1, 3))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))

    try:
        detector(bytes(mutated)).detect(factory.picture((64, 96)))
    except TrafficVisionError as refused:
        assert "\n" not in str(refused)
