from __future__ import annotations

import base64
import json
import os
from functools import cache

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edge.perception.metadata import SCHEMA, MetadataError, from_json, to_json
from edge.perception.model_file import (
    METADATA_KEY,
    ModelFile,
    ModelFileError,
    describe,
    describe_text,
    parse_model_file,
    read_model_file,
)
from tests import models_factory as factory


@cache
def valid() -> bytes:
    return factory.rectangles_model(dataset_sha256="0" * 64, drift_prior="opaque")


def changed(change) -> bytes:
    """The valid file with its ONNX model changed."""
    model = onnx.load_model_from_string(valid())
    change(model)
    return model.SerializeToString()


def with_document(change) -> bytes:
    """The valid file with its metadata document changed; `change` may return another document."""

    def apply(model):
        entry = next(entry for entry in model.metadata_props if entry.key == METADATA_KEY)
        document = json.loads(entry.value)
        entry.value = json.dumps(change(document) or document)

    return changed(apply)


def refusal(data: bytes) -> str:
    with pytest.raises(ModelFileError) as refused:
        parse_model_file(data, "some.onnx")
    message = str(refused.value)
    assert message.startswith("some.onnx: ") and "\n" not in message
    return message


def test_reads_back_what_was_written(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(valid())

    model = read_model_file(path)

    assert model.data == valid() and model.path == path
    assert model.input_hw == (64, 96) and model.output_shape == (1, 7, 6)
    metadata = model.metadata
    assert (metadata.name, metadata.layout, metadata.class_names) == ("rectangles", "raw", factory.NAMES)
    assert (metadata.dataset_sha256, metadata.drift_prior) == ("0" * 64, "opaque")
    golden = factory.golden_frame()
    assert metadata.golden[0].jpeg == golden.jpeg
    assert np.array_equal(metadata.golden[0].detections, golden.detections)


def test_the_digest_is_of_the_bytes():
    import hashlib

    assert parse_model_file(valid(), "x").digest == hashlib.sha256(valid()).hexdigest()


printable = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,20}", fullmatch=True)


@settings(deadline=None)
@given(
    name=names,
    version=names,
    class_names=st.lists(
        st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20),
        min_size=1,
        max_size=9,
    ).map(tuple),
    precision=st.sampled_from(("fp32", "fp16", "bf16", "int8")),
    score_threshold=st.floats(0, 1),
    iou_threshold=st.floats(0, 1),
    max_detections=st.integers(1, 1000),
    drift_prior=st.none() | st.text(st.characters(exclude_categories=("Cs",)), max_size=50).filter(str.strip),
)
def test_metadata_survives_the_round_trip(**fields):
    metadata = factory.metadata(**fields)

    again = from_json(to_json(metadata))

    assert {name: getattr(again, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am text\n" * 20, "not an ONNX file"),
        (b"\x00" * 100, "not an ONNX file"),
        (b"PK\x03\x04" + b"\x00" * 50, "zip archive"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
    ],
)
def test_refuses_what_is_no_onnx(data, reason):
    assert reason in refusal(data)


def test_refuses_paths_that_hold_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")  # nobody writes into it
    for path, reason in (
        (tmp_path, "a folder"),
        (tmp_path / "none.onnx", "no such file"),
        (tmp_path / "pipe.onnx", "a pipe or a device"),
    ):
        with pytest.raises(ModelFileError, match=reason) as refused:
            read_model_file(path)
        assert str(path) in str(refused.value)


def test_refuses_every_truncation():
    data = valid()
    for length in range(len(data)):
        refusal(data[:length])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(valid()) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_any_mutation_is_read_or_refused(edits):
    data = bytearray(valid())
    for position, value in edits:
        data[position] = value

    try:
        model = parse_model_file(bytes(data), "mutated")
    except ModelFileError as refused:
        assert str(refused).startswith("mutated: ")
    else:
        assert isinstance(model, ModelFile) and describe(model) and describe_text(model)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data):
    with pytest.raises(ModelFileError):
        parse_model_file(data, "any")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(json.loads(to_json(factory.metadata())))), json_values)
def test_any_value_of_any_field_is_read_or_refused(field, value):
    document = json.loads(to_json(factory.metadata()))
    document[field] = value
    try:
        from_json(json.dumps(document))
    except MetadataError as refused:
        assert str(refused)


