"""The frames' time: which frames are looked at, which of them say something, and what it is promised over."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.drift import DriftMonitor, DriftState, Verdict, fit, unlearned
from edge.drift.pacing import Pace, Step
from tests.edge.drift_streams import ar1

NAMES = ["light", "colour", "cars"]
RATE_HZ = 2.0
SECOND = 1_000_000_000


def drive(seed: int, seconds: float) -> np.ndarray:
    return ar1(np.random.default_rng(seed), 0.6, round(seconds * RATE_HZ), 3)


DAY = fit(drive(0, 3600), RATE_HZ, NAMES, context="day")


def watch(
    monitor: DriftMonitor, series: np.ndarray, start_s: float = 0.0, *, moving: bool = True
) -> list[DriftState]:
    times = ((start_s + np.arange(len(series)) / RATE_HZ) * SECOND).round().astype(int)
    states = (
        monitor.observe(int(time_ns), row, moving=moving) for time_ns, row in zip(times, series, strict=True)
    )
    return [state for state in states if state is not None]


STEPS = st.lists(st.one_of(st.integers(-3 * 10**9, 3 * 10**9), st.integers(0, 2 * 10**11)), max_size=60)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS)
def test_what_is_wanted_is_what_is_taken_and_asking_changes_nothing(steps: list[int]) -> None:
    asked, silent = Pace(RATE_HZ), Pace(RATE_HZ)
    time_ns = 0
    for step in steps:
        time_ns += step
        wanted = [asked.wants(time_ns) for _ in range(3)]
        taken = asked.step(time_ns)
        assert taken is silent.step(time_ns)
        assert wanted == [taken is not Step.SKIP] * 3


@pytest.mark.parametrize(
    ("rate_hz", "back_s"), [(2.0, 0.1), (2.0, 0.9), (10.0, 0.1), (10.0, 0.9), (0.2, 4.0)]
)
def test_a_clock_that_is_put_back_a_little_again_and_again_costs_no_window(
    rate_hz: float, back_s: float
) -> None:
    reference = replace(DAY, rate_hz=rate_hz)
    monitor = DriftMonitor(reference)
    every_s, at_s, states = 1 / (3 * rate_hz), 0.0, []
    for row in np.repeat(drive(1, 600), 3, axis=0):
        states.append(monitor.observe(round(at_s * SECOND), row))
        at_s += every_s
        if len(states) % round(25 / every_s) == 0:
            at_s -= back_s
    judged = [state for state in states if state is not None]
    assert judged[-1].notes == ()
    learns = [state.verdict is Verdict.LEARNING for state in judged]
    assert learns == sorted(learns, reverse=True) and not learns[-1]


def test_a_clock_that_goes_on_going_back_begins_anew_and_is_followed() -> None:
    pace = Pace(RATE_HZ)
    steps = [pace.step(-number * SECOND // 10) for number in range(40)]
    assert steps[0] is Step.TAKE and Step.TAKE not in steps[1:]
    assert steps.count(Step.BACK) == 3  # once a second


def test_a_monitor_wants_as_many_frames_as_it_judges_by() -> None:
    monitor, every = DriftMonitor(DAY), DriftMonitor(DAY)
    series = np.repeat(drive(1, 60), 5, axis=0)
    looked_at, states = 0, []
    for number, row in enumerate(series):
        time_ns = number * SECOND // 10
        if monitor.wants(time_ns):
            looked_at += 1
            states.append(monitor.observe(time_ns, row))
        every.observe(time_ns, row)
    assert looked_at == 120
    assert states[-1] == every.state


def test_a_vehicle_that_stands_adds_nothing_however_odd_the_place() -> None:
    monitor, never_stood = DriftMonitor(DAY), DriftMonitor(DAY)
    before = watch(monitor, drive(2, 200))[-1]
    watch(never_stood, drive(2, 200))
    at_the_light = np.full((400, 3), 4.0)
    standing = watch(monitor, at_the_light, start_s=200, moving=False)
    # It is judged on, and there is no gap: only nothing is added.
    assert len(standing) == 200
    assert {state.verdict for state in standing} == {before.verdict} == {Verdict.UNCALIBRATED}
    assert [one.d for one in standing[-1].features] == [one.d for one in before.features]
    further = drive(3, 100)
    after = watch(monitor, further, start_s=400)[-1]
    same = watch(never_stood, further, start_s=200)[-1]
    assert after.features == same.features
    # The same place while driving is a change.
    assert watch(DriftMonitor(DAY), np.concatenate([drive(2, 200), at_the_light]))[-1].alarm


def test_a_vehicle_that_stands_learns_nothing() -> None:
    monitor = DriftMonitor(unlearned(RATE_HZ, NAMES), learn_s=60)
    watch(monitor, np.full((400, 3), 4.0), moving=False)
    assert not any(feature.known for feature in monitor.reference.contexts[0].features)
    assert monitor.state is not None
    assert monitor.state.verdict is Verdict.LEARNING


def test_an_alarm_stands_while_the_vehicle_does() -> None:
    monitor = DriftMonitor(DAY)
    series = drive(4, 240)
    series[240:, 0] += 6
    assert watch(monitor, series)[-1].alarm
    assert all(state.alarm for state in watch(monitor, drive(5, 120), start_s=240, moving=False))


@pytest.mark.parametrize("cameras", [2, 5])
def test_cameras_share_one_promise(cameras: int) -> None:
    """One of several cameras alarms where a single one with as much longer a promise would."""
    one = DriftMonitor(DAY, target_hours=2.0, cameras=cameras)
    alone = DriftMonitor(DAY, target_hours=2.0 * cameras)
    eager = DriftMonitor(DAY, target_hours=2.0)
    assert one.target_hours == 2.0 * cameras
    series = drive(6, 400)
    series[300:, 0] += np.linspace(0, 3, 500)
    states, same, sooner = (watch(monitor, series) for monitor in (one, alone, eager))
    assert [state.alarm for state in states] == [state.alarm for state in same]
    first, earlier = (next(s.time_ns for s in found if s.alarm) for found in (states, sooner))
    assert earlier <= first
    begun = next(state for state in states if state.alarm)
    assert begun.false_alarms_per_day <= 24 / (2.0 * cameras)


def test_the_references_own_promise_is_shared_too() -> None:
    assert DriftMonitor(DAY, cameras=3).target_hours == 3 * DAY.target_hours
    with pytest.raises(ValueError, match="0 cameras"):
        DriftMonitor(DAY, cameras=0)


def onsets(states: list[DriftState]) -> int:
    return sum(after.alarm and not before.alarm for before, after in pairwise(states))


@pytest.mark.parametrize("gap_s", [70.0, 3600.0])
def test_an_alarm_goes_on_over_gaps_until_what_is_seen_then_is_ordinary(gap_s: float) -> None:
    monitor, changed = DriftMonitor(DAY), drive(7, 240)
    changed[240:, 0] += 6
    states = watch(monitor, changed)
    since_ns, at_s = states[-1].since_ns, 240.0
    for number in range(3):
        at_s += gap_s
        states += watch(monitor, drive(8 + number, 120) + np.array([6.0, 0.0, 0.0]), start_s=at_s)
        at_s += 120
    assert onsets(states) == 1
    assert (states[-1].since_ns, states[-1].features[0].since_ns) == (since_ns, since_ns)
    after = watch(monitor, drive(11, 240), start_s=at_s + gap_s)
    assert onsets(after) == 0 and after[0].alarm and not after[-1].alarm
    again = watch(monitor, changed, start_s=at_s + gap_s + 240)
    assert onsets(again) == 1


def test_an_alarm_goes_on_where_the_clock_is_put_back_and_is_as_old_as_before() -> None:
    monitor, changed = DriftMonitor(DAY), drive(7, 240)
    changed[240:, 0] += 6
    age_ns = (before := watch(monitor, changed, start_s=1000)[-1]).time_ns - before.since_ns
    states = watch(monitor, drive(8, 60) + np.array([6.0, 0.0, 0.0]), start_s=500)
    assert all(state.alarm for state in states)
    assert abs(states[0].time_ns - states[0].since_ns - age_ns) <= 2 * SECOND
    assert states[0].features[0].since_ns == states[0].since_ns


def test_frames_of_no_known_context_are_one_alarm_over_a_gap() -> None:
    monitor = DriftMonitor(DAY)
    states = watch(monitor, np.concatenate([drive(9, 120), drive(10, 120) + 30.0]))
    assert states[-1].alarm
    for gap in range(1, 3):
        states += watch(monitor, drive(10 + gap, 120) + 30.0, start_s=240 + 240 * gap)
    unknown = [next(one for one in state.features if not one.context) for state in states[200:]]
    assert {one.verdict for one in unknown} == {Verdict.ALARM} and len({one.since_ns for one in unknown}) == 1
