from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.drift import (
    DriftMonitor,
    DriftReferenceError,
    Origin,
    Scope,
    Verdict,
    combine,
    fit,
    scan,
    unlearned,
)
from edge.drift.fitting import LEARN_TAU
from tests.edge.drift_drives import (
    DAY,
    NAMES,
    NIGHT,
    ORIGINS,
    RATE_HZ,
    SECOND,
    drive,
    feature,
    first_alarm_s,
    watch,
)
from tests.edge.drift_streams import ar1


def test_the_first_windows_are_learning_then_a_small_reference_says_what_it_is() -> None:
    states = watch(DriftMonitor(DAY), drive(50))
    verdicts = [state.verdict for state in states]
    assert verdicts[0] is Verdict.LEARNING
    assert verdicts[-1] is Verdict.UNCALIBRATED
    assert set(verdicts) == {Verdict.LEARNING, Verdict.UNCALIBRATED}
    assert len(states) == 120
    assert states[-1].context == "day"
    assert states[-1].since_ns == states[verdicts.index(Verdict.UNCALIBRATED)].time_ns


def test_a_calibrated_reference_says_stable() -> None:
    rng = np.random.default_rng(0)
    reference = fit(ar1(rng, 0.6, 5 * 7200, 3), RATE_HZ, NAMES)
    states = watch(DriftMonitor(reference), ar1(rng, 0.6, 600, 3))
    assert states[-1].verdict is Verdict.STABLE
    assert states[-1].false_alarms_per_day > 1


def test_the_fleets_reference_never_says_stable_however_long_it_is() -> None:
    rng = np.random.default_rng(0)
    reference = fit(ar1(rng, 0.6, 5 * 7200, 3), RATE_HZ, NAMES, scope=Scope.FLEET)
    series = ar1(rng, 0.6, 600, 3)
    verdicts = {state.verdict for state in watch(DriftMonitor(reference), series)}
    assert verdicts == {Verdict.LEARNING, Verdict.UNCALIBRATED}
    series[300:, 0] += 8
    assert first_alarm_s(watch(DriftMonitor(reference), series)) is not None


def test_a_state_has_the_means_and_since_when_a_feature_is_in_alarm() -> None:
    series = drive(310, seconds=240)
    series[240:, 0] += 6
    states = scan(DAY, series, RATE_HZ)
    known = {one.name: one for one in DAY.contexts[0].features}
    light = feature(states[-1], "light")
    assert light.mean == pytest.approx(series[-round(light.window_s * RATE_HZ) :, 0].mean(), abs=1e-4)
    assert (light.reference_mean, light.reference_sigma) == (known["light"].mean, known["light"].sigma)
    onset = next(state for state in states if feature(state, "light").verdict is Verdict.ALARM)
    assert light.since_ns == onset.time_ns
    assert feature(states[-1], "colour").since_ns == 0
    assert np.isnan(feature(states[0], "light").mean)
    written = [json.loads(json.dumps(states[number].to_json(), allow_nan=False)) for number in (0, -1)]
    first, last = (next(one for one in state["features"] if one["name"] == "light") for state in written)
    assert (first["mean"], first["since_s"]) == (None, None)
    assert (last["mean"], last["since_s"]) == (light.mean, light.since_ns / SECOND)


def test_day_drives_that_were_not_in_the_reference_do_not_alarm() -> None:
    assert [first_alarm_s(scan(DAY, drive(seed), RATE_HZ)) for seed in range(60, 80)] == [None] * 20


@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_change_alarms_and_the_feature_that_changed_stands_first(column: int) -> None:
    for seed in range(5):
        series = drive(seed + 200, seconds=240)
        series[240:, column] += 6
        states = scan(DAY, series, RATE_HZ)
        alarm = first_alarm_s(states)
        assert alarm is not None
        assert 120 < alarm < 180
        state = next(state for state in states if state.alarm)
        assert state.features[0].name == NAMES[column]
        assert state.features[0].verdict is Verdict.ALARM
        assert state.features[0].shift_sigma > 1
        assert state.features[0].p < 0.01
        assert state.false_alarms_per_day <= 1.0


def test_one_change_is_one_alarm() -> None:
    series = drive(300, seconds=600)
    series[240:, 0] += 6
    verdicts = [state.verdict for state in scan(DAY, series, RATE_HZ)]
    begins = [before is not Verdict.ALARM and after is Verdict.ALARM for before, after in pairwise(verdicts)]
    assert sum(begins) == 1
    assert verdicts[-1] is Verdict.ALARM


