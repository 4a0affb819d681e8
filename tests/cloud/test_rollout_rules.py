"""The rules of rollouts: who gets a release, and when it goes on; as properties."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from cloud.config import RolloutConfig, StageConfig, ThresholdsConfig
from cloud.fleet.rollout_evidence import evidence_against
from cloud.fleet.rollout_rules import (
    HAS_IT,
    MOVING,
    TAKEN_BACK,
    Audience,
    Begin,
    Count,
    Figures,
    Finish,
    Halt,
    Progress,
    Stand,
    Track,
    Wait,
    assigning,
    decide,
    has_labels,
    meets,
    place,
    reached,
    takes_everyone,
)
from cloud.store.states import Outcome, RolloutState

# The first evidence imports scipy.
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

names = st.text("abcdefghij0123456789-", min_size=1, max_size=12)
salts = st.text("0123456789abcdef", min_size=1, max_size=32)
labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=3)
percents = st.floats(0.1, 100)
stages = st.builds(
    StageConfig,
    name=st.just("s"),
    percent=percents,
    labels=labels,
    wait_s=st.sampled_from([0.0, 60.0]),
    min_reports=st.integers(0, 5),
    min_share=st.sampled_from([0.0, 0.5, 1.0]),
    approval=st.booleans(),
)
policies = st.builds(
    RolloutConfig,
    labels=labels,
    stages=st.lists(stages, min_size=1, max_size=4).map(tuple),
    when_unsure=st.sampled_from(["hold", "advance"]),
)
states = st.sampled_from(RolloutState)
outcomes = st.sampled_from(Outcome)
hardware = st.frozensets(st.sampled_from(["cpu", "orin"]), max_size=2)
fleets = st.sampled_from([None, "trucks", "buses"])
audiences = st.builds(Audience, hardware, fleets)
counts = st.integers(0, 60).flatmap(lambda of: st.builds(Count, st.integers(0, of), st.just(of)))
figures = st.builds(
    Figures,
    members=st.integers(0, 60),
    ended=st.integers(0, 60),
    failed=counts,
    rolled_back=counts,
    slower=counts,
    more_drift=counts,
)


@st.composite
def tracks(draw: st.DrawFn, counter: int) -> Track:
    policy = draw(policies)
    begun = draw(st.integers(0, len(policy.stages)))
    return Track(counter, draw(states), policy, draw(salts), begun, draw(audiences))


many_tracks = st.integers(1, 4).flatmap(
    lambda count: st.tuples(*(tracks(counter) for counter in range(count, 0, -1)))
)
stands = st.builds(
    Stand, names, labels, hardware, st.dictionaries(st.integers(1, 4), outcomes, max_size=4), fleets
)


@relaxed
@given(salts, names, percents, percents)
def test_who_is_in_at_a_percentage_is_in_at_every_larger_one(
    salt: str, vehicle: str, one: float, other: float
) -> None:
    small, large = sorted((one, other))
    policy = RolloutConfig(
        stages=(StageConfig(name="small", percent=small), StageConfig(name="large", percent=large))
    )
    assert 0 <= place(salt, vehicle) < 100
    if reached(policy, 1, salt, vehicle, {}):
        assert reached(policy, 2, salt, vehicle, {})
    assert bool(reached(policy, 2, salt, vehicle, {})) == (place(salt, vehicle) < large)


@relaxed
@given(policies, salts, names, labels)
def test_stages_only_ever_add_vehicles_and_nobody_outside_the_cohort(
    policy: RolloutConfig, salt: str, vehicle: str, own: dict[str, str]
) -> None:
    reach = [reached(policy, begun, salt, vehicle, own) for begun in range(len(policy.stages) + 1)]
    assert reach[0] == 0
    for before, after in itertools.pairwise(reach):
        assert not before or after == before
    if any(reach):
        stage = policy.stages[reach[-1] - 1]
        assert has_labels(policy.labels, own) and has_labels(stage.labels, own)
    if takes_everyone(policy):
        assert reach[-1]


def test_a_percentage_is_that_share_of_the_vehicles_and_another_salt_chooses_others() -> None:
    fleet = [f"van-{number}" for number in range(5_000)]
    tenth = {vehicle for vehicle in fleet if place("salt", vehicle) < 10}
    other = {vehicle for vehicle in fleet if place("other", vehicle) < 10}
    assert 400 < len(tenth) < 600  # 5 standard deviations are 106
    assert 400 < len(other) < 600
    assert len(tenth & other) < 120


@relaxed
@given(many_tracks, stands)
def test_a_vehicle_gets_the_newest_that_has_it_or_takes_it_in(
    rollouts: tuple[Track, ...], vehicle: Stand
) -> None:
    track, stage = assigning(rollouts, vehicle)
    if track is None:
        assert stage == 0
        return
    outcome = vehicle.outcomes.get(track.counter)
    assert not track.audience.hardware_ids or track.audience.hardware_ids & vehicle.hardware_ids
    assert track.audience.fleet == vehicle.fleet
    assert track.state not in TAKEN_BACK
    if stage:
        assert outcome is None, "it is taken in once"
        assert track.state in MOVING, "a rollout that is halted or paused takes nobody in"
        assert has_labels(track.policy.labels, vehicle.labels)
    else:
        assert outcome is not None
        assert track.state is not RolloutState.HALTED or outcome in HAS_IT
    newer = [other for other in rollouts if other.counter > track.counter]
    assert assigning(newer, vehicle) == (None, 0)


@relaxed
@given(many_tracks, stands)
def test_releases_of_other_fleets_change_nothing(rollouts: tuple[Track, ...], vehicle: Stand) -> None:
    own = [track for track in rollouts if track.audience.fleet == vehicle.fleet]
    assert assigning(rollouts, vehicle) == assigning(own, vehicle)


@relaxed
@given(st.lists(audiences, max_size=8), names, hardware, fleets)
def test_each_fleet_gets_its_newest(
    released: list[Audience], name: str, own: frozenset[str], fleet: str | None
) -> None:
    everyone = RolloutConfig(stages=(StageConfig(name="everyone"),))
    rollouts = [
        Track(counter, RolloutState.DONE, everyone, "salt", 1, audience)
        for counter, audience in reversed(list(enumerate(released, start=1)))
    ]
    track, _ = assigning(rollouts, Stand(name, {}, own, {}, fleet))
    fitting = [
        counter
        for counter, audience in enumerate(released, start=1)
        if audience.fleet == fleet and (not audience.hardware_ids or audience.hardware_ids & own)
    ]
    assert (0 if track is None else track.counter) == max(fitting, default=0)


@relaxed
@given(audiences, audiences)
def test_audiences_meet_where_a_vehicle_could_be_in_both(one: Audience, other: Audience) -> None:
    could = any(
        Stand("v", {}, frozenset({identity}), {}, fleet).is_of(one)
        and Stand("v", {}, frozenset({identity}), {}, fleet).is_of(other)
        for identity in ("cpu", "orin")
        for fleet in (None, "trucks", "buses")
    )
    assert one.meets(other) == other.meets(one) == could


@relaxed
@given(
    policies, st.builds(Progress, states, st.integers(0, 4), st.floats(0, 1e6), st.integers(0, 4)), figures
)
def test_only_a_running_rollout_moves_and_only_by_one_stage(
    policy: RolloutConfig, progress: Progress, seen: Figures
) -> None:
    assume(progress.begun <= len(policy.stages))
    decision = decide(policy, progress, seen)
    if progress.state is RolloutState.DONE:
        assert isinstance(decision, (Wait, Halt)), "its stages are over, but it may be halted"
    elif progress.state is not RolloutState.RUNNING:
        assert isinstance(decision, Wait), "halted, it never goes on"
    if isinstance(decision, Begin):
        assert decision.stage == progress.begun + 1 <= len(policy.stages)
        approved = progress.approved > progress.begun
        assert approved or not policy.stages[progress.begun].approval
        if progress.begun and not approved:
            before = policy.stages[progress.begun - 1]
            assert progress.stage_age_s >= before.wait_s
            assert seen.ended >= min(before.min_reports, seen.members)
            assert seen.ended >= before.min_share * seen.members
    if isinstance(decision, Finish):
        assert progress.begun == len(policy.stages)


def running(age_s: float = 0.0, begun: int = 1, approved: int = 0) -> Progress:
    return Progress(RolloutState.RUNNING, begun, age_s, approved)


def two_stages(**fields: object) -> RolloutConfig:
    first = StageConfig(name="canary", percent=10, wait_s=60, min_reports=3)
    return RolloutConfig(stages=(first, StageConfig(name="all", wait_s=0, min_reports=0)), **fields)


GOOD = Figures(members=20, ended=20, failed=Count(0, 20), rolled_back=Count(0, 20))


def test_a_stage_waits_for_its_time_and_its_reports() -> None:
    assert decide(two_stages(), running(begun=0), Figures()) == Begin(1)
    early = decide(two_stages(), running(10), GOOD)
    assert isinstance(early, Wait) and "50 s longer" in early.reason
    few = decide(two_stages(), running(60), Figures(members=20, ended=2))
    assert isinstance(few, Wait) and "2 reports, 3 are wanted" in few.reason
    assert decide(two_stages(), running(60), GOOD) == Begin(2)
    assert decide(two_stages(), running(60), Figures()) == Begin(2), "a stage with nobody in it"
    assert decide(two_stages(), running(0, begun=2), GOOD) == Finish()


def test_a_stage_with_approval_waits_for_a_person() -> None:
    policy = RolloutConfig(stages=(StageConfig(name="first", approval=True),))
    waits = decide(policy, running(begun=0), Figures())
    assert isinstance(waits, Wait) and waits.needs_person
    assert decide(policy, running(begun=0, approved=1), Figures()) == Begin(1)


def test_an_approval_goes_on_before_the_time_is_over() -> None:
    assert decide(two_stages(), running(1, approved=2), Figures(members=20)) == Begin(2)


def test_what_chance_does_not_explain_halts_at_once() -> None:
    bad = Figures(members=20, ended=6, failed=Count(3, 6))
    decision = decide(two_stages(), running(), bad)
    assert isinstance(decision, Halt)
    assert "3 of 6 vehicles failed (50.0%, allowed 5.0%)" in decision.reason
    rolled = decide(two_stages(), running(), Figures(members=20, rolled_back=Count(4, 8)))
    assert isinstance(rolled, Halt) and "rolled back" in rolled.reason


def test_what_chance_may_explain_is_held_for_a_person_or_goes_on() -> None:
    one = Figures(members=10, ended=10, failed=Count(1, 10))
    held = decide(two_stages(), running(60), one)
    assert isinstance(held, Wait) and held.needs_person
    assert "1 of 10 vehicles failed" in held.reason
    assert decide(two_stages(when_unsure="advance"), running(60), one) == Begin(2)
    assert decide(two_stages(), running(60, approved=2), one) == Begin(2)


def test_latency_and_drift_must_have_moved_one_way() -> None:
    either_way = Figures(members=40, ended=40, slower=Count(12, 40), faster=Count(12, 40))
    assert decide(two_stages(), running(60), either_way) == Begin(2)
    slower = Figures(members=40, ended=40, slower=Count(12, 40), faster=Count(0, 40))
    decision = decide(two_stages(), running(60), slower)
    assert isinstance(decision, Halt) and "older detections" in decision.reason
    drift = decide(two_stages(), running(60), Figures(members=9, ended=9, more_drift=Count(9, 9)))
    assert isinstance(drift, Halt) and "drift alarms" in drift.reason


def test_fewer_reports_than_the_least_judge_nothing() -> None:
    limits = ThresholdsConfig(min_reports=5)
    policy = RolloutConfig(stages=two_stages().stages, thresholds=limits)
    assert isinstance(decide(policy, running(), Figures(members=4, failed=Count(4, 4))), Wait)
    assert isinstance(decide(policy, running(), Figures(members=5, failed=Count(5, 5))), Halt)


@relaxed
@given(labels, labels)
def test_cohorts_meet_where_one_vehicle_could_be_in_both(one: dict[str, str], other: dict[str, str]) -> None:
    first, second = RolloutConfig(labels=one), RolloutConfig(labels=other)
    both = {**one, **other}
    assert meets(first, second) == (has_labels(one, both) and has_labels(other, both))
    assert meets(first, second) == meets(second, first)


limits = st.floats(0.001, 0.999)


@relaxed
@given(st.integers(1, 400), st.data(), limits)
@example(500, None, 0.005)
def test_evidence_grows_with_hits_and_none_speaks_against_few(
    of: int, data: st.DataObject | None, limit: float
) -> None:
    hits = 10 if data is None else data.draw(st.integers(0, of - 1))
    more, less = evidence_against(hits + 1, of, limit), evidence_against(hits, of, limit)
    assert 0 <= less <= more or math.isclose(less, more, rel_tol=1e-6)
    if hits <= limit * of:
        assert less <= 1 + 1e-9
    assert evidence_against(0, of, limit) == 0
    assert evidence_against(1, of, 0) == math.inf
    assert evidence_against(of, of, 1) == 0


@pytest.mark.parametrize("bad", [(1, 0, 0.5), (-1, 2, 0.5), (1, 2, 1.5)])
def test_evidence_of_no_count_is_a_defect(bad: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match="is no"):
        evidence_against(*bad)


def test_a_release_at_its_limit_is_seldom_halted_however_often_it_is_looked_at() -> None:
    """The promise of the method: 1 in 20 at most. A binomial test at each report breaks it."""
    chance, halted, runs = random.Random(7), 0, 400
    for _ in range(runs):
        hits = 0
        for of in range(1, 201):
            hits += chance.random() < 0.05
            if evidence_against(hits, of, 0.05) >= 20:
                halted += 1
                break
    assert halted <= 0.05 * runs + 3 * (0.05 * 0.95 * runs) ** 0.5


def test_one_failing_in_fifty_is_seen_where_one_in_two_hundred_is_allowed() -> None:
    assert evidence_against(10, 500, 0.005) > 20
    assert evidence_against(1, 50, 0.005) < 20
