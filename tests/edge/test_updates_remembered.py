"""What is remembered of bundles: roots and versions, so that what was revoked or is older stays refused."""

from __future__ import annotations

import dataclasses
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from cloud.release import serving
from cloud.release.keys import load_keys
from cloud.release.role_files import current_role
from edge.machine.disk_budget import DiskBudget, DiskLane
from edge.updates.errors import Refusal
from edge.updates.offline import MAX_ROOTS
from edge.updates.slots import Slots
from protos.traffic_vision.v1 import common_pb2 as common
from tests.bundles import install, refused, write_bundle
from tests.models_factory import loaded
from tests.update_attack import publish, with_release
from tests.update_world import World, model

STAGED = common.UPDATE_PHASE_STAGED


def kept_roots(slots: Slots) -> list[bytes]:
    found = (slots.metadata / "root_history").glob("*.root.json")
    return [path.read_bytes() for path in sorted(found, key=lambda path: int(path.name.partition(".")[0]))]


def published_roots(world: World, first: int = 2) -> list[bytes]:
    paths = [world.folder / "metadata" / f"{version}.root.json" for version in range(first, MAX_ROOTS)]
    return [path.read_bytes() for path in paths if path.exists()]


def without_roots(name: str, data: bytes) -> bytes | None:
    return None if name.endswith(".root.json") else data


def test_newer_roots_in_the_bundle_are_followed_and_remembered(
    world: World, slots: Slots, tmp_path: Path
) -> None:
    world.release(model("1"))
    for role in ("root", "root", "timestamp"):
        world.exchange(role, revoke=True)
    bare = write_bundle(world, tmp_path / "bare", without_roots)
    refused(slots, bare, Refusal.METADATA, "timestamp was signed by 0/1")
    whole = write_bundle(world, tmp_path / "whole")
    assert install(slots, whole).phase == STAGED
    assert kept_roots(slots) == published_roots(world) and len(kept_roots(slots)) == 3
    # Now they need not be in a bundle.
    assert install(slots, bare).phase == STAGED
    gap = write_bundle(world, tmp_path / "gap", lambda name, data: None if "/2.root" in name else data)
    refused(world.slots(tmp_path / "other"), gap, Refusal.METADATA, "timestamp was signed by 0/1")


def thief_of(world: World, folder: Path) -> World:
    """Somebody with a copy of all keys and of the repository as they are."""
    shutil.copytree(world.folder, folder / "repository")
    shutil.copytree(world.keys.folder, folder / "keys")
    return dataclasses.replace(
        world, folder=folder / "repository", keys=load_keys(folder / "keys"), vehicles=[]
    )


def forge(thief: World, counter: int = 9) -> None:
    """He signs a release that is newer than any, with all the keys he has."""
    signers = [thief.keys.signer(name) for name in ("trainer", "gate")]
    publish(thief, with_release(thief, model("evil"), counter), signers)


