"""The drift monitors of all cameras, as a part of the daemon."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge.background_writer import BackgroundWriter
from edge.config import DriftConfig
from edge.drift import monitor_file
from edge.drift.camera_drift import CameraDrift, Watched
from edge.drift.commission_terms import Terms
from edge.drift.commissioning import Commissioning
from edge.drift.features import NAMES, ORIGINS, fleet_prior, watched_reference
from edge.drift.frames import frame_features
from edge.drift.learn_child import ChildLearner, Submit
from edge.drift.memory import Snapshot
from edge.drift.reference import DriftReferenceError, Reference
from edge.drift.shadow_seen import SeenInShadow, SeenTerms, ShadowSeen
from edge.drift.state import DriftState
from edge.files import atomic_write
from edge.frames.frame import Frame
from edge.machine.disk_budget import DiskBudget, DiskLane
from edge.messages import Clock, drift_state, model_ref
from edge.publication import Publication
from protos.traffic_vision.v1 import common_pb2
from protos.words import word

logger = logging.getLogger(__name__)

SAVE_EVERY_S = 60.0

_JOBS = 4  # of a camera, that may wait for the disk
_FITS = 4  # of a camera, that may wait for their turn: its commissioning's, and of what models did in shadow
_PREFIX, _KIND = "DRIFT_VERDICT_", "DRIFT_KIND_"

Changed = Callable[[common_pb2.DriftState, common_pb2.DriftVerdict], None]


class DriftWatch:
    """One monitor a camera, on the frame loop's thread; what they know is kept over restarts.

    Each camera is judged by its own reference, as soon as its commissioning has one; before, and for what
    that does not know, by the model's: the prior in its file, or, for the model that the vehicle came with,
    the configured one. Without any, everything is learned from what is seen: what the model finds, from what
    it found in shadow, if it was there.

    Attributes:
        in_shadow: is told what candidates find; from any thread but the frame loop's.
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
        rows: DiskLane | None = None,
        learner: Callable[[str, Submit], ChildLearner] | None = None,
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
            rows: the same of the features that a commissioning collects, which may be refused.
            learner: makes what fits a camera's unknown features, beside the frame loop; None: the frame that
                comes when they are due waits for it.

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
        self._by_camera: dict[str, CameraDrift] = {}
        self._listeners: list[Changed] = []
        self._writer = BackgroundWriter(limit=_JOBS * len(cameras), name="drift-state")
        self._fitter = BackgroundWriter(limit=_FITS * len(cameras), name="drift-fit")
        self._tutor = BackgroundWriter(limit=len(cameras), name="drift-learn")
        taught = cameras if learner else ()
        self._learners = {camera: learner(camera, self._tutor.submit) for camera in taught if learner}
        rows = rows or DiskBudget().lane("drift-rows")
        run = uuid.uuid4().hex
        terms = SeenTerms(NAMES, ORIGINS, config.learn_s, run)
        self._seen = {
            camera: ShadowSeen(camera, folder / camera, terms, self._disk, rows, self._fitter.submit)
            for camera in self._cameras
        }
        self.in_shadow = SeenInShadow(self._seen)
        self._commissionings = self._commission(rows, run)
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
            drift.judge_anew(published.detections.model_digest, self._reference(published))
        drift.take_over()
        if self._parked(frame.camera):
            self._pause(frame, drift, published)
            return
        if not drift.monitor.wants(frame.captured_ns):
            return
        features = frame_features(frame, published)
        state = drift.observe(frame.captured_ns, features, moving=self._moving(frame.camera))
        before = drift.paused or (drift.watched.state if drift.watched else None)
        message = before if state is None else self._message(frame.camera, drift, state, published)
        drift.watched = Watched(frame.key, features, message)
        if state is not None and message is not None:
            drift.paused = None
            self._tell(message, before)
        if time.monotonic() >= self._save_at:
            self._save()

    def start(self) -> None:
        """Start the threads: one writes the states, two wait for fits of days and of minutes."""
        self._writer.start()
        self._fitter.start()
        self._tutor.start()

    def stop(self) -> None:
        """Save what the monitors know. After the frame loop's end; may be called twice."""
        if not self._stopped.is_set():
            self._stopped.set()
            for drift in self._by_camera.values():
                drift.flush()
            for commissioning in self._commissionings.values():
                commissioning.stop()
            for seen in self._seen.values():
                seen.stop()
            for learner in self._learners.values():
                learner.stop()
            self._save()

    def join(self, timeout_s: float) -> bool:
        """Wait until it is written; False where the disk hangs."""
        until_s = time.monotonic() + timeout_s
        threads = (self._fitter, self._tutor, self._writer)
        ended = [thread.stop(max(0.0, until_s - time.monotonic())) for thread in threads]
        return all(ended)

    def fill_status(self, status: common_pb2.VehicleStatus) -> None:
        """Add nothing: the states are in the status as they were published."""

    def _commission(self, rows: DiskLane, run: str) -> dict[str, Commissioning]:
        if not self._config.commission_hours:
            return {}
        terms = Terms(
            self._config.commission_hours,
            self._config.target_hours * max(1, len(self._cameras)),
            NAMES,
            ORIGINS,
            run,
        )
        return {
            camera: Commissioning(
                camera,
                self._folder / camera,
                terms,
                self._disk,
                rows,
                self._writer.submit,
                self._fitter.submit,
                anew=self._seen[camera].camera_is_another,
            )
            for camera in self._cameras
        }

    def _begin(self, camera: str, published: Publication) -> CameraDrift:
        return CameraDrift(
            camera,
            self._config,
            max(1, len(self._cameras)),
            published.detections.model_digest,
            self._reference(published),
            self._configured,
            self._path(camera),
            self._commissionings.get(camera),
            self._seen[camera],
            self._learners.get(camera),
        )

    def _pause(self, frame: Frame, drift: CameraDrift, published: Publication) -> None:
        """Judge nothing while the vehicle is parked; what was seen before stays for when it drives on.

        An alarm stands meanwhile: nothing says that it has ended.
        """
        drift.rest(frame.captured_ns)
        before = drift.watched.state if drift.watched else None
        if drift.paused is not None or (before is not None and _is_alarm_of(drift, before)):
            return
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
        self, camera: str, drift: CameraDrift, state: DriftState, published: Publication
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
        kind = word(common_pb2.DriftKind, _KIND, state.kind)
        alarming = [one.name for one in state.features if one.verdict == common_pb2.DRIFT_VERDICT_ALARM]
        logger.log(
            logging.WARNING if alarming else logging.INFO,
            "camera %s: drift %s%s%s",
            state.camera,
            verdict,
            f" ({kind.replace('_', ' ')})" if alarming else "",
            f": {state.explanation}" if state.explanation else "",
            extra={
                "event": "drift_verdict",
                "camera": state.camera,
                "verdict": verdict,
                "kind": kind,
                "previous": word(common_pb2.DriftVerdict, _PREFIX, previous),
                "time_s": state.observed.monotonic_ns / 1e9,
                "features": alarming,
            },
        )
        for listener in self._listeners:
            listener(state, previous)

    def _save(self) -> None:
        self._save_at = time.monotonic() + SAVE_EVERY_S
        for commissioning in self._commissionings.values():
            self._writer.submit(commissioning.look)
        for camera, drift in self._by_camera.items():
            self._writer.submit(_Save(self._path(camera), drift.monitor.snapshot(), self._disk))

    def _path(self, camera: str) -> Path:
        return self._folder / f"{camera}.json"


def _is_alarm_of(drift: CameraDrift, state: common_pb2.DriftState) -> bool:
    """Whether a state is an alarm by what judges now."""
    judges = (drift.model, drift.monitor.reference.digest)
    return state.verdict == common_pb2.DRIFT_VERDICT_ALARM and judges == (
        state.model.sha256,
        state.reference_sha256,
    )


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
