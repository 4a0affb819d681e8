"""Cameras that are slower than their reference's rate, and rates that change: what is told and promised."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.drift import DriftMonitor, DriftReferenceError, DriftState, Reference, Verdict, fit, unlearned
from edge.drift.calibration import autocorrelation_time
from edge.drift.frame_rate import SAME_RATE, FrameRate, feature_at, slowdown, taken_to
from edge.drift.scanning import scan_arrays, scan_times
from tests.edge.drift_streams import ar1

NAMES = ["light", "colour", "cars"]
RATE_HZ = 2.0
S = 1_000_000_000


@lru_cache(maxsize=1)
def day() -> Reference:
    return fit(ar1(np.random.default_rng(0), 0.6, 7200, 3), RATE_HZ, NAMES, context="day")


def watch(
    monitor: DriftMonitor, series: np.ndarray, rate_hz: float, start_s: float = 0.0
) -> list[DriftState]:
    times = [round((start_s + number / rate_hz) * S) for number in range(len(series))]
    states = (monitor.observe(time_ns, row) for time_ns, row in zip(times, series, strict=True))
    return [state for state in states if state is not None]


steps = st.lists(st.integers(S // 2, 50 * S), min_size=1, max_size=300)


@settings(max_examples=100, deadline=None)
@given(steps)
def test_the_averages_of_the_steps_add_up_to_the_time_that_passed(gaps: list[int]) -> None:
    """That is what the promise rests on; what has not come back yet is what the last average says."""
    times = np.cumsum([0, *gaps])
    rate, at_once = FrameRate(RATE_HZ), FrameRate(RATE_HZ)
    added = [rate.take(int(time_ns), counts=True) for time_ns in times]
    spent, means = at_once.run(times)
    assert added == spent.tolist() == [S // 2, *gaps]
    assert means[-1] == pytest.approx(rate.mean_s)
    memory = 1 / (1 - np.exp(-1 / 120))
    still_to_come = (means[-1] - 0.5) * (memory - 1)
    assert means[1:].sum() + still_to_come == pytest.approx(times[-1] / S)
    told = at_once.told(means)
    assert (told <= means * (1 + 1e-12)).all() and (told >= means * (1 - SAME_RATE)).all()


def test_a_vehicle_that_stands_and_a_gap_leave_the_rate_as_it_is() -> None:
    rate = FrameRate(RATE_HZ)
    for second in range(60):
        rate.take(second * S, counts=True)
    before = rate.mean_s
    assert before > 0.5
    for second in range(60, 110, 10):
        rate.take(second * S, counts=False)
    rate.interrupt()
    rate.take(4000 * S, counts=True)
    assert rate.mean_s == before
    assert rate.take(4001 * S, counts=True) == S


def test_frames_at_about_the_rate_are_at_the_rate() -> None:
    series = ar1(np.random.default_rng(1), 0.6, 400, 3)
    exact = watch(DriftMonitor(day()), series, RATE_HZ)[-1]
    about = watch(DriftMonitor(day()), series, RATE_HZ * 0.97)[-1]
    assert [one.window_s for one in about.features] == [one.window_s for one in exact.features]
    assert about.false_alarms_per_day == exact.false_alarms_per_day
    assert about.notes == exact.notes == ()


@pytest.mark.parametrize("factor", [1.5, 4.0])
def test_what_is_told_of_time_is_of_the_frames_that_come(factor: float) -> None:
    series = ar1(np.random.default_rng(2), 0.6, 1200, 3)
    whole = watch(DriftMonitor(day()), series, RATE_HZ)[-1]
    slow = watch(DriftMonitor(day()), series, RATE_HZ / factor)[-1]
    for fast_one, slow_one in zip(whole.features, slow.features, strict=True):
        assert (slow_one.name, slow_one.d, slow_one.p) == (fast_one.name, fast_one.d, fast_one.p)
        assert slow_one.window_s == pytest.approx(factor * fast_one.window_s, rel=1e-3)
        assert slow_one.window_frames == fast_one.window_frames == round(fast_one.window_s * RATE_HZ)
        per_day = fast_one.false_alarms_per_day / factor
        assert slow_one.false_alarms_per_day == pytest.approx(per_day, rel=1e-3)
    (note,) = slow.notes
    assert note.startswith(f"{RATE_HZ / factor:.2g} frames come a second, not 2")


def test_a_rate_that_changes_in_mid_stream_and_back_alarms_in_no_phase() -> None:
    """As an exposure does by dusk: the world is the same, seen more seldom."""
    monitor = DriftMonitor(day())
    world = ar1(np.random.default_rng(3), 0.6, 20 * 600 * 2, 3)
    at_s, found = 0.0, []
    for phase in range(20):
        stretch = world[phase * 1200 : (phase + 1) * 1200]
        every = (1, 4)[phase % 2]
        found.append(watch(monitor, stretch[::every], RATE_HZ / every, at_s))
        at_s += 600.0
    assert not any(state.alarm for states in found for state in states)
    for states in (found[0], found[-2]):
        assert states[-1].notes == ()
        assert states[-1].features[0].window_s * RATE_HZ == states[-1].features[0].window_frames
    assert found[1][-1].features[0].window_s == pytest.approx(
        found[1][-1].features[0].window_frames * 2, rel=0.1
    )
    # It still sees: a change alarms in a slow phase as in a quick one.
    assert watch(monitor, world[:400] + 3.0, RATE_HZ / 4, at_s)[-1].alarm


def test_a_restarted_monitor_knows_the_rate() -> None:
    series = ar1(np.random.default_rng(4), 0.6, 1000, 3)
    first, second, older = DriftMonitor(day()), DriftMonitor(day()), DriftMonitor(day())
    before = watch(first, series, 0.5)[-1]
    second.restore(first.to_bytes())
    after = watch(second, series[:10], 0.5, 2000.0)[-1]
    assert after.features[0].window_frames and before.features[0].window_frames
    step_s = before.features[0].window_s / before.features[0].window_frames
    assert after.features[0].window_s / after.features[0].window_frames == pytest.approx(step_s, rel=1e-3)
    document = json.loads(first.to_bytes())
    assert document.pop("step_s") == pytest.approx(2.0, rel=1e-3)
    older.restore(json.dumps(document).encode())
    state = watch(older, series[:2], 2.0, 2000.0)[-1]
    assert state.features[0].window_s / state.features[0].window_frames == 0.5


@pytest.mark.parametrize("step_s", [0.0, -1.0, 1e9])
def test_a_rate_that_is_none_is_refused(step_s: float) -> None:
    document = json.loads(DriftMonitor(day()).to_bytes())
    document["step_s"] = step_s
    with pytest.raises(DriftReferenceError, match="step_s"):
        DriftMonitor(day()).restore(json.dumps(document).encode())


@settings(deadline=None)
@given(rho=st.floats(0.0, 0.99), factor=st.integers(1, 8))
def test_tau_at_another_rate_is_never_taken_for_too_short(rho: float, factor: int) -> None:
    """Of AR(1) both are known exactly."""
    tau, sparse = ((1 + power) / (1 - power) for power in (rho, rho**factor))
    known = day().contexts[0].features[0]
    slower = feature_at(replace(known, tau=tau), 1 / factor)
    assert slower.tau >= sparse * (1 - 1e-9)
    faster = feature_at(replace(known, tau=sparse), float(factor))
    assert faster.tau >= tau * (1 - 1e-9)


def test_a_rate_that_is_about_the_nominal_one_slows_nothing() -> None:
    assert slowdown(500.0, 1000, 2.0) == slowdown(520.0, 1000, 2.0) == slowdown(400.0, 1000, 2.0) == 1.0
    assert slowdown(1000.0, 1000, 2.0) == 2.0


def test_what_is_learned_slowly_is_learned_in_time_and_counts_in_frames_of_the_rate() -> None:
    world = ar1(np.random.default_rng(5), 0.9, 4 * 7200, 3)
    quick = DriftMonitor(unlearned(RATE_HZ, NAMES), learn_s=1800)
    slow = DriftMonitor(unlearned(RATE_HZ, NAMES), learn_s=1800)
    watch(quick, world[:3640], RATE_HZ)
    watch(slow, world[:3640:4], RATE_HZ / 4)
    for one, other in zip(
        quick.reference.contexts[0].features, slow.reference.contexts[0].features, strict=True
    ):
        assert one.known and other.known
        assert other.frames == pytest.approx(one.frames, rel=0.02)
        assert 0.6 * one.tau < other.tau < 2 * one.tau
    # Frames come faster now, and so alike that windows of as many of them would alarm.
    states = watch(slow, world[4000:18_400], RATE_HZ, 1820.0)
    assert {state.verdict for state in states[-3600:]} == {Verdict.UNCALIBRATED}


def test_a_saved_monitor_goes_on_learning_in_time() -> None:
    world = ar1(np.random.default_rng(6), 0.5, 4000, 3)
    first, second = (DriftMonitor(unlearned(RATE_HZ, NAMES), learn_s=600) for _ in range(2))
    watch(first, world[:200], 0.5)
    second.restore(first.to_bytes())
    states = watch(second, world[200:330], 0.5, 400.0)
    assert states[45].verdict is Verdict.LEARNING
    assert second.reference.contexts[0].features[0].known


# What is promised is counted in hours that pass, not in frames.
PROMISED_HZ, TARGET_HOURS, FEATURES = 1.0, 4.0, 4


@lru_cache(maxsize=4)
def reference_of(rho: float) -> Reference:
    names = [f"feature {number}" for number in range(FEATURES)]
    series = ar1(np.random.default_rng(7), rho, 24 * 3600, FEATURES)
    return fit(series, PROMISED_HZ, names, target_hours=TARGET_HOURS)


def taken(kind: str, seconds: int, seed: int) -> np.ndarray:
    """Which of the seconds' frames come."""
    if kind != "changes":
        return np.arange(0, seconds, {"whole": 1, "half": 2, "quarter": 4}[kind])
    rng = np.random.default_rng(seed)
    there, at = [], 0
    while at < seconds:
        for every in (1, 4):
            end = at + int(rng.integers(60, 1200))
            there.append(np.arange(at, min(end, seconds), every))
            at = end
    return np.concatenate(there)


