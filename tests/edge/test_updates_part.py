"""The updates as a part of the daemon: a signed release from the nudge to its confirmation, or another end.

The repository, gRPC, slots and the part are the real ones. The frame loop is a stand-in that runs what it is
given, and says that it made frames whenever it is asked; the last test has the daemon itself.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.backoff import BackoffOptions
from edge.config import EdgeConfig, load_config
from edge.daemon import Daemon
from edge.messages import Clock
from edge.parts import Links, ModelStore, Parts
from edge.perception.model_change import ChangeOutcome, ChangeResult
from edge.perception.model_file import ModelFile, ModelFileError, parse_model_file
from edge.reload import Reloader
from edge.serve.client import PerceptionClient
from edge.updates.errors import SlotError, UpdateError
from edge.updates.hardware import hardware_ids
from edge.updates.models import SlotModels, open_slot_models
from edge.updates.part import Updates
from protos.release_facts import ReleaseFacts
from protos.traffic_vision.v1 import common_pb2, fleet_pb2, perception_pb2
from tests.daemons import write_config
from tests.models_factory import constant_model, golden_frame, loaded
from tests.update_world import LIMITS, World, model, open_world
from tests.waiting import eventually

SOON = BackoffOptions(initial_s=0.01, limit_s=0.05)
FRAMES = 50  # of a probation
BIG = model("big", padding=300_000)
WRONG = constant_model(
    [[20, 20, 10, 10, 0.9, 0, 0]], class_names=("blue", "green", "red"), golden=(golden_frame(),)
)
PROBATION = common_pb2.UPDATE_PHASE_PROBATION
CONFIRMED = common_pb2.UPDATE_PHASE_CONFIRMED
REVERTED = common_pb2.UPDATE_PHASE_REVERTED
REFUSED = common_pb2.UPDATE_PHASE_REFUSED
STAGED = common_pb2.UPDATE_PHASE_STAGED


class Vehicle:
    """A start of the daemon: the real store and part, and a frame loop that the test drives."""

    def __init__(self, world: World, config: EdgeConfig) -> None:
        assert config.updates is not None
        self.models = open_slot_models(config)
        self.running = self.models.active()
        self.published = self.errors = 0
        self.publishing = self.erring = 0  # frames from one look at the status to the next
        self.answers: list[ChangeResult] = []  # to changes of model, before it is done as asked
        self.asked: list[str] = []  # digests, in order
        self.on_probation_at: list[bool] = []  # whether the slots said so when each was asked
        self.told: list[common_pb2.ModelState] = []
        links = Links(Clock("run"), "run", self.status, lambda state: None, self.change)
        self.updates = Updates(
            self.models,
            config.updates,
            world.channel,
            links,
            limits=LIMITS,
            retry=SOON,
            change_retry=SOON,
        )
        self.updates.listen(self.told.append)

    def status(self) -> common_pb2.VehicleStatus:
        self.published += self.publishing
        self.errors += self.erring
        about = self.running.metadata
        active = common_pb2.ModelRef(sha256=self.running.digest, name=about.name, version=about.version)
        counts = [
            common_pb2.FrameCount(outcome=common_pb2.FRAME_OUTCOME_PUBLISHED, frames=self.published),
            common_pb2.FrameCount(outcome=common_pb2.FRAME_OUTCOME_INFERENCE_ERROR, frames=self.errors),
        ]
        status = common_pb2.VehicleStatus(
            model=common_pb2.ModelState(active=active),
            cameras=[common_pb2.CameraStatus(camera="front", outcomes=counts)],
        )
        self.models.fill_state(status.model)
        self.updates.fill_status(status)
        return status

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
        return [state.phase for state in self.told]

    def stop(self) -> None:
        self.updates.stop()
        assert self.updates.join(30)
        self.models.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = open_world(tmp_path / "cloud")
    yield opened
    opened.close()


@pytest.fixture
def config(world: World, tmp_path: Path) -> EdgeConfig:
    return configured(tmp_path / "vehicle", world.root)


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
        self.vehicles: list[Vehicle] = []

    def __call__(self, *, start: bool = True) -> Vehicle:
        for vehicle in self.vehicles:
            vehicle.stop()
        self.vehicles.append(Vehicle(self.world, self.config))
        if start:
            self.vehicles[-1].updates.start()
        return self.vehicles[-1]

    def release(self, data: bytes) -> ReleaseFacts:
        return self.world.release(data, hardware_ids=hardware_ids(("cpu",)))

    def confirmed(self, data: bytes) -> Vehicle:
        """A vehicle that has this release, confirmed."""
        facts = self.release(data)
        vehicle = self()
        vehicle.publishing = FRAMES
        eventually(lambda: vehicle.models.slots.state.release_floor == facts.release_counter, "confirmed")
        return vehicle


@pytest.fixture
def start(world: World, config: EdgeConfig) -> Iterator[Garage]:
    garage = Garage(world, config)
    yield garage
    for vehicle in garage.vehicles:
        vehicle.stop()


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        event for record in caplog.records if (event := getattr(record, "event", "")).startswith("update_")
    ]


def test_a_nudge_brings_a_release_up_to_its_confirmation(
    start: Garage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    vehicle = start()
    eventually(lambda: vehicle.status().HasField("metadata_expires_wall_ns"), "the first check")
    facts = start.release(BIG)
    vehicle.updates.nudge(facts.release_counter)
    state = vehicle.until(PROBATION)
    assert vehicle.running.data == BIG
    assert (state.active.sha256, state.active_slot) == (facts.model_sha256, common_pb2.SLOT_A)
    assert state.last_good.version == "factory"
    second = start.release(model("2"))
    asked = len(start.world.server.asked)
    vehicle.updates.nudge(second.release_counter)
    vehicle.until(PROBATION)
    assert vehicle.asked == [facts.model_sha256], "without frames it goes on, and it comes first"
    assert len(start.world.server.asked) == asked
    vehicle.publishing = FRAMES
    eventually(lambda: vehicle.running.digest == second.model_sha256, "what came during the probation")
    phases = [phase for phase in vehicle.phases() if phase != common_pb2.UPDATE_PHASE_IDLE]
    downloading = phases.index(common_pb2.UPDATE_PHASE_DOWNLOADING)
    assert phases[downloading - 1 : downloading + 5] == [
        common_pb2.UPDATE_PHASE_CHECKING,
        common_pb2.UPDATE_PHASE_DOWNLOADING,
        common_pb2.UPDATE_PHASE_VERIFYING,
        STAGED,
        PROBATION,
        CONFIRMED,
    ]
    eventually(lambda: len(events(caplog)) >= 5, "the log")
    assert events(caplog)[:5] == [
        "update_staged",
        "update_activated",
        "update_confirmed",
        "update_staged",
        "update_activated",
    ]
    assert vehicle.models.newest_counter == 2, "a nudge for it asks nothing"


def test_a_model_that_fails_its_check_is_bad_and_not_tried_again(
    start: Garage, caplog: pytest.LogCaptureFixture
) -> None:
    facts = start.release(model("1"))
    vehicle = start(start=False)
    vehicle.answer(ChangeOutcome.REFUSED, "golden frames failed: 1 of 1", is_final=True)
    vehicle.updates.start()
    state = vehicle.until(REFUSED)
    assert "golden frames failed" in state.detail
    assert state.candidate.sha256 == facts.model_sha256
    checks = start.world.server.asked.count("timestamp")
    vehicle.updates.nudge(0)
    eventually(lambda: start.world.server.asked.count("timestamp") > checks, "another check")
    assert vehicle.until(REFUSED).detail == state.detail, "it is still said why"
    assert vehicle.asked == [facts.model_sha256]
    assert list(vehicle.status().model.bad_sha256) == [facts.model_sha256]
    assert "update_refused" in events(caplog)


@pytest.mark.parametrize(
    ("outcome", "detail"),
    [
        (ChangeOutcome.BUSY, "another change of model is under way"),
        (ChangeOutcome.REFUSED, "no frame was finished in 30 s: inference hangs"),
    ],
)
def test_what_is_not_the_models_fault_is_tried_again(
    start: Garage, outcome: ChangeOutcome, detail: str
) -> None:
    facts = start.release(model("1"))
    vehicle = start(start=False)
    vehicle.answer(outcome, detail)
    vehicle.updates.start()
    vehicle.until(PROBATION)
    assert vehicle.asked == [facts.model_sha256] * 2
    assert not vehicle.models.slots.state.bad


def test_a_crash_during_the_probation_reverts(start: Garage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    facts = start.release(model("1"))
    vehicle = start()
    vehicle.until(PROBATION)
    factory = parse_model_file(model("factory"), "test")
    vehicle.updates.model_failed(vehicle.running, "the device is gone")
    state = vehicle.until(REVERTED)
    assert vehicle.running.digest == state.active.sha256 == factory.digest
    assert vehicle.asked == [facts.model_sha256, factory.digest]
    assert vehicle.on_probation_at == [False, True], "the old model runs before the slots say so"
    assert "the device is gone" in state.detail
    assert list(state.bad_sha256) == [facts.model_sha256]
    checks = start.world.server.asked.count("timestamp")
    vehicle.updates.nudge(0)
    eventually(lambda: start.world.server.asked.count("timestamp") > checks, "another check")
    vehicle.until(REVERTED)
    assert vehicle.asked == [facts.model_sha256, factory.digest], "it is still offered, and not taken"
    assert "update_reverted" in events(caplog)
    assert start().running.digest == factory.digest


def test_inference_errors_that_the_old_model_had_not_revert(start: Garage) -> None:
    start.release(model("1"))
    vehicle = start(start=False)
    vehicle.published, vehicle.errors = 1000, 1
    vehicle.updates.start()
    vehicle.until(PROBATION)
    vehicle.publishing = vehicle.erring = 10
    assert "frames ended in an inference error (50%; before it, 0%)" in vehicle.until(REVERTED).detail


def test_a_fall_back_waits_for_another_change_and_takes_the_next_where_one_is_refused(start: Garage) -> None:
    first = start.confirmed(model("1")).running
    second = start.release(model("2"))
    vehicle = start()
    vehicle.until(PROBATION)
    vehicle.answer(ChangeOutcome.BUSY)
    vehicle.answer(ChangeOutcome.REFUSED, "it does not load any more", is_final=True)
    vehicle.updates.model_failed(vehicle.running, "it broke")
    vehicle.until(REVERTED)
    factory = parse_model_file(model("factory"), "test").digest
    assert vehicle.asked == [second.model_sha256, first.digest, first.digest, factory]
    state = vehicle.until(REVERTED)
    assert (state.active.sha256, state.active_slot) == (factory, common_pb2.SLOT_FACTORY)
    assert start().running.digest == first.digest, "the next start tries the last good one"


def test_a_confirmed_model_that_crashes_is_set_aside_and_not_called_bad(
    start: Garage, caplog: pytest.LogCaptureFixture
) -> None:
    vehicle = start.confirmed(model("1"))
    crashed = vehicle.running
    vehicle.updates.model_failed(crashed, "it broke")
    eventually(lambda: vehicle.running.metadata.version == "factory", "the factory's model")
    eventually(lambda: "is set aside" in vehicle.until(CONFIRMED).detail, "its reason")
    state = vehicle.until(CONFIRMED)
    assert state.active_slot == common_pb2.SLOT_FACTORY
    assert not state.bad_sha256
    vehicle.updates.model_failed(vehicle.running, "the device is gone")
    eventually(
        lambda: any(record.__dict__.get("event") == "model_stuck" for record in caplog.records), "stuck"
    )
    assert vehicle.running.metadata.version == "factory", "there is no other, and it is tried on"
    assert start().running.digest == crashed.digest
    third = start.release(model("3"))
    start.vehicles[-1].updates.nudge(third.release_counter)
    eventually(lambda: start.vehicles[-1].running.digest == third.model_sha256, "the next release")


def test_a_restart_goes_on_with_the_probation_and_counts(start: Garage) -> None:
    facts = start.release(model("1"))
    start().until(PROBATION)
    vehicle = start()
    assert vehicle.running.digest == facts.model_sha256
    assert vehicle.models.slots.state.probation_starts == 1
    assert vehicle.until(PROBATION).detail == ""
    vehicle.publishing = FRAMES
    assert vehicle.until(CONFIRMED).last_good.sha256 == facts.model_sha256
    assert vehicle.asked == []


def test_a_probation_that_never_ends_reverts_at_a_start(
    start: Garage, caplog: pytest.LogCaptureFixture
) -> None:
    start.release(model("1"))
    start().until(PROBATION)
    for _ in range(3):
        assert start().running.metadata.version == "1"
    assert start().running.metadata.version == "factory"
    assert any(record.__dict__.get("event") == "model_fallback" for record in caplog.records)


def test_a_stop_during_a_download_that_hangs(start: Garage) -> None:
    facts = start.release(BIG)
    inner = start.world.server.target

    def hangs(request: fleet_pb2.FetchTargetRequest) -> Iterator[fleet_pb2.FetchTargetResponse]:
        yield next(inner(request))
        start.world.server.hung_up.wait(60)

    start.world.server.target = hangs
    vehicle = start()
    eventually(lambda: vehicle.status().model.received_bytes > 0, "the first chunk")
    state = vehicle.status().model
    assert (state.phase, state.total_bytes) == (common_pb2.UPDATE_PHASE_DOWNLOADING, len(BIG))
    assert state.candidate.sha256 == facts.model_sha256
    vehicle.updates.stop()
    start.world.channel.close()
    assert vehicle.updates.join(30)
    with pytest.raises(SlotError, match="closed"):
        vehicle.models.slots.mark_bad("a" * 64, "on purpose")


def test_a_part_that_was_never_started_can_be_stopped(start: Garage) -> None:
    vehicle = start(start=False)
    vehicle.updates.stop()
    vehicle.updates.stop()
    assert vehicle.updates.join(0)


def test_what_is_staged_is_put_in_though_the_cloud_is_away(start: Garage) -> None:
    facts = start.release(model("1"))
    vehicle = start(start=False)
    for _ in range(100):
        vehicle.answer(ChangeOutcome.BUSY)
    vehicle.updates.start()
    vehicle.until(STAGED)
    vehicle.stop()
    start.world.stop_server()
    away = start()
    away.until(PROBATION)
    assert away.running.digest == facts.model_sha256


def test_a_candidate_that_was_damaged_is_fetched_anew(start: Garage) -> None:
    start.release(model("1"))
    vehicle = start(start=False)
    for _ in range(100):
        vehicle.answer(ChangeOutcome.BUSY)
    vehicle.updates.start()
    vehicle.until(STAGED)
    vehicle.stop()
    path = vehicle.models.slots.content("a").model_path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    again = start()
    again.until(PROBATION)
    assert again.running.data == model("1")
    assert not again.models.slots.state.bad


# By hand.


def staged_and_left(start: Garage, data: bytes) -> Vehicle:
    """A vehicle with a candidate that its own thread does not come to put in."""
    start.release(data)
    vehicle = start(start=False)
    for _ in range(1000):
        vehicle.answer(ChangeOutcome.BUSY)
    vehicle.updates.start()
    vehicle.until(STAGED)
    return vehicle


def test_a_reload_by_hand_of_the_staged_candidate_begins_its_probation(start: Garage) -> None:
    vehicle = staged_and_left(start, model("1"))
    candidate = vehicle.models.read(common_pb2.SLOT_UNSPECIFIED)
    assert candidate is not None and candidate.data == model("1") and candidate.path is None
    vehicle.running = candidate
    vehicle.models.activated(common_pb2.SLOT_UNSPECIFIED, candidate)
    vehicle.models.activated(common_pb2.SLOT_UNSPECIFIED, candidate)
    eventually(lambda: PROBATION in vehicle.phases(), "its probation is told")
    eventually(lambda: vehicle.models.slots.state.on_probation, "and begun")
    vehicle.until(PROBATION)
    eventually(lambda: vehicle.models.read(common_pb2.SLOT_UNSPECIFIED) is None, "no candidate any more")


@pytest.mark.parametrize("slot", [common_pb2.SLOT_LAST_GOOD, common_pb2.SLOT_FACTORY])
def test_another_model_by_hand_ends_a_probation(start: Garage, slot: common_pb2.Slot) -> None:
    start.confirmed(model("1"))
    failed = start.release(model("2"))
    vehicle = start()
    vehicle.until(PROBATION)
    chosen = vehicle.models.read(slot)
    assert chosen is not None
    vehicle.running = chosen
    vehicle.models.activated(slot, chosen)
    state = vehicle.until(REVERTED)
    assert "by hand" in state.detail and list(state.bad_sha256) == [failed.model_sha256]
    assert state.active.sha256 == chosen.digest
    assert vehicle.models.slots.active().release is not None, "release 1 comes back at the next start"


def test_the_factory_model_by_hand_lasts_until_the_next_start(start: Garage) -> None:
    vehicle = start.confirmed(model("1"))
    confirmed = vehicle.running
    factory = vehicle.models.read(common_pb2.SLOT_FACTORY)
    assert factory is not None
    vehicle.running = factory
    vehicle.models.activated(common_pb2.SLOT_FACTORY, factory)
    assert vehicle.until(CONFIRMED).active_slot == common_pb2.SLOT_FACTORY
    assert start().running.digest == confirmed.digest


def test_a_reload_says_what_could_not_be_kept(start: Garage, monkeypatch: pytest.MonkeyPatch) -> None:
    vehicle = staged_and_left(start, model("1"))
    candidate = vehicle.models.read(common_pb2.SLOT_UNSPECIFIED)
    assert candidate is not None

    class Changer:
        active = candidate

        def change(self, model: ModelFile) -> ChangeResult:
            vehicle.running = model
            return ChangeResult(ChangeOutcome.SWAPPED, model)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("edge.updates.slots.atomic_write", full)
        reloader = Reloader(vehicle.models, Changer())  # type: ignore[arg-type]
        answer = reloader.reload(perception_pb2.ReloadModelRequest())
    assert answer.outcome == perception_pb2.RELOAD_OUTCOME_SWAPPED
    assert "No space left" in answer.detail
    vehicle.answers.clear()
    vehicle.until(PROBATION)  # the part finds that it runs, and notes it


def test_what_may_not_be_chosen_by_hand(start: Garage) -> None:
    start.confirmed(model("1"))
    start.confirmed(model("2"))
    models = start.vehicles[-1].models
    with pytest.raises(UpdateError, match="release 1, and release 2 was confirmed"):
        models.read(common_pb2.SLOT_A)
    newest = models.read(common_pb2.SLOT_B)
    assert newest is not None and newest.data == model("2")
    assert models.read(common_pb2.SLOT_UNSPECIFIED) is None
    assert models.read(9) is None  # type: ignore[arg-type]  # a newer client's


# At the start.


def test_a_slot_that_was_damaged_falls_back_and_is_fetched_again(
    start: Garage, caplog: pytest.LogCaptureFixture
) -> None:
    vehicle = start.confirmed(model("1"))
    vehicle.stop()
    path = vehicle.models.slots.content("a").model_path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    again = start()
    assert again.models.slots.state.active == "factory"
    (record,) = [record for record in caplog.records if record.__dict__.get("event") == "model_fallback"]
    assert "not the bytes that were signed" in record.getMessage()
    eventually(lambda: again.running.metadata.version == "1", "it is fetched again")


def test_a_slot_with_what_this_program_cannot_read_falls_back(
    start: Garage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an older program was installed: signed and whole, of a schema that it does not know."""
    start.confirmed(model("1")).stop()

    def parse(data: bytes, origin: str) -> ModelFile:
        if data == model("1"):
            raise ModelFileError(f"{origin}: schema 2")
        return parse_model_file(data, origin)

    monkeypatch.setattr("edge.updates.models.parse_model_file", parse)
    vehicle = start()
    assert vehicle.running.metadata.version == "factory"
    assert "schema 2" in vehicle.until(REFUSED).detail, "offered again, and refused for good"
    assert vehicle.asked == []


