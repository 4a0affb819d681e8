"""A bundle on a stick, and models that nobody signed: staged by the rules that hold for the network."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tuf.api.metadata import Metadata

from cloud.release import serving
from cloud.release.keys import load_keys
from cloud.release.role_files import current_role
from edge.machine.disk_budget import DiskBudget, DiskLane
from edge.updates.client import UpdateClient
from edge.updates.errors import Refusal
from edge.updates.inbox import BUNDLE, Answer, Inbox, InboxError
from edge.updates.offline import MAX_ROOTS
from edge.updates.slots import Slots
from protos.traffic_vision.v1 import common_pb2 as common
from tests.bundles import write_bundle
from tests.models_factory import loaded
from tests.update_attack import publish, with_release
from tests.update_garage import FRAMES, Garage
from tests.update_world import VEHICLE, World, edit, model, open_world
from tests.waiting import eventually

STAGED = common.UPDATE_PHASE_STAGED


@pytest.fixture
def slots(world: World, tmp_path: Path) -> Slots:
    return world.slots(tmp_path / "vehicle")


def install(slots: Slots, bundle: Path, clock: Callable[[], datetime] | None = None) -> Any:
    options = {} if clock is None else {"clock": clock}
    return UpdateClient(None, slots, **options).install(bundle)


def refused(slots: Slots, bundle: Path, refusal: Refusal | None, told: str, **options: Any) -> None:
    before = dataclasses.replace(slots.state, clock_floor_s=0)
    result = install(slots, bundle, **options)
    assert result.refusal is refusal and told in result.detail, result
    assert result.staged is None and "\n" not in result.detail
    assert dataclasses.replace(slots.state, clock_floor_s=0) == before


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