def test_a_night_alarms_by_day_and_not_where_it_is_known() -> None:
    series = np.concatenate([drive(400), drive(401, level=-12.0)])
    assert first_alarm_s(scan(DAY, series, RATE_HZ)) is not None
    states = scan(combine(DAY, NIGHT), series, RATE_HZ)
    assert first_alarm_s(states) is None
    assert [states[100].context, states[-1].context] == ["day", "night"]


def test_what_fits_no_context_is_counted_and_judged_all_the_same() -> None:
    states = scan(combine(DAY, NIGHT), np.concatenate([drive(402), drive(403, 240, level=30.0)]), RATE_HZ)
    assert states[100].unknown_context_share < 0.1
    assert states[-1].unknown_context_share > 0.9
    assert states[-1].context == ""
    assert states[-1].alarm


def test_within_a_known_context_a_change_of_the_detections_alarms() -> None:
    series = drive(404, 240, level=-12.0)
    series[240:, 2] += 6
    states = scan(combine(DAY, NIGHT), series, RATE_HZ)
    assert states[-1].alarm
    assert states[-1].features[0].name == "cars"
    assert states[-1].features[0].context == "night"


def test_a_gap_and_a_clock_that_goes_back_begin_anew_and_say_so() -> None:
    for jump_s, word in ((3600.0, "gap"), (-500.0, "back")):
        monitor = DriftMonitor(DAY)
        watch(monitor, drive(500), start_s=1000)
        states = watch(monitor, drive(501, 600), start_s=1120 + jump_s)
        assert states[0].verdict is Verdict.LEARNING
        told = [any(word in note for note in state.notes) for state in states]
        longest_s = max(tail.frames for one in DAY.contexts[0].features for tail in one.tails) / RATE_HZ
        # It is said until every window is full again.
        assert sum(told) == pytest.approx(longest_s, abs=2) and told == sorted(told, reverse=True)
        assert states[-1].notes == ()
        assert first_alarm_s(states) is None


def test_a_short_gap_changes_nothing() -> None:
    monitor = DriftMonitor(DAY)
    watch(monitor, drive(502))
    assert watch(monitor, drive(502), start_s=150)[0].verdict is Verdict.UNCALIBRATED


@pytest.mark.parametrize("rate_hz", [4.0, 10.0, 29.97])
def test_a_faster_source_is_thinned_to_the_references_rate(rate_hz: float) -> None:
    factor = rate_hz / RATE_HZ
    series = drive(503, seconds=130)
    fast = series[np.minimum((np.arange(round(120 * rate_hz)) / factor).astype(int), len(series) - 1)]
    states = watch(DriftMonitor(DAY), fast, rate_hz=rate_hz)
    assert 110 <= len(states) <= 121
    assert first_alarm_s(states) is None


def test_a_slower_source_is_judged_at_each_frame_and_its_windows_count_frames() -> None:
    reference = fit([drive(seed) for seed in range(8)], 0.5, NAMES)
    states = watch(DriftMonitor(reference), drive(504), rate_hz=0.5)
    assert len(states) == 240


def test_frames_without_detections_leave_the_other_features_judged() -> None:
    series = drive(505)
    series[:, 2] = np.nan
    last = scan(DAY, series, RATE_HZ)[-1]
    assert feature(last, "cars").verdict is Verdict.PAUSED
    assert feature(last, "light").verdict is Verdict.UNCALIBRATED


def test_a_feature_that_is_gone_is_paused_by_no_window_of_the_past_and_that_is_said() -> None:
    series = drive(507, seconds=400)
    series[400:600, 2] = np.nan
    series[400:600:20, 2] = 0.0
    states = scan(DAY, series, RATE_HZ)
    before, during, after = (states[number] for number in (190, 290, 399))
    assert feature(before, "cars").verdict is Verdict.UNCALIBRATED
    assert (feature(during, "cars").verdict, feature(during, "cars").window_s) == (Verdict.PAUSED, 0.0)
    assert during.verdict is Verdict.UNCALIBRATED
    assert any("missing" in note and "cars" in note and "light" not in note for note in during.notes)
    assert feature(after, "cars").verdict is Verdict.UNCALIBRATED
    assert not any("missing" in note for note in after.notes)
    restarted = DriftMonitor(DAY)
    first = DriftMonitor(DAY)
    watch(first, series[:560])
    restarted.restore(first.to_bytes())
    state = watch(restarted, series[560:564], start_s=280)[-1]
    assert feature(state, "cars").verdict is Verdict.PAUSED