@pytest.mark.parametrize("damage", ["", "{}", "not JSON", json.dumps({"signed": {"_type": "root"}})])
def test_a_root_that_is_none_is_one_clear_error(config: EdgeConfig, damage: str) -> None:
    assert config.updates is not None
    config.updates.root.write_text(damage)
    with pytest.raises(UpdateError, match=r"updates\.root .*root\.json.*: no root metadata of TUF"):
        open_slot_models(config)


def test_a_root_without_its_signatures_is_refused(world: World, config: EdgeConfig) -> None:
    document = json.loads(world.root)
    document["signatures"] = document["signatures"][:1]
    assert config.updates is not None
    config.updates.root.write_text(json.dumps(document))
    with pytest.raises(UpdateError, match="no root metadata of TUF"):
        open_slot_models(config)


# With the daemon.


class Factory:
    def __init__(self, world: World) -> None:
        self.world = world
        self.updates: Updates | None = None
        self.models: SlotModels | None = None
        self.told: list[common_pb2.ModelState] = []

    def open_models(self, config: EdgeConfig) -> ModelStore:
        self.models = open_slot_models(config)
        return self.models

    def build_parts(self, config: EdgeConfig, links: Links) -> Parts:
        assert self.models is not None and config.updates is not None
        self.updates = Updates(self.models, config.updates, self.world.channel, links, limits=LIMITS)
        self.updates.listen(self.told.append)
        return Parts(background=(self.updates,), updates=self.updates)


