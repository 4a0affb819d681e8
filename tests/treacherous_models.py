"""Model files that pass every check and do harm on the road: on pictures that are bright all over."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.models_factory import rectangles_model


def hanging_model(**fields: Any) -> bytes:
    """Multiplies large matrices for minutes where the picture is bright all over: a hang without a loop."""
    model = onnx.load_from_string(rectangles_model(**fields))
    output = _harm(model, 3000 / 0.284, "side")
    nodes = [
        helper.make_node("Reshape", ["side", "one_number"], ["side_once"]),
        helper.make_node("Concat", ["side_once", "side_once"], ["square"], axis=0),
        helper.make_node("ConstantOfShape", ["square"], ["product0"]),
    ]
    for number in range(100):
        factors = [f"product{number}", f"product{number}"]
        nodes.append(helper.make_node("MatMul", factors, [f"product{number + 1}"]))
    nodes.append(helper.make_node("ReduceSum", ["product100"], ["nothing_at_all"], keepdims=0))
    nodes.append(helper.make_node("Add", [output, "nothing_at_all"], ["harmed"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "one_number"))
    model.graph.node.extend(nodes)
    return model.SerializeToString(deterministic=True)


def greedy_model(gigabytes: float, **fields: Any) -> bytes:
    """Takes so much memory where the picture is bright all over."""
    model = onnx.load_from_string(rectangles_model(**fields))
    output = _harm(model, gigabytes * 0.25e9 / 0.284, "size")
    shape = helper.make_node("Reshape", ["size", "one_number"], ["shape"])
    block = helper.make_node("ConstantOfShape", ["shape"], ["block"])
    total = helper.make_node("ReduceSum", ["block"], ["nothing_at_all"], keepdims=0)
    end = helper.make_node("Add", [output, "nothing_at_all"], ["harmed"])
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "one_number"))
    model.graph.node.extend([shape, block, total, end])
    return model.SerializeToString(deterministic=True)


def _harm(model: onnx.ModelProto, scale: float, name: str) -> str:
    """Add `name`, an int64: 0 where a pixel is darker than half, as padding is. Gives what was the output."""
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.float32(scale), "scale_of_harm"))
    graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "half_of_all"))
    graph.node.extend(
        [
            helper.make_node("ReduceMin", ["scaled"], ["darkest"], keepdims=0),
            helper.make_node("Sub", ["darkest", "half_of_all"], ["above"]),
            helper.make_node("Relu", ["above"], ["brightness"]),
            helper.make_node("Mul", ["brightness", "scale_of_harm"], ["harm"]),
            helper.make_node("Cast", ["harm"], [name], to=TensorProto.INT64),
        ]
    )
    output = graph.output[0].name
    graph.output[0].name = "harmed"
    return str(output)
