"""Pictures that come in by HTTP: what they claim to be is checked before anything decodes them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, cast

import cv2
import numpy as np

from edge.errors import TrafficVisionError
from edge.frames.frame import Image
from edge.perception.jpeg import jpeg_size

MAX_PIXELS = 20_000_000  # 60 MB decoded
# A progressive JPEG may have the decoder go over the whole picture with each scan; real ones have ten.
MAX_JPEG_SCANS = 64

# Of a PNG, what makes the picture; the rest (texts, profiles, animation) is left out before it is decoded.
_PNG_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"})
_PNG_START = b"\x89PNG\r\n\x1a\n"
_WEBP_ANIMATED = 0x02  # of VP8X's flags

_KINDS = "JPEG, PNG, WebP or BMP"


class PictureError(TrafficVisionError):
    """The bytes are no picture that is looked at here."""


class UnknownKindError(PictureError):
    """They are no picture, or of a kind that is not taken."""


class TooLargeError(PictureError):
    """More bytes or pixels than are taken."""


def decode_picture(data: bytes) -> Image:
    """Decode a picture; turned upright by its EXIF.

    Args:
        data: JPEG, PNG, WebP or BMP. What OpenCV knows beside them never reaches its decoders.

    Returns:
        `uint8[height, width, 3]`, BGR.

    Raises:
        PictureError: it is none of them, has too many pixels, or is damaged.
    """
    kind, size = _header(data)
    if size is None or min(size) <= 0:
        raise PictureError(f"the {kind}'s header is damaged")
    height, width = size
    if height * width > MAX_PIXELS:
        raise TooLargeError(f"the {kind} has {width} x {height} pixels, and {MAX_PIXELS} are taken at most")
    if kind == "JPEG" and data.count(b"\xff\xda") > MAX_JPEG_SCANS:
        raise PictureError(f"the JPEG has more than {MAX_JPEG_SCANS} scans")
    if kind == "PNG":
        data = _plain_png(data)
    if kind == "WebP" and data[12:16] == b"VP8X" and data[20] & _WEBP_ANIMATED:
        raise UnknownKindError("the WebP is animated, and a picture stands still")
    try:
        picture = cast("Any", cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    except cv2.error as error:
        raise PictureError(f"the {kind} does not decode: {error.err}") from None
    if picture is None:
        raise PictureError(f"the {kind} does not decode: it is damaged or cut short")
    return cast("Image", picture)


def _header(data: bytes) -> tuple[str, tuple[int, int] | None]:
    """The kind, and height and width where the header says them."""
    for kind, is_it, size in _READERS:
        if is_it(data):
            try:
                return kind, size(data)
            except struct.error:
                return kind, None
    raise UnknownKindError(f"the body is no picture: expected the bytes of a {_KINDS}")


def _plain_png(data: bytes) -> bytes:
    """The PNG's chunks that make the picture.

    OpenCV makes room for a chunk before it looks whether the bytes are there: a changed byte in a file of 402
    took 3.3 GB. And libpng writes to standard error what it finds of a damaged one, past the log's limits.

    Raises:
        PictureError: a chunk goes on past the end or is not what its checksum says, or there is no last one.
    """
    kept, position = [_PNG_START], len(_PNG_START)
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        if name in _PNG_CHUNKS:
            if zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
                raise PictureError(f"the PNG does not decode: its {name.decode()} is damaged")
            kept.append(data[position:end])
        if name == b"IEND":
            return b"".join(kept)
        position = end
    raise PictureError("the PNG does not decode: it is damaged or cut short")


def _png_size(data: bytes) -> tuple[int, int] | None:
    name, width, height = struct.unpack_from(">4sII", data, 12)
    return (height, width) if name == b"IHDR" else None


def _bmp_size(data: bytes) -> tuple[int, int]:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header_bytes == 12 else "<ii", data, 18)
    return abs(height), width


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Of the three formats in RFC 9649, section 2."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        wide, high = int.from_bytes(data[24:27], "little"), int.from_bytes(data[27:30], "little")
        return high + 1, wide + 1
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    return None


_Reader = tuple[str, Callable[[bytes], bool], Callable[[bytes], "tuple[int, int] | None"]]
_READERS: tuple[_Reader, ...] = (
    ("JPEG", lambda data: data.startswith(b"\xff\xd8\xff"), jpeg_size),
    ("PNG", lambda data: data.startswith(_PNG_START), _png_size),
    ("WebP", lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", _webp_size),
    ("BMP", lambda data: data.startswith(b"BM"), _bmp_size),
)
