"""Annotated video, through OpenCV's FFmpeg."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from tools.replay.outputs import OutputError, check_writable, put_in_place, temporary_beside

Image = npt.NDArray[np.uint8]

# MPEG-4 Part 2: OpenCV's wheels leave H.264's encoder out.
_SUFFIX = ".mp4"
_CODEC = "mp4v"
_PROBE_SIZE = (64, 64)


class VideoOutput:
    """A video file of one size that appears, synced, when its block ends well.

    The first picture gives the size; pictures of another shape are fitted into it.
    """

    def __init__(self, target: str, rate_hz: float) -> None:
        """Make sure that such a file can be written.

        Args:
            target: a path that ends in .mp4.
            rate_hz: frames per second; the video has no other times.

        Raises:
            OutputError: another suffix, no such folder, no permission, or no encoder for it in this OpenCV.
        """
        self._path = Path(target).resolve()
        self._rate_hz = round(rate_hz, 3)  # MPEG-4 keeps times as fractions below 65536
        self._written = 0
        self._size: tuple[int, int] | None = None
        self._writer: cv2.VideoWriter | None = None
        if self._path.suffix.lower() != _SUFFIX:
            raise OutputError(f"cannot write {target!r}: a video's name ends in {_SUFFIX}")
        check_writable(self._path)
        if self._path.exists() and not self._path.is_file():
            raise OutputError(f"cannot write {target!r}: a video needs a regular file")
        self._temporary = temporary_beside(self._path)
        try:
            self._open(_PROBE_SIZE).release()
        finally:
            self._temporary.unlink(missing_ok=True)

    def write(self, picture: Image) -> None:
        """Append one picture, `uint8[H, W, 3]` BGR.

        Raises:
            OutputError: the encoder does not take pictures of this size.
        """
        if self._writer is None or self._size is None:
            height, width = picture.shape[:2]
            self._size = (width + width % 2, height + height % 2)  # half as many pixels of colour: even sides
            self._writer = self._open(self._size)
        self._writer.write(fitted(picture, self._size))
        self._written += 1

    def __enter__(self) -> VideoOutput:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Put the video in its place, or take it away if the block failed or no picture came.

        Raises:
            OutputError: frames are missing in the file: the disk is full, for one.
        """
        if self._writer is None:
            return
        try:
            self._writer.release()
            if kind is None:
                self._check()
                put_in_place(self._temporary, self._path)
        except OSError as failure:
            raise OutputError(f"cannot write {str(self._path)!r}: {failure.strerror}") from failure
        finally:
            self._temporary.unlink(missing_ok=True)

    def _open(self, size: tuple[int, int]) -> cv2.VideoWriter:
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        code = cv2.VideoWriter.fourcc(*_CODEC)
        writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, code, self._rate_hz, size)
        if not writer.isOpened():
            raise OutputError(
                f"cannot write {str(self._path)!r}: this OpenCV ({cv2.__version__}) does not encode {_CODEC}"
                f" at {size[0]}x{size[1]}, {self._rate_hz:g} frames/s; the wheel opencv-python does"
            )
        return writer

    def _check(self) -> None:
        # OpenCV's writer reports no error: what did not get to the disk shows only here.
        capture = cv2.VideoCapture(str(self._temporary), cv2.CAP_FFMPEG)
        held = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if abs(held - self._written) > 1:
            raise OutputError(
                f"cannot write {str(self._path)!r}: {held} of {self._written} frames got there (disk full?)"
            )


def fitted(picture: Image, size: tuple[int, int]) -> Image:
    """The picture at `size` (width, height): as it is, or scaled to fit with black around it."""
    width, height = size
    if picture.shape[:2] == (height, width):
        return picture
    own_height, own_width = picture.shape[:2]
    scale = min(width / own_width, height / own_height)
    # An odd side was rounded up by one pixel: no reason to blur the whole picture.
    if own_width in (width, width - 1) and own_height in (height, height - 1):
        scale = 1.0
    inside = (max(1, round(own_width * scale)), max(1, round(own_height * scale)))
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inside[0]) // 2, (height - inside[1]) // 2
    resized = picture if scale == 1.0 else cv2.resize(picture, inside, interpolation=cv2.INTER_AREA)
    canvas[top : top + inside[1], left : left + inside[0]] = resized
    return canvas
