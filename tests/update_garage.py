"""Vehicles that take updates: the repository, gRPC, slots and the part are the real ones.

The frame loop is a stand-in that runs what it is given, and says that it made frames whenever it is asked.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.backoff import BackoffOptions
from edge.config import EdgeConfig, load_config
from edge.frames.frame import Frame
from edge.health import LoopHealth
from edge.messages import Clock
from edge.parts import Links
from edge.perception.detector import Detections, DetectorOptions, StageTimes
from edge.perception.model_change import ChangeOutcome, ChangeResult
from edge.perception.model_file import ModelFile
from edge.perception.on_demand import OnDemand
from edge.publication import Publication
from edge.updates.client import utc_now
from edge.updates.frame_records import FrameRecord, FrameRecords
from edge.updates.good_start import GoodStart
from edge.updates.hardware import hardware_ids
from edge.updates.inbox import Inbox
from edge.updates.opening import open_slot_models
from edge.updates.part import Updates
from edge.updates.shadow import Shadow
from protos.release_facts import ReleaseFacts
from protos.traffic_vision.v1 import common_pb2, fleet_pb2, perception_pb2
from tests.daemons import write_config
from tests.models_factory import constant_model, golden_frame, picture
from tests.update_world import LIMITS, World, model
from tests.waiting import eventually

SOON = BackoffOptions(initial_s=0.01, limit_s=0.05)
FRAMES = 50  # of a probation
HANG_S = 120.0  # of a candidate in shadow
PERIOD_NS = 200_000_000  # between two frames
BIG = model("big", padding=300_000)
WRONG = constant_model(
    [[20, 20, 10, 10, 0.9, 0, 0]], class_names=("blue", "green", "red"), golden=(golden_frame(),)
)
PROBATION = common_pb2.UPDATE_PHASE_PROBATION
CONFIRMED = common_pb2.UPDATE_PHASE_CONFIRMED
REVERTED = common_pb2.UPDATE_PHASE_REVERTED
REFUSED = common_pb2.UPDATE_PHASE_REFUSED
STAGED = common_pb2.UPDATE_PHASE_STAGED


class Kept:
    """What a shadow gave away of what candidates find, and what became of it."""

    def __init__(self) -> None:
        self.said: list[str] = []  # each once for as long as it was said
        self.rows: list[tuple[str, str, int, np.ndarray]] = []

    def begin(self, model: str) -> None:
        self._say(f"begin {model}")

    def add(self, model: str, camera: str, time_ns: int, features: np.ndarray) -> None:
        self.rows.append((model, camera, time_ns, features))

    def passed(self) -> None:
        self._say("passed")

    def forget(self) -> None:
        self._say("forget")

    def _say(self, what: str) -> None:
        if self.said[-1:] != [what]:
            self.said.append(what)


class Vehicle:
    """A start of the daemon: the real store and part, and a frame loop that the test drives."""

    def __init__(
        self,
        world: World,
        config: EdgeConfig,
        clock: Callable[[], datetime] = utc_now,
        hold_s: float = 0.0,
        hang_s: float = HANG_S,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        assert config.updates is not None
        self.models = open_slot_models(config)
        self.running = self.models.active()
        self._counting = threading.Lock()
        self.published = self.errors = 0
        self.publishing = self.erring = 0  # frames from one look at the status to the next
        self.latency_ms, self.detections = 10.0, 2  # of each frame that is published
        self.parked = False
        self.image = picture((64, 96), (10, 10, 40, 50, "red"))
        self.found = np.array([[10, 10, 40, 50, 0.9, 2]], np.float32)  # by the active model
        self.frames_ns = 0  # the frames' time
        self.records = FrameRecords()
        self.moving = True
        self.keeper = Kept()
        self.shadow = Shadow(
            DetectorOptions(threads=1),
            lambda camera: self.parked,
            moving=lambda camera: self.moving,
            keeper=self.keeper,
            hang_s=hang_s,
        )
        self.answers: list[ChangeResult] = []  # to changes of model, before it is done as asked
        self.asked: list[str] = []  # digests, in order
        self.on_probation_at: list[bool] = []  # whether the slots said so when each was asked
        self.told: list[common_pb2.ModelState] = []
        links = Links(
            clock=Clock("run"),
            run_id="run",
            status=self.status,
            publish_drift=lambda state: None,
            change_model=self.change,
            reload_model=lambda request: perception_pb2.ReloadModelResponse(),
            detect=OnDemand().detect,
            loop_health=lambda: LoopHealth(is_running=True, stepped_ns=time.monotonic_ns()),
            troubles=lambda: (),
        )
        self.updates = Updates(
            self.models,
            config.updates,
            world.channel,
            links,
            inbox=Inbox(config.state_folder),
            records=self.records,
            shadow=self.shadow,
            limits=LIMITS,
            retry=SOON,
            change_retry=SOON,
            clock=clock,
            hold_s=hold_s,
            good_start=GoodStart(self.models, seconds),
        )
        self.updates.listen(self.told.append)

    def status(self) -> common_pb2.VehicleStatus:
        with self._counting:  # the updates' thread asks too, and what each is told belongs together
            published, errors = self._drive_on()
        about = self.running.metadata
        active = common_pb2.ModelRef(sha256=self.running.digest, name=about.name, version=about.version)
        counts = [
            common_pb2.FrameCount(outcome=common_pb2.FRAME_OUTCOME_PUBLISHED, frames=published),
            common_pb2.FrameCount(outcome=common_pb2.FRAME_OUTCOME_INFERENCE_ERROR, frames=errors),
        ]
        status = common_pb2.VehicleStatus(
            model=common_pb2.ModelState(active=active),
            cameras=[common_pb2.CameraStatus(camera="front", outcomes=counts)],
        )
        self.models.fill_state(status.model)
        self.updates.fill_status(status)
        return status

    def drive(self, publishing: int, erring: int) -> None:
        """So many frames of each kind from one look at the status to the next."""
        with self._counting:
            self.publishing, self.erring = publishing, erring

    def _drive_on(self) -> tuple[int, int]:
        self.published += self.publishing
        self.errors += self.erring
        for _ in range(self.publishing):
            self.frames_ns += PERIOD_NS
            self._show_to_shadow()
            self.records.add(
                FrameRecord(
                    self.running.digest,
                    "front",
                    self.frames_ns,
                    self.parked,
                    "day",
                    self.latency_ms,
                    self.detections,
                )
            )
        return self.published, self.errors

    def _show_to_shadow(self) -> None:
        frame = Frame("front", self.published, 0, self.frames_ns, self.image)
        found = Detections(self.found, self.running.digest, StageTimes(0, 0, 0))
        height, width = self.image.shape[:2]
        about = self.running.metadata
        self.shadow.observe(
            frame, Publication(frame.key, frame.captured_ns, True, height, width, found, about, 0, 0, 0)
        )

    def change(self, model: ModelFile) -> ChangeResult:
        self.asked.append(model.digest)
        self.on_probation_at.append(self.models.slots.state.on_probation)
        if self.answers:
            return dataclasses.replace(self.answers.pop(0), active=self.running)
        if model.digest == self.running.digest:
            return ChangeResult(ChangeOutcome.ALREADY_ACTIVE, self.running)
        self.running = model
        return ChangeResult(ChangeOutcome.SWAPPED, self.running)

    def answer(self, outcome: ChangeOutcome, detail: str = "", *, is_final: bool = False) -> None:
        self.answers.append(ChangeResult(outcome, self.running, detail, is_final))

    def until(self, phase: common_pb2.UpdatePhase) -> common_pb2.ModelState:
        found = common_pb2.ModelState()

        def holds() -> bool:
            found.CopyFrom(self.status().model)
            return found.phase == phase

        eventually(holds, common_pb2.UpdatePhase.Name(phase))
        return found

    def phases(self) -> list[common_pb2.UpdatePhase]:
        """In order, each once for as long as it lasted."""
        return [phase for phase, _ in itertools.groupby(state.phase for state in self.told)]

    def cut(self) -> None:
        """What is on disk is as after a power cut: nobody was told of a stop."""
        self.updates.loop_failed()
        self.stop()

    def stop(self) -> None:
        self.updates.stop()
        assert self.updates.join(30)
        self.models.close()


def configured(folder: Path, root: bytes, url: str = "sim:7?size=64x64") -> EdgeConfig:
    folder.mkdir(exist_ok=True)
    (folder / "root.json").write_bytes(root)
    (folder / "factory.onnx").write_bytes(model("factory"))
    updates = {"root": "root.json", "probation_s": 0.001, "probation_frames": FRAMES}
    # Never connected to: the world's own channel is used.
    cloud = {"address": "127.0.0.1:1", **dict.fromkeys(("ca", "cert", "key"), "root.json")}
    drive = {"url": url, "pace": "lockstep"}
    return load_config(write_config(folder, drive, updates=updates, cloud=cloud))


class Garage:
    """Starts vehicles, and stops what a test left running."""

    def __init__(self, world: World, config: EdgeConfig) -> None:
        self.world = world
        self.config = config
        self.hold_s, self.hang_s = 0.0, HANG_S
        self.vehicles: list[Vehicle] = []
        self.clock: Callable[[], datetime] = utc_now
        self.seconds: Callable[[], float] = time.monotonic  # by which a start goes well

    def __call__(self, *, start: bool = True) -> Vehicle:
        for vehicle in self.vehicles:
            vehicle.stop()
        self.vehicles.append(
            Vehicle(self.world, self.config, self.clock, self.hold_s, self.hang_s, self.seconds)
        )
        if start:
            self.vehicles[-1].updates.start()
        return self.vehicles[-1]

    def release(self, data: bytes, now: datetime | None = None, **terms: Any) -> ReleaseFacts:
        return self.world.release(data, now, hardware_ids=hardware_ids(("cpu",)), **terms)

    def staged(self, data: bytes) -> Vehicle:
        """A vehicle that has this release in a slot, and whose frame loop takes no other model."""
        self.release(data)
        vehicle = self(start=False)
        for _ in range(1000):
            vehicle.answer(ChangeOutcome.BUSY)
        vehicle.updates.start()
        vehicle.until(STAGED)
        return vehicle

    def confirmed(self, data: bytes) -> Vehicle:
        """A vehicle that has this release, confirmed."""
        facts = self.release(data)
        vehicle = self()
        vehicle.publishing = FRAMES
        eventually(lambda: vehicle.models.slots.state.release_floor == facts.release_counter, "confirmed")
        return vehicle


class SlowDownload:
    """A server that has a release's file, and gives little of it or nothing until it is let go."""

    def __init__(self, world: World, facts: ReleaseFacts, *, drips: bool) -> None:
        self._inner = world.server.target
        self._asked = world.server.asked
        self._path = facts.target_path
        self._drips = drips
        self._let_go = threading.Event()
        self._calls = 0
        world.server.target = self._target

    def __enter__(self) -> SlowDownload:
        return self

    def __exit__(self, *error: object) -> None:
        self.let_go()

    def let_go(self) -> None:
        self._let_go.set()

    def offsets(self) -> list[int]:
        """From where the file was asked for, in order."""
        calls = (asked.rpartition("@") for asked in tuple(self._asked))
        return [int(offset) for path, _, offset in calls if path == self._path]

    def _target(self, request: fleet_pb2.FetchTargetRequest) -> Iterator[fleet_pb2.FetchTargetResponse]:
        if request.path == self._path:
            self._calls += 1
            yield from self._slowly(request, self._calls)
        yield from self._inner(request)

    def _slowly(
        self, request: fleet_pb2.FetchTargetRequest, call: int
    ) -> Iterator[fleet_pb2.FetchTargetResponse]:
        """1 kB each 0.2 s, or but once, until the client asks anew, which frees the server's thread."""
        chunk = next(self._inner(request))
        chunk.data = chunk.data[:1024]
        while not self._let_go.is_set():
            yield chunk
            request.offset_bytes += len(chunk.data)
            chunk = next(self._inner(request))
            chunk.data = chunk.data[:1024]
            while not self._let_go.wait(0.2) and not self._drips and call == self._calls:
                pass
            if call != self._calls:
                return


@contextmanager
def garage(world: World, config: EdgeConfig) -> Iterator[Garage]:
    opened = Garage(world, config)
    yield opened
    for vehicle in opened.vehicles:
        vehicle.stop()


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        event for record in caplog.records if (event := getattr(record, "event", "")).startswith("update_")
    ]
