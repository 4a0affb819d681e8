"""What a graph may consist of, whoever signed it: named operators, whose shapes no picture decides.

Three rules, beside those of the model file:
- only operators that detectors are made of, in one flat graph. Without loops, branches and functions, a run
  does each operator once, so that it ends;
- the shape of every value follows from constants and shapes alone, never from what is on the picture. So the
  one run in the child that checks a model takes the memory that every later run takes: no picture, chosen by
  whoever made the model, makes it ask for more;
- every tensor holds just the data that it declares.

The list comes from exports of Ultralytics 8.4 (YOLOv5 to 12, RT-DETR) with operator sets 17 to 20, plain, in
fp16, and quantised by ONNX Runtime (dynamic, QDQ and QOperator), and the activations and norms of other
detectors; semantics: https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping

import onnx
from onnx import AttributeProto, NodeProto, TensorProto

from edge.errors import TrafficVisionError
from edge.perception.onnx_reading import messages

MAX_NODES = 20_000
MAX_TENSORS = 40_000
MAX_RANK = 8
STANDARD = ("", "ai.onnx")
CONTRIBUTED = "com.microsoft"  # ONNX Runtime's own; of these, what its quantisation writes

# Shapes come from the inputs' shapes and from attributes.
_PLAIN = """
Abs Add And ArgMax ArgMin Atan AveragePool BatchNormalization Cast CastLike Ceil Clip Concat Constant Conv
ConvInteger ConvTranspose Cos CumSum DepthToSpace DequantizeLinear Div DynamicQuantizeLinear Einsum Elu Equal
Erf Exp Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater
GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization
LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization MatMul MatMulInteger Max MaxPool
Mean Min Mish Mod Mul Neg Not Or PRelu Pow QLinearConv QLinearMatMul QuantizeLinear Reciprocal Relu Round
ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Size Softmax Softplus Softsign SpaceToDepth Sqrt Sub Sum
Tan Tanh Transpose Trilu Where Xor
"""
_REDUCING = """
ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
"""
_CONTRIBUTED = """
DequantizeLinear QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearGlobalAveragePool QLinearLeakyRelu
QLinearMul QLinearSigmoid QLinearSoftmax QLinearWhere QuantizeLinear
"""
# The numbers of the inputs whose values decide a shape.
_SHAPED = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
    **dict.fromkeys(_REDUCING.split(), (1,)),
}
OPERATORS: Mapping[str, tuple[int, ...]] = {**dict.fromkeys(_PLAIN.split(), ()), **_SHAPED}
CONTRIBUTED_OPERATORS = frozenset(_CONTRIBUTED.split())
_SHAPES_ALONE = frozenset(("Shape", "Size"))  # their output is the same for every picture
_ATTRIBUTES = frozenset(
    (
        AttributeProto.FLOAT,
        AttributeProto.FLOATS,
        AttributeProto.INT,
        AttributeProto.INTS,
        AttributeProto.STRING,
        AttributeProto.STRINGS,
        AttributeProto.TENSOR,
    )
)
_BITS: dict[int, int] = {
    **dict.fromkeys((TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT32), 32),
    **dict.fromkeys((TensorProto.DOUBLE, TensorProto.INT64, TensorProto.UINT64), 64),
    **dict.fromkeys((TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT16, TensorProto.UINT16), 16),
    **dict.fromkeys((TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL), 8),
    **dict.fromkeys((TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2), 8),
    **dict.fromkeys((TensorProto.INT4, TensorProto.UINT4), 4),
}
_LISTS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


class GraphError(TrafficVisionError):
    """A graph that is not run; the message names the operator or the tensor."""


def check_graph(model: onnx.ModelProto) -> None:
    """Hold a model's graph against the rules; tensors in other files are looked for elsewhere.

    Raises:
        GraphError: with the first rule that it breaks.
    """
    if model.functions:
        raise GraphError(f"it defines functions ('{_shown(model.functions[0].name)}'): export it anew")
    if model.training_info:
        raise GraphError("it holds a training graph: export it for inference")
    if model.graph.sparse_initializer:
        raise GraphError("it holds sparse tensors, which no detector's export does")
    if len(model.graph.node) > MAX_NODES:
        raise GraphError(f"{len(model.graph.node)} operators, at most {MAX_NODES} are run")
    for node in model.graph.node:
        _check_operator(node)
    _check_tensors(model)
    _check_shapes_stand(model.graph)


def _check_operator(node: NodeProto) -> None:
    known = (
        node.op_type in OPERATORS
        if node.domain in STANDARD
        else node.domain == CONTRIBUTED and node.op_type in CONTRIBUTED_OPERATORS
    )
    if not known:
        named = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        raise GraphError(f"operator {_shown(named)} is none that a detector needs: export it anew")
    if node.overload:
        raise GraphError(f"operator {node.op_type} has an overload, so it is a function")
    for attribute in node.attribute:
        if attribute.type not in _ATTRIBUTES or attribute.HasField("g") or attribute.graphs:
            raise GraphError(f"operator {node.op_type} holds a graph or another type that none needs")
        if attribute.ref_attr_name:
            raise GraphError(f"operator {node.op_type} refers to a function's attribute")


def _check_tensors(model: onnx.ModelProto) -> None:
    for count, tensor in enumerate(messages(model, TensorProto)):
        if count >= MAX_TENSORS:
            raise GraphError(f"more than {MAX_TENSORS} tensors")
        name = _shown(tensor.name)
        bits = _BITS.get(tensor.data_type)
        if bits is None:
            raise GraphError(f"tensor '{name}' is of type {tensor.data_type}, which no detector's is")
        if len(tensor.dims) > MAX_RANK or any(side < 0 for side in tensor.dims):
            raise GraphError(f"tensor '{name}' declares shape {list(tensor.dims)[: MAX_RANK + 1]}")
        values = math.prod(tensor.dims)
        expected = (values * bits + 7) // 8
        lists = [len(getattr(tensor, field)) for field in _LISTS if getattr(tensor, field)]
        if tensor.string_data or len(lists) + bool(tensor.raw_data) > 1:
            raise GraphError(f"tensor '{name}' holds its data twice, or texts")
        # Of lists, two 4-bit values may share an entry.
        whole = (
            lists[0] in (values, (values * bits + 7) // 8 if bits == 4 else values)
            if lists
            else len(tensor.raw_data) == expected
        )
        if not whole:
            holds = f"{lists[0]} values" if lists else f"{len(tensor.raw_data)} bytes"
            raise GraphError(f"tensor '{name}' declares shape {list(tensor.dims)} and holds {holds}")


def _check_shapes_stand(graph: onnx.GraphProto) -> None:
    """No shape follows from the picture.

    A value follows from the picture where any of its operator's inputs does, unless only a shape was asked.
    """
    seen = {value.name for value in graph.input}
    for node in _in_order(graph):
        deciding = OPERATORS.get(node.op_type, ()) if node.domain in STANDARD else ()
        for index in deciding:
            if index < len(node.input) and node.input[index] in seen:
                raise GraphError(
                    f"operator {node.op_type} takes a shape that follows from the picture"
                    f" ('{_shown(node.input[index])}'): what it will take of memory cannot be known"
                )
        if node.op_type not in _SHAPES_ALONE and not seen.isdisjoint(node.input):
            seen.update(name for name in node.output if name)


def _in_order(graph: onnx.GraphProto) -> Iterator[NodeProto]:
    """The operators, each after those that give its inputs.

    ONNX asks for that order and ONNX Runtime does not: its own conversion to fp16 writes others.

    Raises:
        GraphError: an input that nothing gives, two operators that give the same, a circle.
    """
    given = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    makers: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in node.output:
            if name and (name in given or makers.setdefault(name, index) != index):
                raise GraphError(f"two operators give '{_shown(name)}'")
    waiting = [0] * len(graph.node)
    takers: dict[int, list[int]] = {}
    for index, node in enumerate(graph.node):
        for name in node.input:
            if name in makers:
                waiting[index] += 1
                takers.setdefault(makers[name], []).append(index)
            elif name and name not in given:
                raise GraphError(f"operator {node.op_type} takes '{_shown(name)}', which nothing gives")
    ready = deque(index for index, count in enumerate(waiting) if not count)
    done = 0
    while ready:
        index = ready.popleft()
        done += 1
        yield graph.node[index]
        for taker in takers.get(index, ()):
            waiting[taker] -= 1
            if not waiting[taker]:
                ready.append(taker)
    if done < len(graph.node):
        raise GraphError("its operators wait for each other in a circle")


def _shown(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."
