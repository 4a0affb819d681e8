from __future__ import annotations

from functools import partial

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from cloud.release.assembly import AssemblyOptions, wrap
from cloud.release.raw_export import RawExportError, recognise
from edge.errors import TrafficVisionError
from edge.perception.model_file import parse_model_file
from tests import models_factory as factory
from tests.imports import PICTURE, refusal
from tests.imports import save as save_model


@pytest.fixture
def save(tmp_path):
    """Write an ONNX model as a file."""
    return partial(save_model, tmp_path)


@pytest.mark.parametrize(
    ("shape", "classes", "input_hw", "layout"),
    [
        ((1, 84, 8400), 80, (640, 640), "raw"),
        ((1, 84, 5040), 80, (384, 640), "raw"),
        ((1, 5, 8400), 1, (640, 640), "raw"),
        ((1, 6, 8400), 2, (640, 640), "raw"),
        ((1, 300, 6), 80, (640, 640), "nms_free"),
        ((1, 300, 6), 1, (320, 320), "nms_free"),
        ((1, 84, 6), 10, (64, 64), "nms_free"),  # a small input has fewer cells than rows asked for
    ],
)
def test_recognises_layouts(shape, classes, input_hw, layout):
    assert recognise(shape, classes, input_hw) == layout


def test_believes_an_export_that_says_it_is_nms_free():
    assert recognise((1, 300, 6), 296, (640, 640)) == "raw"
    assert recognise((1, 300, 6), 296, (640, 640), nms_free=True) == "nms_free"


@pytest.mark.parametrize(
    ("shape", "classes", "seems"),
    [
        ((1, 8400, 85), 80, "YOLOX"),
        ((1, 25200, 85), 80, "objectness"),
        ((1, 8400, 6), 1, "YOLOX"),
        ((1, 25200, 6), 1, "YOLOX"),
        ((1, 8400, 6), 3, "not NMS-free"),
        ((1, 8400, 84), 80, "in rows"),
        ((1, 300, 84), 80, "RT-DETR"),
        ((1, 56, 8400), 1, "pose"),
        ((1, 300, 57), 1, "pose"),
        ((1, 20, 8400), 15, "angle (OBB)"),
        ((1, 85, 8400), 80, "objectness"),
        ((1, 14, 8400), 80, "class names are not its own"),
        ((1, 1000), 1000, "classifier"),
        ((1, 3, 80, 80, 85), 80, "no detector"),
        ((1,), 80, "no detector"),
        ((2, 84, 8400), 80, "no detector"),
    ],
)
def test_refuses_other_architectures_by_what_gives_them_away(shape, classes, seems):
    with pytest.raises(RawExportError) as refused:
        recognise(shape, classes, (640, 640))

    assert seems in str(refused.value)
    assert str(list(shape)) in str(refused.value) and f"[1, {4 + classes}, n]" in str(refused.value)


def test_refuses_an_export_of_another_architecture(save):
    assert "YOLOX" in refusal(save(factory.constant_export(np.zeros((1, 126, 8)))))


def test_refuses_an_export_with_masks(save):
    masks = factory.constant_export(np.zeros((1, 39, 126)), np.zeros((1, 32, 16, 24)))

    message = refusal(save(masks))

    assert "2 outputs (float32[1, 39, 126], float32[1, 32, 16, 24])" in message


@pytest.mark.parametrize("task", ["pose", "segment", "classify"])
def test_refuses_an_export_for_another_task(save, task):
    assert f"task '{task}'" in refusal(save(factory.rectangles_export(task=task)))


def change_input(element, shape):
    raw = factory.rectangles_export()
    raw.graph.input[0].CopyFrom(helper.make_tensor_value_info("images", element, shape))
    return raw


@pytest.mark.parametrize(
    ("element", "shape", "reason"),
    [
        (TensorProto.FLOAT, [1, 64, 96, 3], "takes float32[1, 64, 96, 3]"),
        (TensorProto.UINT8, [1, 3, 64, 96], "takes uint8[1, 3, 64, 96]"),
        (TensorProto.FLOAT, [4, 3, 64, 96], "batches of 4"),
        (TensorProto.FLOAT, [1, 3, 60, 96], "multiples of 32"),
        (TensorProto.FLOAT, [1, 3, 96, 96], "cannot run it at 96x96"),
    ],
)
def test_refuses_inputs_that_are_no_pictures(save, element, shape, reason):
    assert reason in refusal(save(change_input(element, shape)))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (None, "--names"),
        ("{0: 'a', 2: 'b'}", "--names"),
        ("{'a': 'b'}", "--names"),
        ("[1, 2, 3]", "--names"),
        ("open('x')", "--names"),
        ("{", "--names"),
        ("{[]: 'a'}", "--names"),
        (f"{{0x{'f' * 8000}: 'a'}}", "--names"),
        (str(["a"] * 300_000), "--names"),
    ],
)
def test_refuses_an_export_whose_classes_have_no_names(save, names, reason):
    raw = factory.rectangles_export(names=None)
    if names is not None:
        raw.metadata_props.add(key="names", value=names)

    assert reason in refusal(save(raw))


