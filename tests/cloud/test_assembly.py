from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data

from cloud.release.assembly import AssemblyError, AssemblyOptions, assemble, wrap
from cloud.release.checkpoint import CheckpointError, export_checkpoint
from cloud.release.class_names import ClassNamesError, read_class_names
from cloud.release.golden_pictures import MAX_PICTURES, GoldenPictureError, collect, normalise, read_all
from cloud.release.raw_export import RawExportError, recognise
from edge.errors import TrafficVisionError
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.model_file import parse_model_file
from tests import models_factory as factory
from tests.shared_data import shared_data

HW = (64, 96)
SHOWN = factory.picture(HW, (16, 8, 48, 32, "red"), (56, 40, 88, 56, "blue"))
PICTURE = factory.jpeg(SHOWN)


@pytest.fixture
def save(tmp_path):
    """Write an ONNX model as a file."""

    def write(model: onnx.ModelProto, name: str = "raw.onnx"):
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return write


def refusal(path, pictures=(PICTURE,), **options) -> str:
    with pytest.raises(TrafficVisionError) as refused:
        wrap(path, pictures, AssemblyOptions(**options))
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("layout", ["raw", "nms_free"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_wraps_an_export(save, layout, dtype):
    model = parse_model_file(
        wrap(save(factory.rectangles_export(layout=layout, dtype=dtype)), [PICTURE]), "x"
    )

    about = model.metadata
    assert (about.layout, about.class_names, model.input_hw) == (layout, factory.NAMES, HW)
    assert about.precision == ("fp32" if dtype is np.float32 else "fp16")
    found = Detector(model, DetectorOptions(threads=1)).detect(SHOWN).boxes
    assert sorted(found[:, 5].tolist()) == [0, 2]
    assert np.array_equal(about.golden[0].detections[:, :4], found[:, :4])


def test_gives_the_very_output_of_the_export(save):
    path = save(factory.rectangles_export())
    model = parse_model_file(wrap(path, [PICTURE]), "x")
    image = np.random.default_rng(4).integers(0, 255, (*HW, 3), np.uint8)
    floats = image[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255

    expected = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
        None, {"images": floats}
    )[0]

    assert np.array_equal(Detector(model, DetectorOptions(threads=1)).raw_output(image), expected)


def test_what_is_judged_is_what_is_returned(save):
    path = save(factory.rectangles_export())

    assembled = assemble(path, [PICTURE])

    assert assembled.report.passed and assembled.report.model_digest == assembled.model.digest
    assert parse_model_file(wrap(path, [PICTURE]), "x").digest == assembled.model.digest


def test_writes_down_what_it_is_told(save):
    options = AssemblyOptions(
        name="mine",
        version="7",
        class_names=("x", "y", "z"),
        score_threshold=0.4,
        iou_threshold=0.5,
        max_detections=9,
        dataset_sha256="a" * 64,
        drift_prior="prior",
    )
    about = parse_model_file(wrap(save(factory.rectangles_export()), [PICTURE], options), "x").metadata

    for field in ("name", "version", "class_names", "score_threshold", "iou_threshold", "max_detections"):
        assert getattr(about, field) == getattr(options, field)
    assert (about.dataset_sha256, about.drift_prior) == ("a" * 64, "prior")
    assert about.created_by.startswith("traffic-vision ")


def test_names_the_model_by_its_file_and_its_content(save):
    path = save(factory.rectangles_export(), "my model (best).onnx")

    about = parse_model_file(wrap(path, [PICTURE]), "x").metadata

    assert about.name == "my-model-best"
    assert len(about.version) == 12


def test_keeps_what_the_export_says_of_its_licence(save):
    raw = factory.rectangles_export(license="AGPL-3.0")

    model = onnx.load_model_from_string(wrap(save(raw), [PICTURE]))

    assert {entry.key: entry.value for entry in model.metadata_props}["license"] == "AGPL-3.0"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"name": "a/b"}, "'name'"), ({"score_threshold": 2.0}, "'score_threshold'"), ({"version": ""}, "")],
)
def test_refuses_to_write_what_could_not_be_read(save, fields, reason):
    path = save(factory.rectangles_export())
    if reason:
        assert reason in refusal(path, **fields)
    else:
        assert parse_model_file(wrap(path, [PICTURE], AssemblyOptions(**fields)), "x").metadata.version


def test_fixes_open_shapes_at_the_size_asked_for(save):
    path = save(factory.rectangles_export(dynamic=True))

    model = parse_model_file(wrap(path, [PICTURE], AssemblyOptions(imgsz=HW)), "x")

    assert (model.input_hw, model.output_shape) == (HW, (1, 7, 6))


