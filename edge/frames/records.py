"""What a child process that captures says to the daemon through its pipe: records, each behind a header."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from edge.frames.sources import SourceError

MAX_SIDE = 16384  # pixels
MAX_WORDS = 4096  # bytes

_HEADER = struct.Struct("<4sIIIqI")  # magic, kind, width, height, monotonic ns, bytes that follow
_MAGIC = b"TVR1"


class Kind(enum.IntEnum):
    """What a record is; but for pictures, UTF-8 follows."""

    PICTURE = 1  # BGR, height rows of 3 * width bytes
    BROKEN = 2  # a frame that does not decode, and why
    SKIPPED = 3  # frames that were let go undecoded, since newer ones waited: how many
    STATE = 4  # what the child is at, for the reason should it fall silent
    END = 5  # why it ends


class RecordError(SourceError):
    """The pipe carries something else than records."""


@dataclass(frozen=True, slots=True)
class Header:
    """The head of a record; `time_ns` is the monotonic time of capture, `length` the bytes that follow."""

    kind: Kind
    width: int
    height: int
    time_ns: int
    length: int


HEADER_BYTES = _HEADER.size


def pack(header: Header) -> bytes:
    """The header's bytes."""
    return _HEADER.pack(_MAGIC, header.kind, header.width, header.height, header.time_ns, header.length)


def unpack(data: bytes) -> Header:
    """Read a header.

    Raises:
        RecordError: it is none, or says sizes that cannot be.
    """
    magic, kind, width, height, time_ns, length = _HEADER.unpack(data)
    if magic != _MAGIC or kind not in Kind._value2member_map_:
        raise RecordError("the capturing process sent something that is no record")
    header = Header(Kind(kind), width, height, time_ns, length)
    if header.kind is Kind.PICTURE:
        is_sound = 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and length == width * height * 3
    else:
        is_sound = length <= MAX_WORDS
    if not is_sound:
        raise RecordError(f"the capturing process sent {length} bytes for {width}x{height} pixels")
    return header
