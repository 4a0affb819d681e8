"""Model files that keep the rules for graphs and do harm when they are loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.models_factory import rectangles_model


def greedy_model(gigabytes: float, **fields: Any) -> bytes:
    """Takes so much memory, of a shape that a constant gives, and finds what it should."""
    model = onnx.load_from_string(rectangles_model(**fields))
    graph = model.graph
    output = graph.output[0].name
    graph.output[0].name = "harmed"
    size = np.array([round(gigabytes * 0.25e9)], np.int64)
    graph.initializer.append(numpy_helper.from_array(size, "size"))
    block = helper.make_node("ConstantOfShape", ["size"], ["block"])
    total = helper.make_node("ReduceSum", ["block"], ["nothing_at_all"], keepdims=0)
    end = helper.make_node("Add", [output, "nothing_at_all"], ["harmed"])
    graph.node.extend([block, total, end])
    return model.SerializeToString(deterministic=True)
