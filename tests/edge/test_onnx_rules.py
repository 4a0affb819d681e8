"""ONNX as input that nobody is trusted with: refused by its bytes, by its graph, or by what it takes."""

from __future__ import annotations

import base64
import threading
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edge.perception import child_limits, onnx_rules
from edge.perception.child_limits import limits_for
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.metadata import MAX_DOCUMENT, MAX_JPEG_SCANS
from edge.perception.model_check import check_in_child
from edge.perception.model_child import ModelRefusedError
from edge.perception.model_file import ModelFileError, parse_model_file
from edge.perception.onnx_rules import CONTRIBUTED_OPERATORS, OPERATORS, GraphError, check_graph
from edge.perception.onnx_wire import WireError, check_wire
from tests import evil_models as evil
from tests.models_factory import loaded, picture, rectangles_model
from tests.shared_data import shared_data

LONG_S = 60.0
ROOM = 700_000_000  # bytes: what a check of a tiny model needs, twice


def refusal(data: bytes) -> str:
    with pytest.raises(ModelFileError) as refused:
        parse_model_file(data, "some.onnx")
    message = str(refused.value)
    assert message.startswith("some.onnx: ") and "\n" not in message and len(message) < 400
    return message


def check(data: bytes, **limits: float) -> ModelRefusedError:
    """The refusal of a file that passes every look at it alone."""
    options = DetectorOptions(threads=1)
    with pytest.raises(ModelRefusedError) as refused:
        check_in_child(loaded(data), options, timeout_s=LONG_S, stopping=threading.Event(), **limits)
    return refused.value


@pytest.mark.parametrize("name", evil.REFUSED_BY_RULE)
def test_a_graph_against_the_rules_is_refused_by_name(name: str) -> None:
    change, reason = evil.REFUSED_BY_RULE[name]
    assert reason in refusal(evil.changed(change))


@pytest.mark.parametrize("name", evil.REFUSED_BY_LIMIT)
def test_a_model_that_takes_the_memory_is_refused_in_its_child(name: str) -> None:
    change, reason = evil.REFUSED_BY_LIMIT[name]
    error = check(evil.changed(change), memory_bytes=ROOM)
    assert reason in str(error) and "700 MB" in str(error)
    assert error.is_final


def test_memory_that_is_taken_bit_by_bit_is_seen_from_outside() -> None:
    """Where allocations cannot be made to fail, as with a device's libraries."""
    limits = limits_for(ROOM, LONG_S)
    assert not limits.is_machines and limits.memory_bytes == ROOM
    error = check(evil.changed(evil.expanded), memory_bytes=30_000_000)
    assert str(error) == "it takes more than 30 MB of memory, the limit of its check"


def test_what_the_machine_has_not_left_is_no_fault_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_limits, "available_bytes", lambda: 40_000_000)
    error = check(rectangles_model())
    assert "that is what this machine has left" in str(error) and not error.is_final


def test_a_model_that_never_answers_is_refused_in_its_child() -> None:
    error = check(evil.changed(evil.slow), run_s=0.5)
    assert str(error) == "it is too slow: 1 s are not enough to load it and run it 2 times"


def test_a_good_model_passes_within_its_limits() -> None:
    report = check_in_child(
        loaded(rectangles_model()),
        DetectorOptions(threads=1),
        timeout_s=LONG_S,
        stopping=threading.Event(),
        memory_bytes=ROOM,
    )
    assert report.golden_frames == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (evil.nested(), "nested more than"),
        (evil.many_nodes(), "fields, or would take more than"),
        (evil.widened(), "would take"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x3a\x7f", "cut off"),
        (b"\xff" * 20, "cut off"),
    ],
    ids=["nested", "nodes", "widened", "group", "length", "number"],
)
def test_bytes_that_grow_as_objects_never_reach_protobuf(data: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        check_wire(data)
    assert "not an ONNX file" in refusal(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_what_is_refused_by_its_bytes_protobuf_would_refuse_too(data: bytes) -> None:
    """Short bytes can only be refused for what they are, not for what they take."""
    try:
        check_wire(data)
    except WireError as error:
        if "wire type" in str(error):
            return  # groups, which protobuf skips: no ONNX has them
        with pytest.raises(DecodeError):
            onnx.ModelProto().ParseFromString(data)


@given(st.lists(st.integers(0, 2**63 - 1), max_size=50), st.binary(max_size=500))
def test_the_estimate_is_no_less_than_the_content(numbers: list[int], raw: bytes) -> None:
    model = onnx.ModelProto()
    model.graph.initializer.add(name="a", int64_data=numbers)
    model.graph.initializer.add(name="b", raw_data=raw)
    assert check_wire(model.SerializeToString()) >= 8 * len(numbers) + len(raw)


BOMB = "[" * 100_000


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (BOMB, "not JSON"),
        (f'{{"golden": [{",".join(["1.5"] * (MAX_DOCUMENT // 4))}], "x": 1}}', "characters, at most"),
        (evil.document(drift_prior="x" * (2**24 + 1)), "'drift_prior': a text of"),
    ],
    ids=["nested", "long", "prior"],
)
def test_a_document_that_grows_as_objects_is_refused(document: str, reason: str) -> None:
    assert reason in refusal(evil.with_document(document))


def golden(jpeg: bytes, count: int = 1) -> bytes:
    entry = {"jpeg": base64.b64encode(jpeg).decode(), "detections": []}
    return evil.with_document(evil.document(golden=[entry] * count))


