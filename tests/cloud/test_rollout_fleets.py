"""Rollouts of a cloud with several fleets: each gets its own releases, and a vehicle says whose it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud.config import RolloutConfig, StageConfig
from cloud.fleet import rollout_actions as actions
from cloud.fleet.rollout_actions import RolloutError
from cloud.fleet.vehicle_records import Record, VehicleRecords
from cloud.store import open_database
from cloud.store.states import RolloutState
from protos.traffic_vision.v1 import fleet_pb2 as wire
from tests.rollout_fleet import HARDWARE, Fleet, quick


def test_each_fleet_gets_its_own_newest_release_and_rollouts_of_fleets_leave_each_other_alone(
    fleet: Fleet,
) -> None:
    trucks = [f"truck-{number}" for number in range(20)]
    fleet.add_vehicles(*trucks, fleet="trucks")
    assert {fleet.assigned()[truck] for truck in trucks} == {0}, "release 1 is not for them"
    fleet.add_release(2, fleet="trucks")
    half = fleet.assigned(to=2)
    assert 2 < len(half) < 18 and set(half) < set(trucks)
    fleet.add_release(3)
    fleet.look()
    assert fleet.state(2) is RolloutState.RUNNING, "a release of others stops no rollout"
    fleet.confirm(half, 2)
    fleet.confirm(fleet.assigned(to=3), 3)
    told = fleet.assigned()
    assert {counter for name, counter in told.items() if name in trucks} == {2}
    assert {counter for name, counter in told.items() if name not in trucks} == {3}
    assert not set(fleet.outcomes(3)) & set(trucks)
    assert (fleet.state(2), fleet.state(3)) == (RolloutState.DONE, RolloutState.DONE)
    fleet.add_vehicles("truck-new", fleet="trucks")
    fleet.add_vehicles("bus", fleet="buses")
    told = fleet.assigned()
    assert (told["truck-new"], told["bus"]) == (2, 0)


def test_the_first_look_takes_the_newest_release_of_each_fleet_by_the_policy(tmp_path: Path) -> None:
    store = open_database(f"sqlite:///{tmp_path / 'cloud.sqlite'}")
    try:
        fleet = Fleet(store, quick(automatic=False))
        for counter, whose in ((1, None), (2, "trucks"), (3, "trucks"), (4, None), (5, "trucks")):
            fleet.add_release(counter, fleet=whose)
        fleet.policy = quick(stages=(StageConfig(name="all", approval=True),))
        fleet.look()
        states = [fleet.state(counter) for counter in range(1, 6)]
        assert states == [
            RolloutState.DONE,
            RolloutState.DONE,
            RolloutState.DONE,
            RolloutState.RUNNING,
            RolloutState.RUNNING,
        ]
    finally:
        store.close()


def hello(whose: str | None) -> wire.Hello:
    return wire.Hello(instance_id="i", hardware_ids=[HARDWARE], fleet=whose)


def test_what_a_vehicle_says_of_its_fleet_corrects_its_row(fleet: Fleet) -> None:
    fleet.policy = RolloutConfig()
    fleet.add_release(2, fleet="trucks")
    fleet.add_release(3)
    assert fleet.assigned()["van-0"] == 3
    fleet.say(["van-0", "van-1"], hello(None))
    fleet.say(["van-2"], hello(""))
    fleet.say(["van-3"], hello("No Fleet!" * 1000))
    assert not fleet.audited("fleet changed")
    woken: list[bool] = []
    records = VehicleRecords(fleet.store, lambda: woken.append(True), clock=lambda: fleet.now)
    records.commit([Record("van-0", hello("trucks"))])
    assert woken, "it is assigned anew at once"
    records.commit([Record("van-0", hello("trucks")), Record("van-0", hello(None))])
    assert len(woken) == 1
    told = fleet.assigned()
    assert [told[f"van-{number}"] for number in range(4)] == [2, 3, 3, 3], "in release 3's rollout or not"
    (entry,) = fleet.audited("fleet changed")
    assert (entry.subject, entry.detail) == ("van-0", {"fleet": "trucks", "was": None})
    fleet.say(["van-0"], hello(""))
    assert fleet.assigned()["van-0"] == 3


def test_a_pin_is_to_a_release_of_the_vehicles_fleet_alone(fleet: Fleet) -> None:
    fleet.policy = RolloutConfig()
    fleet.add_vehicles("truck", fleet="trucks")
    fleet.add_release(2, fleet="trucks")
    fleet.add_release(3, fleet="trucks")
    with pytest.raises(
        RolloutError, match="release 1 is for no fleet, and 'truck' belongs to the fleet 'trucks'"
    ):
        actions.pin(fleet.store, "truck", 1, None, "", "ann", fleet.now)
    with pytest.raises(
        RolloutError, match="release 2 is for the fleet 'trucks', and 'van-0' belongs to no fleet"
    ):
        actions.pin(fleet.store, "van-0", 2, None, "", "ann", fleet.now)
    assert not fleet.audited("pinned")
    actions.pin(fleet.store, "truck", 2, None, "", "ann", fleet.now)
    assert fleet.assigned()["truck"] == 2
    fleet.say(["truck"], hello(""))
    assert fleet.assigned()["truck"] == 1, "the pin was to what it does not take any more"
