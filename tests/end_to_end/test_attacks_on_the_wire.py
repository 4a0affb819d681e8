"""What a hostile cloud, or somebody on the way to it, can do to a daemon that asks: each attack by its name.

One daemon lives through all of them. Each time it says why it takes nothing, and the frames go on; at the end
it takes the honest release that was there all the time. The table of attacks is in docs/updates.md.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from edge.updates.download import CHUNK_LIMIT_BYTES
from protos.release_facts import ReleaseFacts
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests.hostile_cloud import Prey, files_of, prey, serve_files
from tests.update_attack import rewritten
from tests.update_world import StatusError, World, edit, model, open_world

pytestmark = pytest.mark.services

NEW = model("new", padding=300_000)
OTHER_HARDWARE = ("riscv64-npu",)


class Target:
    """A vehicle on release 1, with release 2 offered to it by whatever the test makes of the cloud."""

    def __init__(
        self,
        vehicle: Prey,
        before: dict[str, bytes],
        offered: ReleaseFacts,
        for_others: ReleaseFacts,
        honest: Any,
    ) -> None:
        self.vehicle = vehicle
        self.before = before  # the metadata of release 1
        self.offered = offered
        self.for_others = for_others  # release 3, signed by the same owner for other hardware
        self.honest = honest  # how metadata and targets are served without an attack

    @property
    def world(self) -> World:
        return self.vehicle.world


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("attacked")
    world = open_world(folder / "cloud")
    try:
        with prey(world, folder / "vehicle") as vehicle:
            vehicle.confirmed(model("1"))
            before = files_of(world)
            honest = world.server.metadata, world.server.target
            serve_files(world, before)  # nothing of the next one gets out
            offered = vehicle.release(NEW)
            for_others = vehicle.release(as_long_as_new("other-board"), hardware_ids=OTHER_HARDWARE)
            world.server.metadata = honest[0]
            world.server.target = unavailable  # until a test says otherwise
            yield Target(vehicle, before, offered, for_others, honest)
    finally:
        world.close()


@pytest.fixture
def target(attacked: Target) -> Iterator[Target]:
    attacked.vehicle.says(
        "models/rectangles-2.onnx: UNAVAILABLE"
    )  # so that what it says next is of the attack
    yield attacked
    attacked.world.server.metadata = attacked.honest[0]
    attacked.world.server.target = unavailable


def unavailable(request: Any) -> Iterator[Any]:
    raise StatusError(grpc.StatusCode.UNAVAILABLE)
    yield


def whole(data: bytes, total: int | None = None) -> Callable[[fleet.FetchTargetRequest], Iterator[Any]]:
    """A server that gives these bytes for any target, from the offset that is asked for."""
    length = len(data) if total is None else total

    def serve(request: fleet.FetchTargetRequest) -> Iterator[fleet.FetchTargetResponse]:
        for begin in range(request.offset_bytes, max(1, len(data)), CHUNK_LIMIT_BYTES):
            chunk = data[begin : begin + CHUNK_LIMIT_BYTES]
            yield fleet.FetchTargetResponse(data=chunk, offset_bytes=begin, total_bytes=length)

    return serve


def as_long_as_new(version: str) -> bytes:
    """Another model, of the length that is signed for the new one."""
    other = model(version, padding=300_000 + len(NEW) - len(model(version, padding=300_000)))
    assert len(other) == len(NEW)
    return other


def staged(target: Target) -> list[Path]:
    """What is kept of a download that did not come to its end."""
    return list((target.vehicle.config.parent / "state" / "slots" / "staging").iterdir())


def drop_staged(target: Target) -> None:
    """So that the next attack begins at the first byte."""
    for file in staged(target):
        file.unlink()


def test_arbitrary_software(target: Target) -> None:
    """Another model under the release's name, of the same length."""
    target.world.server.target = whole(as_long_as_new("evil"))
    target.vehicle.refuses("not the bytes that were signed")


