"""From a raw export to a model file: frame conversion put into the graph, golden frames added, all judged.

What is judged are the bytes that are returned: the last step reads them as a vehicle will and runs them.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version as package_version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from cloud.release.embedding import add_embedding
from cloud.release.golden_pictures import normalise
from cloud.release.raw_export import RawExport, read_raw_export
from cloud.release.soundness import UnsoundModelError, check_output
from edge.errors import TrafficVisionError
from edge.perception.detector import Detector, DetectorOptions, InferenceError
from edge.perception.golden import TOLERANCES, GoldenReport, verify
from edge.perception.metadata import GoldenFrame, MetadataError, ModelMetadata, check
from edge.perception.model_file import ModelFile, ModelFileError, parse_model_file, put_metadata

_LOG = logging.getLogger(__name__)

_PREFIX = "traffic_vision/"  # of the names that are added to the graph


class AssemblyError(TrafficVisionError):
    """No model file can be made of the export; the message says why not."""


@dataclass(frozen=True, slots=True)
class AssemblyOptions:
    """What a model file says beyond what its export says of itself.

    Attributes:
        name: of the model; from the export's file name unless given.
        version: of the model; from the file's SHA-256 unless given.
        class_names: in place of the export's own.
        imgsz: height and width for an export that leaves them open.
        score_threshold: detections must score above it.
        iou_threshold: of the suppression.
        max_detections: at most so many a frame.
        dataset_sha256: of the dataset that it was trained on.
        drift_prior: the fleet's, opaque.
        trained_on: pictures that it was trained on, for the axes of the embedding; without, it has none.
    """

    name: str | None = None
    version: str | None = None
    class_names: tuple[str, ...] | None = None
    imgsz: tuple[int, int] | None = None
    score_threshold: float = 0.25
    iou_threshold: float = 0.7
    max_detections: int = 300
    dataset_sha256: str | None = None
    drift_prior: str | None = None
    trained_on: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Assembled:
    """A model file that was made and judged.

    Attributes:
        model: the file's bytes and what they say.
        report: of its golden frames.
    """

    model: ModelFile
    report: GoldenReport


def wrap(raw: Path, pictures: Sequence[bytes], options: AssemblyOptions | None = None) -> bytes:
    """Make a model file of a raw Ultralytics export.

    Args:
        raw: the export, ONNX, in any precision.
        pictures: for the golden frames, encoded; the model must find something on at least one of them.
        options: what the export does not say itself.

    Returns:
        The bytes of the model file.

    Raises:
        AssemblyError: the model is not sound on the pictures, or finds nothing there.
        TrafficVisionError: the export is refused (`RawExportError`), or a picture (`GoldenPictureError`).
    """
    return assemble(raw, pictures, options).model.data


def assemble(raw: Path, pictures: Sequence[bytes], options: AssemblyOptions | None = None) -> Assembled:
    """Do as `wrap` does, and return what was found out on the way too."""
    options = options or AssemblyOptions()
    if not pictures:
        raise AssemblyError("no golden pictures: a model file carries what it was judged by")
    export = read_raw_export(raw, options.class_names, options.imgsz)
    try:
        metadata = check(_metadata(raw, export, options))
    except MetadataError as error:
        raise AssemblyError(f"{raw}: {error}") from None
    graph = _with_frame_input(export)
    if options.trained_on:
        embedding, reason = add_embedding(graph, options.trained_on)
        metadata = replace(metadata, embedding=embedding)
        if embedding is None:
            _LOG.warning("%s: the model file has no embedding: %s", raw, reason)
    try:
        put_metadata(graph, metadata)
        unjudged = parse_model_file(_serialised(graph), str(raw))
        jpegs = [normalise(picture, f"golden picture {index}") for index, picture in enumerate(pictures)]
        golden = _expected(unjudged, jpegs, str(raw))
        put_metadata(graph, replace(metadata, golden=golden))
        model = parse_model_file(_serialised(graph), str(raw))
        report = verify(model, _detector(model))
    except (ModelFileError, InferenceError) as error:
        raise AssemblyError(str(error)) from None
    if not report.passed:
        raise AssemblyError(f"{raw}: {report.reason}")
    return Assembled(model, report)


def content_version(raw: Path) -> str:
    """A version for what names none: the start of the file's SHA-256."""
    return hashlib.sha256(raw.read_bytes()).hexdigest()[:12]


