"""The drift monitors of all cameras, as a part of the daemon."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.background_writer import BackgroundWriter
from edge.config import DriftConfig
from edge.drift import monitor_file
from edge.drift.features import NAMES, ORIGINS, extract, fleet_prior, watched_reference
from edge.drift.fitting import unlearned
from edge.drift.memory import Snapshot
from edge.drift.monitor import DriftMonitor
from edge.drift.reference import DriftReferenceError, Reference
from edge.drift.state import DriftState
from edge.files import atomic_write
from edge.frames.frame import Frame, FrameKey
from edge.machine.disk_budget import DiskBudget, DiskLane
from edge.messages import Clock, drift_state, model_ref
from edge.publication import Publication
from protos.traffic_vision.v1 import common_pb2
from protos.words import word

logger = logging.getLogger(__name__)

SAVE_EVERY_S = 60.0
GAP_S = 60.0  # without a frame for so long, another stretch of driving begins

_PREFIX = "DRIFT_VERDICT_"

Changed = Callable[[common_pb2.DriftState, common_pb2.DriftVerdict], None]


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """What is known of the latest frame of a camera that was looked at for drift.

    Attributes:
        frame: which frame.
        features: `float32[F]`, NaN where not to be had.
        state: the latest judgement; None before the first.
    """

    frame: FrameKey
    features: npt.NDArray[np.float32]
    state: common_pb2.DriftState | None


@dataclass(slots=True, eq=False)
class _CameraDrift:
    monitor: DriftMonitor
    model: str  # digest of the model that the monitor judges
    watched: Watched | None = None
    paused: common_pb2.DriftState | None = None  # what was told when the vehicle was parked


class DriftWatch:
    """One monitor a camera, on the frame loop's thread; what they know is kept over restarts.

    Each model is judged by its own reference: the prior in its file, or, for the model that the vehicle came
    with, the configured one. Without either, everything is learned from what is seen.
    """

    name = "drift"

    def __init__(
        self,
        config: DriftConfig,
        cameras: Sequence[str],
        factory: Path,
        folder: Path,
        clock: Clock,
        publish: Callable[[common_pb2.DriftState], None],
        *,
        parked: Callable[[str], bool] = lambda camera: False,
        moving: Callable[[str], bool] = lambda camera: True,
        disk: DiskLane | None = None,
    ) -> None:
        """Make ready; monitors begin at their camera's first frame.

        Args:
            config: the section [drift].
            cameras: their names.
            factory: the model file that the vehicle came with.
            folder: where the monitors' state is kept.
            clock: of this run.
            publish: gives a state to local clients; never waits.
            parked: whether the vehicle is parked, as far as a camera is concerned: then it shows one place
                over and over, which says nothing of the world.
            moving: whether the vehicle moves just now, as far as a camera is concerned: what is seen while it
                stands at a light is judged by what was seen before it.
            disk: where what is written is counted; None: nowhere.

        Raises:
            DriftReferenceError: the configured reference cannot be used.
        """
        self._config = config
        self._cameras = frozenset(cameras)
        self._folder = folder
        self._clock = clock
        self._publish = publish
        self._parked = parked
        self._moving = moving
        self._disk = disk or DiskBudget().lane("drift")
        self._configured = (
            None if config.reference is None else watched_reference(Reference.load(config.reference))
        )
        self._factory_digest = hashlib.sha256(factory.read_bytes()).hexdigest() if self._configured else ""
        self._by_camera: dict[str, _CameraDrift] = {}
        self._listeners: list[Changed] = []
        self._writer = BackgroundWriter(limit=len(cameras), name="drift-state")
        self._save_at = time.monotonic() + SAVE_EVERY_S
        self._stopped = threading.Event()

    def listen(self, listener: Changed) -> None:
        """Call `listener` with each new verdict's state and the verdict before; on the loop's thread."""
        self._listeners.append(listener)

    def latest(self, camera: str) -> Watched | None:
        """What is known of a camera; None before its first frame."""
        drift = self._by_camera.get(camera)
        return None if drift is None else drift.watched

    def context(self, camera: str) -> str:
        """The context that a camera's latest frames fit best; empty: none that is known."""
        watched = self.latest(camera)
        return "" if watched is None or watched.state is None else watched.state.context

    def observe(self, frame: Frame, published: Publication) -> None:
        """Look at a frame, if it is time to."""
        drift = self._by_camera.get(frame.camera)
        if drift is None:
            drift = self._by_camera[frame.camera] = self._begin(frame.camera, published)
        elif drift.model != published.detections.model_digest:
            self._judge_anew(frame.camera, drift, published)
        if self._parked(frame.camera):
            self._pause(frame, drift, published)
            return
        if not drift.monitor.wants(frame.captured_ns):
            return
        found = frame.to_part(published.detections.boxes)
        features = extract(frame.part, found, class_names=published.model.class_names)
        state = drift.monitor.observe(frame.captured_ns, features, moving=self._moving(frame.camera))
        before = drift.paused or (drift.watched.state if drift.watched else None)
        message = before if state is None else self._message(frame.camera, drift, state, published)
        drift.watched = Watched(frame.key, features, message)
        if state is not None and message is not None:
            drift.paused = None
            self._tell(message, before)
        if time.monotonic() >= self._save_at:
            self._save()

    def start(self) -> None:
        """Start the thread that writes the state."""
        self._writer.start()

    def stop(self) -> None:
        """Save what the monitors know. After the frame loop's end; may be called twice."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._save()

    def join(self, timeout_s: float) -> bool:
        """Wait until it is written; False where the disk hangs."""
        return self._writer.stop(timeout_s)

    def fill_status(self, status: common_pb2.VehicleStatus) -> None:
        """Add nothing: the states are in the status as they were published."""

    def _begin(self, camera: str, published: Publication) -> _CameraDrift:
        own = self._reference(published)
        reference = own or self._configured or unlearned(self._config.rate_hz, NAMES, origins=ORIGINS)
        monitor = DriftMonitor(
            reference,
            target_hours=self._config.target_hours,
            cameras=max(1, len(self._cameras)),
            learn_s=self._config.learn_s,
            gap_s=GAP_S,
        )
        if own is None and reference is self._configured:
            monitor.model_changed()  # it was made with another model
        path = self._path(camera)
        try:
            monitor.restore(path.read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, DriftReferenceError) as error:
            logger.warning("camera %s: its drift monitor begins anew: %s", camera, error)
        return _CameraDrift(monitor, published.detections.model_digest)

    def _pause(self, frame: Frame, drift: _CameraDrift, published: Publication) -> None:
        """Judge nothing while the vehicle is parked; what was seen before stays for when it drives on."""
        if drift.paused is not None:
            return
        before = drift.watched.state if drift.watched else None
        at = self._clock.captured(frame.camera, frame.captured_ns, is_live=published.is_live)
        drift.paused = common_pb2.DriftState(
            camera=frame.camera,
            observed=at,
            since=at,
            verdict=common_pb2.DRIFT_VERDICT_PAUSED,
            explanation="the vehicle is parked",
            model=model_ref(drift.model, published.model.name, published.model.version),
            reference_sha256=drift.monitor.reference.digest,
        )
        if drift.watched is not None:
            drift.watched = replace(drift.watched, state=drift.paused)
        self._tell(drift.paused, before)

    def _judge_anew(self, camera: str, drift: _CameraDrift, published: Publication) -> None:
        """Another model answers: ask by its own reference whether the world fits."""
        drift.model = published.detections.model_digest
        reference = self._reference(published)
        try:
            if reference is not None:
                drift.monitor.adopt(reference)
                return
            why = "its file brings no drift reference"
        except DriftReferenceError as error:
            why = str(error)
        drift.monitor.model_changed()
        logger.info("camera %s: what the new model sees is learned on the way: %s", camera, why)

    def _reference(self, published: Publication) -> Reference | None:
        if self._configured is not None and published.detections.model_digest == self._factory_digest:
            return self._configured
        prior = published.model.drift_prior
        if prior is None:
            return None
        try:
            return fleet_prior(prior)
        except DriftReferenceError as error:
            logger.warning(
                "the drift reference in model %s is not used: %s",
                published.detections.model_digest[:12],
                error,
            )
            return None

    def _message(
        self, camera: str, drift: _CameraDrift, state: DriftState, published: Publication
    ) -> common_pb2.DriftState:
        return drift_state(
            camera,
            state,
            model_ref(drift.model, published.model.name, published.model.version),
            drift.monitor.reference.digest,
            lambda time_ns: self._clock.captured(camera, time_ns, is_live=published.is_live),
        )

    def _tell(self, state: common_pb2.DriftState, before: common_pb2.DriftState | None) -> None:
        self._publish(state)
        previous = common_pb2.DRIFT_VERDICT_UNSPECIFIED if before is None else before.verdict
        if state.verdict == previous:
            return
        verdict = word(common_pb2.DriftVerdict, _PREFIX, state.verdict)
        alarming = [one.name for one in state.features if one.verdict == common_pb2.DRIFT_VERDICT_ALARM]
        logger.log(
            logging.WARNING if alarming else logging.INFO,
            "camera %s: drift %s%s",
            state.camera,
            verdict,
            f": {state.explanation}" if state.explanation else "",
            extra={
                "event": "drift_verdict",
                "camera": state.camera,
                "verdict": verdict,
                "previous": word(common_pb2.DriftVerdict, _PREFIX, previous),
                "time_s": state.observed.monotonic_ns / 1e9,
                "features": alarming,
            },
        )
        for listener in self._listeners:
            listener(state, previous)

    def _save(self) -> None:
        self._save_at = time.monotonic() + SAVE_EVERY_S
        for camera, drift in self._by_camera.items():
            self._writer.submit(_Save(self._path(camera), drift.monitor.snapshot(), self._disk))

    def _path(self, camera: str) -> Path:
        return self._folder / f"{camera}.json"


@dataclass(frozen=True, slots=True)
class _Save:
    path: Path
    snapshot: Snapshot
    disk: DiskLane

    def __call__(self) -> None:
        data = monitor_file.encode(self.snapshot)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(self.path, data)
            self.disk.wrote(len(data))
        except OSError as error:  # the monitor goes on; a restart would find the state before
            logger.warning("the drift monitor's state is not kept in %s: %s", self.path, error.strerror)