def golden_entry(**fields):
    golden = factory.golden_frame()
    entry = {"jpeg": base64.b64encode(golden.jpeg).decode(), "detections": golden.detections.tolist()}
    return {**entry, **fields}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"schema": SCHEMA + 1}, "update traffic-vision"),
        ({"schema": "1"}, "'schema': expected a whole number"),
        ({"schema": True}, "'schema'"),
        ({"name": ""}, "'name'"),
        ({"name": "../x"}, "'name'"),
        ({"version": 3}, "'version'"),
        ({"layout": "yolox"}, "'layout': expected one of raw, nms_free"),
        ({"class_names": []}, "'class_names': 0 entries"),
        ({"class_names": "car"}, "'class_names': expected a list"),
        ({"class_names": ["car", 2, "bus"]}, "entry 1"),
        ({"class_names": ["car", "b\nus", "c"]}, "control characters"),
        ({"class_names": ["car", "\ud800", "c"]}, "entry 1"),
        ({"score_threshold": 1.5}, "'score_threshold': expected a number from 0 to 1"),
        ({"score_threshold": "0.5"}, "'score_threshold'"),
        ({"iou_threshold": -0.1}, "'iou_threshold'"),
        ({"iou_threshold": 10**400}, "'iou_threshold'"),
        ({"max_detections": 0}, "'max_detections'"),
        ({"max_detections": 1.5}, "'max_detections'"),
        ({"precision": "fp8"}, "'precision'"),
        ({"dataset_sha256": "abc"}, "'dataset_sha256'"),
        ({"drift_prior": 7}, "'drift_prior'"),
        ({"golden": {}}, "'golden': expected a list"),
        ({"golden": [3]}, "entry 0: expected an object"),
        ({"golden": [golden_entry(jpeg="###")]}, "not base64"),
        ({"golden": [golden_entry(jpeg=base64.b64encode(b"no picture").decode())]}, "JPEG"),
        ({"golden": [golden_entry(detections=[[0, 0, 5, 5, 0.5]])]}, "5 entries, expected 6"),
        ({"golden": [golden_entry(detections=[[9, 0, 5, 5, 0.5, 0]])]}, "ends before it begins"),
        ({"golden": [golden_entry(detections=[[0, 0, 5, 5, 1.5, 0]])]}, "score"),
        ({"golden": [golden_entry(detections=[[0, 0, 5, 5, 0.5, 3]])]}, "class 3"),
        ({"golden": [golden_entry(detections=[[0, 0, 5, 5, 0.5, 0.5]])]}, "class 0.5"),
        ({"golden": [golden_entry()] * 65}, "65 entries"),
    ],
)
def test_refuses_fields_that_make_no_sense(fields, reason):
    message = refusal(with_document(lambda document: {**document, **fields}))

    assert reason in message and len(message) < 300


@pytest.mark.parametrize("field", sorted(set(json.loads(to_json(factory.metadata()))) - {"created_by"}))
def test_refuses_a_document_without_a_field(field):
    data = with_document(lambda document: {key: value for key, value in document.items() if key != field})
    if field in ("dataset_sha256", "drift_prior"):
        assert getattr(parse_model_file(data, "x").metadata, field) is None
    else:
        assert f"no field '{field}'" in refusal(data)


def test_ignores_fields_that_it_does_not_know():
    data = with_document(lambda document: {**document, "mood": "fine"})

    assert parse_model_file(data, "x").metadata.name == "rectangles"


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '"text"', "NaN", '{"schema": NaN}', "[" * 100_000, "9" * 5000]
)
def test_refuses_metadata_that_is_no_document(text):
    def put(model):
        model.metadata_props[0].value = text

    assert "metadata" in refusal(changed(put))


