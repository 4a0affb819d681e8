"""The model file: one ONNX file that describes itself, checked before anything is made of it.

The graph takes the letterboxed frame as it is, `uint8[1, H, W, 3]` BGR, and gives its detections in the
layout that its metadata declares, and behind them an embedding of the picture where it declares one. Nothing
outside the bytes is ever read: the bytes checked are the bytes that run.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from edge.errors import TrafficVisionError
from edge.perception.metadata import (
    EmbeddingSpec,
    GoldenFrame,
    MetadataError,
    ModelMetadata,
    from_json,
    to_json,
)
from edge.perception.onnx_reading import (
    OnnxError,
    external_tensors,
    looping_operators,
    messages,
    parse_onnx,
    read_bytes,
    tensor_name,
    tensor_type,
)
from edge.perception.onnx_rules import GraphError, check_graph

__all__ = [
    "METADATA_KEY",
    "EmbeddingSpec",
    "GoldenFrame",
    "ModelFile",
    "ModelFileError",
    "ModelMetadata",
    "describe",
    "describe_text",
    "parse_model_file",
    "put_metadata",
    "read_model_bytes",
    "read_model_file",
]

METADATA_KEY = "traffic_vision"
STRIDE = 32  # pixels: height and width of the input are multiples of it
MAX_INPUT_SIDE = 8192  # pixels
MAX_OUTPUT_VALUES = 1 << 27  # of 8192x8192 pixels and 80 classes, 1.2e8
_IMPORT = "make a model file of it with `traffic-vision model import`"


class ModelFileError(TrafficVisionError):
    """The bytes are no model file; the message says where they came from and why not."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelFile:
    """A model file whose bytes were checked.

    Attributes:
        metadata: what the file says of itself.
        data: the whole file; exactly these bytes are loaded.
        digest: SHA-256 of `data`, hexadecimal: the model's identity in every published detection.
        input_hw: height and width of the graph's input, pixels.
        output_shape: of the graph's first output, the detections.
        opset: version of the default ONNX operator set.
        path: where the bytes came from, None when they came from elsewhere.
    """

    metadata: ModelMetadata
    data: bytes
    digest: str
    input_hw: tuple[int, int]
    output_shape: tuple[int, int, int]
    opset: int
    path: Path | None = None

    def summary(self) -> str:
        """One line for people: name, version, input, layout, classes, precision, digest."""
        about = self.metadata
        height, width = self.input_hw
        return (
            f"{about.name} {about.version}, {height}x{width}, {about.layout}, {about.precision},"
            f" {len(about.class_names)} classes, {len(about.golden)} golden frames,"
            f" {len(self.data) / 1e6:.1f} MB, sha256 {self.digest[:12]}"
        )


def read_model_file(path: Path | str) -> ModelFile:
    """Read and check a model file.

    Raises:
        ModelFileError: the file is missing, unreadable or no model file.
    """
    path = Path(path)
    return parse_model_file(read_model_bytes(path), str(path), path)


def read_model_bytes(path: Path) -> bytes:
    """Read a model file, and check nothing but that it is a file.

    Raises:
        ModelFileError: it is missing, unreadable or too large.
    """
    try:
        return read_bytes(path)
    except OnnxError as error:
        raise ModelFileError(f"{path}: {error}") from None


def parse_model_file(data: bytes, origin: str, path: Path | None = None) -> ModelFile:
    """Check the bytes of a model file.

    Args:
        data: the bytes.
        origin: where they came from, for messages.
        path: the file they came from, if any; kept in the result.

    Raises:
        ModelFileError: for any bytes that are no model file, with the reason.
    """
    try:
        model = parse_onnx(data)
        metadata = _metadata(model)
        _refuse_external_data(model)
        _refuse_loops(model)
        input_hw = _input_hw(model)
        output_shape = _output_shape(model, metadata)
        opset = _opset(model)
        check_graph(model)
    except (OnnxError, ModelFileError, MetadataError, GraphError) as error:
        raise ModelFileError(f"{origin}: {error}") from None
    except UnicodeDecodeError:
        raise ModelFileError(f"{origin}: not an ONNX file: text in it is not UTF-8") from None
    return ModelFile(metadata, data, hashlib.sha256(data).hexdigest(), input_hw, output_shape, opset, path)


