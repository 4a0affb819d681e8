"""Drives replayed for their drift features: through the daemon's own path, at the monitor's rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.config import CameraConfig
from edge.drift import DriftMonitor, DriftState, Reference
from edge.drift.explaining import drive_words, explained
from edge.drift.features import ORIGINS, extract, watched_reference
from edge.drift.frames import frame_features
from edge.drift.state import Origin
from edge.errors import TrafficVisionError
from edge.frames.frame import Frame
from edge.frames.sources import MAX_STILL_RATE_HZ, Source, open_configured
from edge.frames.view import View
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.model_file import read_model_file
from edge.vehicle_state.motion import PictureMotion
from tools.replay.naming import camera_names
from tools.replay.path import Answered, DaemonPath
from tools.replay.quiet import only_errors_logged
from tools.replay.thinning import Thinned

RATE_HZ = 2.0

Progress = Callable[[int, int | None], None]
Vector = npt.NDArray[np.float32]


class DriftReplayError(TrafficVisionError):
    """A drive that gives nothing to judge."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One frame: its time in the drive, ns, its `float32[F]`, itself, and whether the picture moves.

    What is seen while the vehicle stands adds nothing, to a reference and to what is judged by it alike.
    """

    time_ns: int
    vector: Vector
    frame: Frame
    moving: bool = True


def load_detector(model: Path, providers: Sequence[str], threads: int) -> Detector:
    """A detector with this model file.

    Raises:
        TrafficVisionError: the model or a provider cannot be used.
    """
    return Detector(read_model_file(model), DetectorOptions(providers=tuple(providers), threads=threads))


def feature_rows(
    source: str,
    detector: Detector | None,
    rate_hz: float = RATE_HZ,
    *,
    camera: CameraConfig | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done, of: None,
) -> Iterator[Row]:
    """The features of a drive's frames; frames in between and broken ones are left out.

    Args:
        source: what `edge.frames.sources.open_source` takes; still pictures come at `rate_hz`.
        detector: finds what is in the frames; None: features of detections are NaN.
        rate_hz: at most so many frames per second of drive time.
        camera: whose region and mask are applied; None: the whole picture is looked at.
        stop_requested: asked before each frame.
        progress: told how many frames of the source are read, of how many.

    Raises:
        TrafficVisionError: the source cannot be used.
    """
    config = _configured(source, rate_hz, camera)

    def opened(asked: CameraConfig) -> Source:
        return Thinned(open_configured(asked), rate_hz, progress=progress)

    looked = (
        _picture_rows(config, opened, stop_requested)
        if detector is None
        else _daemon_rows(config, opened, detector, stop_requested)
    )
    motion, moving = PictureMotion(), True
    for frame, vector in looked:
        look = motion.look(frame.captured_ns, frame.part)
        moving = moving if look is None else look.moves is not False
        yield Row(frame.captured_ns, vector, frame, moving)


def scan_source(
    source: str,
    detector: Detector,
    reference: Reference,
    *,
    camera: CameraConfig | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done, of: None,
) -> Iterator[DriftState]:
    """The states of a monitor that watches the drive, with kind and words of what is in alarm.

    Raises:
        TrafficVisionError: the source cannot be used or gives no frame, or the reference has none of the
            features.
    """
    monitor = DriftMonitor(watched_reference(reference))
    rows = feature_rows(
        source,
        detector,
        reference.rate_hz,
        camera=camera,
        stop_requested=stop_requested,
        progress=progress,
    )
    seen = False
    for row in rows:
        seen = True
        state = monitor.observe(row.time_ns, row.vector, moving=row.moving)
        if state is not None:
            yield explained(state, drive_words)
    if not seen and not stop_requested():
        raise DriftReplayError(f"{source!r} gave no frame that could be looked at")


def _configured(source: str, rate_hz: float, camera: CameraConfig | None) -> CameraConfig:
    """The section that a daemon would have for this recording: of a camera, what is looked at."""
    if not source:
        raise DriftReplayError("a source is empty: give a video file, a folder of pictures, or sim:...")
    return CameraConfig(
        name=camera_names([source], ())[0],
        url=source,
        pace="lockstep",
        still_rate_hz=min(rate_hz, MAX_STILL_RATE_HZ),
        region=None if camera is None else camera.region,
        mask=() if camera is None else camera.mask,
    )


def _daemon_rows(
    config: CameraConfig,
    opened: Callable[[CameraConfig], Source],
    detector: Detector,
    stop_requested: Callable[[], bool],
) -> Iterator[tuple[Frame, Vector]]:
    with only_errors_logged(), DaemonPath([config], detector, opened=opened) as path:
        for event in path.frames(path.cameras[0], stop_requested):
            if isinstance(event, Answered):
                yield event.frame, frame_features(event.frame, event.published)


def _picture_rows(
    config: CameraConfig, opened: Callable[[CameraConfig], Source], stop_requested: Callable[[], bool]
) -> Iterator[tuple[Frame, Vector]]:
    view = View(config.region, config.mask)
    of_picture = np.array([origin is Origin.PICTURE for origin in ORIGINS])
    with opened(config) as frames:
        for shot in frames:
            if stop_requested():
                return
            if isinstance(shot, Frame):
                frame = view.apply(shot)
                vector = extract(frame.part, np.zeros((0, 6), np.float32))
                yield frame, np.where(of_picture, vector, np.float32(np.nan))
