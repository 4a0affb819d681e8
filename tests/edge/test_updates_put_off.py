"""A cloud that is slow holds nothing up: what comes first is done while a transfer is under way, which then
goes on from the bytes that are kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.updates.download import TransferLimits, fetch_target
from edge.updates.errors import PutOffError, TransferError
from edge.updates.good_start import RUNS_WELL_S
from edge.updates.inbox import BUNDLE, ROLLBACK, Inbox
from edge.updates.slots import Slots
from protos.release_promise import ShadowFacts
from protos.traffic_vision.v1 import common_pb2, fleet_pb2
from protos.traffic_vision.v1.fleet_pb2_grpc import FleetServiceStub
from tests.update_garage import BIG, FRAMES, PROBATION, STAGED, Garage, SlowDownload, Vehicle
from tests.update_world import LIMITS, World, model
from tests.waiting import eventually

ANSWER_S = 60.0


def downloading(start: Garage, vehicle: Vehicle, slow: SlowDownload) -> None:
    vehicle.updates.nudge(0)
    eventually(
        lambda: len(slow.offsets()) == 1 and vehicle.status().model.received_bytes > 0, "its first bytes"
    )


def goes_on(slow: SlowDownload, calls: int = 2) -> None:
    eventually(lambda: len(slow.offsets()) >= calls, "it goes on")
    first, *rest = slow.offsets()
    assert first == 0
    assert rest == sorted(rest) and rest[0] > 0, "from the bytes that are kept"


def troubles(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the updates told as a trouble."""
    loggers = ("edge.updates.client", "edge.updates.part")
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name in loggers
    ]


@pytest.mark.parametrize("drips", [True, False], ids=["5 kB/s", "nothing more"])
def test_a_model_that_crashes_makes_place_during_a_slow_download(
    start: Garage, caplog: pytest.LogCaptureFixture, drips: bool
) -> None:
    caplog.set_level(logging.INFO)
    vehicle = start.confirmed(model("1"))
    vehicle.publishing = 0
    facts = start.release(BIG)
    with SlowDownload(start.world, facts, drips=drips) as slow:
        downloading(start, vehicle, slow)
        vehicle.updates.model_failed(vehicle.running, "it broke")
        eventually(lambda: vehicle.running.metadata.version == "factory", "the factory's model")
        goes_on(slow)
        assert vehicle.running.metadata.version == "factory", "nothing else came of it so far"
        slow.let_go()
        vehicle.until(PROBATION)
    assert vehicle.running.data == BIG
    assert not troubles(caplog)


@pytest.mark.parametrize("drips", [True, False], ids=["5 kB/s", "nothing more"])
def test_the_owner_takes_a_model_back_during_a_slow_download(
    start: Garage, caplog: pytest.LogCaptureFixture, drips: bool
) -> None:
    vehicle = start.confirmed(model("1"))
    vehicle.publishing = 0
    facts = start.release(BIG)
    with SlowDownload(start.world, facts, drips=drips) as slow:
        downloading(start, vehicle, slow)
        inbox = Inbox(start.config.state_folder)
        answer = inbox.wait(inbox.wish("factory", ROLLBACK), ANSWER_S)
        assert answer.is_installed, answer.detail
        assert vehicle.running.metadata.version == "factory"
        goes_on(slow)
        slow.let_go()
        vehicle.until(PROBATION)
    assert vehicle.running.data == BIG
    assert not troubles(caplog)


def test_what_the_owner_gives_is_looked_at_during_a_slow_download(start: Garage, tmp_path: Path) -> None:
    vehicle = start()
    facts = start.release(BIG)
    with SlowDownload(start.world, facts, drips=True) as slow:
        downloading(start, vehicle, slow)
        (tmp_path / "none.bundle").write_bytes(b"this is none")
        inbox = Inbox(start.config.state_folder)
        answer = inbox.wait(inbox.leave(tmp_path / "none.bundle", BUNDLE), ANSWER_S)
        assert not answer.is_installed
        goes_on(slow)


