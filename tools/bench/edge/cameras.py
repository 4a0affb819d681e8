"""Cameras for the daemon under test: a plug-in of the scheme `benchcam:` that only the bench's daemons know.

`benchcam:stamped?...` is a camera with an honest clock. It decodes a video file and lets its frames out by a
schedule of its own: frame n is born at start + n / rate on this machine's monotonic clock, whether or not
anyone fetches it, and n is burnt into the picture then. Each birth is noted in a file. Whoever reads number n
out of a detection knows from that file how old it is, without believing the daemon in anything.

`benchcam:gated?...` is the same with a gate: while the gate's file is there it gives a frame now and then, so
that the daemon idles and does not take it for lost; once the file is gone the schedule begins anew.

`benchcam:lossy?...` is a camera that breaks: after so many frames the connection fails, and the next one may
bring another resolution.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np

from edge.frames.frame import Frame
from edge.frames.sources import SourceError
from edge.frames.video_file import VideoFile
from tools.bench.edge.numbers import burn

_SIZES = ((1280, 720), (960, 540), (640, 480))  # width, height, of one connection after the other
_REFUSED_EVERY = 5  # of the lossy camera's connections
_GATE_LOOK_S = 0.01  # so late the gate may be found open


class _Camera:
    """What both have of a `LiveSource`."""

    is_live = True
    frame_count: int | None = None

    def __init__(self, name: str, rate_hz: float) -> None:
        self.name = name
        self.rate_hz: float | None = rate_hz
        self._period_ns = round(1e9 / rate_hz)
        self._closed = threading.Event()

    def close(self) -> None:
        """End it; the iterator stops at its next step."""
        self._closed.set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        self.close()


class StampedCamera(_Camera):
    """A video file as a camera whose frames know when they were born."""

    def __init__(self, video: Path, rate_hz: float, births: Path) -> None:
        """Make ready.

        Args:
            video: decoded over and over.
            rate_hz: frames per second.
            births: a line is appended for each frame: its number and monotonic time, ns.
        """
        super().__init__(f"stamped {video.name}", rate_hz)
        self._video = video
        self._births = births

    def __enter__(self) -> StampedCamera:
        """Itself."""
        return self

    def __iter__(self) -> Iterator[Frame]:
        """Yield each frame at its birth, or, fetched late, with the time of its birth all the same."""
        pictures = self._pictures()
        with self._births.open("a", buffering=1) as births:
            for number, born_ns in enumerate(self._schedule()):
                picture = next(pictures)
                burn(picture, number)
                if self._closed.wait(max(0.0, (born_ns - time.monotonic_ns()) / 1e9)):
                    return
                births.write(f"{number} {born_ns}\n")
                yield Frame(self.name, number, 0, born_ns, picture)

    def _schedule(self) -> Iterator[int]:
        """The birth of each frame, monotonic ns."""
        start_ns = time.monotonic_ns() + self._period_ns
        for number in itertools.count():
            yield start_ns + number * self._period_ns

    def _pictures(self) -> Iterator[np.ndarray]:
        while True:
            with VideoFile(self._video) as video:
                for shot in video:
                    if isinstance(shot, Frame):
                        yield shot.image


class GatedCamera(StampedCamera):
    """A stamped camera that rests while its gate is shut."""

    def __init__(self, video: Path, rate_hz: float, births: Path, gate: Path, idle_hz: float) -> None:
        """Make ready.

        Args:
            video: decoded over and over.
            rate_hz: frames per second while the gate is open.
            births: as of a `StampedCamera`.
            gate: a file; while it is there, the gate is shut.
            idle_hz: frames per second while it is shut.
        """
        super().__init__(video, rate_hz, births)
        self._gate = gate
        self._idle_ns = round(1e9 / idle_hz)

    def _schedule(self) -> Iterator[int]:
        was_open, born_ns = False, time.monotonic_ns()
        while True:
            is_open = not self._gate.exists()
            if is_open:
                born_ns = (born_ns if was_open else time.monotonic_ns()) + self._period_ns
            else:
                shut_until_ns = time.monotonic_ns() + self._idle_ns
                while self._gate.exists() and time.monotonic_ns() < shut_until_ns:
                    if self._closed.wait(_GATE_LOOK_S):
                        return
                born_ns = time.monotonic_ns()
            was_open = is_open
            yield born_ns


class LossyCamera(_Camera):
    """A camera that loses its connection, comes back, and at times as another resolution."""

    _connections = itertools.count()

    def __init__(self, rate_hz: float, frames: int) -> None:
        """Make ready.

        Args:
            rate_hz: frames per second.
            frames: of one connection.
        """
        super().__init__("lossy", rate_hz)
        self._frames = frames

    def __enter__(self) -> LossyCamera:
        """Itself."""
        return self

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames of one connection, then fail.

        Raises:
            SourceError: the connection is lost, or refused.
        """
        connection = next(self._connections)
        if connection % _REFUSED_EVERY == _REFUSED_EVERY - 1:
            raise SourceError("the connection is refused, as the bench wants it")
        size = _SIZES[connection % len(_SIZES)]
        rng = np.random.default_rng(connection)
        scene = cv2.resize(rng.integers(0, 255, (18, 32, 3), np.uint8), size, interpolation=cv2.INTER_CUBIC)
        start_ns = time.monotonic_ns()
        for number in range(self._frames):
            born_ns = start_ns + number * self._period_ns
            if self._closed.wait(max(0.0, (born_ns - time.monotonic_ns()) / 1e9)):
                return
            picture = np.roll(scene, 8 * number, axis=1)
            yield Frame(self.name, number, 0, born_ns, picture.astype(np.uint8, copy=False))
        raise SourceError("the connection is lost, as the bench wants it")


def open_camera(url: str) -> StampedCamera | LossyCamera:
    """Open `benchcam:stamped?video=FILE&rate=HZ&births=FILE`, `benchcam:lossy?rate=HZ&frames=N`, or
    `benchcam:gated?...`: as stamped, with `&gate=FILE&idle=HZ`.

    Raises:
        SourceError: the URL is not of either form.
    """
    parts = urlsplit(url)
    try:
        asked = {key: value for key, (value,) in parse_qs(parts.query).items()}
        if parts.path == "stamped":
            return StampedCamera(Path(asked["video"]), float(asked["rate"]), Path(asked["births"]))
        if parts.path == "gated":
            return GatedCamera(
                Path(asked["video"]),
                float(asked["rate"]),
                Path(asked["births"]),
                Path(asked["gate"]),
                float(asked["idle"]),
            )
        if parts.path == "lossy":
            return LossyCamera(float(asked["rate"]), int(asked["frames"]))
    except (KeyError, ValueError) as error:
        raise SourceError(f"{url!r}: {type(error).__name__}: {error}") from None
    raise SourceError(f"{url!r}: the bench has no such camera")
