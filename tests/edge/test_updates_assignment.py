"""Assignments on the vehicle: what they choose, what they cannot do, and how long they hold."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.updates import assignment, trust
from edge.updates.assignment import Assignment
from edge.updates.client import UpdateResult
from edge.updates.errors import Refusal, SlotError
from edge.updates.slots import Slots
from protos.release_facts import MAX_COUNTER, ReleaseFacts
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2
from tests.update_attack import unharmed
from tests.update_garage import CONFIRMED, FRAMES, PROBATION, REVERTED, Garage, Vehicle, events
from tests.update_world import HARDWARE, VEHICLE, World, model
from tests.waiting import eventually

STAGED = common.UPDATE_PHASE_STAGED


@pytest.fixture
def slots(world: World, tmp_path: Path) -> Slots:
    return world.slots(tmp_path / "assigned")


def check(world: World, slots: Slots, assigned: int | None) -> UpdateResult:
    return world.client(slots, assigned=lambda: assigned).check()


def driving_on(world: World, slots: Slots, counter: int) -> None:
    assert check(world, slots, counter).phase == STAGED
    slots.activate()
    slots.confirm()


def kept(world: World, slots: Slots, assigned: int, told: str) -> None:
    """The vehicle keeps what it has, and refuses nothing that would count against the release."""
    before = slots.state
    world.server.asked.clear()
    result = check(world, slots, assigned)
    assert (result.refusal, result.staged, result.retry) == (None, None, False)
    assert told in result.detail
    assert unharmed(before, slots)
    assert not any(name.startswith("models/") for name in world.server.asked)


def message(counter: int, *withdrawn: int) -> fleet_pb2.Assignment:
    return fleet_pb2.Assignment(release_counter=counter, withdrawn_release_counters=withdrawn)


counters = st.integers(1, 20)
hardware = st.sampled_from([(HARDWARE,), ("other",), (HARDWARE, "other")])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(counters, hardware), st.none() | st.integers(0, 20))
def test_an_assignment_chooses_one_of_the_releases_that_fit_or_none(
    offered: dict[int, tuple[str, ...]], assigned: int | None
) -> None:
    releases = [ReleaseFacts(counter, "m", "1", "a" * 64, ids) for counter, ids in offered.items()]
    chosen = trust.newest_for(releases, VEHICLE, assigned)
    fitting = {counter for counter, ids in offered.items() if HARDWARE in ids}
    if assigned is None:
        assert (chosen.release_counter if chosen else None) == max(fitting, default=None)
    elif chosen is None:
        assert assigned not in fitting
    else:
        assert chosen.release_counter == assigned
        assert assigned in fitting


def test_the_assigned_release_is_staged_and_no_newer_one(world: World, slots: Slots) -> None:
    for version in ("1", "2", "3"):
        world.release(model(version))
    result = check(world, slots, 2)
    assert result.staged is not None and result.staged.release is not None
    assert result.staged.release.release_counter == 2
    assert slots.load(result.staged.slot).data == model("2")


def test_what_was_staged_makes_place_for_an_older_one_that_is_assigned(world: World, slots: Slots) -> None:
    for version in ("1", "2"):
        world.release(model(version))
    assert check(world, slots, 2).phase == STAGED
    result = check(world, slots, 1)
    assert result.staged is not None and result.staged.digest == world.propose(model("1")).model_sha256


def test_a_cloud_that_assigns_an_older_release_moves_nothing_back(world: World, slots: Slots) -> None:
    for version in ("1", "2"):
        world.release(model(version))
    driving_on(world, slots, 2)
    kept(world, slots, 1, "goes back to none before 3")
    assert slots.state.release_floor == 2


def test_a_cloud_that_assigns_what_nobody_signed_is_told_nothing_new(world: World, slots: Slots) -> None:
    world.release(model("1"))
    kept(world, slots, 7, "release 7 is assigned, and nobody has signed it")
    kept(world, slots, 0, "assigns no release")


def test_a_cloud_that_assigns_other_hardware_installs_nothing(world: World, slots: Slots) -> None:
    world.release(model("1"), hardware_ids=("jetson-orin-trt",))
    kept(world, slots, 1, "which is for jetson-orin-trt; this vehicle is x86_64-cpu")


def test_a_cloud_that_assigns_a_model_that_failed_here_is_refused(world: World, slots: Slots) -> None:
    facts = world.release(model("1"))
    assert check(world, slots, 1).phase == STAGED
    slots.activate()
    slots.revert("it saw nothing")
    before = slots.state
    result = check(world, slots, 1)
    assert (result.refusal, facts.model_sha256 in result.detail) == (Refusal.KNOWN_BAD, True)
    assert unharmed(before, slots)


def test_a_cloud_that_assigns_what_needs_a_newer_daemon_is_refused(world: World, slots: Slots) -> None:
    world.release(model("1"), minimum_daemon_version="99")
    assert check(world, slots, 1).refusal is Refusal.DAEMON_TOO_OLD


def test_the_release_that_was_confirmed_may_be_fetched_again(world: World, slots: Slots) -> None:
    world.release(model("1"))
    driving_on(world, slots, 1)
    slots.lose(slots.state.active, "a broken disk")
    assert check(world, slots, 1).phase == STAGED


releases_taken_back = st.frozensets(st.integers(1, MAX_COUNTER), max_size=5)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    st.none()
    | st.builds(
        Assignment, st.integers(0, MAX_COUNTER), st.text(max_size=20), st.booleans(), releases_taken_back
    )
)
def test_what_is_kept_is_read_back(tmp_path: Path, held: Assignment | None) -> None:
    assignment.write(tmp_path / "assignment.json", held)
    assert assignment.read(tmp_path / "assignment.json") == held


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b'{"release_counter": -1, "withdrawn": []}', b"\xff", b"[" * 70_000],
)
def test_a_damaged_file_is_no_assignment(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "assignment.json"
    path.write_bytes(data)
    assert assignment.read(path) is None


def test_nonsense_over_the_wire_assigns_nothing() -> None:
    said = fleet_pb2.Assignment(
        release_counter=2**64 - 1, rollout_id="a\nb" * 100, withdrawn_release_counters=range(1000)
    )
    taken = assignment.from_message(said)
    assert taken.release_counter == 0
    assert "\n" not in taken.rollout and len(taken.rollout) <= 64
    assert len(taken.withdrawn) == 64


def looked(garage: Garage, vehicle: Vehicle, counter: int) -> None:
    """It has looked once more, and is where it was."""
    checks = garage.world.server.asked.count("timestamp")
    vehicle.updates.nudge(0)
    eventually(lambda: garage.world.server.asked.count("timestamp") > checks, "another check")
    eventually(lambda: vehicle.status().model.release_counter == counter, f"release {counter} stays")


def test_a_vehicle_waits_for_its_assignment_and_takes_that(start: Garage) -> None:
    first = start.confirmed(model("1"))
    first.updates.assign(message(1))
    eventually(lambda: first.status().model.assigned_release_counter == 1, "the assignment")
    start.release(model("2"))
    first.updates.nudge(2)
    looked(start, first, 1)
    assert first.running.data == model("1")
    first.updates.assign(message(2))
    eventually(lambda: first.running.data == model("2"), "the release that is assigned now")


def test_no_reload_puts_in_what_is_not_assigned(start: Garage) -> None:
    vehicle = start.staged(model("1"))
    vehicle.updates.assign(message(0))
    eventually(lambda: vehicle.status().model.assigned_release_counter == 0, "nothing is assigned")
    eventually(lambda: vehicle.status().model.HasField("assigned_release_counter"), "which is said")
    for slot in (common.SLOT_UNSPECIFIED, common.SLOT_A):
        with pytest.raises(SlotError, match="the cloud does not assign release 1"):
            vehicle.models.read(slot)
    assert vehicle.models.read(common.SLOT_FACTORY) is not None
    vehicle.updates.assign(message(1))
    eventually(lambda: vehicle.status().model.assigned_release_counter == 1, "it is")
    assert vehicle.models.read(common.SLOT_UNSPECIFIED) is not None


def test_what_is_no_longer_assigned_after_its_download_is_not_put_in(start: Garage) -> None:
    vehicle = start.confirmed(model("1"))
    fetched = start.world.server.target
    start.release(model("2"))

    def halted_meanwhile(
        request: fleet_pb2.FetchTargetRequest,
    ) -> Iterator[fleet_pb2.FetchTargetResponse]:
        vehicle.updates.assign(message(1))
        yield from fetched(request)

    start.world.server.target = halted_meanwhile
    vehicle.updates.assign(message(2))
    eventually(lambda: vehicle.status().model.assigned_release_counter == 1, "the halt")
    looked(start, vehicle, 1)
    assert vehicle.running.data == model("1")
    vehicle.updates.assign(message(2))
    start.world.server.target = fetched
    eventually(lambda: vehicle.running.data == model("2"), "what is staged already, and assigned again")


def test_an_assignment_holds_over_a_restart_without_a_word_from_the_cloud(start: Garage) -> None:
    vehicle = start.confirmed(model("1"))
    vehicle.updates.assign(message(1))
    eventually(lambda: vehicle.status().model.assigned_release_counter == 1, "the assignment")
    start.release(model("2"))
    again = start()
    looked(start, again, 1)
    assert again.status().model.assigned_release_counter == 1
    assert again.running.data == model("1")


def test_a_cloud_that_assigns_nothing_ends_it_and_the_newest_applies(start: Garage) -> None:
    vehicle = start.confirmed(model("1"))
    vehicle.updates.assign(message(1))
    eventually(lambda: vehicle.status().model.assigned_release_counter == 1, "the assignment")
    start.release(model("2"))
    vehicle.updates.assign(None)
    eventually(lambda: vehicle.running.data == model("2"), "the newest")
    assert not vehicle.status().model.HasField("assigned_release_counter")


def test_a_vehicle_that_was_assigned_nothing_yet_waits_for_the_first_word(start: Garage) -> None:
    start.release(model("1"))
    start.hold_s = 3600.0
    vehicle = start()
    assert start.world.server.asked == []
    vehicle.updates.assign(message(0))
    eventually(lambda: "timestamp" in start.world.server.asked, "the first look")
    assert vehicle.running.data == model("factory")
    vehicle.updates.assign(message(1))
    eventually(lambda: vehicle.running.data == model("1"), "what is assigned")


def test_the_first_word_may_be_that_nothing_is_assigned(start: Garage) -> None:
    start.release(model("1"))
    start.hold_s = 3600.0
    vehicle = start()
    vehicle.updates.assign(None)
    eventually(lambda: vehicle.running.data == model("1"), "the newest")


def test_a_probation_of_what_is_withdrawn_ends_in_the_last_good_model(
    start: Garage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    vehicle = start.confirmed(model("1"))
    vehicle.publishing = 0
    start.release(model("2"))
    vehicle.updates.assign(message(2))
    vehicle.until(PROBATION)
    vehicle.updates.assign(message(1, 2))
    eventually(lambda: vehicle.running.data == model("1"), "the last good model")
    state = vehicle.until(CONFIRMED)
    assert not state.bad_sha256
    assert "update_withdrawn" in events(caplog)
    assert "update_reverted" not in events(caplog)
    vehicle.updates.assign(message(2))
    vehicle.until(PROBATION)
    assert vehicle.running.data == model("2"), "it is not called bad: what was wrong may have been elsewhere"


def test_what_was_confirmed_is_not_withdrawn_and_a_new_release_brings_the_old_model(start: Garage) -> None:
    vehicle = start.confirmed(model("1"))
    start.release(model("2"))
    vehicle.publishing = FRAMES
    vehicle.updates.assign(message(2))
    eventually(lambda: vehicle.models.slots.state.release_floor == 2, "confirmed")
    vehicle.updates.assign(message(1, 2))
    looked(start, vehicle, 2)
    assert vehicle.running.data == model("2")
    start.release(model("1"))
    vehicle.updates.assign(message(3, 2))
    eventually(lambda: vehicle.models.slots.state.release_floor == 3, "the way back")
    assert vehicle.running.data == model("1")


def test_a_failure_comes_before_a_withdrawal(start: Garage) -> None:
    vehicle = start.confirmed(model("1"))
    vehicle.publishing = 0
    start.release(model("2"))
    vehicle.updates.assign(message(2))
    vehicle.until(PROBATION)
    vehicle.updates.model_failed(vehicle.running, "CUDA error")
    vehicle.updates.assign(message(1, 2))
    state = vehicle.until(REVERTED)
    assert len(state.bad_sha256) == 1
