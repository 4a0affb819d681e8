"""GStreamer's own framing of buffers and their caps in a byte stream, as `gdppay` writes it.

GStreamer Data Protocol 1.0 (gst-plugins-bad, gst/gdp/dataprotocol.c): a header of 62 bytes, then its payload.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from edge.frames.records import MAX_SIDE
from edge.frames.sources import SourceError

HEADER_BYTES = 62
MAX_CAPS_BYTES = 65536

BUFFER, CAPS = 1, 2
_EVENTS = 64  # and upward: 64 plus the event's number

# Major and minor version, flags, padding, type, bytes of the payload.
_HEADER = struct.Struct(">BBBxHI")
_MAJOR = 1
_FIELD = r"{}=\(int\)(\d+)"


class GdpError(SourceError):
    """The stream is no GStreamer Data Protocol, or its pictures are no BGR."""


@dataclass(frozen=True, slots=True)
class Payload:
    """What follows a header: its type (BUFFER, CAPS, or another that is to be passed over) and bytes."""

    kind: int
    length: int


def read_header(data: bytes) -> Payload:
    """Read a header of HEADER_BYTES bytes.

    Raises:
        GdpError: it is none.
    """
    major, _, _, kind, length = _HEADER.unpack_from(data)
    if major != _MAJOR or not (kind in (BUFFER, CAPS) or kind >= _EVENTS):
        raise GdpError("the pipeline's output is no GStreamer Data Protocol of version 1")
    limit = (MAX_SIDE * 3 + 3) * MAX_SIDE if kind == BUFFER else MAX_CAPS_BYTES
    if length > limit:
        raise GdpError(f"the pipeline's output announces {length} bytes at once")
    return Payload(kind, length)


@dataclass(frozen=True, slots=True)
class Shape:
    """Of pictures in BGR: pixels, and bytes from one row to the next (a multiple of four)."""

    width: int
    height: int

    @property
    def stride(self) -> int:
        """Bytes from one row to the next."""
        return (self.width * 3 + 3) // 4 * 4


def read_caps(data: bytes) -> Shape:
    """Read the caps of raw video.

    Raises:
        GdpError: they are of something else, or of a size that cannot be.
    """
    caps = data.rstrip(b"\0").decode(errors="replace")
    width, height = (re.search(_FIELD.format(side), caps) for side in ("width", "height"))
    if not caps.startswith("video/x-raw") or "format=(string)BGR" not in caps or not width or not height:
        raise GdpError(f"the pipeline gives {caps[:120]!r}, expected video")
    shape = Shape(int(width[1]), int(height[1]))
    if not (0 < shape.width <= MAX_SIDE and 0 < shape.height <= MAX_SIDE):
        raise GdpError(f"the pipeline gives pictures of {shape.width}x{shape.height} pixels")
    return shape
