"""Pictures for golden frames: collected, made small, stripped of what does not belong in a released file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edge.errors import TrafficVisionError

MAX_PICTURES = 16
MAX_SIDE = 1280  # pixels
JPEG_QUALITY = 92
_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp"))


class GoldenPictureError(TrafficVisionError):
    """A golden picture is missing or cannot be decoded."""


def collect(paths: Sequence[Path]) -> list[Path]:
    """Files and folders to at most `MAX_PICTURES` pictures, evenly spaced where there are more.

    Raises:
        GoldenPictureError: a path does not exist, or a folder holds no picture.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(item for item in path.iterdir() if item.suffix.lower() in _SUFFIXES)
            if not inside:
                raise GoldenPictureError(
                    f"{path}: the folder holds no picture ({', '.join(sorted(_SUFFIXES))})"
                )
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise GoldenPictureError(f"{path}: no such file")
    if len(found) <= MAX_PICTURES:
        return found
    return [found[index * len(found) // MAX_PICTURES] for index in range(MAX_PICTURES)]


def read_all(paths: Sequence[Path]) -> list[bytes]:
    """Read the pictures of files and folders, as `collect` finds them.

    Raises:
        GoldenPictureError: one is missing, cannot be read or is no picture.
    """
    pictures = []
    for path in collect(paths):
        try:
            encoded = path.read_bytes()
        except OSError as error:
            raise GoldenPictureError(f"{path}: cannot be read: {error.strerror or error}") from None
        pictures.append(normalise(encoded, str(path)))
    return pictures


def normalise(encoded: bytes, origin: str) -> bytes:
    """Make a JPEG of a picture: upright, at most `MAX_SIDE` a side, without metadata (cameras note places).

    What is such a JPEG already stays as it is.

    Args:
        encoded: a picture in any format that OpenCV reads.
        origin: its name, for messages.

    Raises:
        GoldenPictureError: it cannot be decoded.
    """
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR) if encoded else None
    except cv2.error as error:
        raise GoldenPictureError(f"{origin}: no picture: {error.err}") from None
    if image is None:
        raise GoldenPictureError(f"{origin}: no picture that can be decoded")
    height, width = image.shape[:2]
    if max(height, width) <= MAX_SIDE and _is_plain_jpeg(encoded):
        return encoded
    shrink = MAX_SIDE / max(height, width)
    if shrink < 1:
        size = max(round(width * shrink), 1), max(round(height * shrink), 1)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    done, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise GoldenPictureError(f"{origin}: cannot be encoded as JPEG")
    return jpeg.tobytes()


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether the header has none of the segments (ITU-T T.81, APP1 and up, COM) that metadata lies in."""
    if data[:3] != b"\xff\xd8\xff" or not data.endswith(b"\xff\xd9"):
        return False
    position = 2
    while data[position : position + 1] == b"\xff" and position + 4 <= len(data):
        marker = data[position + 1]
        if marker == 0xDA:  # start of scan: the header is over
            return True
        if 0xE1 <= marker <= 0xEF or marker == 0xFE:
            return False
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False