def test_fixes_open_shapes_at_the_exports_own_size(save):
    path = save(factory.rectangles_export(dynamic=True, imgsz=str(list(HW))))

    assert parse_model_file(wrap(path, [PICTURE]), "x").input_hw == HW


def test_open_shapes_without_a_size_are_refused(save):
    assert "--imgsz" in refusal(save(factory.rectangles_export(dynamic=True)))


def test_another_size_than_the_exports_is_refused(save):
    path = save(factory.rectangles_export())

    assert "64x96 only, not 96x96" in refusal(path, imgsz=(96, 96))


def test_takes_an_old_export_that_lists_its_constants_as_inputs(save):
    raw = factory.rectangles_export()
    raw.ir_version = 3
    for tensor in raw.graph.initializer:
        raw.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))

    assert parse_model_file(wrap(save(raw), [PICTURE]), "x").input_hw == HW


def test_lowers_a_format_number_that_the_vehicle_does_not_know(save):
    raw = factory.rectangles_export()
    raw.ir_version = 13

    model = onnx.load_model_from_string(wrap(save(raw), [PICTURE]))

    assert model.ir_version == 11
    assert [entry.version for entry in model.opset_import] == [factory.OPSET]


def test_refuses_an_operator_set_that_the_vehicle_does_not_know(save):
    raw = factory.rectangles_export()
    raw.opset_import[0].version = 24

    assert "operator set 24" in refusal(save(raw))


def quantised(raw: onnx.ModelProto) -> onnx.ModelProto:
    """The export with its picture through a quantiser and back."""
    for node in raw.graph.node:
        node.input[:] = ["dequantised" if name == "images" else name for name in node.input]
    pair = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["bytes"]),
        helper.make_node("DequantizeLinear", ["bytes", "scale", "zero"], ["dequantised"]),
    ]
    nodes = [*pair, *raw.graph.node]
    del raw.graph.node[:]
    raw.graph.node.extend(nodes)
    raw.graph.initializer.append(numpy_helper.from_array(np.float32(1 / 255), "scale"))
    raw.graph.initializer.append(numpy_helper.from_array(np.uint8(0), "zero"))
    return raw


def test_keeps_quantised_operators(save):
    data = wrap(save(quantised(factory.rectangles_export())), [PICTURE])

    assert parse_model_file(data, "x").metadata.precision == "int8"
    operators = {node.op_type for node in onnx.load_model_from_string(data).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators


def with_external_data(tmp_path, location: str):
    raw = factory.rectangles_export()
    convert_model_to_external_data(raw, location="weights.bin", size_threshold=0, convert_attribute=False)
    folder = tmp_path / "export"
    folder.mkdir()
    path = folder / "raw.onnx"
    onnx.save(raw, path)
    if location != "weights.bin":
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        path.write_bytes(model.SerializeToString())
    return path


def test_takes_in_data_beside_the_export(tmp_path):
    path = with_external_data(tmp_path, "weights.bin")
    assert b"weights.bin" in path.read_bytes()

    data = wrap(path, [PICTURE])

    assert parse_model_file(data, "x").metadata.golden[0].detections.shape == (2, 6)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "", "link.bin"])
def test_refuses_data_outside_of_the_exports_folder(tmp_path, location):
    path = with_external_data(tmp_path, location)
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    (path.parent / "link.bin").symlink_to(tmp_path / "secret.bin")

    assert "outside of its folder" in refusal(path)


def test_refuses_data_that_is_missing_or_cut_off(tmp_path):
    path = with_external_data(tmp_path, "weights.bin")
    weights = path.parent / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:10])
    assert "weights.bin" in refusal(path)
    weights.unlink()
    assert "'weights.bin', which is not there" in refusal(path)


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


def test_finding_something_on_one_of_the_pictures_is_enough(save):
    path = save(factory.rectangles_export())
    blank = factory.jpeg(factory.picture(HW))

    assert "finds nothing" in refusal(path, [blank, blank])
    assert len(parse_model_file(wrap(path, [blank, PICTURE]), "x").metadata.golden) == 2


def test_refuses_to_judge_by_nothing(save):
    assert "no golden pictures" in refusal(save(factory.rectangles_export()), [])


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


# Golden pictures


def test_spreads_over_a_folder_of_many_pictures(tmp_path):
    for index in range(40):
        (tmp_path / f"{index:02}.png").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")

    chosen = [int(path.stem) for path in collect([tmp_path])]

    assert len(chosen) == MAX_PICTURES and chosen[0] == 0 and chosen[-1] >= 37
    assert chosen == sorted(set(chosen))