def test_frames_that_have_nothing_are_no_verdict_and_no_change_of_context() -> None:
    series = np.concatenate([drive(511, seconds=200, level=-12.0), drive(512, seconds=200)])
    series[400:] = np.nan
    last = scan(combine(DAY, NIGHT), series, RATE_HZ)[-1]
    assert (last.verdict, last.context) == (Verdict.PAUSED, "night")


def test_an_alarm_is_not_begun_by_a_window_of_the_past() -> None:
    series = drive(508, seconds=400)
    series[300:, 0] = np.nan
    series[300:330:3, 0] = 50.0
    assert not any(
        feature(state, "light").verdict is Verdict.ALARM for state in scan(DAY, series, RATE_HZ)[200:]
    )


def test_infinite_values_are_missing_and_that_is_said() -> None:
    series = drive(509)
    series[100:103, 1] = np.inf
    series[103, 0] = -np.inf
    states = scan(DAY, series, RATE_HZ)
    assert not any("infinite" in note for note in states[40].notes)
    (note,) = [note for note in states[-1].notes if "infinite" in note]
    assert "light, colour" in note
    assert first_alarm_s(states) is None


def test_what_cannot_alarm_or_is_too_slow_is_said() -> None:
    (day,) = DAY.contexts
    blind, slow, _ = day.features
    blind = replace(blind, tails=tuple(replace(tail, slope=0.0) for tail in blind.tails))
    longest = tuple(
        replace(tail, frames=frames) for tail, frames in zip(slow.tails, (65_536, 65_536), strict=True)
    )
    slow = replace(slow, tau=10_000.0, tails=longest)
    reference = replace(DAY, contexts=(replace(day, features=(blind, slow, day.features[2])),))
    notes = scan(reference, drive(510, 20), RATE_HZ)[-1].notes
    (cannot,) = [note for note in notes if "unusual enough" in note]
    assert f"light over {blind.tails[0].frames / RATE_HZ:.0f} s" in cannot
    assert "colour" not in cannot
    assert any(note.endswith("can tell: colour") for note in notes)
    assert scan(DAY, drive(510, 20), RATE_HZ)[-1].notes == ()


def test_a_constant_feature_is_not_judged_and_that_is_said() -> None:
    drives = [drive(seed) for seed in range(6)]
    for series in drives:
        series[:, 1] = 7
    reference = fit(drives, RATE_HZ, NAMES)
    last = scan(reference, drive(506), RATE_HZ)[-1]
    assert feature(last, "colour").verdict is Verdict.PAUSED
    assert any("colour" in note for note in last.notes)
    nothing = fit(np.ones((100, 1)), RATE_HZ, ["a"])
    assert scan(nothing, np.ones((100, 1)), RATE_HZ)[-1].verdict is Verdict.PAUSED


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(DriftReferenceError, match="3 features"):
        DriftMonitor(DAY).observe(0, np.zeros(4))


def test_after_a_new_model_its_features_are_learned_and_the_picture_is_judged_on() -> None:
    monitor = DriftMonitor(DAY, learn_s=60)
    watch(monitor, drive(600))
    monitor.model_changed()
    series = drive(601, seconds=300) + np.array([0, 0, 20])  # the new model finds more
    states = watch(monitor, series, start_s=120)
    assert states[0].verdict is Verdict.LEARNING
    assert feature(states[0], "cars").verdict is Verdict.LEARNING
    assert feature(states[0], "light").verdict is Verdict.UNCALIBRATED
    assert states[-1].verdict is Verdict.UNCALIBRATED
    assert feature(states[-1], "cars").verdict is Verdict.UNCALIBRATED
    assert first_alarm_s(states) is None
    learned = monitor.reference.contexts[0].features[2]
    assert learned.mean == pytest.approx(20, abs=1)
    # One drive does not show how drives differ: that is taken over.
    assert learned.margin > 0
    further = drive(602, seconds=240) + np.array([0, 0, 32])
    assert first_alarm_s(watch(monitor, further, start_s=420)) is not None


def test_an_adopted_reference_makes_the_night_quiet_and_a_further_change_still_alarms() -> None:
    monitor = DriftMonitor(DAY, learn_s=60)
    states = watch(monitor, np.concatenate([drive(610), drive(611, level=-12.0)]))
    assert states[-1].alarm
    monitor.adopt(combine(DAY, NIGHT).without([Origin.DETECTIONS]))
    states = watch(monitor, drive(611, seconds=200, level=-12.0), start_s=240)
    assert first_alarm_s(states) is None
    assert states[-1].context == "night"
    series = drive(612, level=-12.0)
    series[:, 1] += 8
    assert first_alarm_s(watch(monitor, series, start_s=440)) is not None