def test_golden_pictures_are_bounded_together() -> None:
    grey = cv2.imencode(".jpg", np.full((4096, 4096, 3), 90, np.uint8))[1].tobytes()
    parse_model_file(golden(grey, 4), "four of 16 megapixels")
    assert "pixels in all golden pictures" in refusal(golden(grey, 5))


def test_a_picture_of_endless_scans_is_not_decoded() -> None:
    jpeg = cv2.imencode(".jpg", picture((64, 96)), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    parse_model_file(golden(jpeg), "an ordinary progressive picture")
    last = jpeg.rindex(b"\xff\xda")
    bomb = jpeg[:-2] + jpeg[last:-2] * MAX_JPEG_SCANS + b"\xff\xd9"
    assert "scans, at most 64 are decoded" in refusal(golden(bomb))


def test_the_shipped_model_is_within_the_rules() -> None:
    model = onnx.ModelProto()
    model.ParseFromString((Path(__file__).parents[2] / "models" / "baseline.onnx").read_bytes())
    assert len(model.graph.node) > 200
    check_graph(model)


@pytest.mark.parametrize("name", ["yolov8n_int8", "broken_int8_320"])
def test_quantised_exports_are_within_the_rules(name: str) -> None:
    model = onnx.ModelProto()
    data = shared_data(f"weights/{name}.onnx").read_bytes()
    check_wire(data)
    model.ParseFromString(data)
    check_graph(model)


def test_operators_in_another_order_are_taken_as_onnx_runtime_takes_them() -> None:
    def backwards(model: onnx.ModelProto) -> None:
        nodes = list(model.graph.node)[::-1]
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    model = loaded(evil.changed(backwards))
    image = picture((64, 96), (8, 8, 40, 40, "red"))
    found = Detector(model, DetectorOptions(threads=1)).detect(image).boxes
    assert found.tolist() == Detector(loaded(rectangles_model())).detect(image).boxes.tolist()


def test_quantised_operators_of_onnx_runtime_are_taken() -> None:
    assert {"QLinearAdd", "QLinearConcat", "QLinearMul", "QLinearSigmoid"} <= CONTRIBUTED_OPERATORS
    model = _graph(helper.make_node("QLinearAdd", ["image"] * 8, ["y"], domain="com.microsoft"))
    check_graph(model)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(op for op, deciding in OPERATORS.items() if deciding)), st.booleans())
def test_an_operator_takes_its_shape_from_shapes_and_never_from_the_picture(
    kind: str, by_shape: bool
) -> None:
    deciding = OPERATORS[kind][0]
    source = helper.make_node("Shape" if by_shape else "Cast", ["image"], ["decides"])
    inputs = ["image"] * deciding + ["decides"]
    model = _graph(source, helper.make_node(kind, inputs, ["y"]))
    if by_shape:
        check_graph(model)
    else:
        with pytest.raises(GraphError, match=f"operator {kind} takes a shape that follows from the picture"):
            check_graph(model)


@given(st.text(min_size=1, max_size=20))
def test_any_other_operator_is_refused(kind: str) -> None:
    if kind in OPERATORS:
        return
    with pytest.raises(GraphError, match="none that a detector needs"):
        check_graph(_graph(helper.make_node(kind, ["image"], ["y"])))


def test_the_number_of_operators_is_bounded() -> None:
    nodes = [
        helper.make_node("Identity", ["image"], [f"y{index}"]) for index in range(onnx_rules.MAX_NODES + 1)
    ]
    with pytest.raises(GraphError, match="20001 operators, at most 20000"):
        check_graph(_graph(*nodes))


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        ({"data_type": TensorProto.STRING, "dims": [1], "string_data": [b"x"]}, "of type 8"),
        ({"data_type": TensorProto.FLOAT, "dims": [-1], "raw_data": b""}, "declares shape"),
        ({"data_type": TensorProto.FLOAT, "dims": [1] * 9, "raw_data": b"\0" * 4}, "declares shape"),
        ({"data_type": TensorProto.FLOAT, "dims": [2], "float_data": [1.0]}, "holds 1 values"),
        ({"data_type": TensorProto.FLOAT, "dims": [1], "raw_data": b"\0\0\0\0", "float_data": [1]}, "twice"),
        ({"data_type": TensorProto.FLOAT, "dims": [2**62, 4], "raw_data": b"\0"}, "holds 1 bytes"),
    ],
)
def test_a_tensor_holds_what_it_declares(tensor: dict[str, object], reason: str) -> None:
    model = _graph(helper.make_node("Identity", ["image"], ["y"]))
    model.graph.initializer.add(name="odd", **tensor)
    with pytest.raises(GraphError, match=reason):
        check_graph(model)


@pytest.mark.parametrize(("data_type", "values", "size"), [("INT4", 3, 2), ("BOOL", 3, 3), ("DOUBLE", 2, 16)])
def test_a_tensors_bytes_are_counted_by_its_type(data_type: str, values: int, size: int) -> None:
    model = _graph(helper.make_node("Identity", ["image"], ["y"]))
    kind = TensorProto.DataType.Value(data_type)
    model.graph.initializer.add(name="odd", data_type=kind, dims=[values], raw_data=bytes(size))
    check_graph(model)


def _graph(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 64, 96, 3])
    return helper.make_model(helper.make_graph(list(nodes), "g", [image], []))