def test_golden_pictures_are_small_and_without_metadata(tmp_path):
    image = factory.picture((1500, 3000), (0, 0, 1500, 1500, "red"))
    secret = b"\xff\xe1\x00\x10Exif\0\0LAT 51.5"
    encoded = factory.jpeg(image)
    encoded = encoded[:2] + secret + encoded[2:]

    done = normalise(encoded, "x")

    assert b"LAT 51.5" in encoded and b"LAT 51.5" not in done
    from edge.perception.metadata import decode_jpeg

    assert decode_jpeg(done).shape == (640, 1280, 3)


def test_a_plain_picture_stays_as_it_is_and_one_with_metadata_does_not():
    secret = b"\xff\xe1\x00\x10Exif\0\0LAT 51.5"

    assert normalise(PICTURE, "x") == PICTURE
    done = normalise(PICTURE[:2] + secret + PICTURE[2:], "x")
    assert b"LAT" not in done and normalise(done, "x") == done


def test_refuses_golden_pictures_that_are_none(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name in ("text.jpg", "empty.jpg", "folder", "missing.jpg"):
        with pytest.raises(GoldenPictureError, match=name):
            read_all([tmp_path / name])


# Class names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "car\n\n  bus \ntraffic light\n"),
        ("data.yaml", "names:\n  0: car\n  1: bus\n  2: traffic light\n"),
        ("data.yml", "train: x\nnames: [car, bus, traffic light]\n"),
    ],
)
def test_reads_class_names(tmp_path, name, text):
    (tmp_path / name).write_text(text)

    assert read_class_names(tmp_path / name) == ("car", "bus", "traffic light")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.txt", b"\n \n"),
        ("names.txt", b"\xff\xfe\x00"),
        ("data.yaml", b"names: {0: car, 2: bus}"),
        ("data.yaml", b"names: [1, 2]"),
        ("data.yaml", b"just text"),
        ("data.yaml", b"{unclosed"),
        ("data.yaml", b"!!python/object/apply:os.system ['true']"),
    ],
)
def test_refuses_files_without_class_names(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ClassNamesError, match=name):
        read_class_names(tmp_path / name)


# Checkpoints


def test_a_checkpoint_without_the_cloud_extra_names_the_extra(tmp_path):
    (tmp_path / "ultralytics.py").write_text("raise ImportError('not here')")
    checkpoint = tmp_path / "x.pt"
    checkpoint.write_bytes(b"PK\x03\x04")
    code = (
        "import sys, pathlib\n"
        "from cloud.release.checkpoint import export_checkpoint\n"
        "from edge.errors import TrafficVisionError\n"
        "try:\n    export_checkpoint(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))\n"
        "except TrafficVisionError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(checkpoint), str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )

    assert "cloud extra" in done.stdout, done.stderr


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.parametrize("content", [b"", b"text, no checkpoint", pickle.dumps({"a": 1})])
def test_refuses_what_is_no_checkpoint(tmp_path, state, content):
    pytest.importorskip("ultralytics")
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    (tmp_path / "out").mkdir()

    with pytest.raises(CheckpointError, match=r"x\.pt"):
        export_checkpoint(path, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_refuses_a_missing_checkpoint_and_an_odd_size(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        export_checkpoint(tmp_path / "none.pt", tmp_path)
    path = tmp_path / "x.pt"
    path.write_bytes(b"x")
    with pytest.raises(CheckpointError, match="300x320, expected multiples of 32"):
        export_checkpoint(path, tmp_path, (300, 320))


# Real exports


def day_pictures(count: int) -> list[bytes]:
    index = shared_data("bdd100k-mini/index.csv").read_text().splitlines()[1:]
    days = [line.split(",")[0] for line in index if line.split(",")[2] == "daytime"]
    return [shared_data(f"bdd100k-mini/images/{name}").read_bytes() for name in days[:count]]


def test_a_real_quantised_export_is_taken():
    model = parse_model_file(wrap(shared_data("weights/yolov8n_int8.onnx"), day_pictures(2)), "x")

    assert (model.metadata.precision, model.output_shape) == ("int8", (1, 84, 8400))
    assert sum(len(frame.detections) for frame in model.metadata.golden) >= 6


def test_a_real_export_that_detects_nothing_is_refused():
    with pytest.raises(AssemblyError, match=r"scores run from 0 to 1\.66|finds nothing"):
        wrap(shared_data("weights/broken_int8_320.onnx"), day_pictures(2))


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