class TestRevokedKeys:
    """A thief has all keys but root's, or those too; the owner revokes them all, and sends sticks alone."""

    ROLES = ("root", "targets", "models", "snapshot", "timestamp")

    @pytest.fixture
    def thief(self, world: World, tmp_path: Path) -> World:
        world.release(model("1"))
        thief = thief_of(world, tmp_path / "thief")
        for role in self.ROLES:
            world.exchange(role, revoke=True)
        return thief

    @pytest.fixture
    def forged(self, world: World, thief: World, tmp_path: Path) -> Path:
        forge(thief)
        stick = write_bundle(thief, tmp_path / "forged", without_roots)
        fresh = world.slots(tmp_path / "fresh")
        assert install(fresh, stick).phase == STAGED, "who knows of no new root can but believe it"
        return stick

    def test_what_a_stick_showed_to_be_revoked_stays_so(
        self, world: World, slots: Slots, forged: Path, thief: World, tmp_path: Path
    ) -> None:
        facts = world.release(model("2"))
        assert install(slots, write_bundle(world, tmp_path / "stick")).release == facts
        refused(slots, forged, Refusal.METADATA, "timestamp was signed by 0/1")
        slots.activate()
        slots.confirm()
        refused(slots, forged, Refusal.METADATA, "timestamp was signed by 0/1")
        slots.close()
        again = world.slots(tmp_path / "vehicle")  # a restart
        refused(again, forged, Refusal.METADATA, "timestamp was signed by 0/1")
        # The network cannot bring it either.
        world.server.metadata = lambda request: serving.fetch_metadata(thief.folder, request)
        assert world.client(again).check().refusal is Refusal.METADATA

    @pytest.mark.parametrize("why", ["for a newer daemon", "damaged", "ended", "forged timestamp"])
    def test_so_does_it_where_the_sticks_release_was_not_taken(
        self, world: World, slots: Slots, forged: Path, tmp_path: Path, why: str
    ) -> None:
        """New roots are proven by the old ones, whatever else is in the bundle."""
        terms = {"minimum_daemon_version": "99"} if why == "for a newer daemon" else {}
        world.release(model("2"), **terms)
        change = {
            "damaged": lambda name, data: None if "targets/" in name else data,
            "forged timestamp": lambda name, data: b"{}" if "timestamp" in name else data,
        }.get(why, lambda name, data: data)
        later = datetime.now(timezone.utc) + timedelta(days=5000 if why == "ended" else 0)
        result = install(slots, write_bundle(world, tmp_path / "stick", change), lambda: later)
        assert result.staged is None and result.phase != STAGED
        refused(slots, forged, Refusal.METADATA, "timestamp was signed by 0/1")

    def test_revoked_root_keys_sign_no_other_root_of_a_version_that_is_known(
        self, world: World, slots: Slots, thief: World, tmp_path: Path
    ) -> None:
        thief.exchange("root")  # its version 2, by the keys that the shipped root knows
        thief.exchange("timestamp")
        forge(thief)
        stick = write_bundle(thief, tmp_path / "forged")
        assert install(world.slots(tmp_path / "fresh"), stick).phase == STAGED
        world.release(model("2"))
        assert install(slots, write_bundle(world, tmp_path / "stick")).phase == STAGED
        refused(slots, stick, Refusal.METADATA, "signed by 0/1")
        assert kept_roots(slots) == published_roots(world)

    def test_a_root_that_is_damaged_on_disk_is_taken_anew(
        self, world: World, slots: Slots, forged: Path, tmp_path: Path
    ) -> None:
        stick = write_bundle(world, tmp_path / "stick")
        assert install(slots, stick).phase == STAGED
        (slots.metadata / "root_history" / "2.root.json").write_bytes(b"{")
        assert install(slots, stick).phase == STAGED
        assert kept_roots(slots) == published_roots(world)
        refused(slots, forged, Refusal.METADATA, "signed by 0/1")

    def test_their_version_numbers_are_forgotten(
        self, world: World, slots: Slots, thief: World, tmp_path: Path
    ) -> None:
        """Versions beyond reach, by keys that held then, hold nothing up once the keys are revoked."""
        models = with_release(thief, model("evil"), 2)
        models.signed.version = 10**6
        publish(thief, models, [thief.keys.signer(name) for name in ("trainer", "gate")])
        assert install(slots, write_bundle(thief, tmp_path / "evil")).phase == STAGED
        slots.mark_bad(loaded(model("evil")).digest, "the owner noticed")
        facts = world.release(model("3"))
        result = install(slots, write_bundle(world, tmp_path / "stick"))
        assert (result.phase, result.release) == (STAGED, facts), result.detail
        assert world.client(slots).check().phase == STAGED, "nor do they hold the network up"


@pytest.mark.parametrize("role", ["targets", "models"])
@pytest.mark.parametrize("first", ["stick", "network"])
def test_metadata_older_than_what_was_seen_is_refused_on_either_way(
    world: World, slots: Slots, tmp_path: Path, role: str, first: str
) -> None:
    """The online keys are a thief's, and he has the older metadata that the offline keys signed."""
    world.release(model("1"))
    thief = thief_of(world, tmp_path / "thief")
    if role == "targets":
        world.delegate("trucks")
    else:
        world.release(model("2"))
    if first == "stick":
        install(slots, write_bundle(world, tmp_path / "stick"))
    else:
        world.client(slots).check()
    for _ in range(3):  # his snapshot and timestamp are newer than the owner's
        publish(thief, current_role(thief.folder, "models"), [])
    older = write_bundle(thief, tmp_path / "older")
    refused(slots, older, Refusal.METADATA, f"its {role} metadata has version")
    world.server.metadata = lambda request: serving.fetch_metadata(thief.folder, request)
    assert world.client(slots).check().refusal is Refusal.METADATA
    seen = current_role(world.folder, role).signed.version
    assert Metadata.from_bytes((slots.metadata / f"{role}.json").read_bytes()).signed.version == seen


def test_a_stick_that_is_older_than_the_last_contact_takes_nothing_back(
    world: World, slots: Slots, tmp_path: Path
) -> None:
    """The online roles were signed anew since, and nothing else changed: it may be carried for weeks."""
    world.release(model("1"))
    stick = write_bundle(world, tmp_path / "stick")
    publish(world, current_role(world.folder, "models"), [])
    assert world.client(slots).check().phase == STAGED
    before = {path.name: path.read_bytes() for path in slots.metadata.glob("*.json")}
    assert install(slots, stick).phase == STAGED
    assert {path.name: path.read_bytes() for path in slots.metadata.glob("*.json")} == before


class SizesWritten(DiskLane):
    def __init__(self) -> None:
        super().__init__(DiskBudget(), "slots")
        self.sizes: list[int] = []

    def wrote(self, size_bytes: int) -> None:
        self.sizes.append(size_bytes)


def test_what_is_remembered_is_written_once_and_counted(world: World, tmp_path: Path) -> None:
    world.release(model("1"))
    world.exchange("root")
    stick = write_bundle(world, tmp_path / "stick")
    disk = SizesWritten()
    slots = world.slots(tmp_path / "vehicle", disk=disk)
    install(slots, stick)
    kept = {path: path.stat() for path in slots.metadata.rglob("*.json")}
    assert {stat.st_size for stat in kept.values()} <= set(disk.sizes)
    install(slots, stick)
    assert {path: path.stat().st_mtime_ns for path in kept} == {
        path: stat.st_mtime_ns for path, stat in kept.items()
    }
