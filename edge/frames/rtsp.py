"""An RTSP camera, read and decoded by FFmpeg in a child process (`edge.frames.rtsp_reader`)."""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from urllib.parse import urlsplit

import numpy as np

from edge.frames.child import PIPE, Child, SilenceError
from edge.frames.frame import BrokenFrame, Frame
from edge.frames.records import HEADER_BYTES, Header, Kind, unpack
from edge.frames.sources import LiveOptions, SourceError
from edge.logs import Repeated
from edge.machine import children
from edge.redaction import redact

logger = logging.getLogger(__name__)


class RtspCamera:
    """The frames of an RTSP camera; a `LiveSource`."""

    is_live = True
    rate_hz: float | None = None
    frame_count: int | None = None

    def __init__(self, url: str, options: LiveOptions) -> None:
        """Look at the URL; it connects when it is iterated.

        Raises:
            SourceError: it is no RTSP URL with a host, or PyAV is not installed.
        """
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host:
            raise SourceError(f"{redact(url)!r}: expected rtsp://HOST[:PORT]/PATH")
        if importlib.util.find_spec("av") is None:
            raise SourceError("RTSP cameras need PyAV, and it is not installed: pip install av")
        self.name = redact(url)
        self._url = url
        self._options = options
        self._child = Child("the reader")
        self._skips = Repeated(logger, logging.WARNING)

    def __iter__(self) -> Iterator[Frame | BrokenFrame]:
        """Connect, and yield what comes.

        Raises:
            SourceError: it does not answer, refuses, falls silent, or ends.
        """
        asked = json.dumps({"url": self._url, "transport": self._options.transport}) + "\n"
        self._child.start(
            [sys.executable, "-m", "edge.frames.rtsp_reader", PIPE],
            given=asked.encode(),
            environment=children.environment(),
        )
        try:
            yield from self._frames()
        finally:
            self._child.stop()

    def _frames(self) -> Iterator[Frame | BrokenFrame]:
        head, state = bytearray(HEADER_BYTES), "the reader does not start"
        sequence = 0
        patience_s = self._options.give_up_s
        deadline = time.monotonic() + patience_s
        while True:
            try:
                self._child.read_into(memoryview(head), deadline)
                header = unpack(bytes(head))
                if header.kind is Kind.PICTURE:
                    frame = self._picture(header, sequence, deadline)
                    # From the end of this read on: whoever takes the frame may take long over it.
                    yield frame
                    deadline = time.monotonic() + patience_s
                    sequence += 1
                    continue
                text = self._words(header, deadline)
            except SilenceError:
                raise SourceError(f"{state} for {patience_s:g} s") from None
            if header.kind is Kind.BROKEN:
                yield BrokenFrame(self.name, sequence, 0, header.time_ns, text)
                sequence += 1
            elif header.kind is Kind.SKIPPED:
                sequence += int(text)
                self._skips.log("%s: %s frames were let go, since newer ones waited", self.name, text)
            elif header.kind is Kind.STATE:
                state = text
            else:
                raise SourceError(redact(text))

    def _picture(self, header: Header, sequence: int, deadline: float) -> Frame:
        image = np.empty((header.height, header.width, 3), np.uint8)
        self._child.read_into(image.data.cast("B"), deadline)
        return Frame(self.name, sequence, 0, header.time_ns, image)

    def _words(self, header: Header, deadline: float) -> str:
        text = bytearray(header.length)
        self._child.read_into(memoryview(text), deadline)
        return text.decode(errors="replace")

    def interrupt(self) -> None:
        """Let a read that waits end at once; from any thread."""
        self._child.interrupt()

    def close(self) -> None:
        """End the child process."""
        self._child.stop()

    def __enter__(self) -> RtspCamera:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        self.close()