def alarms_of(rho: float, kind: str, hours: int, seed: int) -> int:
    world = ar1(np.random.default_rng(seed), rho, hours * 3600, FEATURES)
    there = taken(kind, len(world), seed)
    times = there.astype(np.int64) * S
    return len(scan_times(reference_of(rho), world[there], times).onsets())


@pytest.mark.parametrize("kind", ["half", "quarter", "changes"])
def test_frames_that_say_as_much_at_any_rate_alarm_as_often_as_promised_in_time(kind: str) -> None:
    """Independent frames: the tails are exact at each rate, so that both bounds hold, of time that passes."""
    hours = 120
    promised = hours / TARGET_HOURS
    found = alarms_of(0.0, kind, hours, 11)
    assert promised / 2 - 2 * np.sqrt(promised) <= found <= promised / 0.75 + 2.5 * np.sqrt(promised)


@pytest.mark.parametrize("rho", [0.5, 0.8])
@pytest.mark.parametrize("kind", ["half", "quarter", "changes"])
def test_frames_that_are_less_alike_at_a_lower_rate_alarm_no_more_often(rho: float, kind: str) -> None:
    hours = 60
    promised = hours / TARGET_HOURS
    assert alarms_of(rho, kind, hours, 12) <= promised / 0.75 + 2.5 * np.sqrt(promised)