def put_metadata(model: onnx.ModelProto, metadata: ModelMetadata) -> None:
    """Set the document in the ONNX model, in place of one that is there."""
    kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    for key, value in [*kept, (METADATA_KEY, to_json(metadata))]:
        model.metadata_props.add(key=key, value=value)


def describe(model: ModelFile) -> dict[str, Any]:
    """What `model info` shows: all that the file says of itself; of pictures and the prior the size."""
    metadata = model.metadata
    return {
        "path": None if model.path is None else str(model.path),
        "sha256": model.digest,
        "bytes": len(model.data),
        "schema": metadata.schema,
        "name": metadata.name,
        "version": metadata.version,
        "created_by": metadata.created_by,
        "precision": metadata.precision,
        "opset": model.opset,
        "input": {"shape": [1, *model.input_hw, 3], "type": "uint8", "order": "NHWC", "colours": "BGR"},
        "output": {"shape": list(model.output_shape), "type": "float32", "layout": metadata.layout},
        "embedding": None if metadata.embedding is None else asdict(metadata.embedding),
        "class_names": list(metadata.class_names),
        "score_threshold": metadata.score_threshold,
        "iou_threshold": metadata.iou_threshold,
        "max_detections": metadata.max_detections,
        "dataset_sha256": metadata.dataset_sha256,
        "drift_prior_bytes": None if metadata.drift_prior is None else len(metadata.drift_prior.encode()),
        "golden": [
            {"jpeg_bytes": len(frame.jpeg), "detections": len(frame.detections)} for frame in metadata.golden
        ],
    }


def describe_text(model: ModelFile) -> str:
    """What `describe` gives, a line a fact."""
    about = describe(model)
    golden, spec = model.metadata.golden, model.metadata.embedding
    shapes = {end: f"{about[end]['type']}{about[end]['shape']}" for end in ("input", "output")}
    lines = {
        "file": about["path"],
        "sha256": about["sha256"],
        "size": f"{len(model.data) / 1e6:.1f} MB",
        "name": about["name"],
        "version": about["version"],
        "precision": about["precision"],
        "input": f"{shapes['input']} NHWC, BGR",
        "output": f"{shapes['output']} ({about['output']['layout']})",
        "embedding": "none" if spec is None else f"float32[1, {spec.size}] ('{spec.output}')",
        "classes": f"{len(about['class_names'])}: {', '.join(about['class_names'])}",
        "thresholds": f"score {about['score_threshold']:g}, IoU {about['iou_threshold']:g},"
        f" at most {about['max_detections']} detections",
        "golden frames": f"{len(golden)} with {sum(len(frame.detections) for frame in golden)} detections",
        "dataset sha256": about["dataset_sha256"] or "not given",
        "drift prior": "none"
        if about["drift_prior_bytes"] is None
        else f"{about['drift_prior_bytes']} bytes",
        "ONNX opset": about["opset"],
        "created by": about["created_by"] or "not given",
    }
    return "\n".join(f"{name + ':':<16}{value}" for name, value in lines.items())


def _metadata(model: onnx.ModelProto) -> ModelMetadata:
    documents = [entry.value for entry in model.metadata_props if entry.key == METADATA_KEY]
    if not documents:
        raise ModelFileError(f"an ONNX file without '{METADATA_KEY}' metadata: {_IMPORT}")
    if len(documents) > 1:
        raise ModelFileError(f"{len(documents)} '{METADATA_KEY}' documents in the metadata, expected one")
    return from_json(documents[0])


def _refuse_loops(model: onnx.ModelProto) -> None:
    looping = looping_operators(model)
    if looping:
        raise ModelFileError(f"its graph loops ({', '.join(looping)}), so it may never end: export it anew")


