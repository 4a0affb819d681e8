"""Releases that vehicles confirmed and then gave up count as rolled back, also once their stages are over."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud.config import RolloutConfig, StageConfig
from cloud.fleet.rollout_reports import outcome_after
from cloud.store.states import Outcome, RolloutState
from edge.updates.slot_state import MAX_STARTS
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as wire
from tests.rollout_fleet import Fleet, falls, fleet_of, quick, runs, sha
from tests.update_garage import CONFIRMED, configured, garage
from tests.update_world import model, open_world
from tests.waiting import eventually

AT_ONCE = RolloutConfig(stages=(StageConfig(name="all", wait_s=0, min_reports=0),))


def all_confirm(fleet: Fleet) -> list[str]:
    """Release 2 comes, and all its vehicles confirm it."""
    fleet.add_release(2)
    vans = sorted(fleet.assigned(to=2))
    fleet.confirm(vans, 2)
    fleet.look()
    return vans


def test_a_release_that_is_confirmed_and_then_falls_on_many_halts_its_rollout(fleet: Fleet) -> None:
    fleet.policy = quick(stages=(StageConfig(name="all", wait_s=10**6),))
    vans = all_confirm(fleet)
    assert fleet.state(2) is RolloutState.RUNNING
    fleet.say(vans[:12], falls(2))
    fleet.look()
    assert fleet.state(2) is RolloutState.RETURNING
    assert "12 of 40 vehicles rolled back" in fleet.rollout(2).reason
    fleet.confirm(vans[:12], 2)
    assert fleet.outcomes(2)[vans[0]] is Outcome.ROLLED_BACK, "running it again takes nothing back"


def test_one_that_is_done_is_halted_and_taken_back_by_itself(tmp_path: Path) -> None:
    with fleet_of(tmp_path, 40, AT_ONCE) as fleet:
        vans = all_confirm(fleet)
        assert fleet.state(2) is RolloutState.DONE
        fleet.say(vans[:2], falls(2))
        fleet.look(10**7)
        assert fleet.state(2) is RolloutState.DONE, "two of forty are not above the limit"
        fleet.say(vans[2:12], falls(2))
        found = fleet.look()
        assert fleet.state(2) is RolloutState.RETURNING
        assert found.returning and found.withdrawn == (2,)
        assert [entry.actor for entry in fleet.audited("rollout halted")] == ["server"]


def test_one_that_is_done_is_left_alone_while_a_newer_release_is_on_its_way(tmp_path: Path) -> None:
    with fleet_of(tmp_path, 40, AT_ONCE) as fleet:
        vans = all_confirm(fleet)
        fleet.policy = quick()
        fleet.add_release(3)
        behind = sorted(set(vans) - set(fleet.assigned(to=3)))
        fleet.say(behind[:12], falls(2))
        fleet.look()
        assert fleet.outcomes(2)[behind[0]] is Outcome.ROLLED_BACK
        assert (fleet.state(2), fleet.state(3)) == (RolloutState.DONE, RolloutState.RUNNING)


def test_a_vehicle_that_goes_to_another_fleet_gave_nothing_up(tmp_path: Path) -> None:
    with fleet_of(tmp_path, 40, AT_ONCE) as fleet:
        vans = all_confirm(fleet)
        elsewhere = wire.Hello(fleet="trucks", status=common.VehicleStatus(model=falls(2)))
        fleet.say(vans[:12], elsewhere)
        fleet.say(vans[:12], falls(2))
        fleet.look()
        assert fleet.state(2) is RolloutState.DONE
        assert set(fleet.outcomes(2).values()) == {Outcome.CONFIRMED}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (runs(3), "a newer one is confirmed"),
        (common.ModelState(active={"sha256": sha(3)}, phase=common.UPDATE_PHASE_PROBATION), "on probation"),
        (
            common.ModelState(
                active={"sha256": sha(3)},
                candidate={"sha256": sha(3)},
                phase=common.UPDATE_PHASE_STAGED,
            ),
            "it is being put in",
        ),
        (
            common.ModelState(
                active={"sha256": sha(9)}, phase=common.UPDATE_PHASE_CONFIRMED, active_is_unsigned=True
            ),
            "the owner's own",
        ),
        (common.ModelState(), "it did not say"),
    ],
)
def test_what_follows_a_confirmed_release_does_not_give_it_up(said: common.ModelState, why: str) -> None:
    said.release_counter = max(said.release_counter, 2)
    after = outcome_after(Outcome.CONFIRMED, said, sha(2), 2, RolloutState.DONE)
    assert after is Outcome.CONFIRMED, why


def test_what_vehicles_tell_when_they_set_a_confirmed_model_aside_or_it_never_comes_up(
    tmp_path: Path,
) -> None:
    world = open_world(tmp_path / "cloud")
    try:
        with garage(world, configured(tmp_path / "vehicle", world.root)) as start:
            vehicle = start.confirmed(model("1"))
            digest = vehicle.running.digest

            def outcome(said: common.ModelState) -> Outcome:
                return outcome_after(Outcome.CONFIRMED, said, digest, 1, RolloutState.DONE)

            assert outcome(vehicle.until(CONFIRMED)) is Outcome.CONFIRMED
            vehicle.updates.model_failed(vehicle.running, "it broke")
            eventually(lambda: vehicle.running.metadata.version == "factory", "the factory's model")
            assert outcome(vehicle.until(CONFIRMED)) is Outcome.ROLLED_BACK
            vehicle.cut()
            for _ in range(MAX_STARTS):
                start().cut()
            assert outcome(start().status().model) is Outcome.ROLLED_BACK
    finally:
        world.close()