def test_a_reference_of_other_features_is_not_adopted() -> None:
    other = fit(np.random.default_rng(0).normal(size=(100, 1)), RATE_HZ, ["a"])
    with pytest.raises(DriftReferenceError, match="names"):
        DriftMonitor(DAY).adopt(other)


def test_with_nothing_known_everything_is_learned_on_the_way() -> None:
    monitor = DriftMonitor(unlearned(RATE_HZ, NAMES, origins=ORIGINS), learn_s=120)
    series = drive(620, seconds=400)
    assert watch(monitor, series)[-1].verdict is Verdict.UNCALIBRATED
    series[:, 0] += 8
    assert first_alarm_s(watch(monitor, series, start_s=400)) is not None


@pytest.mark.parametrize("seed", range(3))
def test_what_varies_slowly_is_learned_for_longer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    series = np.concatenate([ar1(rng, 0.9, 3600, 1), ar1(rng, 0.0, 3600, 2)], axis=1)
    monitor = DriftMonitor(unlearned(RATE_HZ, NAMES), learn_s=30)
    states = watch(monitor, series)
    slow, quick = NAMES[:2]
    # The quick one's short windows are full soon after its 30 s, which are three tau of the slow one.
    seen = {round(state.time_ns / 1e9): state for state in states}
    assert feature(seen[60], quick).verdict is Verdict.UNCALIBRATED
    assert feature(seen[60], slow).verdict is Verdict.LEARNING
    # It holds up nothing else.
    assert seen[60].verdict is Verdict.UNCALIBRATED
    learned = monitor.reference.contexts[0].features[0]
    assert learned.known and learned.frames >= LEARN_TAU * learned.tau
    assert feature(states[-1], slow).verdict is Verdict.UNCALIBRATED
    series[:, 0] += 8
    assert first_alarm_s(watch(monitor, series[:1200], start_s=1800)) is not None


def test_what_becomes_known_is_judged_at_once_and_all_else_goes_on() -> None:
    after = DriftMonitor(DAY)
    watch(after, drive(50, 200))
    after.model_changed()
    watch(after, drive(51, 20), 200.0)
    beside = DriftMonitor(DAY)
    beside.restore(after.to_bytes())
    assert not after.reference.contexts[0].features[2].known
    told = DAY.without(["picture"])
    after.know(told)
    assert [one.known for one in after.reference.contexts[0].features] == [True, True, True]
    assert after.given.digest == DAY.digest
    states = watch(after, drive(52, 60), 220.0)
    others = watch(beside, drive(52, 60), 220.0)
    assert states[0].verdict is not Verdict.LEARNING and others[0].verdict is Verdict.LEARNING
    for name in ("light", "colour"):
        assert [feature(one, name) for one in states] == [feature(one, name) for one in others]
    # What was seen since the change fills its windows: of 60 s and more, 20 s were seen before it was known.
    full = next(one.time_ns for one in states if feature(one, "cars").window_s > 0) / SECOND
    shorter = DAY.contexts[0].features[2].tails[0].frames / RATE_HZ
    assert full == pytest.approx(200 + max(20.0, shorter), abs=2)


def test_what_is_to_become_known_is_of_the_same_features_and_rate() -> None:
    monitor = DriftMonitor(DAY.without(["detections"]))
    with pytest.raises(DriftReferenceError, match="other rate_hz"):
        monitor.know(replace(DAY, rate_hz=1.0))
    with pytest.raises(DriftReferenceError, match="other names"):
        monitor.know(fit(drive(1)[:, :2], RATE_HZ, NAMES[:2]))


@given(st.lists(st.sampled_from(["day", "night"]), max_size=3), st.integers(1, 60), st.booleans())
@settings(max_examples=10)
def test_knowing_takes_no_window_away(told: list[str], seconds: int, gap: bool) -> None:
    """Whatever becomes known when, the windows of what was judged before hold what they held."""
    bare = combine(DAY, NIGHT).without(["detections"])
    monitor, beside = DriftMonitor(bare), DriftMonitor(bare)
    for one in (monitor, beside):
        watch(one, drive(60, 40))
        watch(one, drive(61, seconds, -12.0), 40.0 + 600 * gap)
    for name in told:
        monitor.know(DAY if name == "day" else NIGHT)
    for one, other in zip(monitor.snapshot().contexts, beside.snapshot().contexts, strict=True):
        for number in range(2):
            np.testing.assert_array_equal(one.values[number], other.values[number])
            np.testing.assert_array_equal(one.latched[:, number], other.latched[:, number])
    assert [one.features[2].known for one in monitor.reference.contexts] == [
        "day" in told,
        "night" in told,
    ]
