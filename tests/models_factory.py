"""Tiny ONNX detectors, built node by node, and pictures that they can be asked about.

`rectangles_*`: finds the bounding box of all saturated pixels of each colour: class 0 blue, 1 green, 2 red.
In the raw layout every box comes twice, the second one pixel to the side and lower-scored: work for the
suppression.
`constant_*`: the same output for any picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge.perception.metadata import EmbeddingSpec, GoldenFrame, ModelMetadata, from_json
from edge.perception.model_file import METADATA_KEY, ModelFile, parse_model_file, put_metadata

NAMES = ("blue", "green", "red")
BGR = {"blue": (255, 0, 0), "green": (0, 255, 0), "red": (0, 0, 255)}
SCORE = 0.9
OPSET = 17
IR_VERSION = 8


def picture(
    hw: tuple[int, int], *rectangles: tuple[int, int, int, int, str], grey: int = 40
) -> npt.NDArray[np.uint8]:
    """A grey `uint8[H, W, 3]` BGR picture with filled rectangles (x1, y1, x2, y2, colour name)."""
    image = np.full((*hw, 3), grey, np.uint8)
    for x1, y1, x2, y2, colour in rectangles:
        image[y1:y2, x1:x2] = BGR[colour]
    return image


def jpeg(image: npt.NDArray[np.uint8]) -> bytes:
    """Encode, with the colours kept at full resolution so that rectangles keep their edges."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
    return cv2.imencode(".jpg", image, options)[1].tobytes()


def metadata(**fields: Any) -> ModelMetadata:
    """Metadata of a rectangle finder; fields override."""
    base = ModelMetadata(name="rectangles", version="1", layout="raw", class_names=NAMES, created_by="tests")
    return replace(base, **fields)


def rectangles_export(
    hw: tuple[int, int] = (64, 96),
    layout: str = "raw",
    dtype: type[np.floating[Any]] = np.float32,
    dynamic: bool = False,
    names: Sequence[str] | None = NAMES,
    **props: str,
) -> onnx.ModelProto:
    """As Ultralytics exports: `images` float[1, 3, H, W], RGB in 0..1, names as a Python dict.

    Args:
        hw: the input's height and width.
        layout: `raw` gives `[1, 7, 6]`, `nms_free` gives `[1, 3, 6]`.
        dtype: of input and output, float32 or float16.
        dynamic: leave batch, height and width open.
        names: class names for the metadata, None for none.
        props: further metadata entries.
    """
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes, initializers = _rectangle_nodes("images", hw, layout, np.dtype(dtype))
    shape: list[int | str] = ["batch", 3, "height", "width"] if dynamic else [1, 3, *hw]
    output: list[int | str] = [1, 7, 6] if layout == "raw" else [1, 3, 6]
    model = _model(
        nodes,
        initializers,
        helper.make_tensor_value_info("images", element, shape),
        helper.make_tensor_value_info("output0", element, ["batch", "a", "b"] if dynamic else output),
    )
    entries = {"task": "detect", "stride": "32", **props}
    if names is not None:
        entries["names"] = repr(dict(enumerate(names)))
    helper.set_model_props(model, entries)
    return model


def rectangles_model(hw: tuple[int, int] = (64, 96), layout: str = "raw", **fields: Any) -> bytes:
    """A model file that finds rectangles: input `uint8[1, H, W, 3]` BGR.

    Args:
        hw: the input's height and width.
        layout: `raw` or `nms_free`.
        fields: metadata fields; `golden` is one picture with a red and a blue rectangle unless given.
    """
    nodes, initializers = _rectangle_nodes("scaled", hw, layout, np.dtype(np.float32))
    fields.setdefault("golden", (golden_frame(hw),))
    return _file(nodes, initializers, hw, [1, 7, 6] if layout == "raw" else [1, 3, 6], layout, fields)


