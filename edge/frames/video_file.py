"""A video file as a source, through OpenCV's FFmpeg.

OpenCV says little about damage: a packet that does not decode may end one `read()` with False though
the next ones succeed, or be skipped without a word. So the container is walked a second time, without
decoding (a few microseconds a packet), and a packet whose time falls into a hole between two decoded
frames is a frame that was lost.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import cv2

from edge.frames.frame import BrokenFrame, Frame, Image
from edge.frames.sources import SourceError

# H.264 and HEVC reorder 16 frames at most, so 17 packets beyond a time mean that all before it were seen.
_REORDER_PACKETS = 17
# Reads that must fail in a row, with no packet left, before the file counts as ended: a decoder's threads
# report damage early, and hand out what they hold only later.
_END_READS = 32
# A packet that refuses to be read in the walk is damaged in its framing; this many in a row are the end.
_END_PACKETS = 8
# Below this share of the usual spacing between two frames there is no hole: the packets between them are
# a codec's own (VP8's hidden reference frames, DivX's packed ones).
_HOLE_PERIODS = 1.5
_SAME_TIME_MS = 0.05


class VideoFile:
    """The frames of a video file, timed by the container. A frame that does not decode costs itself alone."""

    def __init__(self, path: Path) -> None:
        """Open the file and decode its first frame.

        Raises:
            SourceError: it is no video, this OpenCV cannot read it, or no frame decodes.
        """
        self.name = path.name
        self._capture = _open(path)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.rate_hz: float | None = rate if rate > 0 else None
        self.frame_count: int | None = count if count > 0 else None
        self._packets = _PacketTimes(path)
        self._counts_exactly = _declares_its_frames(path)
        self._first = self._read()
        if self._first is None:
            self.close()
            raise SourceError(f"video {str(path)!r} opens, but none of its frames decodes")

    def __iter__(self) -> Iterator[Frame | BrokenFrame]:
        """The frames in order, broken ones in their places; once."""
        period_ms = 1000.0 / self.rate_hz if self.rate_hz else 0.0
        sequence = epoch = last_ns = 0
        before_ms, shape = -period_ms, None
        picture, self._first = self._first, None
        while picture is not None:
            now_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
            lost_ms = self._packets.between(before_ms, now_ms)
            if now_ms - before_ms > _HOLE_PERIODS * period_ms:
                for time_ms in lost_ms:
                    last_ns = max(last_ns, round(time_ms * 1e6))
                    yield BrokenFrame(self.name, sequence, epoch, last_ns, "the frame does not decode")
                    sequence += 1
            if sequence > 0 and now_ms <= before_ms:  # a container that contradicts itself, or has no times
                now_ms = before_ms + period_ms
            last_ns = max(last_ns, round(now_ms * 1e6))
            if shape is not None and picture.shape != shape:
                epoch += 1
            shape, before_ms = picture.shape, now_ms
            yield Frame(self.name, sequence, epoch, last_ns, picture)
            sequence += 1
            picture = self._read()
        if self._is_cut_short():
            reason = f"the file breaks off: it declares {self.frame_count} frames, holds {self._packets.seen}"
            yield BrokenFrame(self.name, sequence, epoch, last_ns + round(period_ms * 1e6), reason)

    def close(self) -> None:
        """Close the file."""
        self._capture.release()
        self._packets.close()

    def __enter__(self) -> VideoFile:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        self.close()

    def _read(self) -> Image | None:
        failures = 0
        while True:
            decoded, picture = self._capture.read()
            if decoded:
                return cast("Image", cast("Any", picture))
            failures = 0 if self._packets.advance() else failures + 1
            if failures >= _END_READS:
                return None

    def _is_cut_short(self) -> bool:
        # Other containers' counts are estimates, by the duration of their longest stream.
        if not self._counts_exactly or self.frame_count is None:
            return False
        return self.frame_count - self._packets.seen > max(2, self.frame_count // 50)


class _PacketTimes:
    """The presentation times of a file's packets, ms, read a small window ahead of the decoder."""

    def __init__(self, path: Path) -> None:
        self.seen = 0
        self._capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
        self._pending: list[float] = []
        self._ended = not self._capture.isOpened()

    def advance(self) -> bool:
        """Read one more packet; False at the end of the file."""
        failures = 0
        while not self._ended:
            if self._capture.grab():
                self.seen += 1
                heapq.heappush(self._pending, self._capture.get(cv2.CAP_PROP_POS_MSEC))
                return True
            failures += 1
            self._ended = failures >= _END_PACKETS
        return False

    def between(self, before_ms: float, now_ms: float) -> list[float]:
        """The packets' times strictly between two frames' times; forgets all up to the second."""
        while sum(time_ms > now_ms for time_ms in self._pending) < _REORDER_PACKETS and self.advance():
            pass
        inside = []
        while self._pending and self._pending[0] <= now_ms + _SAME_TIME_MS:
            time_ms = heapq.heappop(self._pending)
            if before_ms + _SAME_TIME_MS < time_ms < now_ms - _SAME_TIME_MS and time_ms >= 0:
                inside.append(time_ms)
        return inside

    def close(self) -> None:
        self._capture.release()


def _open(path: Path) -> cv2.VideoCapture:
    if not cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG):
        raise SourceError("this OpenCV is built without FFmpeg and reads no video; install opencv-python")
    if not path.is_file():
        raise SourceError(f"{str(path)!r} is a pipe or a device, expected a video file")
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise SourceError(f"video {str(path)!r} cannot be read: {error.strerror}") from error
    # Damage is reported frame by frame; FFmpeg's own lines would run into the caller's output.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        # A resolved path: FFmpeg would take "a:b.mp4" for a protocol.
        capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
    finally:
        cv2.utils.logging.setLogLevel(level)
    # FFmpeg reads any .txt as a terminal's recording.
    is_text = capture.isOpened() and int(capture.get(cv2.CAP_PROP_FOURCC)) == cv2.VideoWriter.fourcc(*"ansi")
    if not capture.isOpened() or is_text:
        capture.release()
        raise SourceError(f"{str(path)!r} is no readable video (or it was cut short before its index)")
    return capture


def _declares_its_frames(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(8)
    return head[4:] == b"ftyp" or head[:4] == b"RIFF"  # MP4 and AVI
