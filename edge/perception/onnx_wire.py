"""What an ONNX file would take as objects, told from its bytes before protobuf makes them.

Two bytes of a file can say "one more empty node", which takes a hundred bytes of memory once it is an object;
lists nested in each other take the stack. So the bytes are walked first, by the messages' own descriptions
(protobuf's encoding: https://protobuf.dev/programming-guides/encoding/), and nothing is copied.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor

from edge.errors import TrafficVisionError

MAX_FIELDS = 400_000  # of the largest exports known (RT-DETR of 2,714 nodes), thirty thousand
MAX_DEPTH = 24  # messages in each other; a model without subgraphs has nine
MESSAGE_BYTES = 200  # of memory that a message takes beside its content, and its object in Python
LEAST_LIMIT = 64 << 20  # bytes of memory that any file may take
PER_BYTE = 2  # of a file's bytes to bytes of memory, above that: small integers in a list widen

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}
_WIDENED = {  # of list elements in memory, where they are packed as varints
    FieldDescriptor.TYPE_INT32: 4,
    FieldDescriptor.TYPE_INT64: 8,
    FieldDescriptor.TYPE_UINT64: 8,
    FieldDescriptor.TYPE_UINT32: 4,
}


class WireError(TrafficVisionError):
    """The bytes must not be given to protobuf; the message says why."""


def check_wire(data: bytes) -> int:
    """Walk the bytes of a model; gives the estimate of the memory that it takes as objects.

    Raises:
        WireError: they are no such message, nested too deep, or would take too much.
    """
    limit = max(LEAST_LIMIT, PER_BYTE * len(data))
    taken = fields = 0
    open_ranges: list[tuple[Any, int, int, int]] = [(onnx.ModelProto.DESCRIPTOR, 0, len(data), 1)]
    while open_ranges:
        described, at, end, depth = open_ranges.pop()
        if depth > MAX_DEPTH:
            raise WireError(f"messages nested more than {MAX_DEPTH} deep")
        by_number = _fields(described)
        taken += MESSAGE_BYTES
        while at < end:
            fields += 1
            if fields > MAX_FIELDS or taken > limit:
                raise WireError(
                    f"{len(data)} bytes that are more than {MAX_FIELDS} fields, or would take more than"
                    f" {limit} bytes of memory"
                )
            tag, at = _varint(data, at, end)
            field, wire = by_number.get(tag >> 3), tag & 7
            if wire == _VARINT:
                _, at = _varint(data, at, end)
                taken += 8
            elif wire in _WIDTHS:
                at += _WIDTHS[wire]
                taken += 8
            elif wire == _BYTES:
                length, at = _varint(data, at, end)
                if length > end - at:
                    raise WireError("cut off")
                if field is not None and field.message_type is not None:
                    open_ranges.append((field.message_type, at, at + length, depth + 1))
                else:
                    taken += 16 + length * (1 if field is None else _WIDENED.get(field.type, 1))
                at += length
            else:
                raise WireError(f"a field of wire type {wire}, which ONNX has not")
        if at != end:
            raise WireError("cut off")
    if taken > limit:
        raise WireError(f"{len(data)} bytes that would take {taken} bytes of memory, at most {limit}")
    return taken


@cache
def _fields(kind: Any) -> dict[int, Any]:
    """A message's fields by number; `kind` is a descriptor, whose class depends on protobuf's build."""
    return dict(kind.fields_by_number)


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise WireError("cut off")
