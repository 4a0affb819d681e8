"""Frame numbers burnt into pictures, and a model that reads them back beside its own work.

The number is a strip of black and white blocks at the top edge. The model is the real one: a few small nodes
beside its graph look at the strip in its input and append one more box, whose corners are the number. So the
number of a detection is that of the very pixels that were inferred, whatever the daemon says of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge.perception.letterbox import Letterbox
from edge.perception.model_file import ModelFile, parse_model_file, put_metadata
from protos.traffic_vision.v1 import common_pb2
from tools.bench.rounds import BenchError

BITS = 20
BLOCK_PX = 32  # of the frame's: large enough to survive the letterbox's scaling
_LOW, _MIDDLE = 7, 7  # bits of x1 and of y1; the rest are in x2
_FAR = 256.0  # input pixels: x2 and y2 of number 0, beyond any x1 and y1
_PREFIX = "bench/"


def burn(picture: npt.NDArray[np.uint8], number: int) -> None:
    """Write a number into the top edge of a picture, in place.

    Args:
        picture: `uint8[H, W, 3]`, at least `BITS * BLOCK_PX` wide and `BLOCK_PX` high.
        number: its lowest `BITS` bits are written, the lowest on the left.
    """
    bits = (number >> np.arange(BITS)) & 1
    row = np.repeat(np.where(bits, 255, 0).astype(np.uint8), BLOCK_PX)
    picture[:BLOCK_PX, : BITS * BLOCK_PX] = row[None, :, None]


def number_of(detections: Iterable[common_pb2.Detection], frame_hw: tuple[int, int], model: ModelFile) -> int:
    """The number that the model read from a frame.

    Args:
        detections: of that frame.
        frame_hw: height and width of the frame, pixels.
        model: made by `reading_model`.

    Raises:
        BenchError: the box is not among them.
    """
    box = Letterbox.between(frame_hw, model.input_hw)
    scale = box.resized_hw[1] / frame_hw[1]
    for found in detections:
        if found.score > 0.999:
            low, middle, far = (
                round(value * scale) for value in (found.x1_px, found.y1_px, found.x2_px - _FAR / scale)
            )
            return low | middle << _LOW | far << (_LOW + _MIDDLE)
    raise BenchError("a frame's number was not read: its box is missing")


def reading_model(model: ModelFile, frame_hw: tuple[int, int], path: Path) -> ModelFile:
    """Write the model with the reading nodes beside its graph; it has no golden frames, which know no number.

    Args:
        model: of either layout.
        frame_hw: height and width of the frames that it will see, pixels.
        path: where to.

    Raises:
        BenchError: the numbers do not fit into its input.
    """
    box = Letterbox.between(frame_hw, model.input_hw)
    scale = box.resized_hw[1] / frame_hw[1]
    widest = _FAR + (1 << (BITS - _LOW - _MIDDLE))
    if box.resized_hw[1] < widest or box.resized_hw[0] < _FAR:
        raise BenchError(f"an input of {model.input_hw[0]}x{model.input_hw[1]} is too small for the numbers")
    graph = onnx.load_from_string(model.data)
    centres = box.left + (np.arange(BITS) + 0.5) * BLOCK_PX * scale
    nodes, constants = _nodes(
        graph.graph.input[0].name,
        columns=np.round(centres).astype(np.int64),
        row=box.top + round(BLOCK_PX * scale / 2),
        offset=(box.left, box.top),
        raw=model.metadata.layout == "raw",
        classes=len(model.metadata.class_names),
        output=graph.graph.output[0].name,
    )
    for node in graph.graph.node:
        for place, name in enumerate(node.output):
            if name == graph.graph.output[0].name:
                node.output[place] = _PREFIX + "found"
        for place, name in enumerate(node.input):
            if name == graph.graph.output[0].name:
                node.input[place] = _PREFIX + "found"
    graph.graph.node.extend(nodes)
    graph.graph.initializer.extend(constants)
    axis = 2 if model.metadata.layout == "raw" else 1
    graph.graph.output[0].type.tensor_type.shape.dim[axis].dim_value += 1
    put_metadata(graph, replace(model.metadata, golden=()))
    data = graph.SerializeToString(deterministic=True)
    path.write_bytes(data)
    return parse_model_file(data, str(path), path)


def _nodes(
    source: str,
    *,
    columns: npt.NDArray[np.int64],
    row: int,
    offset: tuple[int, int],
    raw: bool,
    classes: int,
    output: str,
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(name: str, value: npt.ArrayLike, dtype: type = np.float32) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, dtype), _PREFIX + name))
        return _PREFIX + name

    def node(kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    # uint8[1, H, W, 3]: the strip's row, its blocks' middles, one channel.
    line = node("Gather", [source, constant("row", row, np.int64)], _PREFIX + "line", axis=1)
    middles = node("Gather", [line, constant("columns", columns, np.int64)], _PREFIX + "middles", axis=1)
    grey = node("Gather", [middles, constant("channel", 0, np.int64)], _PREFIX + "grey", axis=2)  # [1, BITS]
    level = node("Cast", [grey], _PREFIX + "level", to=TensorProto.FLOAT)
    bright = node("Greater", [level, constant("half", 127.5)], _PREFIX + "bright")
    bits = node("Cast", [bright], _PREFIX + "bits", to=TensorProto.FLOAT)
    # Corners x1, y1, x2, y2 are sums of bits; the layout makes centre and size of them.
    weights = np.zeros((BITS, 4), np.float32)
    for bit in range(BITS):
        place = 0 if bit < _LOW else 1 if bit < _LOW + _MIDDLE else 2
        weights[bit, place] = 1 << (bit - (0, _LOW, _LOW + _MIDDLE)[place])
    base = np.array([offset[0], offset[1], offset[0] + _FAR, offset[1] + _FAR], np.float32)
    if raw:
        to_centre = np.array([[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]], np.float32)
        weights, base = weights @ to_centre, base @ to_centre
        rest = [*[0.0] * (classes - 1), 1.0]
        shape = [1, 4 + classes, 1]
    else:
        rest, shape = [1.0, classes - 1.0], [1, 1, 6]
    product = node("MatMul", [bits, constant("weights", weights)], _PREFIX + "product")
    corners = node("Add", [product, constant("base", base)], _PREFIX + "corners")
    row_ = node("Concat", [corners, constant("rest", [rest])], _PREFIX + "row_of_number", axis=1)
    shaped = node("Reshape", [row_, constant("shape", shape, np.int64)], _PREFIX + "number")
    node("Concat", [_PREFIX + "found", shaped], output, axis=2 if raw else 1)
    return nodes, constants
