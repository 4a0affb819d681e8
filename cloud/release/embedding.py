"""The model's embedding: a second output that says what the model makes of a picture as a whole.

The last map of the backbone, averaged over the picture (global average pooling, Lin, Chen & Yan 2013), is
what a detector knows of a picture before it looks for objects; a shift of the world shows in how it is
distributed (Rabanser, Guennemann & Lipton 2019, who reduce it likewise before they test). Of its hundreds of
numbers a few are kept, along the directions in which the training pictures differ most: the first principal
axes (Pearson 1901), each in its standard deviations. The axes are constants in the graph, so that they are
frozen before the file is judged, and the output costs a mean over one small map.

The map is that of the last convolution of the spatial pyramid pooling (He et al. 2014), with which the
backbone of Ultralytics' detectors ends: found by its structure, since names do not survive every tool.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edge.perception.letterbox import Letterbox
from edge.perception.metadata import EmbeddingSpec

SIZE = 4  # axes
OUTPUT = "embedding"
MOST_PICTURES = 128  # evenly spaced where there are more
LEAST_PICTURES = 32  # fewer say little about the directions in which pictures differ

_PREFIX = "traffic_vision/embedding/"  # of the names that are added to the graph
_LEAST_SPREAD = 1e-4  # of the first axis' spread: a direction with less is rounding
_STEPS = 16  # from the pyramid to the end of its last convolution, quantised
_LEAST_POOLS = 2

# They change how numbers are written, not what they say.
_RECODING = frozenset(("Cast", "DequantizeLinear", "DynamicQuantizeLinear", "Identity", "QuantizeLinear"))
_ACTIVATIONS = frozenset(
    (
        "Clip",
        "Elu",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Mish",
        "PRelu",
        "Relu",
        "Selu",
        "Sigmoid",
    )
)
_CONVOLUTIONS = frozenset(("Conv", "ConvInteger"))
_AFTER_INTEGERS = frozenset(("Cast", "Mul", "Add"))  # ConvInteger gives integers: its scale and bias follow
_INTEGERS = frozenset(("ConvInteger", "DynamicQuantizeLinear", "QuantizeLinear"))


@dataclass(frozen=True, slots=True, eq=False)
class Axes:
    """Where a pooled map lies among those of the training pictures: `pooled @ matrix + offset`.

    Attributes:
        matrix: `float32[channels, k]`.
        offset: `float32[k]`.
    """

    matrix: npt.NDArray[np.float32]
    offset: npt.NDArray[np.float32]


def add_embedding(
    model: onnx.ModelProto, pictures: Sequence[Path], size: int = SIZE
) -> tuple[EmbeddingSpec | None, str]:
    """Give a graph that takes frames a second output, `float32[1, k]`.

    Args:
        model: takes `uint8[1, H, W, 3]` BGR, gives detections; changed, unless there is no embedding.
        pictures: that the model was trained on; what cannot be read is left out.
        size: how many axes are wanted; there are fewer where the pictures differ in fewer.

    Returns:
        What the metadata is to declare, or None and why the graph has none, in words.
    """
    name = find_map(model)
    if name is None:
        return None, "no map was found that ends the backbone with a spatial pyramid pooling"
    if any(OUTPUT in (*node.input, *node.output) for node in model.graph.node):
        return None, f"something in the graph is called '{OUTPUT}' already"
    chosen = list(_images(_spaced(pictures)))
    if len(chosen) < LEAST_PICTURES:
        return None, f"{len(chosen)} pictures of its training are at hand, {LEAST_PICTURES} are needed"
    try:
        pooled = pooled_maps(model, name, chosen)
    except Exception as error:  # noqa: BLE001  boundary: ONNX Runtime's errors share no root
        return None, f"the map '{name}' cannot be averaged: {' '.join(str(error).split())[:200]}"
    axes = fit_axes(pooled, size)
    if axes is None:
        return None, f"its map '{name}' is the same for all {len(pooled)} pictures, or not finite"
    _put_axes(model, name, axes)
    return EmbeddingSpec(OUTPUT, len(axes.offset)), ""


def find_map(model: onnx.ModelProto) -> str | None:
    """Name the map that ends the backbone: of the convolution behind the pyramid, after its activation.

    The pyramid is a concatenation of what it pools with maxima of stride 1 over two windows or more, one
    behind the other (SPPF) or side by side (SPP). None where there is none, or more than one.
    """
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output if name}
    takers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            takers.setdefault(name, []).append(node)
    pyramids = [node for node in graph.node if node.op_type == "Concat" and _is_pyramid(node, makers)]
    if len(pyramids) != 1:
        return None
    return _behind(pyramids[0].output[0], takers)


def fit_axes(pooled: npt.NDArray[np.floating[Any]], size: int = SIZE) -> Axes | None:
    """Fit the first principal axes, each scaled to a standard deviation of 1 and pointed one way.

    An axis points to the side of its largest component, its sign means nothing (Bro, Acar & Kolda 2008).

    Args:
        pooled: `float[pictures, channels]`.
        size: axes at most.

    Returns:
        None where the pictures do not differ, or something is not finite.
    """
    values = np.asarray(pooled, np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    mean = values.mean(axis=0)
    _, spreads, rows = np.linalg.svd(values - mean, full_matrices=False)
    rounding = np.finfo(np.float32).eps * np.abs(values).max() * len(values) ** 0.5
    there = (spreads > _LEAST_SPREAD * spreads[0]) & (spreads > rounding)
    count = min(size, int(there.sum()))
    if not count:
        return None
    rows = rows[:count]
    largest = np.abs(rows).argmax(axis=1)
    rows *= np.sign(rows[np.arange(count), largest])[:, None]
    matrix = rows.T / (spreads[:count] / (len(values) - 1) ** 0.5)
    return Axes(matrix.astype(np.float32), (-mean @ matrix).astype(np.float32))


def pooled_maps(
    model: onnx.ModelProto, name: str, images: Sequence[npt.NDArray[np.uint8]]
) -> npt.NDArray[np.float32]:
    """Average a map over each of the pictures: `float32[pictures, channels]`.

    Args:
        model: takes `uint8[1, H, W, 3]` BGR.
        name: of the map in its graph, `[1, channels, h, w]`.
        images: `uint8[H, W, 3]`, BGR, of any size.

    Raises:
        ValueError: the map is no such map.
    """
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    pooled = _put_pooling(probe.graph, name)
    del probe.graph.output[:]
    probe.graph.output.append(helper.make_tensor_value_info(pooled, TensorProto.FLOAT, None))
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), settings, providers=["CPUExecutionProvider"], enable_fallback=0
    )
    frame = session.get_inputs()[0]
    buffer = np.empty(frame.shape, np.uint8)
    found = []
    for image in images:
        Letterbox.between(image.shape[:2], buffer.shape[1:3]).apply(image, buffer[0])
        values = session.run(None, {frame.name: buffer})[0]
        if values.ndim != 2 or len(values) != 1:
            raise ValueError(f"its mean is {list(values.shape)}, expected [1, channels]")
        found.append(values[0])
    return np.array(found, np.float32)


def _is_pyramid(concat: NodeProto, makers: dict[str, NodeProto]) -> bool:
    pools = 0
    for name in concat.input:
        node = makers.get(name)
        while node is not None and node.op_type in _RECODING:
            node = makers.get(node.input[0])
        pools += node is not None and node.op_type == "MaxPool" and _keeps_size(node)
    return pools >= _LEAST_POOLS


def _keeps_size(pool: NodeProto) -> bool:
    strides = [list(attribute.ints) for attribute in pool.attribute if attribute.name == "strides"]
    return not strides or set(strides[0]) == {1}


def _behind(name: str, takers: dict[str, list[NodeProto]]) -> str | None:
    """Follow the pyramid's output through its convolution, a scale and a bias of integers, an activation."""
    convolved = integers = False
    for _ in range(_STEPS):
        following = takers.get(name, [])
        gate = _gated(name, following, takers)
        if convolved and gate is not None:
            return gate
        if len(following) != 1:
            return name if convolved and not integers else None
        node = following[0]
        if node.op_type in _CONVOLUTIONS and not convolved:
            convolved = True
        elif convolved and node.op_type in _ACTIVATIONS:
            return str(node.output[0])
        elif node.op_type not in _RECODING and not (integers and node.op_type in _AFTER_INTEGERS):
            return name if convolved and not integers else None
        # Of integers until their bias was added, or they were written as floats again.
        if node.op_type in _INTEGERS:
            integers = True
        elif node.op_type in ("Add", "Conv", "DequantizeLinear"):
            integers = False
        name = str(node.output[0])
    return None


