"""One simulated vehicle: everything of its updates is the daemon's own, but the frame loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.backoff import BackoffOptions
from edge.config import UpdatesConfig
from edge.fleet.channel import ChannelOptions, open_channel
from edge.fleet.control import ControlClient
from edge.fleet.control_terms import ControlHandlers, ControlOptions
from edge.fleet.spool import Spool
from edge.health import LoopHealth
from edge.messages import Clock, model_ref_of
from edge.parts import Links
from edge.perception.detector import DetectorOptions
from edge.perception.model_change import ChangeOutcome, ChangeResult
from edge.perception.model_file import ModelFile
from edge.perception.on_demand import OnDemand
from edge.updates.frame_records import FrameRecord, FrameRecords
from edge.updates.models import SlotModels
from edge.updates.part import HOLD_S, Updates
from edge.updates.shadow import Shadow
from edge.updates.slots import Slots
from edge.updates.trust import Vehicle
from protos.traffic_vision.v1 import common_pb2, perception_pb2

HARDWARE = "x86_64-cpu"
FRAMES_HZ = 10.0
AGE_MS = 80.0  # of a detection at p99, as the vehicle reports it
BAD = "bad"  # a model whose version begins so fails on some vehicles
CRASH_AFTER_S = 0.5  # of a model that fails
PROBATION_S = 1.0
PROBATION_FRAMES = 10
BACKOFF = BackoffOptions(0.5, 5.0)

Hear = Callable[[str, int], None]  # an event and the release counter that it is about


@dataclass(frozen=True, slots=True)
class Place:
    """Where a simulated vehicle lives.

    Attributes:
        address: of the cloud, HOST:PORT.
        identity: folder with `ca.crt`, `client.crt`, `client.key`, `root.json`.
        state: folder for its slots.
        factory: the model that it starts with.
    """

    address: str
    identity: Path
    state: Path
    factory: Path


class SimulatedVehicle:
    """Control stream and updates of one vehicle. `fails`: a bad model crashes on it."""

    def __init__(self, name: str, place: Place, fails: bool, hear: Hear) -> None:
        """Open everything; nothing is said before `start`."""
        self._fails, self._hear = fails, hear
        self._began_s = time.monotonic()
        self._timers: list[threading.Timer] = []
        self._recording = threading.Lock()
        place.state.mkdir(parents=True, exist_ok=True)
        self._channel = open_channel(
            ChannelOptions(
                place.address,
                place.identity / "ca.crt",
                place.identity / "client.crt",
                place.identity / "client.key",
                backoff=BACKOFF,
            )
        )
        root = (place.identity / "root.json").read_bytes()
        vehicle = Vehicle(frozenset({HARDWARE}), "1.0")
        self._models = SlotModels(Slots(place.state / "slots", place.factory, root, vehicle))
        self._running = self._models.active()
        config = UpdatesConfig.model_construct(
            root=place.identity / "root.json",
            check_interval_s=3600.0,
            probation_s=PROBATION_S,
            probation_frames=PROBATION_FRAMES,
        )
        self._records, self._recorded = FrameRecords(), 0
        self._updates = Updates(
            self._models,
            config,
            self._channel,
            self._links(name),
            records=self._records,
            shadow=Shadow(DetectorOptions()),
            hold_s=HOLD_S,
        )
        handlers = ControlHandlers(
            status=self.status,
            update_nudge=self._updates.nudge,
            sample_request=lambda request: "there is no camera",
            upload_budget=lambda budget: None,
            assignment=self._updates.assign,
        )
        options = ControlOptions("1.0", (HARDWARE,), f"instance-{name}", backoff=BACKOFF)
        self._control = ControlClient(
            self._channel, Spool(place.state / "events", is_optional=False), handlers, options
        )
        self._updates.listen(self._control.model_changed)

    @property
    def connected(self) -> bool:
        """The cloud has welcomed it."""
        return self._control.status().stream.connected

    @property
    def confirmed(self) -> int:
        """The highest release counter that it has confirmed."""
        return self._models.slots.state.release_floor

    def start(self) -> None:
        """Start its threads, as the daemon does."""
        self._control.start()
        self._updates.start()

    def stop(self) -> None:
        """Ask everything to end."""
        for timer in self._timers:
            timer.cancel()
        self._updates.stop()
        self._control.stop(0.0)
        self._channel.close()

    def join(self) -> None:
        """Wait for the threads."""
        self._updates.join(5.0)
        self._control.stop(5.0)
        self._models.close()

    def status(self) -> common_pb2.VehicleStatus:
        """As of a vehicle that drives, with one camera."""
        frames = round((time.monotonic() - self._began_s) * FRAMES_HZ)
        self._record(frames)
        count = common_pb2.FrameCount(outcome=common_pb2.FRAME_OUTCOME_PUBLISHED, frames=frames)
        camera = common_pb2.CameraStatus(
            camera="front",
            state=common_pb2.CAMERA_STATE_FRESH,
            outcomes=[count],
            captured_frames=frames,
            age_p99_ns=round(AGE_MS * 1e6),
        )
        status = common_pb2.VehicleStatus(
            cameras=[camera], model=common_pb2.ModelState(active=model_ref_of(self._running))
        )
        self._models.fill_state(status.model)
        self._updates.fill_status(status)
        return status

    def _record(self, frames: int) -> None:
        """What was published since the last time, for the probation."""
        with self._recording:
            for number in range(self._recorded, frames):
                time_ns = round(number / FRAMES_HZ * 1e9)
                record = FrameRecord(self._running.digest, "front", time_ns, False, "", AGE_MS, 1)
                self._records.add(record)
            self._recorded = max(frames, self._recorded)

    def _change(self, model: ModelFile) -> ChangeResult:
        if model.digest == self._running.digest:
            return ChangeResult(ChangeOutcome.ALREADY_ACTIVE, self._running)
        self._running = model
        self._hear(f"runs {model.metadata.version}", self._models.slots.state.release_floor)
        if self._fails and model.metadata.version.startswith(BAD):
            timer = threading.Timer(
                CRASH_AFTER_S, self._updates.model_failed, (model, "on purpose, by the benchmark")
            )
            self._timers = [timer]
            timer.start()
        return ChangeResult(ChangeOutcome.SWAPPED, model)

    def _links(self, name: str) -> Links:
        return Links(
            clock=Clock(name),
            run_id=name,
            status=self.status,
            publish_drift=lambda state: None,
            change_model=self._change,
            reload_model=lambda request: perception_pb2.ReloadModelResponse(),
            detect=OnDemand().detect,
            loop_health=lambda: LoopHealth(is_running=True, stepped_ns=time.monotonic_ns()),
            troubles=lambda: (),
        )
