"""Keys that change and keys that are stolen, as a vehicle sees it: the real client over real gRPC."""

from __future__ import annotations

import dataclasses
import json
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root

from cloud.release.ceremony import Wish, begin_renewal
from cloud.release.errors import ReleaseError
from cloud.release.key_publishing import finish, publish
from cloud.release.keys import KeyRing
from cloud.release.role_files import (
    current_role,
    newest_root,
    read_timestamp,
    renew_snapshot,
    sign_role,
    write_online,
    write_role,
)
from edge.updates.errors import Refusal, RefusedError
from edge.updates.slots import Slots
from protos.traffic_vision.v1 import common_pb2 as common
from tests.update_attack import driving, refused, unharmed, with_release
from tests.update_attack import publish as publish_roles
from tests.update_world import World, check, model, open_world

STAGED, CONFIRMED = common.UPDATE_PHASE_STAGED, common.UPDATE_PHASE_CONFIRMED
ROLES = ["root", "targets", "models", "snapshot", "timestamp"]
KEYS = ["root-1", "root-2", "root-3", "targets", "trainer", "gate", "snapshot", "timestamp"]
HUGE = 2**31


@pytest.fixture
def slots(world: World, tmp_path: Path) -> Slots:
    return driving(world, tmp_path / "vehicle")


def takes(world: World, slots: Slots, version: str) -> None:
    """The vehicle takes an honest release, and drives on it after a restart without a network."""
    world.release(model(version))
    result = check(world, slots)
    assert result.phase == STAGED, result.detail
    slots.activate()
    slots.confirm()
    assert slots.load(slots.state.active).data == model(version)


def signers(ring: KeyRing, *names: str) -> list[Signer]:
    return [ring.signer(name) for name in names]


def stolen(world: World, tmp_path: Path) -> KeyRing:
    """A copy of the whole ring's private keys; which of them the thief has, a test says by what it uses."""
    folder = tmp_path / "thief"
    shutil.copytree(world.keys.folder, folder)
    return dataclasses.replace(world.keys, folder=folder)


class TestRotation:
    @pytest.mark.parametrize("subject", [*ROLES, *KEYS])
    def test_a_vehicle_follows_each_key_and_each_role(self, world: World, slots: Slots, subject: str) -> None:
        world.exchange(subject)
        assert check(world, slots).phase == CONFIRMED
        takes(world, slots, "2")

    def test_a_vehicle_that_was_away_for_ten_rotations(
        self, world: World, slots: Slots, tmp_path: Path
    ) -> None:
        for number in range(10):
            world.exchange(ROLES[number % len(ROLES)])
            world.release(model(f"away-{number}"))
        world.exchange("root")
        assert newest_root(world.folder).signed.version == 10
        result = check(world, slots)
        assert result.phase == STAGED, result.detail
        assert result.release is not None
        assert result.release.release_counter == 11
        slots.activate()
        slots.confirm()
        asked = len(world.server.asked)
        assert check(world, slots).phase == CONFIRMED
        assert world.server.asked[asked:] == ["11.root", "timestamp"], "the roots are fetched once"
        slots.close()
        assert world.slots(tmp_path / "vehicle").boot().troubles == (), "the chain of roots lies in the slot"

    def test_a_release_that_was_proposed_before_is_proposed_again(self, world: World, slots: Slots) -> None:
        facts = world.propose(model("2"))
        world.exchange("trainer")
        with pytest.raises(ReleaseError, match=r"propose it again|holds more than"):
            world.complete(facts.model_sha256)
        takes(world, slots, "2")

    def test_a_lost_online_key_is_replaced_without_it(self, world: World, slots: Slots) -> None:
        (world.keys.folder / "timestamp.pem").unlink()
        (world.keys.folder / "snapshot.pem").unlink()
        world.exchange("timestamp")
        world.exchange("snapshot")
        takes(world, slots, "2")

    def test_the_private_key_that_went_is_destroyed(self, world: World) -> None:
        world.exchange("gate")
        files = {path.name for path in world.keys.folder.glob("*.pem")}
        assert "gate.pem" not in files
        assert "gate-2.pem" in files
        assert [(key.name, key.reason) for key in world.keys.retired] == [("gate", "")]

    def test_a_root_that_has_expired_keeps_the_vehicle_where_it_is_until_a_new_one(
        self, tmp_path: Path
    ) -> None:
        past = datetime.now(timezone.utc) - timedelta(days=370)
        world = open_world(tmp_path / "cloud", past)
        try:
            slots = world.slots(tmp_path / "vehicle")
            refused(world, slots, Refusal.EXPIRED, "root.json is expired")
            keys = world.keys.folder
            begin_renewal(world.folder, keys, "all", Wish("owner"))
            publish(world.folder, keys)
            finish(world.folder)
            assert check(world, slots).phase == common.UPDATE_PHASE_IDLE, "contact alone recovers it"
            assert newest_root(world.folder).signed.version == 2
        finally:
            world.close()


