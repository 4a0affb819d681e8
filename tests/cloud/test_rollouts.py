"""Rollouts in a database: stages, halts, returns and pins, as several servers at once would move them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from cloud.config import RolloutConfig, StageConfig, ThresholdsConfig
from cloud.fleet import rollout_actions as actions
from cloud.fleet.rollout_actions import RolloutError
from cloud.fleet.rollout_report import rollout_lines
from cloud.fleet.rollouts import Rollouts
from cloud.store import open_database
from cloud.store.models import Vehicle
from cloud.store.rollouts import Rollout
from cloud.store.states import Outcome, RolloutState
from tests.clouds import in_threads
from tests.rollout_fleet import Fleet, beats, fleet_of, quick, refuses, reverts, runs


def test_without_stages_everyone_has_the_newest_release_at_once(tmp_path: Path) -> None:
    with fleet_of(tmp_path, 5, RolloutConfig()) as fleet:
        fleet.add_release(2)
        assert set(fleet.assigned().values()) == {2}
        assert fleet.state(2) is RolloutState.RUNNING
        fleet.look(3600)
        assert fleet.state(2) is RolloutState.DONE
        fleet.add_vehicles("late")
        assert fleet.assigned()["late"] == 2


def test_a_cloud_without_a_release_assigns_nothing_unless_the_first_one_is_not_everyones_at_once(
    tmp_path: Path,
) -> None:
    store = open_database(f"sqlite:///{tmp_path / 'cloud.sqlite'}")
    try:
        fleet = Fleet(store)
        fleet.add_vehicles("van-0")
        told = fleet.look().of("van-0", fleet.now)
        assert told is not None and told.release_counter == 0
        for unstaged in (RolloutConfig(), quick(stages=(StageConfig(name="all"),))):
            fleet.policy = unstaged
            assert fleet.look().of("van-0", fleet.now) is None
        for staged in (RolloutConfig(automatic=False), RolloutConfig(labels={"a": "b"})):
            fleet.policy = staged
            assert fleet.look().of("van-0", fleet.now) is not None
    finally:
        store.close()


def test_what_was_released_before_there_were_rollouts_is_everyones(tmp_path: Path) -> None:
    with fleet_of(tmp_path, 4) as fleet:
        assert fleet.state(1) is RolloutState.DONE
        assert set(fleet.assigned().values()) == {1}


def test_stages_begin_one_after_the_other_and_keep_who_is_in(fleet: Fleet) -> None:
    fleet.add_release(2)
    half = fleet.assigned(to=2)
    assert 8 < len(half) < 32
    assert set(fleet.assigned().values()) == {1, 2}
    assert fleet.assigned(to=2) == half, "another look changes nothing"
    fleet.confirm(half, 2)
    assert len(fleet.assigned(to=2)) == 40
    assert fleet.state(2) is RolloutState.DONE
    assert [entry.detail["stage"] for entry in fleet.audited("rollout stage")][-2:] == ["half", "all"]


def test_servers_that_look_at_once_begin_each_stage_once(fleet: Fleet) -> None:
    fleet.add_release(2)

    def look() -> None:
        Rollouts(fleet.store, fleet.policy, clock=lambda: fleet.now).look()

    in_threads(look, look, look, look)
    assert [entry.detail["number"] for entry in fleet.audited("rollout stage") if entry.subject == "2"] == [1]
    fleet.confirm(fleet.assigned(to=2), 2)
    in_threads(look, look, look, look)
    assert [entry.subject for entry in fleet.audited("rollout done")] == ["1", "2"]
    assert len(fleet.outcomes(2)) == 40


def test_failures_halt_it_and_only_those_that_have_it_keep_it(tmp_path: Path) -> None:
    with fleet_of(tmp_path, 40, quick(automatic_return=False)) as fleet:
        fleet.add_release(2)
        half = sorted(fleet.assigned(to=2))
        fleet.confirm(half[:4], 2)
        fleet.say(half[4:10], refuses(2))
        told = fleet.assigned()
        assert fleet.state(2) is RolloutState.HALTED
        assert "6 of 10 vehicles failed (60.0%, allowed 5.0%)" in fleet.rollout(2).reason
        assert sorted(name for name, counter in told.items() if counter == 2) == half[:4]
        (entry,) = fleet.audited("rollout halted")
        assert (entry.actor, entry.detail["figures"]["failed"]) == ("server", "6/10")
        fleet.look(10**6)
        assert fleet.state(2) is RolloutState.HALTED
        assert fleet.outcomes(2)[half[5]] is Outcome.FAILED


def test_rollbacks_halt_it_and_it_is_to_be_taken_back(fleet: Fleet) -> None:
    fleet.add_release(2)
    half = sorted(fleet.assigned(to=2))
    fleet.say(half[:6], runs(2, confirmed=False))
    assert fleet.state(2) is RolloutState.RUNNING
    fleet.say(half[:4], reverts(2))
    found = fleet.look()
    assert fleet.state(2) is RolloutState.RETURNING
    assert found.returning and found.withdrawn == (2,)
    assert set(fleet.assigned().values()) == {1}
    fleet.say(half[4:6], runs(1))
    assert fleet.outcomes(2)[half[4]] is Outcome.WITHDRAWN


def test_older_detections_halt_it(fleet: Fleet) -> None:
    fleet.say([f"van-{number}" for number in range(40)], beats(runs(1), 100))
    fleet.add_release(2)
    half = sorted(fleet.assigned(to=2))
    for _ in range(3):
        fleet.say(half, beats(runs(2, confirmed=False), 140))
    fleet.look()
    assert "older detections" in fleet.rollout(2).reason


def test_the_same_age_on_another_model_halts_nothing(fleet: Fleet) -> None:
    fleet.say([f"van-{number}" for number in range(40)], beats(runs(1), 100))
    fleet.add_release(2)
    half = sorted(fleet.assigned(to=2))
    for age_ms in (90, 110, 125):
        fleet.say(half, beats(runs(2), age_ms))
    fleet.look()
    assert fleet.state(2) in (RolloutState.RUNNING, RolloutState.DONE)


def test_too_few_reports_hold_the_stage(fleet: Fleet) -> None:
    stages = (StageConfig(name="half", percent=50, wait_s=60, min_reports=5), StageConfig(name="all"))
    fleet.policy = quick(stages=stages)
    fleet.add_release(2)
    half = sorted(fleet.assigned(to=2))
    fleet.confirm(half[:4], 2)
    fleet.look(61)
    assert fleet.rollout(2).begun == 1
    with fleet.store.reading() as session:
        assert "4 reports, 5 are wanted" in rollout_lines(session, fleet.now)[0].next
    fleet.confirm(half[4:5], 2)
    fleet.look()
    assert fleet.rollout(2).begun == 2


def test_pause_takes_nobody_in_and_resume_goes_on(fleet: Fleet) -> None:
    fleet.add_release(2)
    half = fleet.assigned(to=2)
    assert actions.pause(fleet.store, None, "the boss calls", "ann", fleet.now) == 2
    fleet.confirm(half, 2)
    fleet.add_vehicles(*(f"late-{number}" for number in range(20)))
    assert fleet.assigned(to=2) == half
    actions.resume(fleet.store, 2, "he is gone", "ann", fleet.now, force=False)
    assert len(fleet.assigned(to=2)) == 60
    (entry,) = fleet.audited("rollout paused")
    assert (entry.actor, entry.subject, entry.detail["reason"]) == ("ann", "2", "the boss calls")


def test_a_halted_one_goes_on_only_by_force_and_what_was_counts_no_more(tmp_path: Path) -> None:
    with fleet_of(tmp_path, 40, quick(automatic_return=False)) as fleet:
        fleet.add_release(2)
        half = sorted(fleet.assigned(to=2))
        fleet.say(half[:6], refuses(2))
        fleet.look()
        with pytest.raises(RolloutError, match="is halted: 6 of 6 vehicles failed"):
            actions.resume(fleet.store, None, "", "ann", fleet.now, force=False)
        fleet.now += timedelta(seconds=1)
        actions.resume(fleet.store, None, "a bad lab", "ann", fleet.now, force=True)
        fleet.confirm(half[6:], 2)
        fleet.look()
        assert fleet.state(2) is not RolloutState.HALTED
        assert fleet.audited("rollout running")[0].detail["forced"] is True


def test_a_stage_begins_when_it_is_approved(fleet: Fleet) -> None:
    stages = (
        StageConfig(name="half", percent=50, wait_s=60, min_reports=0),
        StageConfig(name="all", approval=True, min_reports=0),
    )
    fleet.policy = quick(stages=stages)
    fleet.add_release(2)
    fleet.look()
    with pytest.raises(RolloutError, match=r"60 s longer.*--force"):
        actions.approve(fleet.store, None, "ann", fleet.now, force=False)
    fleet.look(61)
    assert fleet.rollout(2).begun == 1
    assert actions.approve(fleet.store, None, "ann", fleet.now, force=False) == (2, "all")
    fleet.look()
    assert fleet.rollout(2).begun == 2
    (entry,) = fleet.audited("rollout approved")
    assert (entry.actor, entry.detail["stage"]) == ("ann", "all")
    with pytest.raises(RolloutError, match="no further stage"):
        actions.approve(fleet.store, None, "ann", fleet.now, force=False)


def test_force_begins_a_stage_early_and_is_written_down(fleet: Fleet) -> None:
    fleet.policy = quick(stages=(StageConfig(name="half", percent=50), StageConfig(name="all")))
    fleet.add_release(2)
    fleet.look()
    actions.approve(fleet.store, 2, "ann", fleet.now, force=True)
    fleet.look()
    assert fleet.rollout(2).begun == 2
    (entry,) = fleet.audited("rollout forced")
    assert "lasts 3600 s longer" in entry.detail["waited_for"]


def test_a_pin_wins_over_every_rollout_until_it_ends(fleet: Fleet) -> None:
    fleet.policy = RolloutConfig()
    until = fleet.now + timedelta(hours=1)
    actions.pin(fleet.store, "van-3", 1, until, "a customer's test", "ann", fleet.now)
    fleet.add_release(2)
    found = fleet.look()
    pinned = found.of("van-3", fleet.now)
    assert pinned is not None and (pinned.release_counter, pinned.pinned) == (1, True)
    other = found.of("van-4", fleet.now)
    assert other is not None and (other.release_counter, other.pinned) == (2, False)
    assert fleet.look(3601).of("van-3", fleet.now).release_counter == 2
    actions.pin(fleet.store, "van-3", 1, None, "again", "ann", fleet.now)
    assert fleet.assigned()["van-3"] == 1
    actions.unpin(fleet.store, "van-3", "ann")
    assert fleet.assigned()["van-3"] == 2
    assert [entry.detail["release"] for entry in fleet.audited("pinned")] == [1, 1]
    with pytest.raises(RolloutError, match="not pinned"):
        actions.unpin(fleet.store, "van-3", "ann")
    with pytest.raises(RolloutError, match="there is no vehicle 'ghost'"):
        actions.pin(fleet.store, "ghost", 1, None, "", "ann", fleet.now)
    with pytest.raises(RolloutError, match="there is no release 9"):
        actions.pin(fleet.store, "van-3", 9, None, "", "ann", fleet.now)
    with pytest.raises(RolloutError, match="is past"):
        actions.pin(fleet.store, "van-3", 1, fleet.now, "", "ann", fleet.now)


def test_cohorts_are_chosen_by_label_and_a_label_that_goes_throws_nobody_out(fleet: Fleet) -> None:
    berlin = {f"van-{number}" for number in range(5)}
    for vehicle in berlin:
        assert actions.label(fleet.store, vehicle, {"site": "berlin", "old": ""}, "ann") == {"site": "berlin"}
    fleet.policy = RolloutConfig(labels={"site": "berlin"})
    fleet.add_release(2)
    assert set(fleet.assigned(to=2)) == berlin
    assert actions.label(fleet.store, "van-0", {"site": ""}, "ann") == {}
    assert set(fleet.assigned(to=2)) == berlin
    fleet.look(10**6)
    assert set(fleet.assigned(to=2)) == berlin
    with pytest.raises(RolloutError, match="is no label"):
        actions.label(fleet.store, "van-0", {"site": "a b"}, "ann")


def test_a_newer_release_stops_an_older_ones_rollout_where_it_is(fleet: Fleet) -> None:
    fleet.add_release(2)
    second = fleet.assigned(to=2)
    fleet.add_release(3)
    third = fleet.assigned(to=3)
    assert fleet.state(2) is RolloutState.SUPERSEDED
    told = fleet.assigned()
    assert {name for name in second if name not in third} == {
        n for n, counter in told.items() if counter == 2
    }
    assert set(told.values()) <= {1, 2, 3}


def test_rollouts_of_other_hardware_leave_each_other_alone(fleet: Fleet) -> None:
    fleet.add_vehicles(*(f"orin-{number}" for number in range(20)), hardware="jetson-orin-trt")
    fleet.add_release(2)
    fleet.look()
    fleet.add_release(3, hardware="jetson-orin-trt")
    told = fleet.assigned()
    assert fleet.state(2) is RolloutState.RUNNING
    assert {counter for name, counter in told.items() if name.startswith("van")} == {1, 2}
    assert {counter for name, counter in told.items() if name.startswith("orin")} == {0, 3}


def test_without_automatic_a_release_waits_to_be_started(fleet: Fleet) -> None:
    fleet.policy = quick(automatic=False)
    fleet.add_release(2)
    assert set(fleet.assigned().values()) == {1}
    assert actions.start(fleet.store, None, RolloutConfig(), "ann", fleet.now) == 2
    assert set(fleet.assigned().values()) == {2}
    with pytest.raises(RolloutError, match="has a rollout already, which is running"):
        actions.start(fleet.store, 2, RolloutConfig(), "ann", fleet.now)
    with pytest.raises(RolloutError, match="there is no release 7"):
        actions.start(fleet.store, 7, RolloutConfig(), "ann", fleet.now)
    assert fleet.audited("rollout started")[-1].actor == "ann"


def test_a_revoked_vehicle_and_one_never_seen_are_in_no_rollout(fleet: Fleet) -> None:
    fleet.policy = RolloutConfig()
    with fleet.store.writing() as session:
        session.get_one(Vehicle, "van-0").revoked = fleet.now
        session.add(Vehicle(name="never-seen"))
    fleet.add_release(2)
    told = fleet.assigned()
    assert "van-0" not in told
    assert told["never-seen"] == 0
    assert set(fleet.outcomes(2)) == {f"van-{number}" for number in range(1, 40)}


def test_a_rollout_keeps_the_policy_that_it_began_with(fleet: Fleet) -> None:
    fleet.policy = quick(thresholds=ThresholdsConfig(max_failure_share=0.9))
    fleet.add_release(2)
    half = sorted(fleet.assigned(to=2))
    fleet.policy = quick()
    fleet.say(half[:6], refuses(2))
    fleet.look()
    assert fleet.state(2) is not RolloutState.HALTED
    with fleet.store.reading() as session:
        assert session.get_one(Rollout, 2).policy["thresholds"]["max_failure_share"] == 0.9


def test_a_vehicle_that_recovers_from_a_failure_counts_as_well(fleet: Fleet) -> None:
    fleet.add_release(2)
    van = sorted(fleet.assigned(to=2))[0]
    broken = refuses(2)
    del broken.bad_sha256[:]
    fleet.say([van], broken)
    assert fleet.outcomes(2)[van] is Outcome.FAILED
    fleet.confirm([van], 2)
    assert fleet.outcomes(2)[van] is Outcome.CONFIRMED