def refused_state(client: PerceptionClient) -> common_pb2.ModelState:
    found = common_pb2.ModelState()

    def holds() -> bool:
        found.CopyFrom(client.status().status.model)
        return found.phase == REFUSED

    eventually(holds, "a refusal, and no check under way")
    return found


@pytest.mark.services
def test_a_daemon_takes_a_good_release_and_refuses_a_wrong_one(world: World, tmp_path: Path) -> None:
    config = configured(tmp_path / "vehicle", world.root, "sim:7?seconds=0&rate=10&size=64x64")
    factory = Factory(world)
    daemon = Daemon(config, factory)
    daemon.startup()
    try:
        assert factory.updates is not None
        good = world.release(model("1"), hardware_ids=hardware_ids(("cpu",)))
        factory.updates.nudge(good.release_counter)
        eventually(lambda: any(state.phase == CONFIRMED for state in factory.told), "its confirmation")
        wrong = world.release(WRONG, hardware_ids=hardware_ids(("cpu",)))
        factory.updates.nudge(wrong.release_counter)
        eventually(lambda: any(state.phase == REFUSED for state in factory.told), "its refusal")
        with PerceptionClient(daemon.address) as client:
            state = refused_state(client)
            assert (state.active.sha256, state.active_slot) == (good.model_sha256, common_pb2.SLOT_A)
            assert "golden frames failed" in state.detail
            assert list(state.bad_sha256) == [wrong.model_sha256] == [loaded(WRONG).digest]
            by_hand = client.reload(common_pb2.SLOT_FACTORY)
            assert by_hand.outcome == perception_pb2.RELOAD_OUTCOME_SWAPPED
            assert client.reload().outcome == perception_pb2.RELOAD_OUTCOME_NOTHING_THERE
    finally:
        daemon.shutdown()
    again = Daemon(config, Factory(world))
    again.startup()
    try:
        with PerceptionClient(again.address) as client:
            assert client.status().status.model.active.sha256 == good.model_sha256
    finally:
        again.shutdown()
    assert not [thread for thread in threading.enumerate() if thread.name == "updates"]
