"""A GStreamer pipeline as a camera: `gst-launch-1.0` in a child process, whose pictures come through a pipe.

Not through OpenCV: the package index's has no GStreamer, and JetPack's is bound to the system's Python. The
pipeline ends in `gdppay`, which sends the pictures' size before them each time that it changes.
"""

from __future__ import annotations

import functools
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from types import TracebackType

import numpy as np

from edge.frames.child import PIPE, Child, SilenceError
from edge.frames.frame import Frame, Image
from edge.frames.gdp import BUFFER, CAPS, HEADER_BYTES, GdpError, Shape, read_caps, read_header
from edge.frames.sources import LiveOptions, SourceError
from edge.redaction import redact

LAUNCH, INSPECT = "gst-launch-1.0", "gst-inspect-1.0"
_INSPECT_S = 30.0  # the first one after an installation scans every plug-in
# Newest wins in there, too; the pipe is always drained.
_TAIL = (
    "queue leaky=downstream max-size-buffers=1 max-size-bytes=0 max-size-time=0"
    f" ! videoconvert ! video/x-raw,format=BGR ! gdppay ! fdsink fd={PIPE} sync=false"
)
_ELEMENT = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]*")


class GstreamerCamera:
    """The frames of a pipeline; a `LiveSource`."""

    is_live = True
    rate_hz: float | None = None
    frame_count: int | None = None

    def __init__(self, pipeline: str, options: LiveOptions) -> None:
        """Check what the pipeline is made of; it runs when it is iterated.

        Args:
            pipeline: elements as for gst-launch-1.0, the last one giving raw video.
            options: how long it may give nothing.

        Raises:
            SourceError: GStreamer or an element is missing, or it can't be read.
        """
        self._words = _split(pipeline)
        self.name = redact(f"gst:{pipeline}")
        self._patience_s = options.give_up_s
        for tool in (LAUNCH, INSPECT):
            if shutil.which(tool) is None:
                raise SourceError(
                    f"gst: needs {tool}, and it is not installed (Debian, Ubuntu: gstreamer1.0-tools)"
                )
        for element in [*elements(self._words), *elements(_split(_TAIL))]:
            _require(element)
        self._child = Child("the pipeline")

    def __iter__(self) -> Iterator[Frame]:
        """Run it, and yield what comes.

        Raises:
            SourceError: it gives nothing, or ends.
        """
        self._child.start([LAUNCH, "-q", *self._words, "!", *_split(_TAIL)])
        try:
            yield from self._frames()
        finally:
            self._child.stop()

    def _frames(self) -> Iterator[Frame]:
        shape: Shape | None = None
        head = bytearray(HEADER_BYTES)
        sequence = epoch = 0
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                self._child.read_into(memoryview(head), deadline)
                captured_ns = time.monotonic_ns()
                payload = read_header(bytes(head))
                if payload.kind == BUFFER:
                    image = self._picture(shape, payload.length, deadline)
                    yield Frame(self.name, sequence, epoch, captured_ns, image)
                    sequence += 1
                    deadline = time.monotonic() + self._patience_s
                    continue
                data = bytearray(payload.length)
                self._child.read_into(memoryview(data), deadline)
            except SilenceError:
                raise SourceError(f"the pipeline gave no frame for {self._patience_s:g} s") from None
            if payload.kind == CAPS:
                before, shape = shape, read_caps(bytes(data))
                epoch += before is not None and before != shape

    def _picture(self, shape: Shape | None, length: int, deadline: float) -> Image:
        if shape is None or length != shape.stride * shape.height:
            raise GdpError(f"the pipeline gave a picture of {length} bytes, for {shape}")
        rows = np.empty((shape.height, shape.stride), np.uint8)
        self._child.read_into(rows.data.cast("B"), deadline)
        # Without the padding, if there is one.
        pixels = np.ascontiguousarray(rows[:, : shape.width * 3])
        return pixels.reshape(shape.height, shape.width, 3)

    def interrupt(self) -> None:
        """Let a read that waits end at once; from any thread."""
        self._child.interrupt()

    def close(self) -> None:
        """End the child process."""
        self._child.stop()

    def __enter__(self) -> GstreamerCamera:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        self.close()


def _split(pipeline: str) -> list[str]:
    try:
        words = shlex.split(pipeline)
    except ValueError as error:
        raise SourceError(f"the pipeline can't be read: {error}") from None
    if not words:
        raise SourceError("the pipeline is empty: expected gst:ELEMENT ! ELEMENT ...")
    return words


def elements(words: Sequence[str]) -> list[str]:
    """The names of a pipeline's elements: what stands first, or after a `!`, and is no caps or pad."""
    firsts = [word for before, word in zip(["!", *words], words, strict=False) if before in ("!", "(")]
    return [word for word in firsts if _ELEMENT.fullmatch(word)]


@functools.lru_cache(maxsize=256)
def _require(element: str) -> None:
    """Raise a SourceError where GStreamer has no such element; that one is there is remembered."""
    try:
        found = subprocess.run(
            [INSPECT, "--exists", element], capture_output=True, timeout=_INSPECT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(f"{INSPECT} does not tell whether {element!r} is there: {error}") from None
    if found.returncode != 0:
        raise SourceError(
            f"GStreamer has no element {element!r} here; `{INSPECT}` lists what there is"
            " (gdppay is in gstreamer1.0-plugins-bad)"
        )
