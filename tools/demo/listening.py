"""Listening to the vehicle as a local program does, and looking into the cloud's books."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable

from sqlalchemy import select

from cloud.config import CloudConfig
from cloud.pipeline.trigger import DRIFT
from cloud.store import Store, open_database
from cloud.store.models import Sample
from edge.errors import TrafficVisionError
from edge.serve.client import ClientError, PerceptionClient
from protos.traffic_vision.v1 import common_pb2
from protos.words import word
from tools.demo.record import DriftPoint
from tools.demo.story import Publication, Story, VehicleNow

_EVERY_S = 0.5
_JOIN_S = 3.0

logger = logging.getLogger(__name__)


class Listener:
    """Threads that fill the story, until it is closed."""

    def __init__(self, story: Story, address: str, config: CloudConfig) -> None:
        """Start them.

        Args:
            story: to fill.
            address: of the vehicle's perception service.
            config: of the cloud.
        """
        self._story = story
        self._client = PerceptionClient(address)
        self._store: Store = open_database(config.store.database)
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(listen,), name=f"demo-{name}", daemon=True)
            for name, listen in (
                ("detections", self._detections),
                ("drift", self._drift),
                ("status", self._status),
                ("books", self._books),
            )
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the threads."""
        self._closing.set()
        self._client.close()
        for thread in self._threads:
            thread.join(_JOIN_S)
        self._look_into_the_books()
        self._store.close()

    def __enter__(self) -> Listener:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _guarded(self, listen: Callable[[], None]) -> None:
        try:
            listen()
        except TrafficVisionError as error:  # a daemon that ends while it is asked
            if not self._closing.is_set():
                self._story.say(f"{threading.current_thread().name}: {error}")
        except Exception:  # the thread's top
            logger.exception("%s failed", threading.current_thread().name)

    def _detections(self) -> None:
        # No box is wanted, but that every frame was answered, when, and by which model.
        for message in self._client.detections(min_score=1.0, queue_limit=1000):
            found = message.detections
            self._story.published(
                Publication(
                    sequence=found.frame.sequence,
                    published_ns=found.published.monotonic_ns,
                    drive_s=found.frame.captured.monotonic_ns / 1e9,
                    model=found.model.sha256,
                )
            )

    def _drift(self) -> None:
        for message in self._client.drift():
            point = drift_point(message.state)
            with self._story.changed:
                self._story.drift.append(point)
                self._story.changed.notify_all()

    def _status(self) -> None:
        while not self._closing.is_set():
            try:
                status = self._client.status().status
            except ClientError:
                pass  # the stop of the daemon, or its end, which the run sees by itself
            except ValueError:  # grpc's way to say that the client is closed
                return
            else:
                with self._story.changed:
                    self._story.vehicle = vehicle_now(status)
                    self._story.changed.notify_all()
            self._closing.wait(_EVERY_S)

    def _books(self) -> None:
        while not self._closing.wait(_EVERY_S):
            self._look_into_the_books()

    def _look_into_the_books(self) -> None:
        with self._store.reading() as session:
            rows = session.execute(select(Sample.state, Sample.reasons)).all()
        states = Counter(state.value for state, _ in rows)
        drift = sum(DRIFT in reasons for _, reasons in rows)
        with self._story.changed:
            self._story.samples = {**states, "stored": len(rows), "drift": drift}
            self._story.changed.notify_all()


def vehicle_now(status: common_pb2.VehicleStatus) -> VehicleNow:
    """Read the daemon's status."""
    camera = status.cameras[0] if status.cameras else common_pb2.CameraStatus()
    ways = {
        word(common_pb2.FrameOutcome, "FRAME_OUTCOME_", count.outcome): count.frames
        for count in camera.outcomes
    }
    phase = word(common_pb2.UpdatePhase, "UPDATE_PHASE_", status.model.phase)
    return VehicleNow(
        fps=camera.published_hz,
        frames={"captured": camera.captured_frames, **ways},
        resident_mb=status.resident_bytes / 1e6,
        spooled=status.spool.samples,
        model=f"{status.model.active.name} {status.model.active.version}",
        phase=phase,
        connected=status.connected_to_cloud,
        ended=camera.state == common_pb2.CAMERA_STATE_ENDED,
    )


def drift_point(state: common_pb2.DriftState) -> DriftPoint:
    """Read a drift state; of a feature's windows the one with the greatest distance counts."""
    ks: dict[str, float] = {}
    alarming: list[str] = []
    for feature in state.features:
        ks[feature.name] = max(ks.get(feature.name, 0.0), feature.ks_d)
        if feature.verdict == common_pb2.DRIFT_VERDICT_ALARM and feature.name not in alarming:
            alarming.append(feature.name)
    verdict = word(common_pb2.DriftVerdict, "DRIFT_VERDICT_", state.verdict)
    return DriftPoint(
        drive_s=state.observed.monotonic_ns / 1e9,
        verdict=verdict,
        context=state.context,
        ks=ks,
        alarming=tuple(alarming),
        model=state.model.sha256,
    )