def test_another_release_that_is_assigned_does_not_wait_for_the_one_before(start: Garage) -> None:
    first, second = start.release(BIG), start.release(model("2"))
    vehicle = start(start=False)
    vehicle.updates.assign(fleet_pb2.Assignment(release_counter=first.release_counter))
    with SlowDownload(start.world, first, drips=False) as slow:
        vehicle.updates.start()
        eventually(lambda: vehicle.status().model.received_bytes > 0, "its first bytes")
        vehicle.updates.assign(fleet_pb2.Assignment(release_counter=second.release_counter))
        vehicle.until(PROBATION)
        assert vehicle.running.data == model("2")
        assert slow.offsets() == [0], "it is not wanted any more"


def test_what_is_said_again_puts_nothing_off(start: Garage) -> None:
    facts = start.release(BIG)
    vehicle = start(start=False)
    message = fleet_pb2.Assignment(release_counter=facts.release_counter)
    vehicle.updates.assign(message)
    with SlowDownload(start.world, facts, drips=True) as slow:
        vehicle.updates.start()
        eventually(lambda: vehicle.status().model.received_bytes > 0, "its first bytes")
        before = vehicle.status().model.received_bytes
        for _ in range(5):
            vehicle.updates.assign(message)
            eventually(lambda b=before: vehicle.status().model.received_bytes > b, "more bytes")
            before = vehicle.status().model.received_bytes
        assert slow.offsets() == [0]


def test_a_probation_that_begins_by_hand_is_watched_during_a_slow_download(start: Garage) -> None:
    vehicle = start.staged(model("1"))
    facts = start.release(BIG)
    with SlowDownload(start.world, facts, drips=False) as slow:
        downloading(start, vehicle, slow)
        vehicle.running = vehicle.models.load("a")  # as `ReloadModel` does
        vehicle.models.activated(common_pb2.SLOT_UNSPECIFIED, vehicle.running)
        assert vehicle.models.slots.state.on_probation
        vehicle.publishing = FRAMES
        slots = vehicle.models.slots
        eventually(lambda: slots.state.release_floor == 1, "it is confirmed")
        assert vehicle.running.data == model("1")
        goes_on(slow)


def test_a_start_that_goes_well_is_noted_during_a_slow_download(start: Garage) -> None:
    now_s = [0.0]
    start.seconds = lambda: now_s[0]
    start.confirmed(model("1"))
    facts = start.release(BIG)
    vehicle = start(start=False)
    assert vehicle.models.slots.state.starts > 0
    with SlowDownload(start.world, facts, drips=False) as slow:
        vehicle.updates.start()
        eventually(lambda: vehicle.status().model.received_bytes > 0, "its first bytes")
        assert vehicle.models.slots.state.starts > 0
        now_s[0] = RUNS_WELL_S
        eventually(lambda: vehicle.models.slots.state.starts == 0, "it is noted")
        goes_on(slow)


def test_metadata_that_hangs_is_left_too(start: Garage, caplog: pytest.LogCaptureFixture) -> None:
    vehicle = start.confirmed(model("1"))
    vehicle.publishing = 0
    inner, server = start.world.server.metadata, start.world.server
    hangs = [True]

    def slow(request: fleet_pb2.FetchMetadataRequest) -> Iterator[fleet_pb2.FetchMetadataResponse]:
        if request.role == "timestamp" and hangs:
            hangs.clear()
            assert server.hung_up.wait(60)
        yield from inner(request)

    server.metadata = slow
    facts = start.release(model("2"))
    vehicle.updates.nudge(0)
    eventually(lambda: not hangs, "the metadata is asked for")
    vehicle.updates.model_failed(vehicle.running, "it broke")
    eventually(lambda: vehicle.running.metadata.version == "factory", "the factory's model")
    vehicle.until(PROBATION)
    assert vehicle.running.digest == facts.model_sha256
    assert not troubles(caplog)


@pytest.mark.services
def test_a_shadow_that_is_over_does_not_wait_for_a_slow_download(start: Garage) -> None:
    start.release(model("1"), shadow=ShadowFacts(drive_s=20, every_frames=2, cpu_percent=100))
    vehicle = start()
    vehicle.until(common_pb2.UPDATE_PHASE_SHADOW)
    facts = start.release(BIG)
    with SlowDownload(start.world, facts, drips=True) as slow:
        downloading(start, vehicle, slow)
        vehicle.publishing = 2
        vehicle.until(PROBATION)
        assert vehicle.running.data == model("1")
        calls = slow.offsets()
        assert calls == [0], "looks at the shadow that found nothing cut no download"


