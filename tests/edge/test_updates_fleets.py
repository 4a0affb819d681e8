"""Fleets with releases of their own: a vehicle takes what its fleet's role signed, and nothing else."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Targets

from cloud.release import repository
from cloud.release.role_files import (
    current_role,
    meta_of,
    publish_online,
    read_timestamp,
    renew_snapshot,
    sign_role,
    write_role,
)
from edge.updates.errors import Refusal, RefusedError
from edge.updates.slots import Slots
from protos.traffic_vision.v1 import common_pb2 as common
from tests.update_attack import refused
from tests.update_world import VEHICLE, World, check, model

STAGED, IDLE = common.UPDATE_PHASE_STAGED, common.UPDATE_PHASE_IDLE
TRUCK = dataclasses.replace(VEHICLE, fleet="trucks")


@pytest.fixture
def world(world: World) -> World:
    """Trucks with keys of their own, vans with the common ones."""
    world.delegate("trucks", own_keys=True)
    world.delegate("vans")
    return world


def vehicle(world: World, folder: Path, fleet: str | None) -> Slots:
    return world.slots(folder / (fleet or "car"), dataclasses.replace(VEHICLE, fleet=fleet))


def drives(slots: Slots) -> bytes:
    slots.activate()
    slots.confirm()
    return slots.load(slots.state.active).data


def put(world: World, role: str, metadata: Metadata[Targets], signers: list[Signer]) -> None:
    """Publish a role's metadata, signed by these."""
    sign_role(metadata, signers)
    write_role(world.folder, role, metadata)
    snapshot = current_role(world.folder, "snapshot")
    snapshot.signed.meta[f"{role}.json"] = meta_of(world.folder, role, metadata.signed.version)
    now = datetime.now(timezone.utc).replace(microsecond=0)
    renew_snapshot(snapshot, now)
    online = world.keys.signer("snapshot"), world.keys.signer("timestamp")
    publish_online(world.folder, snapshot, read_timestamp(world.folder).version + 1, *online, now)


def test_each_vehicle_takes_its_own_fleets_release(world: World, tmp_path: Path) -> None:
    released = {
        fleet: world.release(model(fleet or "car"), fleet=fleet) for fleet in ("trucks", None, "vans")
    }
    assert [facts.release_counter for facts in released.values()] == [1, 2, 3], "one counter for all"
    assert released["trucks"].target_path == "models/trucks/rectangles-1.onnx"
    assert [release.facts for release in repository.list_releases(world.folder)] == list(released.values())
    for fleet, facts in released.items():
        slots = vehicle(world, tmp_path, fleet)
        result = check(world, slots)
        assert (result.phase, result.release) == (STAGED, facts), result.detail
        assert drives(slots) == model(fleet or "car")
        slots.close()
        again = vehicle(world, tmp_path, fleet)
        assert again.boot().troubles == ()
        assert check(world, again).phase == common.UPDATE_PHASE_CONFIRMED


def test_a_release_for_another_fleet_is_none_for_this_one(world: World, tmp_path: Path) -> None:
    world.release(model("truck"), fleet="trucks")
    for fleet in (None, "vans"):
        result = check(world, vehicle(world, tmp_path, fleet))
        assert (result.phase, result.detail) == (IDLE, "there is no release yet")


def test_a_fleet_that_nobody_signs_for_is_told(world: World, tmp_path: Path) -> None:
    refused(world, vehicle(world, tmp_path, "tractors"), Refusal.METADATA, "there is no role models-tractors")


def test_a_fleets_trainer_alone_cannot_release_either(world: World, tmp_path: Path) -> None:
    world.release(model("truck"), fleet="trucks")
    slots = vehicle(world, tmp_path, "trucks")
    trucks = current_role(world.folder, "models-trucks")
    trucks.signed.version += 1
    put(world, "models-trucks", trucks, [world.keys.signer("trucks-trainer")])
    refused(world, slots, Refusal.METADATA, "models-trucks was signed by 1/2 keys")


def test_the_common_keys_do_not_sign_for_a_fleet_that_has_its_own(world: World, tmp_path: Path) -> None:
    world.release(model("car"))
    cars = current_role(world.folder, "models")
    cars.signed.version = 2
    put(world, "models-trucks", cars, [world.keys.signer("trainer"), world.keys.signer("gate")])
    refused(
        world, vehicle(world, tmp_path, "trucks"), Refusal.METADATA, "models-trucks was signed by 0/2 keys"
    )