def _metadata(raw: Path, export: RawExport, options: AssemblyOptions) -> ModelMetadata:
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", raw.stem).strip("-._+") or "model"
    return ModelMetadata(
        name=options.name or stem[:100],
        version=options.version or content_version(raw),
        layout=export.layout,
        class_names=export.class_names,
        precision=export.precision,
        score_threshold=options.score_threshold,
        iou_threshold=options.iou_threshold,
        max_detections=options.max_detections,
        dataset_sha256=options.dataset_sha256,
        drift_prior=options.drift_prior,
        created_by=f"traffic-vision {package_version('traffic-vision')}",
    )


def _with_frame_input(export: RawExport) -> onnx.ModelProto:
    """The export's graph behind `uint8[1, H, W, 3]` BGR, in front of a float32 output.

    The cast comes first because TensorRT takes 8-bit input only into a cast. It is a division, not a product
    with the inverse, because training divides.
    """
    model = onnx.ModelProto()
    model.CopyFrom(export.model)
    graph = model.graph
    frame, floats, planes, rgb = (_PREFIX + name for name in ("frame", "floats", "planes", "rgb"))
    order, full = _PREFIX + "bgr_to_rgb", _PREFIX + "full_scale"
    conversion = [
        helper.make_node("Cast", [frame], [floats], name=_PREFIX + "Cast", to=export.element),
        helper.make_node("Transpose", [floats], [planes], name=_PREFIX + "Transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Gather", [planes, order], [rgb], name=_PREFIX + "Gather", axis=1),
        helper.make_node("Div", [rgb, full], [export.input_name], name=_PREFIX + "Div"),
    ]
    full_scale = np.array(255, helper.tensor_dtype_to_np_dtype(export.element))
    nodes = [*conversion, *graph.node]
    output_name = export.output_name
    if export.output_element != TensorProto.FLOAT:
        output_name = _PREFIX + "output"
        nodes.append(
            helper.make_node("Cast", [export.output_name], [output_name], name=_PREFIX + "CastOutput", to=1)
        )
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0], np.int64), order))
    graph.initializer.append(numpy_helper.from_array(full_scale, full))
    height, width = export.input_hw
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info(frame, TensorProto.UINT8, [1, height, width, 3]))
    graph.output.append(helper.make_tensor_value_info(output_name, TensorProto.FLOAT, export.output_shape))
    return model


def _serialised(model: onnx.ModelProto) -> bytes:
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _detector(model: ModelFile) -> Detector:
    return Detector(model, DetectorOptions(providers=("CPUExecutionProvider",)))


def _expected(model: ModelFile, jpegs: Sequence[bytes], origin: str) -> tuple[GoldenFrame, ...]:
    """Run the frozen graph on the pictures; what it finds is what is expected from then on.

    Raises:
        AssemblyError: what it gives makes no sense, or it finds nothing at all.
    """
    detector = _detector(model)
    metadata = model.metadata
    frames = [GoldenFrame(jpeg, np.empty((0, 6), np.float32)) for jpeg in jpegs]
    images = [frame.image() for frame in frames]
    for index, image in enumerate(images):
        output = detector.raw_output(image)
        try:
            check_output(
                output, metadata.layout, model.input_hw, metadata.score_threshold, len(metadata.class_names)
            )
        except UnsoundModelError as error:
            raise AssemblyError(
                f"{origin}: the model is not sound: on golden picture {index}, {error}"
            ) from None
    golden = tuple(
        GoldenFrame(frame.jpeg, detector.detect(image).boxes)
        for frame, image in zip(frames, images, strict=True)
    )
    best = _best_score(golden)
    clear = metadata.score_threshold + TOLERANCES[metadata.precision].score
    if best < clear:
        seen = "it finds nothing" if best == 0 else f"its best detection scores {best:.2f}"
        raise AssemblyError(
            f"{origin}: the model is refused: on {len(golden)} golden pictures {seen}, at least one of"
            f" {clear:.2f} or more is expected; if they show nothing that it knows, give others with --golden"
        )
    return golden


def _best_score(golden: Sequence[GoldenFrame]) -> float:
    scores: list[npt.NDArray[np.float32]] = [frame.detections[:, 4] for frame in golden]
    return float(np.concatenate(scores).max(initial=0.0))