def test_a_reference_of_a_slow_camera_is_none_of_a_quick_one_until_it_is_taken_to_that_rate() -> None:
    world = ar1(np.random.default_rng(13), 0.9, 24 * 3600, FEATURES)
    names = [f"feature {number}" for number in range(FEATURES)]
    slow = fit(world[::4], PROMISED_HZ / 4, names, target_hours=TARGET_HOURS)
    assert autocorrelation_time([world[:36_000, 0]]) > 1.5 * slow.contexts[0].features[0].tau
    stream = ar1(np.random.default_rng(14), 0.9, 20 * 3600, FEATURES)
    wrong = scan_arrays(replace(slow, rate_hz=PROMISED_HZ), stream, PROMISED_HZ)
    right = scan_arrays(taken_to(slow, PROMISED_HZ), stream, PROMISED_HZ)
    promised = 20 / TARGET_HOURS
    assert len(wrong.onsets()) > 3 * promised
    assert len(right.onsets()) <= promised / 0.75 + 2.5 * np.sqrt(promised)


def test_times_with_a_gap_are_refused_by_which_frames() -> None:
    series = np.zeros((10, 3))
    for times in (np.array([*range(5), *range(105, 110)]), np.array([*range(5), *range(5)])):
        with pytest.raises(DriftReferenceError, match="between frames 4 and 5 is a gap"):
            scan_times(day(), series, times * S)
    with pytest.raises(DriftReferenceError, match="times of shape"):
        scan_times(day(), series, np.zeros(9, np.int64))
