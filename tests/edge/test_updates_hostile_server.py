"""A server, or somebody on the way to it, that breaks the contract: the vehicle is as it was and says why."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from cloud.release import repository
from edge.updates.errors import Refusal
from edge.updates.slots import Slots
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests.update_attack import REFUSED, driving, kept_away, refused, rewritten, unharmed
from tests.update_world import LIMITS, StatusError, World, check, model

BIG = model("big", padding=300_000)


@pytest.fixture
def slots(world: World, tmp_path: Path) -> Slots:
    return driving(world, tmp_path / "vehicle")


def test_not_found_for_everything_ends_at_once(world: World, slots: Slots) -> None:
    def nothing(request: fleet.FetchMetadataRequest) -> Iterator[Any]:
        raise StatusError(grpc.StatusCode.NOT_FOUND)
        yield

    world.server.metadata = nothing
    world.server.asked.clear()
    kept_away(world, slots, "NOT_FOUND")
    assert world.server.asked == ["2.root", "timestamp"]


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_no_other_status_ends_the_search_for_roots(world: World, slots: Slots, code: grpc.StatusCode) -> None:
    inner = world.server.metadata

    def blocked(request: fleet.FetchMetadataRequest) -> Iterator[Any]:
        if request.role == "root":
            raise StatusError(code)
        return inner(request)

    world.server.metadata = blocked
    if code is grpc.StatusCode.NOT_FOUND:
        assert check(world, slots).phase == common.UPDATE_PHASE_CONFIRMED
    else:
        kept_away(world, slots, code.name)


def test_the_same_root_for_ever(world: World, slots: Slots) -> None:
    root = world.root
    world.server.metadata = rewritten("root", lambda data: root, world)
    inner = world.server.metadata

    def roots(request: fleet.FetchMetadataRequest) -> Iterator[Any]:
        request.version = 1 if request.role == "root" else request.version
        return inner(request)

    world.server.metadata = roots
    world.server.asked.clear()
    refused(world, slots, Refusal.METADATA, "Expected root version 2")
    assert world.server.asked == ["2.root"]


def test_endless_metadata(world: World, slots: Slots) -> None:
    sent = []

    def endless(request: fleet.FetchMetadataRequest) -> Iterator[Any]:
        if request.role == "root":
            raise StatusError(grpc.StatusCode.NOT_FOUND)
        for index in range(10_000):
            sent.append(index)
            yield fleet.FetchMetadataResponse(
                data=bytes(65536), offset_bytes=index * 65536, total_bytes=1 << 40
            )

    world.server.metadata = endless
    kept_away(world, slots, "exceeding the maximum allowed length")
    assert world.server.hung_up.wait(30)
    assert len(sent) < 1000


def test_all_metadata_of_a_check_together_is_capped(world: World, slots: Slots) -> None:
    """Each file is as long as it may be; all of them together are not."""
    world.release(model("2"))
    stamp = (world.folder / "metadata" / "timestamp.json").stat().st_size
    for cap, told in ((stamp + 100, f"more than {stamp + 100} bytes"), (100_000, "is staged")):
        limits = dataclasses.replace(LIMITS, metadata_bytes=cap)
        assert told in world.client(slots, limits).check().detail


@pytest.mark.parametrize(
    ("data", "offset", "total", "told"),
    [
        (65537, 0, None, "a chunk of 65537 bytes"),
        (10, 5, None, "at 5 of"),
        (10, 0, 11, "declares 11 bytes"),
        (10, 0, 1 << 40, "declares"),
        (10, 0, None, "stream ended at 10"),
        (0, 0, None, "stream ended at 0"),
    ],
)
def test_chunks_against_the_contract(
    world: World, slots: Slots, data: int, offset: int, total: int | None, told: str
) -> None:
    world.release(BIG)

    def serve(request: fleet.FetchTargetRequest) -> Iterator[fleet.FetchTargetResponse]:
        yield fleet.FetchTargetResponse(
            data=bytes(data), offset_bytes=offset, total_bytes=len(BIG) if total is None else total
        )

    world.server.target = serve
    kept_away(world, slots, told)


def test_more_than_the_target_has(world: World, slots: Slots) -> None:
    facts = world.release(model("2"))
    length = len(model("2"))

    def serve(request: fleet.FetchTargetRequest) -> Iterator[fleet.FetchTargetResponse]:
        yield fleet.FetchTargetResponse(data=bytes(length + 1), offset_bytes=0, total_bytes=length)

    world.server.target = serve
    kept_away(world, slots, "expected them at 0")
    assert (slots.staging / f"{facts.model_sha256}.part").stat().st_size == 0


def test_what_the_server_says_cannot_break_the_log(world: World, slots: Slots) -> None:
    def shout(request: fleet.FetchMetadataRequest) -> Iterator[Any]:
        raise RuntimeError("x\nFAKE LOG LINE\n" * 1000)
        yield

    world.server.metadata = shout
    result = check(world, slots)
    assert result.retry
    assert "\n" not in result.detail
    assert len(result.detail) < 500


def test_the_target_is_gone(world: World, slots: Slots) -> None:
    world.release(model("2"))
    repository.list_releases(world.folder)[-1].file.unlink()
    kept_away(world, slots, "NOT_FOUND")


def test_two_hundred_mutations_of_metadata_and_target(world: World, slots: Slots) -> None:
    """Bytes flipped, cut, doubled and moved about: nothing of it is staged, nothing breaks the client."""
    facts = world.release(model("2"))
    chance = random.Random(7)
    honest = world.server.metadata, world.server.target
    before = slots.state
    outcomes: dict[str, int] = {}
    for turn in range(200):
        role = ("timestamp", "snapshot", "models", "target")[turn % 4]
        if role == "target":
            mutated = mutation(model("2"), chance)

            def serve(request: fleet.FetchTargetRequest, data: bytes = mutated) -> Iterator[Any]:
                yield fleet.FetchTargetResponse(data=data, offset_bytes=0, total_bytes=len(model("2")))

            world.server.metadata, world.server.target = honest[0], serve
        else:
            world.server.metadata = rewritten(role, lambda data: mutation(data, chance), world)
        result = check(world, slots)
        world.server.metadata, world.server.target = honest
        outcomes[result.refusal.value if result.refusal else "transfer"] = 1
        assert result.phase == REFUSED or result.retry, f"turn {turn}: {result}"
        assert unharmed(before, slots)
        for file in slots.staging.iterdir():
            file.unlink()
        # The next turn meets a vehicle that has not seen the good metadata of this one.
        for name in ("timestamp", "snapshot", "models"):
            (slots.metadata / f"{name}.json").unlink(missing_ok=True)
    assert set(outcomes) >= {"metadata", "content", "transfer"}
    assert check(world, slots).release == facts


def mutation(data: bytes, chance: random.Random) -> bytes:
    """Change bytes so that they are not what they were."""
    changed = bytearray(data)
    begin = chance.randrange(len(data))
    end = min(len(data), begin + chance.randrange(1, 40))
    kind = chance.randrange(5)
    if kind == 0:
        changed[begin] ^= 1 << chance.randrange(8)
    elif kind == 1:
        del changed[begin:end]
    elif kind == 2:
        changed[begin:begin] = changed[begin:end]
    elif kind == 3:
        changed[begin:end] = chance.randbytes(end - begin)
    else:
        changed = changed[:begin]
    # In another case a signature's hex digits mean the same.
    return bytes(changed) if changed.lower() != data.lower() else data + b"!"
