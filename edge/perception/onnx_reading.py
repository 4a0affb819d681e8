"""Reading ONNX without trusting it: from bytes alone, nothing executed, nothing else opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import onnx
from google.protobuf.message import DecodeError, Message

from edge.errors import TrafficVisionError
from edge.perception.onnx_wire import WireError, check_wire

_M = TypeVar("_M", bound=Message)

# What people hand in by mistake, by its first bytes.
_OTHER_KINDS = (
    (b"PK\x03\x04", "a zip archive (a PyTorch checkpoint? `traffic-vision model import` takes it as .pt)"),
    (b"\x80\x02", "a Python pickle (an old PyTorch checkpoint?)"),
    (b"\x89HDF", "an HDF5 file (a Keras model?)"),
    (b"\xff\xd8\xff", "a JPEG picture"),
)
# A detector has none of them, and a loop of 2**62 rounds is a model that loads, starts and never answers.
_LOOPS = frozenset(("Loop", "Scan"))
MAX_BYTES = 2**31 - 1  # protobuf's own limit


class OnnxError(TrafficVisionError):
    """The bytes are no ONNX model; the message says why not."""


def read_bytes(path: Path) -> bytes:
    """Read a file whole.

    Raises:
        OnnxError: it is missing, no regular file, too large or unreadable; the message does not name it.
    """
    try:
        if path.is_dir():
            raise OnnxError("a folder, expected a file")
        if path.exists() and not path.is_file():
            # A pipe may never end, nor /dev/zero.
            raise OnnxError("a pipe or a device, expected a regular file")
        if path.stat().st_size > MAX_BYTES:
            raise OnnxError(f"{path.stat().st_size} bytes, an ONNX file has at most {MAX_BYTES}")
        return path.read_bytes()
    except FileNotFoundError:
        raise OnnxError("no such file") from None
    except OSError as error:
        raise OnnxError(f"cannot be read: {error.strerror or error}") from None


def parse_onnx(data: bytes) -> onnx.ModelProto:
    """Parse the bytes of an ONNX model; tensors in other files are left there.

    Raises:
        OnnxError: for any bytes that hold no graph.
    """
    if not data:
        raise OnnxError("the file is empty")
    for start, kind in _OTHER_KINDS:
        if data.startswith(start):
            raise OnnxError(f"not an ONNX file but {kind}")
    model = onnx.ModelProto()
    try:
        check_wire(data)
    except WireError as error:
        raise OnnxError(f"not an ONNX file, or one that is cut off: {error}") from None
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise OnnxError("not an ONNX file, or one that is cut off") from None
    if not model.HasField("graph") or not model.graph.node:
        raise OnnxError("not an ONNX file, or one that is cut off: it holds no graph")
    return model


def external_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor whose values lie in another file, wherever it is in the model."""
    for tensor in messages(model, onnx.TensorProto):
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield tensor


def looping_operators(model: onnx.ModelProto) -> list[str]:
    """Operators whose running time their inputs decide, wherever they are in the model, each once."""
    return sorted({node.op_type for node in messages(model, onnx.NodeProto)} & _LOOPS)


def tensor_type(value: onnx.ValueInfoProto) -> tuple[tuple[int | None, ...], int]:
    """Shape (None where it is not fixed) and element type."""
    tensor = value.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    return shape, tensor.elem_type


def tensor_name(value: onnx.ValueInfoProto) -> str:
    """Element type and shape in words: `uint8[1, 640, 640, 3]`."""
    shape, element = tensor_type(value)
    known = element in onnx.TensorProto.DataType.values()
    name = str(onnx.TensorProto.DataType.Name(element)).lower() if known else "?"
    sides = ", ".join("?" if side is None else str(side) for side in shape)
    return f"{'float32' if name == 'float' else name}[{sides}]"


def messages(message: Message, kind: type[_M]) -> Iterator[_M]:
    """Every message of a type anywhere below.

    Initializers, sparse ones, attributes, subgraphs, functions: found by the messages' own descriptions, so
    that no place is forgotten.
    """
    if isinstance(message, kind):
        yield message
    if isinstance(message, onnx.TensorProto):
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for child in (value,) if isinstance(value, Message) else value:
            yield from messages(child, kind)
