from __future__ import annotations

from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data

from cloud.release.assembly import AssemblyError, AssemblyOptions, assemble, wrap
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.model_file import parse_model_file
from tests import models_factory as factory
from tests.imports import HW, PICTURE, SHOWN, refusal
from tests.imports import save as save_model
from tests.shared_data import shared_data


@pytest.fixture
def save(tmp_path):
    """Write an ONNX model as a file."""
    return partial(save_model, tmp_path)


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
    [
        ({"name": "a/b"}, "'name'"),
        ({"score_threshold": 2.0}, "'score_threshold'"),
        ({"score_threshold": float("nan")}, "score threshold nan"),
        ({"version": ""}, ""),
    ],
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
    for own in ("{[]: 1}", f"[0x{'f' * 8000}, 96]", "[-64, 96]", "64"):
        assert "--imgsz" in refusal(save(factory.rectangles_export(dynamic=True, imgsz=own)))


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


def test_finding_something_on_one_of_the_pictures_is_enough(save):
    path = save(factory.rectangles_export())
    blank = factory.jpeg(factory.picture(HW))

    assert "finds nothing" in refusal(path, [blank, blank])
    assert len(parse_model_file(wrap(path, [blank, PICTURE]), "x").metadata.golden) == 2


def test_refuses_to_judge_by_nothing(save):
    assert "no golden pictures" in refusal(save(factory.rectangles_export()), [])


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
