"""How a target is fetched: cut, damaged, slow, on a full disk, and gone on with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.updates.client import UpdateClient
from edge.updates.download import Pace, TransferLimits
from edge.updates.errors import Refusal
from edge.updates.slots import Slots
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.traffic_vision.v1 import fleet_pb2_grpc as fleet_grpc
from tests.relays import slow_link
from tests.update_world import LIMITS, StatusError, World, activated, check, model

BIG = model("big", padding=300_000)


class Cut:
    """Breaks every transfer of a target after some chunks, a given number of times."""

    def __init__(self, world: World, times: int, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        self.inner = world.server.target
        self.times = times
        self.code = code

    def __call__(self, request: fleet.FetchTargetRequest) -> Iterator[fleet.FetchTargetResponse]:
        for index, chunk in enumerate(self.inner(request)):
            if index == 2 and self.times:
                self.times -= 1
                raise StatusError(self.code)
            yield chunk


def test_a_download_that_was_cut_goes_on_where_it_ended(world: World, slots: Slots, tmp_path: Path) -> None:
    facts = world.release(BIG)
    world.server.target = Cut(world, times=2)
    for _ in range(2):
        result = check(world, slots)
        assert (result.phase, result.retry, result.release) == (common.UPDATE_PHASE_IDLE, True, facts)
        assert "UNAVAILABLE" in result.detail
    slots.close()
    slots = world.slots(tmp_path / "vehicle")  # a restart of the daemon in between
    assert check(world, slots).phase == common.UPDATE_PHASE_STAGED
    offsets = [name.partition("@")[2] for name in world.server.asked if name.startswith("models/")]
    assert offsets == [str(2 * chunk) for chunk in (0, LIMITS.chunk_bytes, 2 * LIMITS.chunk_bytes)]
    assert slots.load("a").data == BIG


def test_what_was_kept_of_a_cut_download_may_be_damaged(world: World, slots: Slots) -> None:
    """After a power cut the kept part may hold anything: it costs one download more, and is never used."""
    facts = world.release(BIG)
    part = slots.staging / f"{facts.model_sha256}.part"
    part.write_bytes(bytes(100_000))
    result = check(world, slots)
    assert (result.refusal, result.retry) == (Refusal.CONTENT, True)
    assert not part.exists()
    assert check(world, slots).phase == common.UPDATE_PHASE_STAGED


def test_a_part_that_is_too_long_is_begun_anew(world: World, slots: Slots) -> None:
    facts = world.release(BIG)
    (slots.staging / f"{facts.model_sha256}.part").write_bytes(bytes(len(BIG) + 1))
    assert check(world, slots).phase == common.UPDATE_PHASE_STAGED
    assert world.server.asked[-1].endswith("@0")


def test_parts_of_releases_that_nobody_wants_any_more_are_removed(world: World, slots: Slots) -> None:
    world.release(BIG)
    world.server.target = Cut(world, times=1)
    check(world, slots)
    assert len(list(slots.staging.iterdir())) == 1
    facts = world.release(model("2"))
    world.server.target = Cut(world, times=1)
    assert check(world, slots).release == facts
    assert list(slots.staging.iterdir()) == []


def test_a_server_that_is_away_is_no_reason_to_stop(world: World, slots: Slots, tmp_path: Path) -> None:
    world.release(model("1"))
    activated(world, slots)
    for leave, told in ((world.stop_server, "UNAVAILABLE"), (world.channel.close, "Channel closed")):
        leave()
        result = check(world, slots)
        assert (result.phase, result.retry, result.refusal) == (common.UPDATE_PHASE_CONFIRMED, True, None)
        assert told in result.detail
    slots.close()
    boot = world.slots(tmp_path / "vehicle").boot()
    assert (boot.model.data, boot.troubles) == (model("1"), ()), "the active slot checks without a network"


def test_a_full_disk_is_told_and_nothing_changes(
    world: World, slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.release(model("1"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("edge.updates.client.fetch_target", full)
        result = check(world, slots)
    assert (result.phase, result.retry) == (common.UPDATE_PHASE_IDLE, True)
    assert "No space left" in result.detail
    assert check(world, slots).phase == common.UPDATE_PHASE_STAGED


def test_a_slow_server_is_given_up_by_its_pace(world: World, slots: Slots) -> None:
    """One chunk, then silence: the transfer ends, and what came is kept."""
    facts = world.release(BIG)
    inner = world.server.target
    ended = []

    def slow(request: fleet.FetchTargetRequest) -> Iterator[fleet.FetchTargetResponse]:
        yield next(inner(request))
        ended.append(world.server.hung_up.wait(30))

    world.server.target = slow
    limits = TransferLimits(pace_s=0.5, least_bytes_per_s=1_000_000, metadata_s=40)
    result = check(world, slots, limits=limits)
    assert (result.phase, result.retry) == (common.UPDATE_PHASE_IDLE, True)
    assert "bytes a second" in result.detail
    part = slots.staging / f"{facts.model_sha256}.part"
    assert part.stat().st_size == 65536
    world.server.target = inner
    assert check(world, slots).phase == common.UPDATE_PHASE_STAGED


@pytest.mark.parametrize(
    ("bytes_per_s", "phase"),
    [(40_000, common.UPDATE_PHASE_STAGED), (16_000, common.UPDATE_PHASE_IDLE)],
    ids=["just fast enough", "too slow"],
)
def test_a_slow_link_is_enough_from_the_least_pace_on(
    world: World, slots: Slots, bytes_per_s: int, phase: common.UpdatePhase
) -> None:
    """The link is slow, not the server: what it has sent comes, whether it is still wanted or not."""
    data = model("slow", padding=60_000)
    facts = world.release(data)
    limits = TransferLimits(pace_s=1.0, least_bytes_per_s=32_000, metadata_s=40)
    with slow_link(world.port, bytes_per_s) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        result = UpdateClient(fleet_grpc.FleetServiceStub(channel), slots, limits=limits).check()
    assert result.phase == phase, result.detail
    if phase == common.UPDATE_PHASE_STAGED:
        assert slots.load("a").data == data
        return
    assert "bytes a second, at least 32000 are expected" in result.detail
    kept = (slots.staging / f"{facts.model_sha256}.part").stat().st_size
    assert 0 < kept < len(data)
    assert check(world, slots).phase == common.UPDATE_PHASE_STAGED, "it goes on from there on a better link"
    asked = next(asked for asked in reversed(world.server.asked) if facts.target_path in asked)
    assert asked.endswith(f"@{kept}")


@given(st.lists(st.floats(0.05, 5.0), min_size=1, max_size=60), st.integers(4_100, 100_000))
def test_no_pace_above_the_least_is_called_slow(looks_s: list[float], bytes_per_s: int) -> None:
    """Whenever one looks, and though a link that keeps its pace brings whole chunks only."""
    limits, now_s = TransferLimits(), [0.0]
    pace = Pace(limits, clock=lambda: now_s[0])
    for look_s in looks_s:
        now_s[0] += look_s
        whole = int(now_s[0] * bytes_per_s) // limits.chunk_bytes * limits.chunk_bytes
        assert pace.too_slow(whole) is None


@given(st.lists(st.floats(0.05, 0.5), min_size=50, max_size=100), st.integers(0, 2_700))
def test_a_drip_is_called_slow(looks_s: list[float], bytes_per_s: int) -> None:
    limits, now_s = TransferLimits(), [0.0]
    pace, slow = Pace(limits, clock=lambda: now_s[0]), []
    while now_s[0] < 2 * limits.pace_s:
        for look_s in looks_s:
            now_s[0] += look_s
            slow.append(pace.too_slow(int(now_s[0] * bytes_per_s)))
    assert any(found is not None for found in slow)


def test_metadata_has_a_deadline_too(world: World, slots: Slots) -> None:
    inner = world.server.metadata

    def slow(request: fleet.FetchMetadataRequest) -> Iterator[fleet.FetchMetadataResponse]:
        if request.role == "timestamp":
            world.server.hung_up.wait(30)
        yield from inner(request)

    world.server.metadata = slow
    limits = TransferLimits(rpc_s=0.3, least_bytes_per_s=1, metadata_s=40)
    result = check(world, slots, limits=limits)
    assert (result.phase, result.retry) == (common.UPDATE_PHASE_IDLE, True)
    assert "DEADLINE_EXCEEDED" in result.detail
    world.server.metadata = inner
    result = check(world, slots, limits=TransferLimits(metadata_s=0))
    assert "took more than 0 s" in result.detail