def _gated(name: str, following: Sequence[NodeProto], takers: dict[str, list[NodeProto]]) -> str | None:
    """Name what a SiLU of two operators gives, x * sigmoid(x); quantised, its halves are recoded between."""
    gates = [node for node in following if node.op_type == "Sigmoid"]
    if len(gates) != 1:
        return None
    gated = str(gates[0].output[0])
    while len(takers.get(gated, [])) == 1 and takers[gated][0].op_type in _RECODING:
        gated = str(takers[gated][0].output[0])
    products = [node for node in takers.get(gated, []) if node.op_type == "Mul" and name in node.input]
    return str(products[0].output[0]) if len(products) == 1 else None


def _put_axes(model: onnx.ModelProto, name: str, axes: Axes) -> None:
    graph = model.graph
    pooled = _put_pooling(graph, name)
    matrix, offset = _PREFIX + "matrix", _PREFIX + "offset"
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(axes.matrix), matrix))
    graph.initializer.append(numpy_helper.from_array(axes.offset, offset))
    graph.node.append(helper.make_node("Gemm", [pooled, matrix, offset], [OUTPUT], name=_PREFIX + "Gemm"))
    shape = [1, len(axes.offset)]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape))


def _put_pooling(graph: onnx.GraphProto, name: str) -> str:
    floats, mean, pooled = (_PREFIX + part for part in ("floats", "mean", "pooled"))
    graph.node.extend(
        (
            # Of an export in half precision; else it is nothing, and left out when the graph is loaded.
            helper.make_node("Cast", [name], [floats], name=_PREFIX + "Cast", to=TensorProto.FLOAT),
            helper.make_node("GlobalAveragePool", [floats], [mean], name=_PREFIX + "GlobalAveragePool"),
            helper.make_node("Flatten", [mean], [pooled], name=_PREFIX + "Flatten", axis=1),
        )
    )
    return pooled


def _spaced(pictures: Sequence[Path]) -> list[Path]:
    count = min(len(pictures), MOST_PICTURES)
    return [pictures[index * len(pictures) // count] for index in range(count)]


def _images(paths: Sequence[Path]) -> Iterator[npt.NDArray[np.uint8]]:
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is not None:
            yield np.asarray(image, np.uint8)
