"""Updates by hand, at the start of the daemon, and with the daemon itself."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from edge.config import EdgeConfig
from edge.daemon import Daemon
from edge.parts import Links, ModelStore, Parts
from edge.perception.detector import DetectorOptions
from edge.perception.model_change import ChangeOutcome, ChangeResult
from edge.perception.model_file import ModelFile
from edge.reload import Reloader
from edge.serve.client import PerceptionClient
from edge.updates.errors import UpdateError
from edge.updates.frame_records import FrameRecords
from edge.updates.good_start import RUNS_WELL_S
from edge.updates.hardware import hardware_ids
from edge.updates.inbox import ROLLBACK, Inbox
from edge.updates.models import SlotModels
from edge.updates.opening import open_slot_models
from edge.updates.part import Updates
from edge.updates.shadow import Shadow
from protos.traffic_vision.v1 import common_pb2, perception_pb2
from tests.models_factory import loaded
from tests.update_attack import publish, with_release
from tests.update_garage import (
    CONFIRMED,
    PROBATION,
    REFUSED,
    REVERTED,
    WRONG,
    Garage,
    configured,
)
from tests.update_world import LIMITS, World, model
from tests.waiting import eventually

# By hand.


def test_a_reload_by_hand_of_the_staged_candidate_begins_its_probation(start: Garage) -> None:
    vehicle = start.staged(model("1"))
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
    vehicle = start.staged(model("1"))
    candidate = vehicle.models.read(common_pb2.SLOT_UNSPECIFIED)
    assert candidate is not None

    class Changer:
        active = candidate
        keep_frames = staticmethod(nullcontext)

        def change(self, model: ModelFile) -> ChangeResult:
            vehicle.running = model
            return ChangeResult(ChangeOutcome.SWAPPED, model)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("edge.updates.state_file.atomic_write", full)
        reloader = Reloader(vehicle.models, Changer())
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
    assert models.read(9) is None  # a newer client's


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


def test_a_slot_with_what_this_program_cannot_read_falls_back(start: Garage) -> None:
    """As after an older program was installed: signed and whole, of a schema that it does not know."""
    newer = model("1").replace(b'"schema": 1', b'"schema": 2')
    assert newer != model("1")
    signed = with_release(start.world, newer, 1, hardware_ids=hardware_ids(("cpu",)))
    publish(start.world, signed, [start.world.keys.signer("trainer"), start.world.keys.signer("gate")])
    models = open_slot_models(start.config)
    assert start.world.client(models.slots).check().staged is not None
    models.slots.activate()
    models.slots.confirm()
    models.close()
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
        records, shadow = FrameRecords(), Shadow(DetectorOptions())
        self.updates = Updates(
            self.models,
            config.updates,
            self.world.channel,
            links,
            records=records,
            shadow=shadow,
            limits=LIMITS,
        )
        self.updates.listen(self.told.append)
        return Parts(observers=(records, shadow), background=(self.updates,), updates=self.updates)


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


# Starts of a confirmed model.


@pytest.mark.parametrize("runs_s", [RUNS_WELL_S, RUNS_WELL_S - 1])
def test_a_model_that_runs_for_a_while_or_stops_in_order_is_in_no_crash_loop(
    start: Garage, runs_s: float
) -> None:
    now_s = [0.0]
    start.seconds = lambda: now_s[0]
    start.confirmed(model("1"))
    vehicle = start(start=False)
    assert vehicle.models.slots.state.starts == 1
    vehicle.updates.start()
    vehicle.until(CONFIRMED)
    now_s[0] = runs_s
    vehicle.updates.nudge(0)  # or it would come to look at its leisure
    if runs_s == RUNS_WELL_S:
        eventually(lambda: vehicle.models.slots.state.starts == 0, "its starts are counted anew")
    else:
        assert vehicle.models.slots.state.starts == 1
    vehicle.stop()
    assert vehicle.models.slots.state.starts == 0


def test_a_stop_after_a_defect_of_the_loop_is_not_in_order(start: Garage) -> None:
    start.confirmed(model("1"))
    vehicle = start()
    vehicle.until(CONFIRMED)
    vehicle.updates.loop_failed()
    vehicle.stop()
    assert vehicle.models.slots.state.starts == 1


def test_a_start_sweeps_what_nobody_comes_for_out_of_the_inbox(start: Garage) -> None:
    folder = start.config.state_folder / "inbox"
    folder.mkdir(parents=True)
    days_ago = time.time() - 2 * 86_400
    for name in ("old.answer", "old.copying", "old.else", "new.answer", "new.copying"):
        (folder / name).write_bytes(b"{}")
        if name.startswith("old"):
            os.utime(folder / name, (days_ago, days_ago))
    start()
    assert sorted(path.name for path in folder.iterdir()) == ["new.answer", "new.copying", "old.else"]


def test_a_rollback_by_hand_is_for_good(start: Garage) -> None:
    """It waits in the inbox; the frame loop exchanges, then the slots know, and the release is not wanted."""
    start.confirmed(model("1"))
    vehicle = start.confirmed(model("2"))
    taken = vehicle.running.digest
    inbox = Inbox(start.config.state_folder)
    vehicle.answer(ChangeOutcome.BUSY)
    answer = inbox.wait(inbox.wish("last_good", ROLLBACK), 30)
    assert not answer.is_installed and "try again" in answer.detail
    assert vehicle.running.digest == taken and not vehicle.models.slots.state.bad
    answer = inbox.wait(inbox.wish("last_good", ROLLBACK), 30)
    assert answer.is_installed and vehicle.running.metadata.version == "1"
    assert "taken back by hand" in vehicle.until(REVERTED).detail
    asked = start.world.server.asked
    asked.clear()
    again = start()
    eventually(lambda: "timestamp" in asked, "it has looked")
    again.stop()
    assert not any(name.startswith("models/") for name in asked)
    again = start()
    assert again.running.metadata.version == "1"
    start.release(model("3"))
    again.updates.nudge(0)
    eventually(lambda: again.running.metadata.version == "3", "a newer one is fetched")
