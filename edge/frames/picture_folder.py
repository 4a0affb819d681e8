"""A folder of pictures as a source, in the natural order of their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import cv2
import numpy as np

from edge.frames.frame import BrokenFrame, Frame, Image
from edge.frames.sources import PICTURE_SUFFIXES, SourceError


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key under which `f2.jpg` comes before `f10.jpg`. Total: names that differ never compare equal."""
    # isdecimal, not isdigit: int() refuses superscripts.
    parts = (part for part in re.split(r"(\d+)", name) if part)
    numbered = tuple((0, int(part)) if part.isdecimal() else (1, part.casefold()) for part in parts)
    return (*numbered, (2, name))


class PictureFolder:
    """The pictures of a folder (its subfolders aside), or one picture, at a given rate.

    A picture that cannot be read is yielded as a `BrokenFrame`; a change of shape raises the epoch.
    """

    def __init__(self, path: Path, *, rate_hz: float) -> None:
        """List the pictures.

        Args:
            path: the folder, or one picture.
            rate_hz: pictures per second of the drive's time.

        Raises:
            SourceError: the folder cannot be listed or holds no picture.
        """
        self.name = path.name or str(path.resolve())
        self.rate_hz: float | None = rate_hz
        self._period_ns = round(1e9 / rate_hz)
        try:
            listed = [path] if path.is_file() else list(path.iterdir())
        except OSError as error:
            raise SourceError(f"folder {str(path)!r} cannot be listed: {error.strerror}") from error
        self._paths = sorted(
            (p for p in listed if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".")),
            key=lambda p: natural_key(p.name),
        )
        if not self._paths:
            suffixes = ", ".join(sorted(PICTURE_SUFFIXES))
            raise SourceError(
                f"folder {str(path)!r} holds no picture ({suffixes}); subfolders are not searched"
            )
        self.frame_count: int | None = len(self._paths)

    def __iter__(self) -> Iterator[Frame | BrokenFrame]:
        """The pictures in natural order."""
        epoch, shape = 0, None
        for sequence, path in enumerate(self._paths):
            captured_ns = sequence * self._period_ns
            picture = read_picture(path)
            if isinstance(picture, str):
                yield BrokenFrame(self.name, sequence, epoch, captured_ns, picture, path.name)
                continue
            if shape is not None and picture.shape != shape:
                epoch += 1
            shape = picture.shape
            yield Frame(self.name, sequence, epoch, captured_ns, picture, path.name)

    def close(self) -> None:
        """Nothing is held open between pictures."""

    def __enter__(self) -> PictureFolder:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        self.close()


def read_picture(path: Path) -> Image | str:
    """The picture as `uint8[height, width, 3]` BGR (turned upright by its EXIF), or why it cannot be read."""
    if path.exists() and not path.is_file():
        return "the file cannot be read: it is a folder, a pipe or a device"
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    if data.size == 0:
        return "the file is empty"
    try:
        picture = cast("Any", cv2.imdecode(data, cv2.IMREAD_COLOR))
    except cv2.error as error:  # a header that asks for more pixels than OpenCV allows
        return f"the picture does not decode: {error.err}"
    if picture is None:
        return "the picture does not decode: it is damaged, cut short or of another kind"
    return cast("Image", picture)
