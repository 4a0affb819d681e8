"""The daemon's path, in lock-step: capture, mailbox, frame loop, swappable detector, drift watch.

One camera's capture runs at a time, on its own thread as on a vehicle; the loop is stepped by the caller's.
Lines come of publications in the order of frames, so that threads leave no trace in them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from edge.config import CameraConfig, DriftConfig
from edge.drift.part import DriftWatch
from edge.frame_loop import FrameLoop, FrameObserver
from edge.frames.camera import Camera
from edge.frames.capture import Arrival, Capture
from edge.frames.frame import BrokenFrame, Frame
from edge.frames.mailbox import Mailbox, MailboxRow
from edge.frames.outcomes import FrameCounts, Outcome
from edge.frames.sources import LiveSource, Source, open_configured
from edge.messages import Clock
from edge.perception.detector import Detections, Detector, DetectorOptions
from edge.perception.hot_swap import SwappableDetector
from edge.perception.model_file import ModelFile
from edge.publication import Publication
from edge.redaction import redact
from protos.traffic_vision.v1 import common_pb2
from tools.replay.errors import ReplayError
from tools.replay.recording import Recording

CLOCK = Clock("replay")  # one name for all runs: the same drive gives the same bytes

_STEP_S = 0.5
_EMPTY_WAIT_S = 1.0  # per wait; it is taken up again until the box closes
_JOIN_S = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """A frame that was published.

    Attributes:
        frame: with its picture.
        published: what the loop made of it.
        decode_ns: how long its decoding took.
        drift: the drift state that came with it, if one did.
    """

    frame: Frame
    published: Publication
    decode_ns: int
    drift: common_pb2.DriftState | None


@dataclass(frozen=True, slots=True, eq=False)
class Unanswered:
    """A frame that was not, and why."""

    camera: str
    shot: Frame | BrokenFrame
    outcome: Outcome
    reason: str


class _NotingDetector(SwappableDetector):
    """Keeps why a frame could not be answered: the loop only counts it and logs."""

    failure: str | None = None

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        self.failure = None
        try:
            return super().detect(image)
        except Exception as error:
            self.failure = str(error)
            raise


class _LastPublished:
    """The observer through which the published frame comes to who steps the loop."""

    name = "replay"

    def __init__(self) -> None:
        self._last: tuple[Frame, Publication] | None = None

    def observe(self, frame: Frame, published: Publication) -> None:
        self._last = (frame, published)

    def take(self) -> tuple[Frame, Publication] | None:
        last, self._last = self._last, None
        return last


@dataclass(slots=True, eq=False)
class _PlannedSwap:
    detector: Detector
    camera: str
    frame: int
    is_requested: bool = False


class DaemonPath:
    """The daemon's path over some recordings. A context manager: it closes what it opened."""

    def __init__(
        self,
        sources: Sequence[CameraConfig],
        detector: Detector,
        *,
        limit: int | None = None,
        drift: DriftConfig | None = None,
        factory: Path | None = None,
        opened: Callable[[CameraConfig], Source] = open_configured,
    ) -> None:
        """Open every source.

        Args:
            sources: in lock-step; each a camera.
            detector: the first model's.
            limit: at most so many frames of each.
            drift: how to watch for drift; None: not at all.
            factory: the first model's file, the one that the reference of `drift` judges; needed with that.
            opened: opens a camera's source.

        Raises:
            TrafficVisionError: a source cannot be opened, or is live; or the reference cannot be used.
        """
        self._row: MailboxRow[Arrival] = MailboxRow([config.name for config in sources])
        self._detector = _NotingDetector(detector, requested=self._row.wake)
        self._planned: _PlannedSwap | None = None
        self._last = _LastPublished()
        self._drift_states: list[common_pb2.DriftState] = []
        self._recordings: dict[str, Recording] = {}
        self.cameras: list[Camera] = []
        # The monitors' state is kept for nobody: a folder that stays empty and goes.
        self._no_state = tempfile.TemporaryDirectory(prefix="traffic-vision-replay-")
        try:
            observers: list[FrameObserver] = [self._last]
            if drift is not None:
                if factory is None:
                    raise ValueError("drift is judged for a first model: which file is it?")
                names = [config.name for config in sources]
                state = Path(self._no_state.name)
                observers.insert(
                    0, DriftWatch(drift, names, factory, state, CLOCK, self._drift_states.append)
                )
            for config in sources:
                self.cameras.append(self._open(config, opened(config), limit))
        except BaseException:
            self.close()
            raise
        self._loop = FrameLoop(
            self.cameras, self._row, self._detector, lambda published: None, observers=observers
        )

    def recording(self, camera: str) -> Recording:
        """The source behind a camera."""
        return self._recordings[camera]

    @property
    def model(self) -> ModelFile:
        """The model that answers now."""
        return self._detector.active.model

    @property
    def options(self) -> DetectorOptions:
        """How the models run."""
        return self._detector.active.options

    def check_swap(self, camera: str, frame: int) -> None:
        """Find out, as far as the source says it itself, whether a camera has such a frame.

        Raises:
            ReplayError: there is no such camera, or it says itself that it has no such frame.
        """
        known = self._recordings.get(camera)
        if known is None:
            raise ReplayError(f"a swap at camera {camera!r}, and there is {', '.join(self._recordings)}")
        if known.frame_count is not None and frame >= known.frame_count:
            raise ReplayError(
                f"a swap at frame {frame} of camera {camera!r}, whose frames end at {known.frame_count - 1}"
            )

    def plan_swap(self, detector: Detector, camera: str, frame: int) -> None:
        """Have `frame` of a camera be the first that another model answers."""
        self._planned = _PlannedSwap(detector, camera, frame)

    def frames(self, camera: Camera, stop_requested: Callable[[], bool]) -> Iterator[Answered | Unanswered]:
        """Run one camera's drive from its start to its end, or until it is to stop; once.

        Every frame that came in and was not stopped is given, in the order of capture.

        Raises:
            ReplayError: the source failed.
        """
        name = camera.config.name
        recording, box = self._recordings[name], self._row.boxes[name]
        camera.capture.start()
        try:
            while not stop_requested() and not (recording.has_ended and box.wait_empty(0)):
                self._loop.step(_STEP_S)
                yield from self._left(name, recording)
        finally:
            camera.capture.stop()
            has_ended = camera.capture.join(_JOIN_S)
        if not has_ended:
            raise ReplayError(f"camera {name!r}: its source hangs")
        if recording.failure is not None:
            raise ReplayError(f"camera {name!r}: its source failed: {redact(str(recording.failure))}")
        yield from _broken(name, recording)

    def close(self) -> None:
        """Stop and close every source."""
        for camera in self.cameras:
            camera.capture.stop()
        for camera in self.cameras:
            camera.capture.join(_JOIN_S)
        self._no_state.cleanup()

    def __enter__(self) -> DaemonPath:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        self.close()

    def _open(self, config: CameraConfig, source: Source, limit: int | None) -> Camera:
        """As `edge.frames.camera.open_camera`, with the source's frames noted."""
        if isinstance(source, LiveSource) and source.is_live:
            source.close()
            raise ReplayError(f"{source.name} is a live camera; a replay is of recordings")
        box = self._row.boxes[config.name]

        def before(sequence: int) -> None:
            self._swap_before(config.name, sequence, box)

        recording = Recording(source, limit=limit, before=before, ended=self._row.wake)
        self._recordings[config.name] = recording
        counts = FrameCounts()
        return Camera(config, Capture(config, recording, box, counts), counts)

    def _swap_before(self, camera: str, sequence: int, box: Mailbox[Arrival]) -> None:
        """Ask for the swap once the frame before was taken: the next step exchanges before it takes."""
        planned = self._planned
        if planned is None or planned.is_requested or camera != planned.camera or sequence < planned.frame:
            return
        while not box.wait_empty(_EMPTY_WAIT_S):
            pass
        planned.is_requested = True
        self._detector.request(planned.detector)

    def _left(self, camera: str, recording: Recording) -> Iterator[Answered | Unanswered]:
        """What the loop's last step came to."""
        published, failure = self._last.take(), self._detector.failure
        self._detector.failure = None
        if published is None and failure is None:
            return
        yield from _broken(camera, recording)
        passed = recording.passed.popleft()
        if published is None:
            yield Unanswered(camera, passed.shot, Outcome.INFERENCE_ERROR, failure or "")
            return
        drift = self._drift_states.pop() if self._drift_states else None
        yield Answered(*published, passed.decode_ns, drift)


def _broken(camera: str, recording: Recording) -> Iterator[Unanswered]:
    """The broken frames that come next."""
    while recording.passed:
        shot = recording.passed[0].shot
        if not isinstance(shot, BrokenFrame):
            return
        recording.passed.popleft()
        yield Unanswered(camera, shot, Outcome.DECODE_ERROR, shot.reason)