def test_a_model_that_nothing_can_replace_leaves_time_to_fetch_its_mend(start: Garage) -> None:
    """It crashes all the time, and each crash would put the download off."""
    vehicle = start()
    facts = start.release(BIG)
    vehicle.updates.nudge(facts.release_counter)

    def crashes_on() -> bool:
        if vehicle.running.metadata.version == "factory":
            vehicle.updates.model_failed(vehicle.running, "it broke")
        return vehicle.running.data == BIG

    eventually(crashes_on, "the release that mends it")


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "part"


class Chunks:
    """A server's stream, without a network."""

    def __init__(self, data: bytes, size: int) -> None:
        self.data, self.size = data, size
        self.sent: list[tuple[int, int]] = []  # begin and end of what was read of it

    def FetchTarget(self, request: fleet_pb2.FetchTargetRequest, timeout: float) -> Any:
        return _Call(self, request.offset_bytes)


class _Call:
    def __init__(self, server: Chunks, offset: int) -> None:
        self.server, self.offset = server, offset

    def __iter__(self) -> _Call:
        return self

    def __next__(self) -> fleet_pb2.FetchTargetResponse:
        server, begin = self.server, self.offset
        if begin == len(server.data):
            raise StopIteration
        data = server.data[begin : begin + server.size]
        self.offset += len(data)
        server.sent.append((begin, self.offset))
        return fleet_pb2.FetchTargetResponse(data=data, offset_bytes=begin, total_bytes=len(server.data))

    def cancel(self) -> None:
        """Nothing runs."""


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=200), st.integers(1, 50), st.lists(st.booleans(), max_size=40))
def test_whatever_comes_between_no_byte_comes_twice(
    part: Path, data: bytes, size: int, answers: list[bool]
) -> None:
    """And what has arrived whole is not put off."""
    part.unlink(missing_ok=True)
    server, left = Chunks(data, size), list(answers)

    def fetched() -> bool:
        kept = part.stat().st_size if part.exists() else 0
        try:
            fetch_target(
                server,
                fleet_pb2.FetchTargetRequest(),
                len(data),
                part,
                LIMITS,
                lambda received: None,
                lambda: bool(left) and left.pop(0),
            )
        except PutOffError as error:
            now = part.stat().st_size
            assert kept <= now < len(data)
            assert f"{now} of {len(data)} bytes are kept" in str(error)
            return False
        return True

    while not fetched():
        pass
    assert part.read_bytes() == data
    ends = [0, *(end for _, end in server.sent)]
    assert [begin for begin, _ in server.sent] == ends[:-1]


@given(st.integers(0, 1 << 29), st.floats(1, 1e6), st.floats(0.1, 100), st.floats(0.1, 1e5))
def test_a_target_has_the_time_that_the_least_pace_needs_and_no_more_than_the_limit(
    left: int, pace: float, rpc_s: float, target_s: float
) -> None:
    limits = replace(TransferLimits(), rpc_s=rpc_s, least_bytes_per_s=pace, target_s=target_s)
    allowed_s = limits.target_deadline_s(left)
    assert 0 < allowed_s <= target_s
    assert allowed_s == target_s or allowed_s >= left / pace


def test_a_target_that_takes_too_long_ends_with_what_is_kept(world: World, slots: Slots, part: Path) -> None:
    facts = world.release(BIG)
    limits = TransferLimits(least_bytes_per_s=1, target_s=0.5)
    request = fleet_pb2.FetchTargetRequest(path=facts.target_path, sha256=facts.model_sha256)
    stub = FleetServiceStub(world.channel)
    with SlowDownload(world, facts, drips=True) as slow:
        with pytest.raises(TransferError, match=r"more than 0 s|more than 1 s"):
            fetch_target(stub, request, len(BIG), part, limits, lambda received: None)
        kept = part.stat().st_size
        slow.let_go()
        fetch_target(stub, request, len(BIG), part, LIMITS, lambda received: None)
        assert slow.offsets() == [0, kept]
    assert part.read_bytes() == BIG


def test_a_check_that_is_put_off_is_no_trouble(
    world: World, slots: Slots, caplog: pytest.LogCaptureFixture
) -> None:
    world.release(BIG)
    result = world.client(slots, interrupted=lambda: True).check()
    assert result.put_off and not result.retry and result.refusal is None
    assert not troubles(caplog)
    assert world.client(slots).check().phase == STAGED
