"""A vehicle looks for releases over real gRPC: what it gets, what it fetches, and when the line breaks."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import datetime, timedelta, timezone
from pathlib import Path

import grpc
import pytest
from tuf.api.metadata import Metadata, Root

from cloud.release import repository, serving
from cloud.release.keys import create_keys
from edge.updates.client import Progress
from edge.updates.errors import Refusal
from edge.updates.slots import Slots
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.traffic_vision.v1 import fleet_pb2_grpc as fleet_grpc
from tests.update_world import LIMITS, VEHICLE, World, activated, check, model

BIG = model("big", padding=300_000)


def test_a_fresh_vehicle_gets_a_release(world: World, slots: Slots) -> None:
    facts = world.release(BIG)
    seen: list[Progress] = []
    result = check(world, slots, on_progress=seen.append)
    assert (result.phase, result.release, result.retry) == (common.UPDATE_PHASE_STAGED, facts, False)
    assert result.staged is not None
    assert result.staged.digest == hashlib.sha256(BIG).hexdigest() == facts.model_sha256
    assert slots.load(result.staged.slot).data == BIG
    assert slots.active().slot == "factory", "nothing is activated by a check"
    phases = list(dict.fromkeys(progress.phase for progress in seen))
    assert phases == [
        common.UPDATE_PHASE_CHECKING,
        common.UPDATE_PHASE_DOWNLOADING,
        common.UPDATE_PHASE_VERIFYING,
    ]
    received = [progress.received_bytes for progress in seen if progress.total_bytes]
    assert received == sorted(received)
    assert (received[0], received[-1]) == (0, len(BIG))
    assert len(received) > len(BIG) // LIMITS.chunk_bytes


def test_metadata_says_until_when_it_holds(world: World, slots: Slots) -> None:
    result = check(world, slots)
    assert (result.phase, result.detail) == (common.UPDATE_PHASE_IDLE, "there is no release yet")
    assert result.metadata_expires is not None
    left = result.metadata_expires - datetime.now(timezone.utc)
    assert timedelta(hours=23) < left <= timedelta(days=1), "the timestamp's, the first to end"


def test_nothing_new_costs_two_small_fetches(world: World, slots: Slots) -> None:
    world.release(model("1"))
    activated(world, slots)
    world.server.asked.clear()
    result = check(world, slots)
    assert (result.phase, result.staged) == (common.UPDATE_PHASE_CONFIRMED, None)
    assert "runs already" in result.detail
    assert world.server.asked == ["2.root", "timestamp"]


def test_a_staged_release_is_not_fetched_again(world: World, slots: Slots) -> None:
    facts = world.release(model("1"))
    check(world, slots)
    world.server.asked.clear()
    result = check(world, slots)
    assert result.phase == common.UPDATE_PHASE_STAGED
    assert result.staged is not None
    assert result.staged.release == facts
    assert world.server.asked == ["2.root", "timestamp"]


def test_a_newer_release_takes_the_place_of_a_staged_one(world: World, slots: Slots) -> None:
    world.release(model("1"))
    check(world, slots)
    facts = world.release(model("2"))
    result = check(world, slots)
    assert result.staged is not None
    assert result.staged.release == facts
    assert slots.load(result.staged.slot).data == model("2")


def test_the_factory_model_as_a_release_is_no_update_but_raises_the_floor(world: World, slots: Slots) -> None:
    facts = world.release(model("factory"))
    result = check(world, slots)
    assert (result.phase, result.release) == (common.UPDATE_PHASE_IDLE, facts)
    assert "runs already" in result.detail
    assert slots.state.release_floor == 1
    assert not any(name.startswith("models/") for name in world.server.asked)


def test_a_probation_comes_first(world: World, slots: Slots) -> None:
    world.release(model("1"))
    check(world, slots)
    slots.activate()
    world.release(model("2"))
    world.server.asked.clear()
    assert check(world, slots).phase == common.UPDATE_PHASE_PROBATION
    assert world.server.asked == []
    slots.confirm()
    assert check(world, slots).phase == common.UPDATE_PHASE_STAGED


def test_a_release_that_failed_here_is_not_fetched_in_a_loop(world: World, slots: Slots) -> None:
    facts = world.release(model("1"))
    check(world, slots)
    slots.activate()
    slots.revert("it saw nothing")
    world.server.asked.clear()
    for _ in range(3):
        result = check(world, slots)
        assert (result.phase, result.refusal) == (common.UPDATE_PHASE_REFUSED, Refusal.KNOWN_BAD)
        assert facts.model_sha256 in result.detail
    assert not any(name.startswith("models/") for name in world.server.asked)
    world.release(model("2"))
    assert check(world, slots).phase == common.UPDATE_PHASE_STAGED


def test_going_back_to_an_older_model_is_a_new_release(world: World, slots: Slots) -> None:
    for version in ("1", "2", "1"):
        world.release(model(version))
        activated(world, slots)
    assert slots.load(slots.active().slot).data == model("1")
    assert slots.state.release_floor == 3


@pytest.mark.parametrize(
    ("terms", "refusal", "named"),
    [
        ({"hardware_ids": ("jetson-orin-trt",)}, Refusal.HARDWARE, "jetson-orin-trt"),
        ({"minimum_daemon_version": "9.2"}, Refusal.DAEMON_TOO_OLD, "9.2"),
    ],
)
def test_what_does_not_suit_is_refused_before_it_is_fetched(
    world: World, slots: Slots, terms: dict[str, object], refusal: Refusal, named: str
) -> None:
    world.release(model("1"), **terms)
    result = check(world, slots)
    assert (result.phase, result.refusal, result.retry) == (common.UPDATE_PHASE_REFUSED, refusal, False)
    assert named in result.detail
    assert slots.candidate() is None
    assert not any(name.startswith("models/") for name in world.server.asked)


def test_each_hardware_gets_its_own_newest_release(world: World, slots: Slots, tmp_path: Path) -> None:
    ours = world.release(model("1"))
    theirs = world.release(model("2"), hardware_ids=("jetson-orin-trt",))
    assert check(world, slots).release == ours
    other = dataclasses.replace(VEHICLE, hardware_ids=frozenset({"jetson-orin-trt"}))
    assert check(world, world.slots(tmp_path / "other", other)).release == theirs


def test_a_model_over_the_size_limit_is_not_fetched(world: World, tmp_path: Path) -> None:
    small = dataclasses.replace(VEHICLE, max_model_bytes=len(BIG) - 1)
    world.release(BIG)
    result = check(world, world.slots(tmp_path / "small", small))
    assert result.refusal is Refusal.TOO_LARGE
    assert not any(name.startswith("models/") for name in world.server.asked)


def test_root_rotation_is_followed_and_ends_the_power_of_old_keys(
    world: World, slots: Slots, tmp_path: Path
) -> None:
    """Root keys two of three, then the timestamp's key; a vehicle that was away catches up from its first."""
    world.release(model("1"))
    activated(world, slots)
    ring = [world.keys.signer(name) for name in ("root-1", "root-2", "root-3")]
    for turn in range(10):
        root = Metadata[Root].from_bytes(repository.current_root(world.folder)).signed
        fresh = create_keys(tmp_path / f"keys-{turn}").signer("root-1")
        root.revoke_key(ring[0].public_key.keyid, "root")
        root.add_key(fresh.public_key, "root")
        ring = [*ring[1:], fresh]
        repository.publish_root(world.folder, root, ring)
    facts = world.release(model("2"))
    assert check(world, slots).release == facts
    assert [name for name in world.server.asked if name.endswith(".root")][-1] == "12.root"
    slots.activate()
    slots.close()
    boot = world.slots(tmp_path / "vehicle").boot()
    assert (boot.model.data, boot.troubles) == (model("2"), ())
    root = Metadata[Root].from_bytes(repository.current_root(world.folder)).signed
    stolen = world.keys.public("timestamp").keyid
    root.revoke_key(stolen, "timestamp")
    root.add_key(create_keys(tmp_path / "keys-online").public("timestamp"), "timestamp")
    repository.publish_root(world.folder, root, ring)
    fresh_vehicle = world.slots(tmp_path / "fresh")
    result = check(world, fresh_vehicle)
    assert (result.phase, result.refusal) == (common.UPDATE_PHASE_REFUSED, Refusal.METADATA)
    assert "timestamp was signed by 0/1 keys" in result.detail


def test_the_serving_part_maps_to_the_contract(world: World) -> None:
    facts = world.release(model("1"))
    request = fleet.FetchTargetRequest(
        path=facts.target_path, sha256=facts.model_sha256, offset_bytes=1 << 40
    )
    stub = fleet_grpc.FleetServiceStub(world.channel)
    for wanted, call in (
        (grpc.StatusCode.OUT_OF_RANGE, stub.FetchTarget(request, timeout=20)),
        (
            grpc.StatusCode.NOT_FOUND,
            stub.FetchTarget(fleet.FetchTargetRequest(path="models/x"), timeout=20),
        ),
        (
            grpc.StatusCode.NOT_FOUND,
            stub.FetchMetadata(fleet.FetchMetadataRequest(role="root", version=2), timeout=20),
        ),
    ):
        with pytest.raises(grpc.RpcError) as failed:
            next(call)
        assert failed.value.code() is wanted
    assert serving.CHUNK_LIMIT_BYTES == 65536