class TestForgedRoots:
    """What a root must not be, put before a vehicle by whoever owns the server."""

    @pytest.fixture
    def thief(self, world: World, tmp_path: Path) -> KeyRing:
        return stolen(world, tmp_path)

    def root(self, world: World, version: int = 2) -> Metadata[Root]:
        found = newest_root(world.folder)
        found.signed.version = version
        return found

    def put(self, world: World, root: Metadata[Root], by: list[Signer]) -> None:
        sign_role(root, by)
        write_role(world.folder, "root", root)

    def test_one_key(self, world: World, slots: Slots, thief: KeyRing) -> None:
        self.put(world, self.root(world), signers(thief, "root-1"))
        refused(world, slots, Refusal.METADATA, "root was signed by 1/2 keys")

    def test_the_same_key_twice(self, world: World, slots: Slots, thief: KeyRing) -> None:
        root = self.root(world)
        sign_role(root, signers(thief, "root-1"))
        document = root.to_dict()
        document["signatures"] *= 2
        path = world.folder / "metadata" / "2.root.json"
        path.write_text(json.dumps(document))
        refused(world, slots, Refusal.METADATA)

    def test_only_new_keys(self, world: World, slots: Slots, thief: KeyRing) -> None:
        world.exchange("root")
        new = signers(world.keys, "root-1", "root-2", "root-3")
        self.put(world, self.root(world), new)
        refused(world, slots, Refusal.METADATA, "root was signed by 0/2 keys")

    def test_only_old_keys(self, world: World, slots: Slots, thief: KeyRing) -> None:
        world.exchange("root")
        self.put(world, self.root(world), signers(thief, "root-1", "root-2"))
        refused(world, slots, Refusal.METADATA, "root was signed by 0/2 keys")

    def test_a_version_that_is_skipped(self, world: World, slots: Slots, thief: KeyRing) -> None:
        both = signers(thief, "root-1", "root-2")
        data = self.root(world, 3)
        sign_role(data, both)
        (world.folder / "metadata" / "2.root.json").write_bytes(data.to_bytes())
        refused(world, slots, Refusal.METADATA, "Expected root version 2")


class TestStolenOnlineKeys:
    """Timestamp and snapshot lie on the server: they are what a thief gets first."""

    @pytest.fixture
    def thief(self, world: World, slots: Slots, tmp_path: Path) -> KeyRing:
        return stolen(world, tmp_path)

    def publish(self, world: World, thief: KeyRing, now: datetime | None = None, **versions: int) -> None:
        snapshot = current_role(world.folder, "snapshot")
        moment = (now or datetime.now(timezone.utc)).replace(microsecond=0)
        renew_snapshot(snapshot, moment)
        snapshot.signed.version = versions.pop("snapshot", snapshot.signed.version)
        stamp = versions.pop("timestamp", read_timestamp(world.folder).version + 1)
        for role, version in versions.items():
            snapshot.signed.meta[f"{role}.json"].version = version
        write_online(
            world.folder, snapshot, stamp, signers(thief, "snapshot"), signers(thief, "timestamp"), moment
        )

    def test_they_cannot_forge_targets(self, world: World, slots: Slots, thief: KeyRing) -> None:
        publish_roles(world, with_release(world, model("evil"), 2), signers(thief, "snapshot", "timestamp"))
        refused(world, slots, Refusal.METADATA, "models was signed by 0/2 keys")

    def test_they_cannot_take_a_vehicle_back(self, world: World, slots: Slots, thief: KeyRing) -> None:
        takes(world, slots, "2")
        self.publish(world, thief, models=1)
        refused(world, slots, Refusal.METADATA)

    def test_they_lift_the_clock_floor_no_further_than_the_offline_keys_allow(
        self, world: World, slots: Slots, thief: KeyRing, tmp_path: Path
    ) -> None:
        """Not at all where its own clock is right; where that is wrong, not past what root was signed for."""
        ahead = datetime.now(timezone.utc) + timedelta(days=5000)
        self.publish(world, thief, now=ahead)
        check(world, slots)
        assert slots.state.clock_floor_s <= datetime.now(timezone.utc).timestamp()
        lost = datetime(1970, 1, 2, tzinfo=timezone.utc)
        fresh = world.slots(tmp_path / "fresh")
        before = fresh.state
        result = world.client(fresh, clock=lambda: lost).check()
        assert result.refusal is Refusal.EXPIRED, result.detail
        assert fresh.state == before

    def test_what_they_raised_beyond_reach_is_forgotten_with_them(
        self, world: World, slots: Slots, thief: KeyRing
    ) -> None:
        """A fast-forward attack: versions so high that no honest one follows. New keys end it."""
        saved = shutil.copytree(world.folder, world.folder.parent / "saved")
        self.publish(world, thief, timestamp=HUGE, snapshot=HUGE, targets=HUGE, models=HUGE)
        before = slots.state
        check(world, slots)
        assert unharmed(before, slots)
        shutil.rmtree(world.folder)
        saved.rename(world.folder)
        refused(world, slots, Refusal.METADATA, "must be >=")
        world.exchange("timestamp", revoke=True)
        assert [key.name for key in world.keys.retired] == ["timestamp", "snapshot"], "both went"
        takes(world, slots, "2")

    def test_revoked_ones_count_no_more(self, world: World, slots: Slots, thief: KeyRing) -> None:
        world.exchange("snapshot", revoke=True)
        assert check(world, slots).phase == CONFIRMED
        self.publish(world, thief)
        refused(world, slots, Refusal.METADATA, "timestamp was signed by 0/1 keys")

    def test_the_cloud_itself_does_not_publish_with_old_keys(self, world: World, thief: KeyRing) -> None:
        old = world.keys
        world.exchange("timestamp")
        world.keys, new = old, world.keys
        facts = world.propose(model("2"))
        before = (world.folder / "metadata" / "timestamp.json").read_bytes()
        world.keys = dataclasses.replace(old, folder=thief.folder)
        with pytest.raises(ReleaseError, match="key of the timestamp role was exchanged"):
            world.complete(facts.model_sha256)
        assert (world.folder / "metadata" / "timestamp.json").read_bytes() == before
        world.keys = new
        assert world.complete(facts.model_sha256) == facts


