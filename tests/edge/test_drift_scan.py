"""A series at once says what a monitor says frame after frame."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.drift import (
    DriftMonitor,
    DriftReferenceError,
    DriftState,
    Reference,
    combine,
    fit,
    scan,
    scan_arrays,
)
from edge.drift.scanning import scan_times
from edge.drift.series import VERDICTS
from tests.edge.drift_streams import ar1

RATE_HZ = 2.0
NAMES = ("level", "count", "constant", "late")


@lru_cache(maxsize=3)
def reference_of(contexts: int) -> Reference:
    """Of up to three contexts that are some way apart, with windows short enough for a test."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(contexts):
        drive = np.full((1200, len(NAMES)), np.nan)
        drive[:, 0] = ar1(rng, 0.5, 1200)[:, 0] + 4 * number
        drive[:, 1] = rng.poisson(2 + number, 1200)
        drive[:, 2] = 7.0
        found.append(fit(drive, RATE_HZ, NAMES, context=f"context {number}", target_hours=0.2))
    return combine(*found)


def states_of(reference: Reference, series: np.ndarray, rate_hz: float) -> list[DriftState]:
    monitor = DriftMonitor(reference)
    times = np.round(np.arange(len(series)) * (1e9 / rate_hz)).astype(int)
    states = (monitor.observe(int(time), row) for time, row in zip(times, series, strict=True))
    return [state for state in states if state is not None]


def check_same(one: dict[str, object], other: dict[str, object]) -> None:
    """Words equal, numbers within what float32 keeps of them."""
    assert one.keys() == other.keys()
    for key, value in one.items():
        if isinstance(value, float):
            assert value == pytest.approx(other[key], rel=1e-4, abs=1e-6, nan_ok=True), key
        else:
            assert value == other[key], key


def check_states(one: DriftState, other: DriftState) -> None:
    ours, theirs = one.to_json(), other.to_json()
    # Two features that are equally unusual may change places.
    by_name = {(feature["context"], feature["name"]): feature for feature in theirs.pop("features")}
    for feature in ours.pop("features"):
        check_same(feature, by_name.pop((feature["context"], feature["name"])))
    assert not by_name
    check_same(ours, theirs)


# Frames, which context's, how far shifted, how often a feature is not to be had.
STRETCHES = st.lists(
    st.tuples(
        st.integers(0, 300),
        st.integers(0, 2),
        st.sampled_from([0.0, 2.0, -3.0, 40.0]),
        st.sampled_from([0.0, 0.1, 0.9]),
    ),
    min_size=1,
    max_size=6,
)


def series_of(stretches: list[tuple[int, int, float, float]], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = []
    for frames, number, shift, missing in stretches:
        stretch = np.stack(
            [
                rng.normal(4 * number + shift, 1, frames),
                rng.poisson(2 + number + max(shift, 0.0), frames),
                np.full(frames, 7.0),
                rng.normal(shift, 1, frames),
            ],
            axis=1,
        )
        stretch[rng.random(stretch.shape) < missing] = np.nan
        found.append(stretch)
    return np.concatenate(found).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(STRETCHES, st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from([0.4, 2.0, 5.0]))
# A small shift of a large mean.
@example([(293, 0, 40.0, 0.1)], 1, 1, 0.4)
# An alarm of windows that a handover takes frames out of again.
@example([(72, 0, 40.0, 0.0), (2, 1, 0.0, 0.0), (162, 0, 0.0, 0.0)], 0, 2, 5.0)
def test_a_scan_gives_the_states_of_a_monitor(
    stretches: list[tuple[int, int, float, float]], seed: int, contexts: int, rate_hz: float
) -> None:
    series = series_of(stretches, seed)
    reference = reference_of(contexts)
    expected = states_of(reference, series, rate_hz)
    found = scan_arrays(reference, series, rate_hz)
    assert [state.verdict for state in expected] == [VERDICTS[number] for number in found.verdict]
    # Not each of them: a state takes long to make.
    for step in range(len(expected) - 1, -1, -7):
        check_states(found[step], expected[step])
    alarms = [False, *(state.alarm for state in expected)]
    assert found.onsets().tolist() == [
        step for step in range(len(expected)) if alarms[step + 1] and not alarms[step]
    ]


@settings(max_examples=15, deadline=None)
@given(
    STRETCHES,
    st.lists(st.sampled_from([0.1, 0.5, 1.3, 2.0, 7.0]), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
    st.integers(1, 3),
)
def test_a_scan_gives_the_states_of_a_monitor_however_the_frames_come(
    stretches: list[tuple[int, int, float, float]], steps_s: list[float], seed: int, contexts: int
) -> None:
    """The rate changes in mid-stream, once a stretch of about fifty frames, with some jitter."""
    series, reference = series_of(stretches, seed), reference_of(contexts)
    rng = np.random.default_rng(seed)
    nominal_s = np.array(steps_s)[np.arange(len(series)) // 50 % len(steps_s)]
    times = np.cumsum(nominal_s * rng.uniform(0.9, 1.1, len(series)) * 1e9).astype(np.int64)
    monitor = DriftMonitor(reference)
    states = (monitor.observe(int(time), row) for time, row in zip(times, series, strict=True))
    expected = [state for state in states if state is not None]
    found = scan_times(reference, series, times)
    assert [state.verdict for state in expected] == [VERDICTS[number] for number in found.verdict]
    for step in range(len(expected) - 1, -1, -7):
        check_states(found[step], expected[step])


def test_states_are_made_where_they_are_looked_at() -> None:
    series = np.tile([0.0, 2.0, 7.0, 1.0], (100, 1))
    states = scan(reference_of(1), series, RATE_HZ)
    assert len(states) == 50
    assert [state.time_ns for state in states[::20]] == [500_000_000, 20_500_000_000, 40_500_000_000]
    assert states[-1].time_ns == 99 * 500_000_000
    with pytest.raises(IndexError):
        states[50]
    assert list(scan(reference_of(1), series[:1], RATE_HZ)) == []


def test_the_arrays_say_what_the_states_say() -> None:
    series = np.random.default_rng(0).normal(size=(600, len(NAMES))).astype(np.float32)
    series[:, 2] = 7.0
    series[300:, 0] += 6.0
    found = scan_arrays(reference_of(1), series, RATE_HZ)
    assert found.alarm.any()
    assert not found.alarm.all()
    per_day = found.per_day()
    for step in (50, 200, 299):
        state = found[step]
        assert state.alarm == found.alarm[step]
        for number, name in enumerate(NAMES):
            (feature,) = (one for one in state.features if one.name == name)
            if feature.window_s:
                assert feature.false_alarms_per_day == pytest.approx(np.nanmin(per_day[step, :, number]))
            else:
                assert np.isnan(per_day[step, :, number]).all()


@pytest.mark.parametrize(
    ("shape", "rate_hz", "word"),
    [
        ((10, 3), RATE_HZ, "4 features"),
        ((10,), RATE_HZ, "shape"),
        ((10, 4), 0.01, "gap"),
        ((10, 4), 0.0, "0"),
    ],
)
def test_what_no_monitor_could_judge_is_refused(shape: tuple[int, ...], rate_hz: float, word: str) -> None:
    with pytest.raises(DriftReferenceError, match=word):
        scan_arrays(reference_of(1), np.zeros(shape), rate_hz)
