"""A raw export as people have it: read, made whole, given fixed shapes, and recognised or refused.

What Ultralytics exports takes `[1, 3, H, W]` floats, RGB in 0..1. Other detectors' exports look alike and
mean something else; each is refused by what gives it away, since decoded wrongly it would only seem bad.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx.external_data_helper import load_external_data_for_tensor

from edge.errors import TrafficVisionError
from edge.perception.model_file import MAX_INPUT_SIDE, METADATA_KEY, STRIDE
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

# What ONNX Runtime 1.23 loads, the oldest that the vehicle supports.
MAX_OPSET = 23
MAX_IR_VERSION = 11
MIN_OPSET = 7  # element-wise operators broadcast from here on

_STRIDES = ((8, 16, 32), (4, 8, 16, 32), (8, 16, 32, 64), (16, 32))
_NMS_FREE_ROWS = 300  # that Ultralytics' NMS-free heads give unless told otherwise
_ELEMENTS: dict[int, type[np.floating[Any]]] = {
    onnx.TensorProto.FLOAT: np.float32,
    onnx.TensorProto.FLOAT16: np.float16,
}
MAX_LITERAL = 1_000_000  # characters; a thousand bytes of memory for each is bearable
_INTEGER_OPERATORS = frozenset(
    (
        "ConvInteger",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
        "QuantizeLinear",
    )
)


class RawExportError(TrafficVisionError):
    """The file is no export that can be wrapped; the message says what gave it away."""


@dataclass(frozen=True, slots=True, eq=False)
class RawExport:
    """A raw export that can be wrapped.

    Attributes:
        model: the graph, all data inside, input shape fixed to `[1, 3, H, W]`.
        element: ONNX element type of its input, float or float16.
        input_name: of its only input.
        output_name: of its only output.
        output_element: ONNX element type of that output.
        output_shape: of that output, as running it shows.
        input_hw: height and width, pixels.
        layout: `raw` or `nms_free`.
        class_names: one name a class.
        precision: `fp32`, `fp16`, `bf16` or `int8`.
    """

    model: onnx.ModelProto
    element: int
    input_name: str
    output_name: str
    output_element: int
    output_shape: tuple[int, int, int]
    input_hw: tuple[int, int]
    layout: str
    class_names: tuple[str, ...]
    precision: str


def read_raw_export(
    path: Path, class_names: tuple[str, ...] | None = None, imgsz: tuple[int, int] | None = None
) -> RawExport:
    """Read a raw Ultralytics export of a detector.

    Args:
        path: the ONNX file; data in other files beside or below it is taken in.
        class_names: in place of those that the export names.
        imgsz: height and width for an export that leaves them open; in place of those that it was made at.

    Raises:
        RawExportError: it is no such export, with the reason.
    """
    try:
        model = parse_onnx(read_bytes(path))
        _require_text(model)
        props = {entry.key: entry.value for entry in model.metadata_props}
        if METADATA_KEY in props:
            raise RawExportError("it is a model file already")
        _forget_date(model)
        _check_versions(model)
        _refuse_loops(model)
        _take_in_external_data(model, path.parent)
        names = class_names or _own_class_names(props)
        _check_task(props)
        value = _only_input(model)
        input_hw = _fix_input(model, value, props, imgsz)
        output = _only_output(model, names)
        shape, output_element = _run_once(model, value, input_hw)
        layout = recognise(shape, len(names), input_hw, nms_free=props.get("end2end") == "True")
    except (OnnxError, RawExportError) as error:
        raise RawExportError(f"{path}: {error}") from None
    return RawExport(
        model=model,
        element=value.type.tensor_type.elem_type,
        input_name=value.name,
        output_name=output.name,
        output_element=output_element,
        output_shape=(shape[0], shape[1], shape[2]),
        input_hw=input_hw,
        layout=layout,
        class_names=names,
        precision=_precision(model),
    )


def recognise(
    shape: tuple[int, ...], classes: int, input_hw: tuple[int, int], *, nms_free: bool = False
) -> str:
    """Tell the output's layout by its shape.

    Args:
        shape: of the output.
        classes: how many classes the model has.
        input_hw: height and width of the input.
        nms_free: the export itself says that it is.

    Returns:
        `raw` or `nms_free`.

    Raises:
        RawExportError: it is the output of something else; the message says of what, as far as that shows.
    """
    rows, columns = (*shape[1:], 0, 0)[:2]
    anchors = {sum(input_hw[0] // s * (input_hw[1] // s) for s in strides) for strides in _STRIDES}
    anchors |= {3 * count for count in anchors}  # YOLOv5 has three boxes a cell
    if len(shape) == 2:
        seems = "a classifier's"
    elif len(shape) != 3 or shape[0] != 1:
        seems = "no detector's"
    elif rows == 4 + classes and not (nms_free and columns == 6):
        return "raw"
    elif columns == 6 and not (rows in anchors and rows > _NMS_FREE_ROWS):
        return "nms_free"
    elif columns == 5 + classes:
        seems = "rows with an objectness score, as YOLOX and YOLOv5 give them"
    elif columns == 4 + classes:
        seems = "boxes in rows, as RT-DETR gives them"
    elif columns == 6:
        seems = "a row for every cell of the grid, so not NMS-free (YOLOX of one class?)"
    elif rows == 5 + classes:
        seems = "an angle (OBB) or objectness score too many, or one class name too few"
    else:
        seems = "another kind of model's (pose?), or the class names are not its own"
    raise RawExportError(
        f"its output is {list(shape)}: {seems}; expected [1, {4 + classes}, n] or [1, n, 6]"
        f" for {classes} classes"
    )


def _forget_date(model: onnx.ModelProto) -> None:
    """Leave out when the export was made: the same weights are to give the same file."""
    kept = [entry for entry in model.metadata_props if entry.key != "date"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)


def _require_text(model: onnx.ModelProto) -> None:
    # Protobuf hands out text that is not UTF-8 as bytes, or not at all, and takes it from nobody.
    values = [*model.graph.input, *model.graph.output]
    try:
        texts: list[object] = [text for entry in model.metadata_props for text in (entry.key, entry.value)]
        is_text = all(isinstance(text, str) for text in [*texts, *(value.name for value in values)])
    except UnicodeDecodeError:
        is_text = False
    if not is_text:
        raise RawExportError("not an ONNX file: text in it is not UTF-8")


def _check_versions(model: onnx.ModelProto) -> None:
    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not opsets:
        raise RawExportError("it names no version of ONNX's operator set: cut off?")
    if not MIN_OPSET <= opsets[0] <= MAX_OPSET:
        raise RawExportError(
            f"it uses ONNX operator set {opsets[0]}; export with opset={MIN_OPSET} to {MAX_OPSET}"
            " (ONNX Runtime 1.23, which vehicles have, loads no later ones)"
        )
    # The format's number says which fields may occur; what the operator set allows, the older readers know.
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)


def _refuse_loops(model: onnx.ModelProto) -> None:
    looping = looping_operators(model)
    if looping:
        raise RawExportError(f"its graph loops ({', '.join(looping)}), as no Ultralytics detector's does")


def _take_in_external_data(model: onnx.ModelProto, folder: Path) -> None:
    root = folder.resolve()
    for tensor in external_tensors(model):
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        target = (root / location).resolve()
        if not location or not target.is_relative_to(root):
            raise RawExportError(f"tensor '{tensor.name}' lies in '{location}', outside of its folder")
        if not target.is_file():
            raise RawExportError(f"tensor '{tensor.name}' lies in '{location}', which is not there")
        try:
            load_external_data_for_tensor(tensor, str(root))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            reason = " ".join(str(error).split())[:200]
            raise RawExportError(f"tensor '{tensor.name}' in '{location}' cannot be read: {reason}") from None
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _own_class_names(props: dict[str, str]) -> tuple[str, ...]:
    if "names" not in props:
        raise RawExportError("it does not name its classes: give them with --names FILE")
    names = _literal(props["names"])
    if names is None:
        raise RawExportError("the class names in it cannot be read: give them with --names FILE")
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise RawExportError("the class names in it are no list of names: give them with --names FILE")
    return tuple(names)


def _check_task(props: dict[str, str]) -> None:
    task = props.get("task", "detect")
    if task != "detect":
        raise RawExportError(f"it was exported for task '{task}', expected 'detect'")


def _only_input(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    # Before IR version 4 initializers had to be listed among the inputs.
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise RawExportError(f"it has {len(inputs)} inputs, an Ultralytics export has one")
    del model.graph.input[:]
    model.graph.input.append(inputs[0])
    value = model.graph.input[0]
    shape, element = tensor_type(value)
    if element not in _ELEMENTS or len(shape) != 4 or shape[1] != 3:
        raise RawExportError(
            f"it takes {tensor_name(value)}, an Ultralytics export takes float32[1, 3, H, W]"
        )
    return value


def _fix_input(
    model: onnx.ModelProto, value: onnx.ValueInfoProto, props: dict[str, str], imgsz: tuple[int, int] | None
) -> tuple[int, int]:
    (batch, _, *sides), element = tensor_type(value)
    if batch not in (None, 1):
        raise RawExportError(f"it takes batches of {batch} pictures, expected 1: export with batch=1")
    if imgsz and any(own not in (None, side) for own, side in zip(sides, imgsz, strict=True)):
        raise RawExportError(f"it takes pictures of {sides[0]}x{sides[1]} only, not {imgsz[0]}x{imgsz[1]}")
    if None in sides:
        height, width = imgsz or _own_imgsz(props)
    else:
        height, width = (int(side or 0) for side in sides)
    for side in (height, width):
        if side % STRIDE or not 0 < side <= MAX_INPUT_SIDE:
            raise RawExportError(
                f"its input is {height}x{width}, expected multiples of {STRIDE} up to {MAX_INPUT_SIDE}"
            )
    if None in (batch, *sides):
        # Shapes noted for open sides no longer hold; ONNX Runtime works them out again.
        del model.graph.value_info[:]
    value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, element, [1, 3, height, width]))
    return height, width


def _own_imgsz(props: dict[str, str]) -> tuple[int, int]:
    sides = _literal(props.get("imgsz", ""))
    if not isinstance(sides, list) or len(sides) != 2 or not all(_is_side(side) for side in sides):
        raise RawExportError("it leaves the picture's size open: give it with --imgsz HEIGHT WIDTH")
    return sides[0], sides[1]


def _is_side(value: object) -> bool:
    return type(value) is int and 0 < value <= MAX_INPUT_SIDE


def _literal(text: str) -> Any:
    """A Python literal as Ultralytics writes it, None for anything else; nothing is executed."""
    if len(text) > MAX_LITERAL:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # TypeError: a list as a key
        return None


def _only_output(model: onnx.ModelProto, class_names: tuple[str, ...]) -> onnx.ValueInfoProto:
    outputs = model.graph.output
    if len(outputs) != 1:
        shapes = ", ".join(tensor_name(output) for output in outputs)
        raise RawExportError(
            f"it has {len(outputs)} outputs ({shapes}), as segmentation models and exports without their"
            f" detection head have; expected one of [1, {4 + len(class_names)}, n] or [1, n, 6]"
        )
    return outputs[0]


def _run_once(
    model: onnx.ModelProto, value: onnx.ValueInfoProto, input_hw: tuple[int, int]
) -> tuple[tuple[int, ...], int]:
    """Shape and element type of the output, by running it: what a graph declares may be open or wrong."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = 1
    # Declared output shapes would be enforced.
    output = model.graph.output[0]
    output.type.tensor_type.ClearField("shape")
    blank = np.zeros((1, 3, *input_hw), _ELEMENTS[value.type.tensor_type.elem_type])
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), settings, providers=["CPUExecutionProvider"], enable_fallback=0
        )
        result = session.run(None, {value.name: blank})[0]
    except Exception as error:  # noqa: BLE001  boundary: ONNX Runtime's errors share no root
        text = " ".join(str(error).split())[:300]
        raise RawExportError(f"ONNX Runtime cannot run it at {input_hw[0]}x{input_hw[1]}: {text}") from None
    if not isinstance(result, np.ndarray) or result.dtype not in (np.float32, np.float16):
        raise RawExportError(f"it gives {getattr(result, 'dtype', type(result).__name__)}, expected floats")
    return result.shape, onnx.helper.np_dtype_to_tensor_dtype(result.dtype)


def _precision(model: onnx.ModelProto) -> str:
    if any(node.op_type in _INTEGER_OPERATORS for node in messages(model, onnx.NodeProto)):
        return "int8"
    weights: dict[int, int] = {}
    for tensor in messages(model, onnx.TensorProto):
        weights[tensor.data_type] = weights.get(tensor.data_type, 0) + int(np.prod(tensor.dims or (1,)))
    kinds = {
        "fp32": onnx.TensorProto.FLOAT,
        "fp16": onnx.TensorProto.FLOAT16,
        "bf16": onnx.TensorProto.BFLOAT16,
    }
    return max(kinds, key=lambda kind: weights.get(kinds[kind], 0))
