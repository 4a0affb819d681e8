"""Contexts on the road: what belongs to which, and what stands while another is driven through."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.drift import DriftMonitor, DriftState, FeatureDrift, Reference, Verdict, combine, fit, scan
from tests.edge.drift_streams import ar1

NAMES = ["light", "colour", "cars"]
ORIGINS = ["picture", "picture", "detections"]
RATE_HZ = 2.0
SECOND = 1_000_000_000
NIGHT_LEVEL = -12.0


def drive(seed: int, seconds: float, level: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return ar1(rng, 0.6, round(seconds * RATE_HZ), 3) + level


def reference_of(context: str, level: float, seed: int) -> Reference:
    return fit(drive(seed, 3600, level), RATE_HZ, NAMES, origins=ORIGINS, context=context)


BOTH = combine(reference_of("day", 0.0, 1), reference_of("night", NIGHT_LEVEL, 2))


def watch(monitor: DriftMonitor, series: np.ndarray, start_s: float = 0.0) -> list[DriftState]:
    times = ((start_s + np.arange(len(series)) / RATE_HZ) * SECOND).round().astype(int)
    states = (monitor.observe(int(time_ns), row) for time_ns, row in zip(times, series, strict=True))
    return [state for state in states if state is not None]


def feature(state: DriftState, name: str) -> FeatureDrift:
    return next(one for one in state.features if one.name == name and one.context == state.context)


def onsets(states: list[DriftState]) -> int:
    alarms = [False, *(state.alarm for state in states)]
    return sum(after and not before for before, after in pairwise(alarms))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), fade_s=st.sampled_from((0, 4, 10)), night_s=st.integers(30, 90))
def test_a_night_in_between_leaves_nothing_in_the_windows_of_the_day(
    seed: int, fade_s: int, night_s: int
) -> None:
    before, night, after = (
        drive(3 * seed, 200),
        drive(3 * seed + 1, night_s, NIGHT_LEVEL),
        drive(3 * seed + 2, 20),
    )
    dusk = drive(seed, fade_s + 1)[:-2] + np.linspace(0, NIGHT_LEVEL, round(fade_s * RATE_HZ))[:, None]
    states = scan(BOTH, np.concatenate([before, dusk, night, dusk[::-1], after]), RATE_HZ)
    last = states[-1]
    assert (last.context, onsets(states)) == ("day", 0)
    day = np.concatenate([before, after])
    for column, name in enumerate(NAMES):
        one = feature(last, name)
        own = day[-round(one.window_s * RATE_HZ) :, column]
        # Five seconds of night among a minute of day would be a whole deviation; a frame or two are not.
        assert one.mean == pytest.approx(own.mean(), abs=0.35)


def test_alternating_contexts_that_are_both_known_keep_the_promise() -> None:
    target_hours, turn, turns = 0.2, 600, 40
    rng = np.random.default_rng(1)
    level = np.where(np.arange(turns * turn) // turn % 2 == 0, 0.0, NIGHT_LEVEL)
    series = ar1(rng, 0.6, len(level), 2) + level[:, None]
    stream = {name: ar1(rng, 0.6, 50_000, 2) + at for name, at in (("day", 0.0), ("night", NIGHT_LEVEL))}
    reference = combine(
        *(
            fit(rows, RATE_HZ, NAMES[:2], context=name, target_hours=target_hours)
            for name, rows in stream.items()
        )
    )
    # 17 are promised; from half to twice as rare is kept, chance included.
    assert 8 <= onsets(scan(reference, series, RATE_HZ)) <= 34
    alone = Reference(reference.rate_hz, target_hours, reference.contexts[:1])
    by_night = [state for state in scan(alone, series[: 2 * turn], RATE_HZ) if state.time_ns > 300 * SECOND]
    assert next(state for state in by_night if state.alarm).time_ns < 330 * SECOND


def tunnel(seconds: float) -> np.ndarray:
    """A day whose cars have doubled, a stretch of night, and the same day again."""
    day = drive(20, 400)
    day[200:, 2] += 6
    further = drive(22, 60)
    further[:, 2] += 6
    return np.concatenate([day, drive(21, seconds, NIGHT_LEVEL), further])


def test_a_tunnel_does_not_end_an_alarm_and_begin_it_again() -> None:
    states = scan(BOTH, tunnel(60), RATE_HZ)
    assert onsets(states) == 1
    inside = next(state for state in states if state.time_ns > 445 * SECOND)
    assert (inside.context, inside.alarm) == ("night", True)
    (standing,) = [one for one in inside.features if one.verdict is Verdict.ALARM]
    assert (standing.name, standing.context) == ("cars", "day")
    assert inside.features[0] is standing
    begun = next(state for state in states if state.alarm)
    assert standing.since_ns == begun.time_ns == inside.since_ns
    assert states[-1].alarm


def test_an_alarm_of_another_context_stands_for_ten_minutes_and_is_over_then() -> None:
    series = np.concatenate([tunnel(720), drive(23, 60)])
    states = scan(BOTH, series, RATE_HZ)
    by_night = [state for state in states if state.context == "night"]
    ends = next(state for state in by_night if not state.alarm)
    assert 600 <= ends.time_ns / SECOND - 400 <= 615
    assert not any(state.alarm for state in by_night if state.time_ns > ends.time_ns)
    # What is still so is an alarm again, by frames of its own.
    back = [state for state in states if state.time_ns > (400 + 720 + 10) * SECOND]
    assert feature(back[0], "cars").verdict is not Verdict.ALARM
    assert any(state.alarm for state in back)


def test_an_alarm_of_another_context_stands_over_a_restart() -> None:
    series = tunnel(60)
    first, second = DriftMonitor(BOTH), DriftMonitor(BOTH)
    watch(first, series[:860])
    second.restore(first.to_bytes())
    state = watch(second, series[860:870], start_s=430)[0]
    assert (state.context, state.alarm) == ("night", True)


def test_a_feature_that_is_learned_by_day_learns_nothing_of_the_night() -> None:
    monitor = DriftMonitor(BOTH, learn_s=150)
    monitor.model_changed()
    series = np.concatenate([drive(30, 120), drive(31, 40, NIGHT_LEVEL), drive(32, 60)])
    watch(monitor, series)
    learned = {context.name: context.features[2] for context in monitor.reference.contexts}
    assert learned["day"].known and not learned["night"].known
    # By ten frames of night, of 300, its deviation would be 2.4.
    assert learned["day"].sigma < 1.3


def test_after_a_gap_what_was_followed_before_is_forgotten() -> None:
    monitor = DriftMonitor(BOTH)
    states = watch(monitor, np.concatenate([drive(40, 120), drive(41, 60, level=40.0)]))
    assert (states[-1].context, states[-1].unknown_context_share > 0.5) == ("", True)
    state = watch(monitor, drive(42, 5), start_s=7200)[0]
    assert (state.context, state.unknown_context_share) == ("day", 0.0)