def _refuse_external_data(model: onnx.ModelProto) -> None:
    for tensor in external_tensors(model):
        locations = [entry.value for entry in tensor.external_data if entry.key == "location"]
        where = repr(locations[0]) if locations else "another file"
        raise ModelFileError(
            f"tensor '{tensor.name}' lies in {where}: a model file holds all its data itself"
        )
    for node in messages(model, onnx.NodeProto):
        if node.op_type == "EPContext":  # it may name a compiled blob beside the file
            raise ModelFileError("it holds a graph that a provider compiled (EPContext): export it anew")


def _input_hw(model: onnx.ModelProto) -> tuple[int, int]:
    if len(model.graph.input) != 1:
        raise ModelFileError(f"the graph has {len(model.graph.input)} inputs, a model file has one")
    value = model.graph.input[0]
    shape, element = tensor_type(value)
    if element != onnx.TensorProto.UINT8 or len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
        raise ModelFileError(f"the graph takes {tensor_name(value)}, expected uint8[1, H, W, 3]")
    height, width = shape[1:3]
    for side in (height, width):
        if side is None or not 0 < side <= MAX_INPUT_SIDE or side % STRIDE:
            raise ModelFileError(
                f"the graph takes {tensor_name(value)}, expected height and width"
                f" as multiples of {STRIDE} up to {MAX_INPUT_SIDE}"
            )
    assert height is not None and width is not None
    return height, width


def _check_outputs(model: onnx.ModelProto, metadata: ModelMetadata) -> None:
    """The detections, and behind them the embedding that is declared: no more and no less."""
    outputs, spec = model.graph.output, metadata.embedding
    if spec is None:
        if len(outputs) != 1:
            raise ModelFileError(
                f"the graph has {len(outputs)} outputs, a model file without an embedding has one"
            )
        return
    declared = f"its metadata declares an embedding of {spec.size} numbers, '{spec.output}'"
    if len(outputs) != 2:
        raise ModelFileError(
            f"the graph has {len(outputs)} output{'s' if len(outputs) != 1 else ''}, but {declared}:"
            " expected the detections and it"
        )
    if outputs[1].name != spec.output or outputs[0].name == spec.output:
        raise ModelFileError(f"the graph's second output is {tensor_name(outputs[1])}, but {declared}")
    if tensor_type(outputs[1]) != ((1, spec.size), onnx.TensorProto.FLOAT):
        raise ModelFileError(
            f"the graph gives {tensor_name(outputs[1])}, but {declared}: float32[1, {spec.size}]"
        )


def _output_shape(model: onnx.ModelProto, metadata: ModelMetadata) -> tuple[int, int, int]:
    _check_outputs(model, metadata)
    shape, element = tensor_type(model.graph.output[0])
    channels = 4 + len(metadata.class_names)
    expected = f"[1, {channels}, n]" if metadata.layout == "raw" else "[1, n, 6]"
    fits = (
        element == onnx.TensorProto.FLOAT
        and len(shape) == 3
        and shape[0] == 1
        and (shape[1] == channels if metadata.layout == "raw" else shape[2] == 6)
        and all(side is not None and side > 0 for side in shape)
    )
    if not fits:
        raise ModelFileError(
            f"the graph gives {tensor_name(model.graph.output[0])}, but its metadata declares layout"
            f" '{metadata.layout}' of {len(metadata.class_names)} classes: float32{expected}"
        )
    first, second, third = (int(side or 0) for side in shape)
    if first * second * third > MAX_OUTPUT_VALUES:
        raise ModelFileError(
            f"the graph gives {tensor_name(model.graph.output[0])}, at most {MAX_OUTPUT_VALUES}"
            " numbers are taken"
        )
    return first, second, third


def _opset(model: onnx.ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions:
        raise ModelFileError("the file names no version of ONNX's operator set: cut off?")
    return int(versions[0])
