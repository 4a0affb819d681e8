"""Keys that change and keys that are stolen, as a vehicle sees it: the real client over real gRPC."""

from __future__ import annotations

import dataclasses
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from cloud.release.ceremony import Wish, begin_renewal
from cloud.release.errors import ReleaseError
from cloud.release.key_publishing import finish, publish
from cloud.release.keys import KeyRing
from cloud.release.role_files import (
    newest_root,
    sign_role,
)
from edge.updates.errors import Refusal, RefusedError
from edge.updates.slots import Slots
from protos.traffic_vision.v1 import common_pb2 as common
from tests.stolen_keys import BY_REVOKED_KEYS, FORGED_ROOTS, HUGE, publish_online, signers, stolen
from tests.update_attack import driving, refused, unharmed, with_release
from tests.update_attack import publish as publish_roles
from tests.update_world import World, check, model, open_world

STAGED, CONFIRMED = common.UPDATE_PHASE_STAGED, common.UPDATE_PHASE_CONFIRMED
ROLES = ["root", "targets", "models", "snapshot", "timestamp"]
KEYS = ["root-1", "root-2", "root-3", "targets", "trainer", "gate", "snapshot", "timestamp"]


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


@pytest.mark.parametrize("what", FORGED_ROOTS)
def test_what_a_root_must_not_be(world: World, slots: Slots, tmp_path: Path, what: str) -> None:
    """Put before a vehicle by whoever owns the server."""
    forge, told = FORGED_ROOTS[what]
    forge(world, stolen(world, tmp_path / "thief"))
    refused(world, slots, Refusal.METADATA, told)


@pytest.mark.parametrize("key", BY_REVOKED_KEYS)
@pytest.mark.parametrize("heard", [False, True])
def test_a_revoked_key_counts_no_more(
    world: World, slots: Slots, tmp_path: Path, key: str, heard: bool
) -> None:
    """Whether or not the vehicle has heard of the revocation before."""
    forge, told = BY_REVOKED_KEYS[key]
    thief = stolen(world, tmp_path / "thief")
    world.exchange(key, revoke=True)
    assert not heard or check(world, slots).phase == CONFIRMED, "what it had signed is signed anew"
    forge(world, thief)
    refused(world, slots, Refusal.METADATA, told)


class TestStolenOnlineKeys:
    """Timestamp and snapshot lie on the server: they are what a thief gets first."""

    @pytest.fixture
    def thief(self, world: World, slots: Slots, tmp_path: Path) -> KeyRing:
        return stolen(world, tmp_path / "thief")

    def test_they_cannot_forge_targets(self, world: World, slots: Slots, thief: KeyRing) -> None:
        publish_roles(world, with_release(world, model("evil"), 2), signers(thief, "snapshot", "timestamp"))
        refused(world, slots, Refusal.METADATA, "models was signed by 0/2 keys")

    def test_they_cannot_take_a_vehicle_back(self, world: World, slots: Slots, thief: KeyRing) -> None:
        takes(world, slots, "2")
        publish_online(world, thief, models=1)
        refused(world, slots, Refusal.METADATA)

    def test_they_lift_the_clock_floor_no_further_than_the_offline_keys_allow(
        self, world: World, slots: Slots, thief: KeyRing, tmp_path: Path
    ) -> None:
        """Not at all where its own clock is right; where that is wrong, not past what root was signed for."""
        ahead = datetime.now(timezone.utc) + timedelta(days=5000)
        publish_online(world, thief, now=ahead)
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
        publish_online(world, thief, timestamp=HUGE, snapshot=HUGE, targets=HUGE, models=HUGE)
        before = slots.state
        check(world, slots)
        assert unharmed(before, slots)
        shutil.rmtree(world.folder)
        saved.rename(world.folder)
        refused(world, slots, Refusal.METADATA, "must be >=")
        world.exchange("timestamp", revoke=True)
        assert [key.name for key in world.keys.retired] == ["timestamp", "snapshot"], "both went"
        takes(world, slots, "2")

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
        return stolen(world, tmp_path / "thief")

    @pytest.mark.parametrize("key", ["trainer", "gate"])
    def test_one_of_them_cannot_release(self, world: World, slots: Slots, thief: KeyRing, key: str) -> None:
        publish_roles(world, with_release(world, model("evil"), 2), signers(thief, key))
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
