"""A bundle on a stick, and models that nobody signed: staged by the rules that hold for the network."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud.release.role_files import current_role
from edge.updates.client import UpdateClient
from edge.updates.errors import Refusal
from edge.updates.inbox import BUNDLE, Answer, Inbox, InboxError
from edge.updates.slots import Slots
from protos.traffic_vision.v1 import common_pb2 as common
from tests.bundles import install, refused, write_bundle
from tests.models_factory import loaded
from tests.update_attack import publish, with_release
from tests.update_garage import FRAMES, Garage
from tests.update_world import VEHICLE, World, edit, model, open_world
from tests.waiting import eventually

STAGED = common.UPDATE_PHASE_STAGED


def test_the_newest_release_of_a_bundle_is_staged(world: World, slots: Slots, tmp_path: Path) -> None:
    world.release(model("1"))
    facts = world.release(model("2", padding=200_000))
    result = install(slots, write_bundle(world, tmp_path / "stick"))
    assert (result.phase, result.release) == (STAGED, facts)
    assert slots.load(result.staged.slot).data == model("2", padding=200_000)
    assert slots.state.clock_floor_s > 0
    assert "is staged" in install(slots, tmp_path / "stick").detail


def test_a_vehicle_of_a_fleet_takes_that_fleets_release(world: World, tmp_path: Path) -> None:
    world.delegate("trucks")
    facts = {fleet: world.release(model(fleet or "car"), fleet=fleet) for fleet in ("trucks", None)}
    stick = write_bundle(world, tmp_path / "stick")
    for fleet, release in facts.items():
        slots = world.slots(tmp_path / (fleet or "car"), dataclasses.replace(VEHICLE, fleet=fleet))
        assert install(slots, stick).release == release
    vans = world.slots(tmp_path / "vans", dataclasses.replace(VEHICLE, fleet="vans"))
    refused(vans, stick, Refusal.METADATA, "models-vans")


def test_a_bundle_is_carried_for_longer_than_its_timestamp_holds(
    world: World, slots: Slots, tmp_path: Path
) -> None:
    world.release(model("1"))
    bundle = write_bundle(world, tmp_path / "stick")
    now = datetime.now(timezone.utc)
    assert install(slots, bundle, lambda: now + timedelta(days=40)).phase == STAGED
    other = world.slots(tmp_path / "later")
    later = now + timedelta(days=5000)
    refused(other, bundle, Refusal.EXPIRED, "metadata ended", clock=lambda: later)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "models"])
def test_each_role_must_be_there_and_signed(world: World, slots: Slots, tmp_path: Path, role: str) -> None:
    world.release(model("1"))

    def is_it(name: str) -> bool:
        return name.endswith(f"{role}.json")

    gone = write_bundle(world, tmp_path / "gone", lambda name, data: None if is_it(name) else data)
    refused(slots, gone, Refusal.METADATA, "bundle")

    def longer(document: dict[str, Any]) -> None:
        document["signed"]["expires"] = "2990-01-01T00:00:00Z"

    def raised(name: str, data: bytes) -> bytes:
        return edit(data, longer) if is_it(name) else data

    refused(slots, write_bundle(world, tmp_path / "raised", raised), Refusal.METADATA, "does not check")


def test_what_is_no_bundle_and_what_is_not_in_it(world: World, slots: Slots, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"no bundle at all" * 100)
    refused(slots, tmp_path / "text", None, "no bundle")
    world.release(model("1"))
    bare = write_bundle(world, tmp_path / "bare", lambda name, data: None if "targets/" in name else data)
    refused(slots, bare, None, "is not in this bundle")


def test_other_bytes_under_the_releases_name(world: World, slots: Slots, tmp_path: Path) -> None:
    world.release(model("1"))

    def flipped(name: str, data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1]) if name.startswith("targets/") else data

    refused(slots, write_bundle(world, tmp_path / "flip", flipped), Refusal.CONTENT, "not the bytes")
    for change, told in ((lambda data: data[:-1], "ends at"), (lambda data: data + b"x", "more than the")):
        changed = write_bundle(
            world,
            tmp_path / "cut",
            lambda name, data, change=change: change(data) if name.startswith("targets/") else data,
        )
        refused(slots, changed, None, told)


def test_counters_keep_an_older_bundle_out(world: World, slots: Slots, tmp_path: Path) -> None:
    world.release(model("1"))
    old = write_bundle(world, tmp_path / "old")
    other = world.slots(tmp_path / "online")
    world.release(model("2"))
    assert install(slots, write_bundle(world, tmp_path / "new")).phase == STAGED
    slots.activate()
    slots.confirm()
    refused(slots, old, Refusal.METADATA, "this vehicle has seen 3")
    # What was seen by the network counts too.
    world.client(other).check()
    refused(other, old, Refusal.METADATA, "this vehicle has seen 3")
    # And an old model under new metadata is an old model.
    models = current_role(world.folder, "models")
    models.signed.targets.popitem()
    models.signed.version += 1
    publish(world, models, [world.keys.signer(name) for name in ("trainer", "gate")])
    refused(slots, write_bundle(world, tmp_path / "again"), Refusal.ROLLBACK, "the least allowed is 2")


def test_one_of_two_keys_and_somebody_elses_are_not_enough(
    world: World, slots: Slots, tmp_path: Path
) -> None:
    publish(world, with_release(world, model("evil"), 1), [world.keys.signer("trainer")])
    path = tmp_path / "evil"
    refused(slots, write_bundle(world, path), Refusal.METADATA, "models was signed by 1/2 keys")
    other = open_world(tmp_path / "other")
    try:
        other.release(model("evil"))
        refused(slots, write_bundle(other, path), Refusal.METADATA, "signed by 0/")
    finally:
        other.close()


def test_a_bundle_for_others_is_refused(world: World, slots: Slots, tmp_path: Path) -> None:
    world.release(model("1"), hardware_ids=("riscv64-npu",))
    refused(slots, write_bundle(world, tmp_path / "stick"), Refusal.HARDWARE, "riscv64-npu")


def test_any_damage_is_a_refusal(world: World, slots: Slots, tmp_path: Path) -> None:
    world.release(model("1"))
    whole = write_bundle(world, tmp_path / "stick").read_bytes()
    before = slots.state

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(0, len(whole) - 1), st.integers(1, 255))
    def damaged(at: int, bits: int) -> None:
        (tmp_path / "damaged").write_bytes(whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :])
        result = install(slots, tmp_path / "damaged")
        if result.staged is not None:  # the padding of the archive, or blanks, say nothing
            assert slots.load(result.staged.slot).data == model("1")
            slots.lose(result.staged.slot, "for the next case")
        assert slots.state.release_floor == before.release_floor

    damaged()


class TestUnsigned:
    @pytest.fixture
    def open_slots(self, world: World, tmp_path: Path) -> Slots:
        vehicle = dataclasses.replace(VEHICLE, unsigned_allowed=True)
        return world.slots(tmp_path / "vehicle", vehicle)

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        (tmp_path / "own.onnx").write_bytes(model("own"))
        return tmp_path / "own.onnx"

    def test_it_needs_the_owners_word(self, slots: Slots, file: Path) -> None:
        result = UpdateClient(None, slots).install_unsigned(file)
        assert result.refusal is Refusal.UNSIGNED and "unsigned = true" in result.detail

    def test_it_is_staged_known_as_what_it_is_and_raises_no_floor(
        self, world: World, open_slots: Slots, file: Path, tmp_path: Path
    ) -> None:
        result = UpdateClient(None, open_slots).install_unsigned(file)
        assert result.phase == STAGED and "which nobody signed" in result.detail
        assert open_slots.load(result.staged.slot).data == model("own")
        open_slots.activate()
        open_slots.confirm()
        assert open_slots.is_unsigned(open_slots.active().slot)
        # The owner's first signed release takes its place.
        facts = world.release(model("1"))
        taken = world.client(open_slots).check()
        assert (taken.phase, taken.release) == (STAGED, facts)
        assert not open_slots.is_unsigned(taken.staged.slot)

    def test_a_slot_of_it_is_not_loaded_once_the_word_is_taken_back(
        self, world: World, open_slots: Slots, file: Path, tmp_path: Path
    ) -> None:
        UpdateClient(None, open_slots).install_unsigned(file)
        open_slots.activate()
        open_slots.confirm()
        open_slots.close()
        closed = world.slots(tmp_path / "vehicle", VEHICLE)
        boot = closed.boot()
        assert boot.model.content.slot == "factory" and "updates.unsigned is not set" in boot.troubles[0]

    def test_other_bytes_in_its_slot_are_noticed(self, open_slots: Slots, file: Path) -> None:
        staged = UpdateClient(None, open_slots).install_unsigned(file).staged
        assert staged is not None
        staged.model_path.write_bytes(model("evil"))
        open_slots.activate()
        assert open_slots.boot().model.content.slot == "factory"

    def test_what_is_no_model_file_is_refused(self, open_slots: Slots, tmp_path: Path) -> None:
        (tmp_path / "x.onnx").write_bytes(b"not a model")
        result = UpdateClient(None, open_slots).install_unsigned(tmp_path / "x.onnx")
        assert result.staged is None and "not an ONNX file" in result.detail

    def test_no_metadata_brings_it(self, world: World, open_slots: Slots) -> None:
        """A signed role whose target says that nobody signed it is none of it."""
        models = with_release(world, model("2"), 1)
        target = models.signed.targets["models/rectangles-1.onnx"]
        target.unrecognized_fields["custom"]["unsigned"] = True
        publish(world, models, [world.keys.signer("trainer")])
        assert world.client(open_slots).check().refusal is Refusal.METADATA


class TestInbox:
    def test_a_running_part_installs_and_answers(self, world: World, start: Garage, tmp_path: Path) -> None:
        facts = start.release(model("1"))
        stick = write_bundle(world, tmp_path / "stick")
        world.server.metadata = lambda request: iter(())  # no network
        vehicle = start()
        vehicle.publishing = FRAMES
        inbox = Inbox(start.config.state_folder)
        answer = inbox.wait(inbox.leave(stick, BUNDLE), 60)
        assert answer.is_installed and "it runs now, on probation" in answer.detail
        eventually(lambda: vehicle.models.slots.state.release_floor == facts.release_counter, "confirmed")
        again = inbox.wait(inbox.leave(stick, BUNDLE), 60)
        assert again == Answer(True, "release 1 (rectangles 1) runs already")
        stick.write_bytes(b"nonsense" * 1000)
        refusal = inbox.wait(inbox.leave(stick, BUNDLE), 60)
        assert not refusal.is_installed and "no bundle" in refusal.detail
        assert inbox.next() is None and not list((start.config.state_folder / "inbox").iterdir())
        assert vehicle.status().model.active.sha256 == loaded(model("1")).digest

    def test_nothing_answers(self, tmp_path: Path) -> None:
        inbox = Inbox(tmp_path)
        (tmp_path / "file").write_bytes(b"x")
        with pytest.raises(InboxError, match="has not answered"):
            inbox.wait(inbox.leave(tmp_path / "file", BUNDLE), 0.01)
        assert inbox.next() is None
        with pytest.raises(InboxError, match="cannot be left"):
            inbox.leave(tmp_path / "missing", BUNDLE)

    def test_links_and_folders_in_it_are_not_looked_at(self, tmp_path: Path) -> None:
        inbox = Inbox(tmp_path)
        (tmp_path / "inbox" / "x.bundle").mkdir(parents=True)
        (tmp_path / "inbox" / "y.onnx").symlink_to("/etc/passwd")
        assert inbox.next() is None