def test_takes_names_for_an_export_without_any(save):
    path = save(factory.rectangles_export(names=None))

    assert parse_model_file(
        wrap(path, [PICTURE], AssemblyOptions(class_names=("p", "q", "r"))), "x"
    ).metadata.class_names == ("p", "q", "r")


def test_refuses_names_that_are_not_its_own(save):
    path = save(factory.constant_export(np.zeros((1, 7, 126))))

    assert "class names are not its own" in refusal(path, class_names=("p", "q", "r", "s"))
    assert "one class name too few" in refusal(path, class_names=("p", "q"))


def columns(*items) -> np.ndarray:
    """Raw output of three classes from rows cx, cy, w, h, score, score, score."""
    return np.array(items, np.float32).T[None]


GOOD = (48, 32, 20, 20, 0.9, 0, 0)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (columns((48, 32, 20, 20, 0, 0, 0)), "finds nothing"),
        (columns((48, 32, 20, 20, 0.27, 0, 0)), "best detection scores 0.27"),
        (columns(GOOD, (48, 32, 20, 20, 1.66, 0, 0)), "scores run from 0 to 1.66"),
        (columns(GOOD, (48, 32, 20, 20, -4, 0, 0)), "scores run from -4"),
        (columns(GOOD, (48, 32, 20, 20, np.nan, 0, 0)), "not finite"),
        (columns(GOOD, (np.inf, 32, 20, 20, 0, 0, 0)), "not finite"),
        (columns((5000, 32, 20, 20, 0.9, 0, 0)), "far outside of its input of 96x64"),
        (columns((48, 32, 2000, 20, 0.9, 0, 0)), "far outside"),
        (columns((0.5, 0.5, 0.2, 0.2, 0.9, 0, 0)), "fractions"),
        (columns((48, 32, -20, 20, 0.9, 0, 0)), "end before they begin"),
        (np.array([[[10, 10, 30, 30, 0.9, 0.4]]]), "sixth column holds 0.4"),
        (np.array([[[10, 10, 30, 30, 0.9, 3]]]), "sixth column holds 3"),
        (np.array([[[0.1, 0.1, 0.3, 0.3, 0.9, 1]]]), "fractions"),
        (np.array([[[30, 30, 10, 10, 0.9, 1]]]), "end before they begin"),
    ],
)
def test_refuses_a_model_whose_output_makes_no_sense(save, output, reason):
    assert reason in refusal(save(factory.constant_export(output)))


def test_refuses_an_export_that_may_never_end(save):
    raw = factory.rectangles_export()
    factory.add_loop(raw, rounds=1)

    assert "loops (Loop)" in refusal(save(raw))


def test_refuses_a_model_file_as_raw(save):
    path = save(onnx.load_model_from_string(factory.rectangles_model()))

    assert "model file already" in refusal(path)


def test_refuses_what_is_no_onnx(tmp_path):
    raw = factory.rectangles_export().SerializeToString()
    for content in (b"", b"text\n" * 50, raw[: len(raw) // 2], raw[:-3]):
        path = tmp_path / "x.onnx"
        path.write_bytes(content)
        assert str(path) in refusal(path)
    assert "no such file" in refusal(tmp_path / "none.onnx")
    assert "a folder" in refusal(tmp_path)


def test_any_truncated_export_is_refused_or_whole(tmp_path):
    raw = factory.rectangles_export().SerializeToString()
    path = tmp_path / "x.onnx"
    for length in range(1, len(raw), 101):
        path.write_bytes(raw[:length])
        assert refusal(path)


# The same mutations each time: native code runs them.
@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.data())
def test_any_mutated_export_is_refused_or_taken(tmp_path_factory, data):
    mutated = bytearray(factory.rectangles_export().SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "mutated.onnx"
    path.write_bytes(mutated)

    try:
        parse_model_file(wrap(path, [PICTURE]), "x")
    except TrafficVisionError as refused:
        assert "\n" not in str(refused)