class TestStolenReleaseKeys:
    @pytest.fixture
    def thief(self, world: World, slots: Slots, tmp_path: Path) -> KeyRing:
        return stolen(world, tmp_path)

    @pytest.mark.parametrize("key", ["trainer", "gate"])
    def test_one_of_them_cannot_release(self, world: World, slots: Slots, thief: KeyRing, key: str) -> None:
        publish_roles(world, with_release(world, model("evil"), 2), signers(thief, key))
        refused(world, slots, Refusal.METADATA, "models was signed by 1/2 keys")

    def test_a_revoked_one_counts_no_more_even_with_the_other(
        self, world: World, slots: Slots, thief: KeyRing
    ) -> None:
        """Somebody with the old trainer's key who now gets at the gate's, and at the server, too."""
        world.exchange("trainer", revoke=True)
        assert check(world, slots).phase == CONFIRMED, "what it had signed is signed anew"
        forged = with_release(world, model("evil"), 2)
        publish_roles(world, forged, [*signers(thief, "trainer"), *signers(world.keys, "gate")])
        refused(world, slots, Refusal.METADATA, "models was signed by 1/2 keys")

    def test_a_slot_that_is_written_by_hand_with_a_revoked_key_does_not_boot(
        self, world: World, slots: Slots, thief: KeyRing
    ) -> None:
        world.exchange("trainer", revoke=True)
        forged = with_release(world, model("evil"), 2)
        sign_role(forged, [*signers(thief, "trainer"), *signers(world.keys, "gate")])
        evidence = dataclasses.replace(
            world.evidence(world.release(model("2"))),
            models=forged.to_bytes(),
            path="models/rectangles-2.onnx",
        )
        with pytest.raises(RefusedError, match="models was signed by 1/2 keys"):
            slots.stage(model("evil"), evidence)

    def test_both_of_them_end_with_the_online_keys(self, world: World, slots: Slots, thief: KeyRing) -> None:
        world.exchange("models", revoke=True)
        assert {key.name for key in world.keys.retired} == {"trainer", "gate", "snapshot", "timestamp"}
        takes(world, slots, "2")

    def test_the_targets_key_delegates_to_nobody_once_it_is_revoked(
        self, world: World, slots: Slots, thief: KeyRing
    ) -> None:
        world.exchange("targets", revoke=True)
        forged = current_role(world.folder, "targets")
        forged.signed.version += 1
        sign_role(forged, signers(thief, "targets"))
        write_role(world.folder, "targets", forged)
        snapshot = current_role(world.folder, "snapshot")
        snapshot.signed.meta["targets.json"].version = forged.signed.version
        snapshot.signed.meta["targets.json"].hashes = None
        snapshot.signed.meta["targets.json"].length = None
        now = datetime.now(timezone.utc).replace(microsecond=0)
        renew_snapshot(snapshot, now)
        online = signers(world.keys, "snapshot"), signers(world.keys, "timestamp")
        write_online(world.folder, snapshot, read_timestamp(world.folder).version + 1, *online, now)
        refused(world, slots, Refusal.METADATA, "targets was signed by 0/1 keys")
