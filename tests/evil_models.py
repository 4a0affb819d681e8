"""Model files that mean harm: each well formed as ONNX, and made to take memory, time or files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge.perception.model_file import METADATA_KEY
from tests.models_factory import add_loop, rectangles_model

OUTPUT = "output0"


def changed(change: Callable[[onnx.ModelProto], object], **fields: Any) -> bytes:
    """A good model file, changed."""
    model = onnx.ModelProto()
    model.ParseFromString(rectangles_model(**fields))
    change(model)
    return model.SerializeToString(deterministic=True)


def constant(model: onnx.ModelProto, name: str, value: npt.ArrayLike, kind: Any = np.int64) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, kind), name))
    return name


def node(model: onnx.ModelProto, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
    model.graph.node.append(helper.make_node(kind, list(inputs), [output], **attributes))
    return output


def beside_the_output(model: onnx.ModelProto, harm: str) -> None:
    """Have a value made in each run, and the model find what it found."""
    node(model, "ReduceMax", [harm], "harm_most", keepdims=0)
    node(model, "Mul", ["harm_most", constant(model, "harm_nothing", 0, np.float32)], "harm_none")
    node(model, "Add", [OUTPUT, "harm_none"], "harmed")
    model.graph.output[0].name = "harmed"


def expanded(model: onnx.ModelProto, values: int = 5_000_000_000) -> None:
    """20 GB of one number."""
    node(model, "ReduceMax", [OUTPUT], "one", keepdims=0)
    shape = constant(model, "wide", [values])
    beside_the_output(model, node(model, "Expand", ["one", shape], "huge"))


def filled(model: onnx.ModelProto) -> None:
    shape = constant(model, "wide", [5_000_000_000])
    beside_the_output(model, node(model, "ConstantOfShape", [shape], "huge"))


def tiled(model: onnx.ModelProto) -> None:
    times = constant(model, "times", [1, 4_000, 5_000])
    beside_the_output(model, node(model, "Tile", [OUTPUT, times], "huge"))


def resized(model: onnx.ModelProto) -> None:
    """A picture of 20 GB."""
    node(model, "Unsqueeze", [OUTPUT, constant(model, "first", [0])], "four")
    sizes = constant(model, "sizes", [1, 1, 5_000_000, 1_000])
    beside_the_output(model, node(model, "Resize", ["four", "", "", sizes], "huge", mode="nearest"))


def slow(model: onnx.ModelProto, rounds: int = 400) -> None:
    """Hours of arithmetic on the 64 MB that a handful of bytes stands for."""
    shape = constant(model, "square", [4096, 4096])
    node(model, "ReduceMax", [OUTPUT], "one", keepdims=0)
    made = node(model, "Expand", ["one", shape], "matrix")
    for turn in range(rounds):
        made = node(model, "MatMul", [made, "matrix"], f"product{turn}")
    beside_the_output(model, made)


def by_the_picture(model: onnx.ModelProto) -> None:
    """Memory by how bright the picture is: nothing on golden frames, all of it on another."""
    node(model, "ReduceMax", [OUTPUT], "one", keepdims=0)
    node(model, "Cast", ["one"], "many", to=TensorProto.INT64)
    node(model, "Unsqueeze", ["many", constant(model, "first", [0])], "shape")
    beside_the_output(model, node(model, "Expand", ["one", "shape"], "huge"))


def where_it_is_bright(model: onnx.ModelProto) -> None:
    beside_the_output(model, node(model, "NonZero", [OUTPUT], "bright"))


def elsewhere(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def branching(model: onnx.ModelProto) -> None:
    branch = helper.make_graph([helper.make_node("Identity", [OUTPUT], ["b"])], "branch", [], [])
    node(model, "If", ["coloured"], "chosen", then_branch=branch, else_branch=branch)


def calling_itself(model: onnx.ModelProto) -> None:
    function = model.functions.add(name="Again", domain="local")
    function.input.append("x")
    function.output.append("y")
    function.node.append(helper.make_node("Again", ["x"], ["y"], domain="local"))
    model.opset_import.add(domain="local", version=1)
    node(model, "Again", [OUTPUT], "again", domain="local")


def of_a_domain(model: onnx.ModelProto) -> None:
    node(model, "Shell", [OUTPUT], "pwned", domain="com.evil")


def of_a_contributed_kind(model: onnx.ModelProto) -> None:
    node(model, "Tokenizer", [OUTPUT], "tokens", domain="com.microsoft")


def in_a_circle(model: onnx.ModelProto) -> None:
    node(model, "Add", [OUTPUT, "back"], "forth")
    node(model, "Identity", ["forth"], "back")


def larger_than_told(model: onnx.ModelProto) -> None:
    model.graph.initializer.add(name="lie", data_type=TensorProto.FLOAT, dims=[1 << 40], raw_data=b"\0" * 4)


def sparse(model: onnx.ModelProto) -> None:
    """One number in a matrix of four terabytes."""
    tensor = model.graph.sparse_initializer.add(dims=[1 << 20, 1 << 20])
    tensor.values.CopyFrom(helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0]))
    tensor.indices.CopyFrom(helper.make_tensor("at", TensorProto.INT64, [1], [0]))


def loop(model: onnx.ModelProto) -> None:
    add_loop(model, rounds=2**62)


# What is refused by looking at it alone, with words of its reason.
REFUSED_BY_RULE: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "external data": (elsewhere, "holds all its data itself"),
    "endless loop": (loop, "its graph loops (Loop)"),
    "branch": (branching, "operator If is none that a detector needs"),
    "function that calls itself": (calling_itself, "it defines functions"),
    "custom operator": (of_a_domain, "operator com.evil.Shell is none"),
    "contributed operator": (of_a_contributed_kind, "operator com.microsoft.Tokenizer is none"),
    "circle": (in_a_circle, "wait for each other in a circle"),
    "memory by the picture": (by_the_picture, "operator Expand takes a shape that follows from the picture"),
    "shape by the picture": (where_it_is_bright, "operator NonZero is none"),
    "tensor that lies": (larger_than_told, "tensor 'lie' declares shape [1099511627776] and holds 4 bytes"),
    "sparse tensor": (sparse, "sparse tensors"),
}
# What is refused by what it takes in the child.
REFUSED_BY_LIMIT: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "huge Expand": (expanded, "it takes more than"),
    "huge ConstantOfShape": (filled, "it takes more than"),
    "huge Tile": (tiled, "it takes more than"),
    "giant Resize": (resized, "it takes more than"),
}


def nested(depth: int = 5_000) -> bytes:
    """Messages in each other: graphs in attributes of operators of graphs."""
    data = b""
    for _ in range(depth):
        for tag in (0x32, 0x2A, 0x0A):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            data = bytes([tag]) + _length(len(data)) + data
    return b"\x3a" + _length(len(data)) + data  # ModelProto.graph


def many_nodes(count: int = 20_000_000) -> bytes:
    """Two bytes for each empty operator, a hundred of memory."""
    return b"\x3a" + _length(2 * count) + b"\x0a\x00" * count


def widened(count: int = 100_000_000) -> bytes:
    """A list of numbers, one byte each here and eight in memory."""
    tensor = b"\x3a" + _length(count) + bytes(count)  # TensorProto.int64_data
    graph = b"\x2a" + _length(len(tensor)) + tensor  # GraphProto.initializer
    return b"\x3a" + _length(len(graph)) + graph


def with_document(document: str) -> bytes:
    """A good model file with another document for metadata."""

    def put(model: onnx.ModelProto) -> None:
        (entry,) = (entry for entry in model.metadata_props if entry.key == METADATA_KEY)
        entry.value = document

    return changed(put)


def document(**fields: Any) -> str:
    """The document of a good model file, with these fields."""
    model = onnx.ModelProto()
    model.ParseFromString(rectangles_model())
    (entry,) = (entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    return json.dumps({**json.loads(entry.value), **fields})


def _length(value: int) -> bytes:
    out = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)