def test_a_damaged_target(target: Target) -> None:
    bits = bytearray(NEW)
    bits[len(bits) // 2] ^= 1
    target.world.server.target = whole(bytes(bits))
    target.vehicle.refuses("not the bytes that were signed")


def test_another_vehicle_models_release(target: Target) -> None:
    """Mixed bundles: signed by the same owner for other hardware, and given in this one's place."""
    others, asked = target.for_others, []

    def exchanged(request: fleet.FetchTargetRequest) -> Iterator[Any]:
        asked.append(request.path)
        honest: Callable[[fleet.FetchTargetRequest], Iterator[Any]] = target.honest[1]
        return honest(
            fleet.FetchTargetRequest(
                path=others.target_path, sha256=others.model_sha256, offset_bytes=request.offset_bytes
            )
        )

    assert others.hardware_ids == OTHER_HARDWARE and others.release_counter > target.offered.release_counter
    target.world.server.target = exchanged
    target.vehicle.refuses("not the bytes that were signed")
    assert set(asked) == {target.offered.target_path}, "the newer one, for others, is not even asked for"


@pytest.mark.parametrize(
    ("declares", "told"),
    [(len(NEW), "the server's stream ended at"), (len(NEW) // 2, "the server declares")],
)
def test_a_truncated_target(target: Target, declares: int, told: str) -> None:
    """Partial bundle: half of the file, in order, as if that were all of it."""
    target.world.server.target = whole(NEW[: len(NEW) // 2], declares)
    target.vehicle.refuses(told, f"of {len(NEW)} bytes" if declares == len(NEW) else f"expected {len(NEW)}")
    drop_staged(target)


def test_arbitrary_software_by_another_authority(target: Target, tmp_path: Path) -> None:
    other = open_world(tmp_path / "other")
    try:
        target.vehicle.world.server.metadata = other.server.metadata
        other.release(model("evil"), hardware_ids=target.offered.hardware_ids)
        other.release(model("evil2"), hardware_ids=target.offered.hardware_ids)
        target.vehicle.refuses("metadata does not check", "signed by 0/1 keys")
    finally:
        other.close()


def test_rollback_to_old_metadata(target: Target) -> None:
    """The newest timestamp was seen: an older one, signed by the same keys, is none any more."""
    serve_files(target.world, target.before)
    target.vehicle.refuses("metadata does not check", "must be >=")


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "models"])
def test_mix_and_match(target: Target, role: str) -> None:
    """A role's metadata of another moment, signed, where the present one is expected."""
    old = newest(target.before)
    if role == "timestamp":  # whole and signed by itself: the others do not go with it
        files = files_of(target.world)
        others = {name: newest(files)["snapshot"] for name in files if name.endswith(".snapshot.json")}
        serve_files(target.world, {**files, **others, "timestamp.json": old["timestamp"]})
    else:
        target.world.server.metadata = rewritten(role, lambda data: old[role], target.world)
    forget(target)
    target.vehicle.refuses("the update metadata")  # by its version, or by the length that is signed


def newest(files: dict[str, bytes]) -> dict[str, bytes]:
    """Each role's newest file."""

    def version(name: str) -> int:
        return int(name.split(".")[0]) if name[0].isdigit() else 0

    return {name.split(".")[-2]: files[name] for name in sorted(files, key=version)}


def forget(target: Target) -> None:
    """Have the vehicle see the present metadata anew: not its cache, its signatures."""
    cache = target.vehicle.config.parent / "state" / "slots" / "metadata"
    for name in ("timestamp", "snapshot", "models"):
        (cache / f"{name}.json").unlink(missing_ok=True)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "models"])
def test_changed_metadata(target: Target, role: str) -> None:

    def raised(data: bytes) -> bytes:
        return edit(data, lambda document: document["signed"].update(version=9))

    target.world.server.metadata = rewritten(role, raised, target.world)
    forget(target)
    target.vehicle.refuses("the update metadata")


def test_the_same_root_for_ever(target: Target) -> None:
    root = target.world.root
    target.world.server.metadata = rewritten("root", lambda data: root, target.world)
    inner = target.world.server.metadata

    def roots(request: fleet.FetchMetadataRequest) -> Iterator[Any]:
        request.version = 1 if request.role == "root" else request.version
        return inner(request)

    target.world.server.metadata = roots
    target.vehicle.refuses("Expected root version 2")


def test_endless_metadata(target: Target) -> None:
    sent: list[int] = []

    def endless(request: fleet.FetchMetadataRequest) -> Iterator[fleet.FetchMetadataResponse]:
        if request.role == "root":
            raise StatusError(grpc.StatusCode.NOT_FOUND)
        for index in range(100_000):
            sent.append(index)
            yield fleet.FetchMetadataResponse(
                data=bytes(CHUNK_LIMIT_BYTES), offset_bytes=index * CHUNK_LIMIT_BYTES, total_bytes=1 << 40
            )

    target.world.server.metadata = endless
    target.vehicle.refuses("exceeding the maximum allowed length")
    assert len(sent) < 1000  # what was on its way


def test_an_endless_target(target: Target) -> None:
    sent: list[int] = []

    def endless(request: fleet.FetchTargetRequest) -> Iterator[fleet.FetchTargetResponse]:
        for index in range(100_000):
            sent.append(index)
            begin = request.offset_bytes + index * CHUNK_LIMIT_BYTES
            yield fleet.FetchTargetResponse(
                data=bytes(CHUNK_LIMIT_BYTES), offset_bytes=begin, total_bytes=len(NEW)
            )

    target.world.server.target = endless
    target.vehicle.refuses("expected them at")
    assert len(sent) < 1000
    assert sum(file.stat().st_size for file in staged(target)) <= len(NEW)
    drop_staged(target)


def test_a_chunk_that_is_too_large(target: Target) -> None:
    def large(request: fleet.FetchTargetRequest) -> Iterator[fleet.FetchTargetResponse]:
        yield fleet.FetchTargetResponse(data=bytes(1 << 20), offset_bytes=0, total_bytes=len(NEW))

    target.world.server.target = large
    target.vehicle.refuses("a chunk of 1048576 bytes")


@pytest.mark.parametrize("what", ["metadata", "target"])
def test_slow_retrieval(target: Target, what: str) -> None:
    """A byte now and then, for as long as somebody listens."""
    ended = threading.Event()

    def drip(request: Any) -> Iterator[Any]:
        kind = fleet.FetchTargetResponse if what == "target" else fleet.FetchMetadataResponse
        total = len(NEW) if what == "target" else 5000
        for offset in range(total):
            yield kind(data=b"x", offset_bytes=offset, total_bytes=total)
            if ended.wait(0.5):
                return

    if what == "target":
        target.world.server.target = drip
        told = "bytes a second, at least 4096 are expected"
    else:
        target.world.server.metadata = drip
        told = "DEADLINE_EXCEEDED"
    target.vehicle.refuses(told)
    assert target.world.server.hung_up.wait(30)
    ended.set()
    drop_staged(target)


def test_a_cloud_that_answers_with_an_error(target: Target) -> None:
    """Told as what it is. One that does not answer at all: test_hostile_network.py."""
    target.world.server.metadata = unavailable
    target.vehicle.refuses("the update metadata could not be fetched", "UNAVAILABLE")


def test_what_the_cloud_says_is_no_line_of_the_log(target: Target) -> None:
    def shout(request: Any) -> Iterator[Any]:
        raise RuntimeError("x\nFAKE LOG LINE\n" * 1000)
        yield

    target.world.server.metadata = shout
    line = target.vehicle.refuses("could not be fetched")
    assert "\n" not in line and len(line) < 500


def test_after_all_of_it_the_honest_release_is_taken(target: Target) -> None:
    """The last one in this file."""
    target.world.server.target = target.honest[1]
    target.vehicle.reaches(target.offered)