def with_embedding(
    data: bytes,
    matrix: npt.ArrayLike,
    spec: EmbeddingSpec | None = None,
) -> bytes:
    """A model file of this module with a second output: the mean red, green and blue, times a matrix.

    Args:
        data: the model file.
        matrix: `[3, k]`; the means are in 0..1.
        spec: what the metadata declares; as it is unless given.
    """
    model = onnx.load_model_from_string(data)
    values = np.asarray(matrix, np.float32)
    model.graph.node.extend(
        (
            helper.make_node("GlobalAveragePool", ["scaled"], ["mean_colour"]),
            helper.make_node("Flatten", ["mean_colour"], ["colour_row"]),
            helper.make_node("MatMul", ["colour_row", "axes"], ["embedding"]),
        )
    )
    model.graph.initializer.append(numpy_helper.from_array(values, "axes"))
    shape = [1, values.shape[1]]
    model.graph.output.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, shape))
    declared = EmbeddingSpec("embedding", values.shape[1]) if spec is None else spec
    entry = next(entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    put_metadata(model, replace(from_json(entry.value), embedding=declared))
    return model.SerializeToString(deterministic=True)


def golden_frame(hw: tuple[int, int] = (64, 96)) -> GoldenFrame:
    """What the rectangle finder must find on a picture of its input's size."""
    height, width = hw
    red = (width // 8, height // 8, width // 2, height // 2, "red")
    blue = (width // 2 + 4, height // 2 + 4, width - 8, height - 8, "blue")
    expected = [[*red[:4], SCORE, 2], [*blue[:4], SCORE, 0]]
    return GoldenFrame(jpeg(picture(hw, red, blue)), np.array(expected, np.float32))


def constant_model(
    rows: npt.ArrayLike, hw: tuple[int, int] = (64, 96), layout: str = "raw", **fields: Any
) -> bytes:
    """A model file that gives the same whatever it sees.

    Args:
        rows: `raw`: [n, 4 + classes] with cx, cy, w, h, scores; `nms_free`: [n, 6]. Input pixels.
        hw: the input's height and width.
        layout: `raw` or `nms_free`.
        fields: metadata fields; class names `c0`, `c1`... as many as the rows have unless given.
    """
    values = np.asarray(rows, np.float32)
    out = (values.T if layout == "raw" else values)[None]
    classes = values.shape[1] - 4 if layout == "raw" else 3
    fields.setdefault("class_names", tuple(f"c{index}" for index in range(classes)))
    nodes = [helper.make_node("Add", ["constant", "nothing"], ["output0"])]
    # The picture enters with weight 0, so that the whole graph runs; non-finite constants stay what they are.
    nodes = [
        helper.make_node("ReduceMax", ["scaled"], ["brightest"], keepdims=0),
        helper.make_node("Mul", ["brightest", "zero"], ["nothing"]),
        *nodes,
    ]
    initializers = [
        numpy_helper.from_array(np.ascontiguousarray(out), "constant"),
        numpy_helper.from_array(np.float32(0), "zero"),
    ]
    return _file(nodes, initializers, hw, list(out.shape), layout, fields)


def constant_export(
    *outputs: npt.ArrayLike, hw: tuple[int, int] = (64, 96), names: Sequence[str] | None = NAMES, **props: str
) -> onnx.ModelProto:
    """An export that gives the same whatever it sees.

    Args:
        outputs: the value of each output, in whatever layout it is to show.
        hw: the input's height and width.
        names: class names for the metadata, None for none.
        props: further metadata entries.
    """
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["brightest"], keepdims=0),
        helper.make_node("Mul", ["brightest", "zero"], ["nothing"]),
    ]
    initializers = [numpy_helper.from_array(np.float32(0), "zero")]
    values = []
    for index, output in enumerate(np.asarray(output, np.float32) for output in outputs):
        initializers.append(numpy_helper.from_array(output, f"constant{index}"))
        nodes.append(helper.make_node("Add", [f"constant{index}", "nothing"], [f"output{index}"]))
        values.append(helper.make_tensor_value_info(f"output{index}", TensorProto.FLOAT, output.shape))
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *hw])
    model = _model(nodes, initializers, images, *values)
    entries = dict(props)
    if names is not None:
        entries["names"] = repr(dict(enumerate(names)))
    helper.set_model_props(model, entries)
    return model


