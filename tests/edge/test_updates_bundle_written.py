"""A bundle as the cloud writes it, judged by the vehicle that it is put into."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from cloud.release.bundling import write_bundle
from cloud.release.errors import ReleaseError
from cloud.release.repository import list_releases
from cloud.release.role_files import current_role, read_timestamp
from edge.updates.bundle import NoSuchMetadataError, open_bundle
from edge.updates.client import UpdateClient, UpdateResult
from edge.updates.errors import Refusal
from edge.updates.slots import Slots
from protos.traffic_vision.v1.common_pb2 import UpdatePhase
from tests.update_attack import driving
from tests.update_world import VEHICLE, World, check, model

STAGED = UpdatePhase.UPDATE_PHASE_STAGED


def install(slots: Slots, bundle: Path, now: datetime | None = None) -> UpdateResult:
    clock = now or datetime.now(timezone.utc)
    return UpdateClient(None, slots, clock=lambda: clock).install(bundle)


def test_a_bundle_holds_what_a_vehicle_needs_through_rotations(world: World, tmp_path: Path) -> None:
    slots = world.slots(tmp_path / "vehicle")
    world.release(model("1"))
    world.exchange("root")
    world.exchange("timestamp")
    facts = world.release(model("2"))
    content = write_bundle(world.folder, tmp_path / "out.tvbundle")
    assert (content.releases, content.roots) == ((facts,), (1, 3))
    result = install(slots, tmp_path / "out.tvbundle")
    assert (result.phase, result.release) == (STAGED, facts), result.detail
    assert slots.load(result.staged.slot).data == model("2")


def test_the_same_bundle_is_the_same_file(world: World, tmp_path: Path) -> None:
    world.release(model("1"))
    for name in ("a", "b"):
        write_bundle(world.folder, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_each_hardware_gets_its_newest_release_and_one_may_be_asked_for(world: World, tmp_path: Path) -> None:
    first = world.release(model("1"))
    other = world.release(model("arm"), hardware_ids=("aarch64-trt",))
    newest = world.release(model("2"))
    out = tmp_path / "out.tvbundle"
    assert set(write_bundle(world.folder, out).releases) == {other, newest}
    for hardware, release in (("aarch64-trt", other), ("x86_64-cpu", newest)):
        vehicle = dataclasses.replace(VEHICLE, hardware_ids=frozenset({hardware}))
        assert install(world.slots(tmp_path / hardware, vehicle), out).release == release
    assert write_bundle(world.folder, out, counter=1).releases == (first,)
    for counter in (4, 99):
        with pytest.raises(ReleaseError, match=f"no release {counter} .*there are: 1, 2, 3"):
            write_bundle(world.folder, out, counter=counter)


def test_a_fleets_bundle_is_the_fleets(world: World, tmp_path: Path) -> None:
    world.delegate("trucks", own_keys=True)
    world.release(model("car"))
    with pytest.raises(ReleaseError, match="there is no release yet"):
        write_bundle(world.folder, tmp_path / "out", fleet="trucks")
    facts = world.release(model("truck"), fleet="trucks")
    assert write_bundle(world.folder, tmp_path / "out", fleet="trucks").releases == (facts,)
    truck = world.slots(tmp_path / "truck", dataclasses.replace(VEHICLE, fleet="trucks"))
    assert install(truck, tmp_path / "out").release == facts
    assert install(world.slots(tmp_path / "car"), tmp_path / "out").refusal is Refusal.METADATA
    with open_bundle(tmp_path / "out") as bundle, pytest.raises(NoSuchMetadataError):
        bundle.metadata("models", current_role(world.folder, "models").signed.version)


def test_a_bundle_lasts_as_long_as_it_says_and_does_not_hold_back_what_comes_by_the_network(
    world: World, tmp_path: Path
) -> None:
    """Its timestamp's day does not count, the offline roles' year does."""
    slots = driving(world, tmp_path / "vehicle")
    facts = world.release(model("2"))
    before = read_timestamp(world.folder)
    content = write_bundle(world.folder, tmp_path / "out")
    ends = datetime.fromisoformat(content.until)
    now = datetime.now(timezone.utc)
    assert ends - now > timedelta(days=300) > before.expires - now
    assert read_timestamp(world.folder) == before, "nothing is signed for it"
    late = install(world.slots(tmp_path / "late"), tmp_path / "out", ends)
    assert (late.refusal, late.staged) == (Refusal.EXPIRED, None)
    result = install(slots, tmp_path / "out", ends - timedelta(seconds=1))
    assert (result.phase, result.release) == (STAGED, facts)
    newer = world.release(model("3"))
    result = check(world, slots)
    assert result.release == newer, result.detail


def test_a_bundle_that_is_altered_or_lacks_a_root_is_refused(world: World, tmp_path: Path) -> None:
    world.release(model("1"))
    slots = world.slots(tmp_path / "vehicle")
    write_bundle(world.folder, tmp_path / "out")
    data = (tmp_path / "out").read_bytes()
    (tmp_path / "forged").write_bytes(data.replace(b'"release_counter":1', b'"release_counter":9'))
    assert (tmp_path / "forged").read_bytes() != data
    assert install(slots, tmp_path / "forged").refusal is Refusal.METADATA
    for _ in range(2):
        world.exchange("timestamp", revoke=True)
    write_bundle(world.folder, tmp_path / "third", first_root=3)
    result = install(slots, tmp_path / "third")
    assert result.refusal is Refusal.METADATA, "the second one is missing"
    write_bundle(world.folder, tmp_path / "second", first_root=2)
    assert install(slots, tmp_path / "second").phase == STAGED, "the one that the vehicle has may be left out"
    assert install(slots, tmp_path / "third").phase == STAGED, "by now it has the second"


def test_a_damaged_release_and_a_root_that_is_not_there_are_refused(world: World, tmp_path: Path) -> None:
    world.release(model("1"))
    for root in (0, 2):
        with pytest.raises(ReleaseError, match=f"no root {root}"):
            write_bundle(world.folder, tmp_path / "out", first_root=root)
    list_releases(world.folder)[0].file.write_bytes(b"damaged")
    with pytest.raises(ReleaseError, match="not what was released"):
        write_bundle(world.folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