def test_refuses_a_golden_picture_that_is_cut_off_or_huge():
    jpeg = factory.golden_frame().jpeg
    header = jpeg.index(b"\xff\xc0") + 5  # height and width in the frame header
    huge = jpeg[:header] + b"\xff\xff\xff\xff" + jpeg[header + 4 :]
    for broken, reason in ((jpeg[: len(jpeg) // 2], "not a whole JPEG"), (huge, "65535x65535")):
        entry = golden_entry(jpeg=base64.b64encode(broken).decode())
        assert reason in refusal(with_document(lambda document, entry=entry: {**document, "golden": [entry]}))


def test_refuses_no_metadata_and_two_of_it():
    assert "model import" in refusal(changed(lambda model: model.ClearField("metadata_props")))
    double = changed(lambda model: model.metadata_props.add(key=METADATA_KEY, value="{}"))
    assert "2 'traffic_vision' documents" in refusal(double)


def external(tensor: onnx.TensorProto, location: str = "../../etc/passwd") -> onnx.TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def some_tensor() -> onnx.TensorProto:
    return external(helper.make_tensor("away", TensorProto.FLOAT, [1], b"\0\0\0\0", raw=True))


def into_subgraph(model):
    branch = helper.make_graph(
        [helper.make_node("Identity", ["a"], ["b"])], "branch", [], [], [some_tensor()]
    )
    model.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=branch, else_branch=branch))


def into_function(model):
    function = model.functions.add(name="f", domain="local")
    function.node.append(helper.make_node("Constant", [], ["x"], value=some_tensor()))


def into_sparse(model):
    model.graph.sparse_initializer.add().values.CopyFrom(some_tensor())


def location_only(model):
    # Without the flag some readers follow the entry all the same.
    model.graph.initializer[0].external_data.add(key="location", value="beside.bin")


@pytest.mark.parametrize(
    "put",
    [
        lambda model: external(model.graph.initializer[0]),
        lambda model: external(model.graph.initializer[0], "weights.bin"),
        location_only,
        into_subgraph,
        into_function,
        into_sparse,
    ],
)
def test_refuses_data_outside_of_the_file_wherever_it_is(put):
    assert "holds all its data itself" in refusal(changed(put))


def test_refuses_a_providers_compiled_graph():
    def compiled(model):
        model.graph.node.append(helper.make_node("EPContext", ["image"], ["x"], domain="com.microsoft"))

    assert "EPContext" in refusal(changed(compiled))


def set_input(element, shape):
    return lambda model: model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", element, shape))


def set_output(element, shape):
    return lambda model: model.graph.output[0].CopyFrom(helper.make_tensor_value_info("o", element, shape))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (set_input(TensorProto.FLOAT, [1, 64, 96, 3]), "float32[1, 64, 96, 3], expected uint8[1, H, W, 3]"),
        (set_input(TensorProto.UINT8, [1, 3, 64, 96]), "expected uint8[1, H, W, 3]"),
        (set_input(TensorProto.UINT8, [2, 64, 96, 3]), "expected uint8[1, H, W, 3]"),
        (set_input(TensorProto.UINT8, [1, 60, 96, 3]), "multiples of 32"),
        (set_input(TensorProto.UINT8, [1, "h", 96, 3]), "[1, ?, 96, 3]"),
        (set_input(TensorProto.UINT8, [1, 0, 96, 3]), "multiples of 32"),
        (set_output(TensorProto.FLOAT, [1, 8, 6]), "layout 'raw' of 3 classes: float32[1, 7, n]"),
        (set_output(TensorProto.FLOAT16, [1, 7, 6]), "float16[1, 7, 6]"),
        (set_output(TensorProto.FLOAT, [1, 7, "n"]), "[1, 7, ?]"),
        (set_output(TensorProto.FLOAT, [7, 6]), "float32[7, 6]"),
        (lambda model: model.graph.input.append(model.graph.input[0]), "2 inputs"),
        (lambda model: model.graph.ClearField("input"), "0 inputs"),
        (lambda model: model.graph.output.append(model.graph.output[0]), "2 outputs"),
        (lambda model: model.graph.ClearField("node"), "no graph"),
        (lambda model: model.ClearField("opset_import"), "operator set"),
    ],
)
def test_refuses_a_graph_that_is_not_as_declared(change, reason):
    assert reason in refusal(changed(change))


def test_refuses_a_graph_that_may_never_end():
    assert "loops (Loop)" in refusal(changed(lambda model: factory.add_loop(model, rounds=1)))

    def inside_a_branch(model):
        factory.add_loop(model, rounds=1)
        loop = model.graph.node.pop()
        branch = helper.make_graph([loop], "branch", [], [])
        model.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=branch, else_branch=branch))

    assert "loops (Loop)" in refusal(changed(inside_a_branch))


def test_describes_itself_without_its_pictures():
    model = parse_model_file(valid(), "x")

    about = describe(model)

    assert about["input"]["shape"] == [1, 64, 96, 3] and about["output"]["layout"] == "raw"
    assert about["golden"] == [{"jpeg_bytes": len(factory.golden_frame().jpeg), "detections": 2}]
    assert about["drift_prior_bytes"] == len("opaque")
    assert json.loads(json.dumps(about)) == about
    for text in (json.dumps(about), describe_text(model)):
        assert (
            base64.b64encode(factory.golden_frame().jpeg).decode()[:40] not in text and "opaque" not in text
        )
