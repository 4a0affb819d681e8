"""Frames that fit no known context: counted, and their share judged."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edge.drift import (
    DriftMonitor,
    DriftState,
    FeatureDrift,
    Reference,
    Scope,
    Verdict,
    combine,
    fit,
    unlearned,
)
from edge.drift.unknown import NAME, UnknownShare, UsualShare, usual_share
from tests.edge.drift_streams import ar1

NAMES = ["light", "colour", "cars"]
ORIGINS = ["picture", "picture", "detections"]
RATE_HZ = 2.0
SECOND = 1_000_000_000


def drive(seed: int, seconds: float, level: float = 0.0) -> np.ndarray:
    return ar1(np.random.default_rng(seed), 0.6, round(seconds * RATE_HZ), 3) + level


def reference_of(context: str, level: float, seed: int, hours: float = 1.0) -> Reference:
    return fit(drive(seed, 3600 * hours, level), RATE_HZ, NAMES, origins=ORIGINS, context=context)


BOTH = combine(reference_of("day", 0.0, 1), reference_of("night", -12.0, 2))


def watch(monitor: DriftMonitor, series: np.ndarray, start_s: float = 0.0) -> list[DriftState]:
    times = ((start_s + np.arange(len(series)) / RATE_HZ) * SECOND).round().astype(int)
    states = (monitor.observe(int(time_ns), row) for time_ns, row in zip(times, series, strict=True))
    return [state for state in states if state is not None]


def share(state: DriftState) -> FeatureDrift | None:
    return next((one for one in state.features if one.name == NAME), None)


def test_a_world_of_no_known_context_is_an_alarm_of_its_own_behind_the_features_that_tell_why() -> None:
    states = watch(DriftMonitor(BOTH), np.concatenate([drive(3, 200), drive(4, 90, level=30.0)]))
    by_day = share(states[150])
    assert by_day is not None
    assert (by_day.verdict, by_day.mean, by_day.d, by_day.context) == (Verdict.UNCALIBRATED, 0.0, 0.0, "")
    last = share(states[-1])
    assert last is not None
    assert last.verdict is Verdict.ALARM
    assert last.mean == pytest.approx(min(1.0, 90 / last.window_s), abs=0.05)
    begun = next(state for state in states if (one := share(state)) and one.verdict is Verdict.ALARM)
    assert 200 < begun.time_ns / SECOND < 230
    assert last.since_ns == begun.time_ns
    assert begun.features[0].name in NAMES


def test_what_each_feature_alone_allows_can_still_fit_no_context() -> None:
    """Sixteen features of a wide band, each a little off: their mean distance is what no frame had."""
    names = [f"feature {number}" for number in range(16)]
    rng = np.random.default_rng(0)
    drives = [ar1(rng, 0.6, 240, 16) + rng.normal(0, 0.5, 16) for _ in range(40)]
    reference = fit(drives, RATE_HZ, names)
    series = np.concatenate([ar1(rng, 0.6, 400, 16), ar1(rng, 0.6, 400, 16) + 2.4])
    states = watch(DriftMonitor(reference), series)
    assert not any(state.alarm for state in states[:200])
    last = share(states[-1])
    assert last is not None
    assert last.mean > 0.9
    assert last.verdict is Verdict.ALARM


def test_a_promise_for_the_share_is_that_of_the_context() -> None:
    long = reference_of("day", 0.0, 5, hours=5)
    for reference, verdict in ((long, Verdict.STABLE), (long.scoped(Scope.FLEET), Verdict.UNCALIBRATED)):
        state = watch(DriftMonitor(reference), drive(6, 400))[-1]
        one = share(state)
        assert one is not None
        assert (one.verdict, state.verdict) == (verdict, verdict)


def test_without_a_limit_or_a_picture_there_is_no_share_to_judge() -> None:
    assert usual_share(unlearned(RATE_HZ, NAMES)) is None
    assert usual_share(fit(drive(7, 300), RATE_HZ, NAMES, origins=["detections"] * 3)) is None
    states = watch(DriftMonitor(unlearned(RATE_HZ, NAMES), learn_s=60), drive(8, 300))
    assert all(share(state) is None for state in states)


@settings(max_examples=200, deadline=None)
@given(usual=st.floats(0.02, 0.5), frames=st.integers(20, 500), part=st.floats(0, 1))
def test_the_rate_is_never_below_the_exact_chance_of_independent_frames(
    usual: float, frames: int, part: float
) -> None:
    seen = round(part * frames)
    (rate,) = UsualShare(usual, 1.0, (frames,)).rate(np.array([seen / frames]))
    assert rate >= stats.binom.sf(seen - 1, frames, usual) * (1 - 1e-9) or seen / frames <= usual
    assert 0 <= rate <= 1


@settings(max_examples=50, deadline=None)
@given(misfits=st.lists(st.booleans(), min_size=1, max_size=120), cut=st.integers(0, 120))
def test_the_sliding_share_is_that_of_its_window_over_a_restart_too(misfits: list[bool], cut: int) -> None:
    usual = UsualShare(0.02, 1.0, (5, 20))
    watched = UnknownShare(usual, RATE_HZ)
    for number, misfit in enumerate(misfits):
        if number == cut:
            before, watched = watched, UnknownShare(usual, RATE_HZ)
            watched.go_on(before.snapshot())
        watched.push(misfit)
        one = watched.judge(0, 0.0, BOTH.contexts[0])
        if one is None:
            assert number + 1 < 5
            continue
        window = round(one.window_s * RATE_HZ)
        assert one.mean == pytest.approx(np.mean(misfits[max(0, number + 1 - window) : number + 1]))


def test_few_drives_or_little_driving_allow_a_larger_share() -> None:
    rng = np.random.default_rng(0)
    usual = [
        usual_share(reference).usual
        for reference in (
            reference_of("day", 0.0, 9),
            fit(ar1(rng, 0.95, 400, 3), RATE_HZ, NAMES, origins=ORIGINS),
            fit(
                [drive(seed, 120) + rng.normal(0, 2, 3) for seed in range(12)],
                RATE_HZ,
                NAMES,
                origins=ORIGINS,
            ),
        )
    ]
    assert usual[0] == 0.1
    assert 0.1 < usual[1] <= 0.5
    assert usual[2] == pytest.approx(3 / 12)


def test_the_share_goes_on_over_a_restart_and_a_file_without_it_begins_anew() -> None:
    series = np.concatenate([drive(11, 200), drive(12, 60, level=30.0)])
    first, second, older = (DriftMonitor(BOTH) for _ in range(3))
    before = share(watch(first, series)[-1])
    assert before is not None
    saved = first.to_bytes()
    second.restore(saved)
    after = share(watch(second, drive(13, 1, level=30.0), start_s=260)[-1])
    assert after is not None
    assert (after.verdict, after.since_ns) == (Verdict.ALARM, before.since_ns)
    document = json.loads(saved)
    del document["unknown"]
    older.restore(json.dumps(document).encode())
    assert share(watch(older, drive(13, 1, level=30.0), start_s=260)[-1]) is None


def test_contexts_stay_as_they_were_given() -> None:
    monitor = DriftMonitor(replace(BOTH))
    watch(monitor, drive(14, 900, level=30.0))
    assert monitor.reference.digest == BOTH.digest
