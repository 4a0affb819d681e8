"""The attacks of TUF's and Uptane's papers that touch an update, each against the real client over real gRPC.

Whatever the other side does, the vehicle keeps the model that it has, says why, and takes the next honest
release.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from cloud.release import repository
from cloud.release.keys import create_keys
from cloud.release.role_files import (
    current_role,
    meta_of,
    publish_online,
    read_timestamp,
    renew_snapshot,
)
from edge.updates.errors import Refusal
from edge.updates.slots import Slots
from protos.traffic_vision.v1 import common_pb2 as common
from tests.update_attack import REFUSED, driving, publish, refused, rewritten, unharmed, with_release
from tests.update_world import VEHICLE, World, check, edit, model, open_world


@pytest.fixture
def slots(world: World, tmp_path: Path) -> Slots:
    return driving(world, tmp_path / "vehicle")


class TestArbitrarySoftware:
    def test_another_file_under_the_releases_name(self, world: World, slots: Slots) -> None:
        facts = world.release(model("2"))
        file = repository.list_releases(world.folder)[-1].file
        file.write_bytes(model("2")[:-1] + b"x")
        refused(world, slots, Refusal.CONTENT, facts.target_path)
        assert list(slots.staging.iterdir()) == []
        file.write_bytes(model("2"))
        assert check(world, slots).phase == common.UPDATE_PHASE_STAGED

    def test_the_trainer_alone_with_the_online_keys(self, world: World, slots: Slots) -> None:
        publish(world, with_release(world, model("evil"), 2), [world.keys.signer("trainer")])
        refused(world, slots, Refusal.METADATA, "models was signed by 1/2 keys")

    def test_the_gate_alone_with_the_online_keys(self, world: World, slots: Slots) -> None:
        publish(world, with_release(world, model("evil"), 2), [world.keys.signer("gate")])
        refused(world, slots, Refusal.METADATA, "models was signed by 1/2 keys")

    def test_the_online_keys_and_one_of_the_thief(self, world: World, slots: Slots, tmp_path: Path) -> None:
        thief = create_keys(tmp_path / "thief")
        publish(world, with_release(world, model("evil"), 2), [thief.signer("trainer"), thief.signer("gate")])
        refused(world, slots, Refusal.METADATA, "models was signed by 0/2 keys")

    def test_an_authority_of_somebody_else(self, world: World, slots: Slots, tmp_path: Path) -> None:
        other = open_world(tmp_path / "other")
        try:
            other.release(model("evil"))
            other.release(model("evil"))
            world.server.metadata, world.server.target = other.server.metadata, other.server.target
            refused(world, slots, Refusal.METADATA)
            refused(world, world.slots(tmp_path / "fresh"), Refusal.METADATA, "signed by 0/1 keys")
        finally:
            other.close()

    @pytest.mark.parametrize("role", ["timestamp", "snapshot", "models"])
    def test_changed_metadata(self, world: World, slots: Slots, role: str) -> None:
        world.release(model("2"))
        inner = world.server.metadata

        def raised(data: bytes) -> bytes:
            return edit(data, lambda document: document["signed"].update(version=9))

        world.server.metadata = rewritten(role, raised, world)
        before = slots.state
        result = check(world, slots)
        assert result.phase == REFUSED or "exceeding the maximum" in result.detail
        assert unharmed(before, slots)
        world.server.metadata = inner
        assert check(world, slots).phase == common.UPDATE_PHASE_STAGED


class TestRollback:
    def test_old_metadata_is_refused(self, world: World, slots: Slots) -> None:
        stamp = (world.folder / "metadata" / "timestamp.json").read_bytes()
        world.release(model("2"))
        check(world, slots)
        (world.folder / "metadata" / "timestamp.json").write_bytes(stamp)
        refused(world, slots, Refusal.METADATA, "must be >=")

    def test_an_older_release_that_is_newly_signed(self, world: World, slots: Slots) -> None:
        """TUF has nothing against it: versions grow, signatures are good. The release counter has."""
        world.release(model("2"))
        check(world, slots)
        slots.activate()
        slots.confirm()
        models = current_role(world.folder, "models")
        del models.signed.targets["models/rectangles-2.onnx"]
        models.signed.version += 1
        publish(world, models, [world.keys.signer("trainer"), world.keys.signer("gate")])
        refused(world, slots, Refusal.ROLLBACK, "its counter is 1, the least allowed is 2")

    def test_a_stolen_online_key_cannot_take_a_known_vehicle_back(self, world: World, slots: Slots) -> None:
        world.release(model("2"))
        check(world, slots)
        snapshot = current_role(world.folder, "snapshot")
        snapshot.signed.meta["models.json"] = meta_of(world.folder, "models", 1)
        now = datetime.now(timezone.utc).replace(microsecond=0)
        renew_snapshot(snapshot, now)
        online = world.keys.signer("snapshot"), world.keys.signer("timestamp")
        publish_online(world.folder, snapshot, read_timestamp(world.folder).version + 1, *online, now)
        refused(world, slots, Refusal.METADATA)

    def test_a_fresh_vehicle_has_the_installations_floor(self, world: World, tmp_path: Path) -> None:
        world.release(model("1"))
        vehicle = dataclasses.replace(VEHICLE, release_floor=2)
        refused(world, world.slots(tmp_path / "fresh", vehicle), Refusal.ROLLBACK, "the least allowed is 2")

    def test_a_release_that_was_lost_on_disk_does_not_lower_the_floor(
        self, world: World, slots: Slots, tmp_path: Path
    ) -> None:
        (tmp_path / "vehicle" / "slots" / "a" / "model.onnx").unlink()
        assert slots.boot().model.content.slot == "factory"
        assert slots.state.release_floor == 1
        assert check(world, slots).phase == common.UPDATE_PHASE_STAGED, "the same release again"


class TestFreeze:
    def test_metadata_that_has_expired(self, tmp_path: Path) -> None:
        world = open_world(tmp_path / "cloud", datetime.now(timezone.utc) - timedelta(days=2))
        try:
            slots = world.slots(tmp_path / "vehicle")
            refused(world, slots, Refusal.EXPIRED, "timestamp.json is expired")
            online = world.keys.signer("snapshot"), world.keys.signer("timestamp")
            assert repository.refresh_timestamp(world.folder, *online)
            assert check(world, slots).phase == common.UPDATE_PHASE_IDLE, "contact alone recovers it"
        finally:
            world.close()

    def test_a_clock_that_was_set_back_does_not_revive_it(self, world: World, tmp_path: Path) -> None:
        """To python-tuf the metadata is valid: its clock says so. The vehicle knows that it is later."""
        world.release(model("1"))
        later = datetime.now(timezone.utc) + timedelta(days=3)
        vehicle = dataclasses.replace(VEHICLE, clock_floor=later)
        refused(
            world, world.slots(tmp_path / "fresh", vehicle), Refusal.EXPIRED, f"later than {later:%Y-%m-%d}"
        )

    def test_the_floor_is_what_was_signed_and_survives_a_restart(
        self, world: World, slots: Slots, tmp_path: Path
    ) -> None:
        signed_at = read_timestamp(world.folder).unrecognized_fields["signed_at"]
        assert slots.state.clock_floor_s == signed_at
        slots.close()
        assert world.slots(tmp_path / "vehicle").state.clock_floor_s == signed_at

    def test_stolen_online_keys_cannot_make_all_else_look_expired(self, world: World, slots: Slots) -> None:
        """They can say that it is next year. The clock does not agree, so nothing honest expires by it."""
        snapshot = current_role(world.folder, "snapshot")
        future = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=200)
        renew_snapshot(snapshot, future)
        online = world.keys.signer("snapshot"), world.keys.signer("timestamp")
        publish_online(world.folder, snapshot, read_timestamp(world.folder).version + 1, *online, future)
        assert check(world, slots).phase == common.UPDATE_PHASE_CONFIRMED
        assert slots.state.clock_floor_s <= datetime.now(timezone.utc).timestamp()
        world.release(model("2"))
        assert check(world, slots).phase == common.UPDATE_PHASE_STAGED

    def test_a_clock_far_ahead_is_told(self, world: World, slots: Slots) -> None:
        ahead = datetime.now(timezone.utc) + timedelta(days=400)
        result = world.client(slots, clock=lambda: ahead).check()
        assert (result.phase, result.refusal) == (REFUSED, Refusal.EXPIRED)
        assert f"the clock says {ahead:%Y-%m-%d}" in result.detail
        assert check(world, slots).phase == common.UPDATE_PHASE_CONFIRMED


class TestMixAndMatch:
    def test_a_role_of_another_moment(self, world: World, slots: Slots) -> None:
        first = (world.folder / "metadata" / "2.models.json").read_bytes()
        world.release(model("2"))
        (world.folder / "metadata" / "3.models.json").write_bytes(first)
        before = slots.state
        result = check(world, slots)
        assert result.phase == REFUSED or result.retry
        assert unharmed(before, slots)

    def test_facts_of_another_file(self, world: World, slots: Slots) -> None:
        """Both keys sign a target whose facts name other bytes: no release, and it costs itself alone."""
        models = with_release(world, model("2"), 2)
        custom = models.signed.targets["models/rectangles-2.onnx"].unrecognized_fields["custom"]
        custom["traffic_vision"]["model_sha256"] = "a" * 64
        publish(world, models, [world.keys.signer("trainer"), world.keys.signer("gate")])
        result = check(world, slots)
        assert (result.phase, result.release.release_counter) == (common.UPDATE_PHASE_CONFIRMED, 1)