def test_a_role_speaks_of_its_own_folder_alone(world: World, tmp_path: Path) -> None:
    """Vans have the cars' keys. Both sign what is in the other's folder: nobody takes it from there."""
    facts = world.release(model("van"), fleet="vans")
    own = world.release(model("car"))
    vans, cars = current_role(world.folder, "models-vans"), current_role(world.folder, "models")
    both = [world.keys.signer("trainer"), world.keys.signer("gate")]
    cars.signed.targets[facts.target_path] = vans.signed.targets[facts.target_path]
    cars.signed.version += 1
    put(world, "models", cars, both)
    slots = vehicle(world, tmp_path, None)
    result = check(world, slots)
    assert (result.phase, result.release) == (STAGED, own), result.detail


def test_another_fleets_metadata_under_this_ones_name_offers_nothing(world: World, tmp_path: Path) -> None:
    """The same keys sign for cars and vans, and metadata does not say of which role it is: the path does."""
    world.release(model("van"), fleet="vans")
    vans = current_role(world.folder, "models-vans")
    vans.signed.version = 7
    put(world, "models", vans, [world.keys.signer("trainer"), world.keys.signer("gate")])
    result = check(world, vehicle(world, tmp_path, None))
    assert (result.phase, result.detail) == (IDLE, "there is no release yet")


@pytest.mark.parametrize("other", ["trucks", "vans"])
def test_evidence_of_another_fleet_neither_stages_nor_boots(world: World, tmp_path: Path, other: str) -> None:
    facts = world.release(model("other"), fleet=other)
    evidence = world.evidence(facts)
    own = world.release(model("car"))
    slots = vehicle(world, tmp_path, None)
    with pytest.raises(RefusedError, match=r"signed by 0/2 keys|may not sign it"):
        slots.stage(model("other"), evidence)
    slots.stage(model("car"), world.evidence(own))
    assert drives(slots) == model("car")
    place = tmp_path / "car" / "slots" / slots.state.active
    (place / "model.onnx").write_bytes(model("other"))
    (place / "evidence.json").write_bytes(evidence.to_bytes())
    boot = slots.boot()
    assert boot.model.content.slot == "factory"
    assert len(boot.troubles) == 1


def test_facts_that_name_another_fleet_are_refused(world: World, tmp_path: Path) -> None:
    """Its own role and folder, but the facts say vans."""
    world.release(model("truck"), fleet="trucks")
    trucks = current_role(world.folder, "models-trucks")
    document = trucks.to_dict()
    text = json.dumps(document).replace('"fleet": "trucks"', '"fleet": "vans"')
    forged = Metadata[Targets].from_dict(json.loads(text))
    forged.signed.version += 1
    both = [world.keys.signer("trucks-trainer"), world.keys.signer("trucks-gate")]
    put(world, "models-trucks", forged, both)
    result = check(world, vehicle(world, tmp_path, "trucks"))
    assert (result.phase, result.release) == (IDLE, None)


def test_a_vehicle_that_changes_its_fleet_drops_the_old_ones_model(world: World, tmp_path: Path) -> None:
    world.release(model("truck"), fleet="trucks")
    slots = world.slots(tmp_path / "v", TRUCK)
    check(world, slots)
    drives(slots)
    slots.close()
    moved = world.slots(tmp_path / "v", dataclasses.replace(VEHICLE, fleet="vans"))
    boot = moved.boot()
    assert boot.model.content.slot == "factory"
    assert "models-vans" in boot.troubles[0]
    facts = world.release(model("van"), fleet="vans")
    result = check(world, moved)
    assert (result.phase, result.release) == (STAGED, facts), result.detail


def test_one_fleets_keys_are_rotated_without_the_others(world: World, tmp_path: Path) -> None:
    world.release(model("car"))
    before = (world.folder / "metadata" / "2.models.json").read_bytes()
    world.exchange("trucks-gate", revoke=True)
    world.exchange("models-trucks")
    facts = world.release(model("truck"), fleet="trucks")
    result = check(world, vehicle(world, tmp_path, "trucks"))
    assert (result.phase, result.release) == (STAGED, facts), result.detail
    assert current_role(world.folder, "models").to_bytes() == before