def add_loop(model: onnx.ModelProto, rounds: int) -> None:
    """Put a loop of so many rounds, which changes nothing, in front of the model's output."""
    graph = model.graph
    body = helper.make_graph(
        [helper.make_node("Identity", [end], [f"{end}_next"]) for end in ("again", "carried")],
        "round",
        [
            helper.make_tensor_value_info("index", TensorProto.INT64, []),
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("again_next", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried_next", TensorProto.FLOAT, None),
        ],
    )
    graph.initializer.append(numpy_helper.from_array(np.array(rounds, np.int64), "rounds"))
    graph.initializer.append(numpy_helper.from_array(np.array(True), "go"))
    output = graph.output[0].name
    graph.node.append(helper.make_node("Loop", ["rounds", "go", output], ["looped"], body=body))
    graph.output[0].name = "looped"


def loaded(data: bytes) -> ModelFile:
    """Parse what this module made."""
    return parse_model_file(data, "made by tests")


def _file(
    nodes: list[onnx.NodeProto],
    initializers: list[onnx.TensorProto],
    hw: tuple[int, int],
    output_shape: list[int],
    layout: str,
    fields: dict[str, Any],
) -> bytes:
    prefix = [
        helper.make_node("Cast", ["image"], ["float_image"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float_image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Gather", ["planes", "rgb"], ["rgb_planes"], axis=1),
        helper.make_node("Div", ["rgb_planes", "full_scale"], ["scaled"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([2, 1, 0], np.int64), "rgb"),
        numpy_helper.from_array(np.float32(255), "full_scale"),
    ]
    model = _model(
        [*prefix, *nodes],
        [*constants, *initializers],
        helper.make_tensor_value_info("image", TensorProto.UINT8, [1, *hw, 3]),
        helper.make_tensor_value_info("output0", TensorProto.FLOAT, output_shape),
    )
    put_metadata(model, metadata(layout=layout, **fields))
    return model.SerializeToString(deterministic=True)


def _model(
    nodes: list[onnx.NodeProto],
    initializers: list[onnx.TensorProto],
    graph_input: onnx.ValueInfoProto,
    *graph_outputs: onnx.ValueInfoProto,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "rectangles", [graph_input], list(graph_outputs), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def _rectangle_nodes(
    source: str, hw: tuple[int, int], layout: str, dtype: np.dtype[Any]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """From `[1, 3, H, W]` RGB in 0..1 to `output0`."""
    height, width = hw
    nodes: list[onnx.NodeProto] = []
    initializers: list[onnx.TensorProto] = []

    def constant(name: str, value: npt.ArrayLike, kind: Any = dtype) -> str:
        initializers.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    # A pixel has a colour when that plane is bright and the other two are dark: 2 c - (r + g + b) > .5.
    total = node("ReduceSum", [source, constant("channels", [1], np.int64)], "total", keepdims=1)
    twice = node("Mul", [source, constant("two", 2)], "twice")
    purity = node("Sub", [twice, total], "purity")
    coloured = node("Greater", [purity, constant("half", 0.5)], "coloured")
    mask = node("Cast", [coloured], "mask", to=helper.np_dtype_to_tensor_dtype(dtype))  # [1, 3, H, W]
    mask = node("Gather", [mask, constant("blue_first", [2, 1, 0], np.int64)], "classes", axis=1)
    corners = {}
    for axis, side, across in (("x", width, 2), ("y", height, 3)):
        line = node("ReduceMax", [mask], f"line_{axis}", axes=[across], keepdims=0)  # [1, 3, side]
        found = node("Greater", [line, "half"], f"found_{axis}")
        starts = constant(f"starts_{axis}", np.arange(side))
        ends = constant(f"ends_{axis}", np.arange(side) + 1)
        first = node("Where", [found, starts, constant(f"far_{axis}", side)], f"firsts_{axis}")
        last = node("Where", [found, ends, constant(f"near_{axis}", 0)], f"lasts_{axis}")
        corners[axis] = (
            node("ReduceMin", [first], f"{axis}1", axes=[2], keepdims=1),  # [1, 3, 1]
            node("ReduceMax", [last], f"{axis}2", axes=[2], keepdims=1),
        )
    seen = node("ReduceMax", [mask], "seen", axes=[2, 3], keepdims=0)  # [1, 3]
    score = node("Mul", [seen, constant("score", SCORE)], "scores")
    column = node("Unsqueeze", [score, constant("last", [2], np.int64)], "score_column")  # [1, 3, 1]
    if layout == "nms_free":
        classes = constant("class_column", np.arange(3).reshape(1, 3, 1))
        (x1, x2), (y1, y2) = corners["x"], corners["y"]
        node("Concat", [x1, y1, x2, y2, column, classes], "output0", axis=2)
        return nodes, initializers
    parts = []
    for axis in "xy":
        low, high = corners[axis]
        parts.append(node("Mul", [node("Add", [low, high], f"sum_{axis}"), "half"], f"centre_{axis}"))
    parts += [node("Sub", [corners[axis][1], corners[axis][0]], f"extent_{axis}") for axis in "xy"]
    own_class = node(
        "Mul", [column, constant("diagonal", np.eye(3).reshape(1, 3, 3))], "own_class"
    )  # [1, 3, 3]
    rows = node("Concat", [*parts, own_class], "rows", axis=2)  # [1, 3, 7]
    shift = constant("shift", [1, 0, 0, 0, 0, 0, 0])
    lower = node("Mul", [rows, constant("lower", [1, 1, 1, 1, 0.8, 0.8, 0.8])], "lower_rows")
    again = node("Add", [lower, shift], "again")
    node("Transpose", [node("Concat", [rows, again], "all_rows", axis=1)], "output0", perm=[0, 2, 1])
    return nodes, initializers
