"""What a new model is known by from its time in shadow: in which contexts, of how much, at which rate."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.drift import DriftMonitor, Reference, Verdict, combine, fit, scan_arrays, unlearned
from edge.drift.finding import UNKNOWN
from edge.drift.fitting import LEARN_TAU
from edge.drift.frame_rate import at_rate
from edge.drift.own import OF_A_MODEL, UNNAMED
from edge.drift.reference import DriftReferenceError, FeatureReference
from edge.drift.rows import Head, Rows, Segment
from edge.drift.shadow_fit import ShadowFitTerms, contexts_of, fit_shadow, fit_shadow_in_child
from tests.edge.drift_streams import ar1

NAMES = ("brightness", "haze", "count", "embedding_1")
ORIGINS = ("picture", "picture", "detections", "embedding")
A, B = "a" * 64, "b" * 64
S = 10**9
RATE_HZ = 2.0
TERMS = ShadowFitTerms(A, 24.0, 300.0)
NIGHT = -20.0  # of the picture


def series(frames: int, level: float = 0.0, *, seed: int = 1, rho: float = 0.6) -> np.ndarray:
    values = ar1(np.random.default_rng(seed), rho, frames, len(NAMES))
    values[:, :2] += level
    return values.astype(np.float32)


def context(name: str, level: float, seed: int) -> Reference:
    drives = [series(300, level + 0.1 * number, seed=seed + number) for number in range(8)]
    return fit(drives, RATE_HZ, NAMES, origins=ORIGINS, context=name)


DAY_AND_NIGHT = combine(context("day", 0.0, 100), context("night", NIGHT, 200))
JUDGED = DAY_AND_NIGHT.without(OF_A_MODEL)


def rows(values: np.ndarray, rate_hz: float = 1.0, *, model: str = A, start_s: float = 0.0) -> Segment:
    times = (start_s * S + np.arange(len(values)) * (S / rate_hz)).astype(np.int64)
    return Segment(Head(UNNAMED, model, rate_hz, NAMES, "run"), times, values)


def known(reference: Reference) -> set[tuple[str, str]]:
    return {(one.name, two.name) for one in reference.contexts for two in one.features if two.known}


def only(reference: Reference, name: str, of: str = "day") -> FeatureReference:
    (found,) = [
        two for one in reference.contexts if one.name == of for two in one.features if two.name == name
    ]
    return found


def test_each_context_of_the_new_model_is_known_by_its_own_frames() -> None:
    day, night = series(900), series(900, NIGHT, seed=2)
    night[:, 2:] += 5.0
    found = fit_shadow([rows(np.concatenate([day, night]))], TERMS, JUDGED, None)
    assert known(found) == {(one, two) for one in ("day", "night") for two in ("count", "embedding_1")}
    assert (found.names, found.origins, found.rate_hz) == (JUDGED.names, JUDGED.origins, RATE_HZ)
    assert only(found, "count").mean == pytest.approx(0.0, abs=0.4)
    assert only(found, "count", "night").mean == pytest.approx(5.0, abs=0.4)


def test_what_is_known_already_and_what_is_of_the_picture_is_left_alone() -> None:
    tells_counts = Reference(
        RATE_HZ,
        24.0,
        tuple(
            replace(bare, features=(*bare.features[:2], full.features[2], *bare.features[3:]))
            for bare, full in zip(JUDGED.contexts, DAY_AND_NIGHT.contexts, strict=True)
        ),
    )
    found = fit_shadow([rows(series(900))], TERMS, tells_counts, None)
    assert known(found) == {("day", "embedding_1")}


def test_another_models_rows_are_none_of_it() -> None:
    with pytest.raises(DriftReferenceError, match="nothing was kept"):
        fit_shadow([rows(series(900), model=B)], TERMS, JUDGED, None)
    found = fit_shadow([rows(series(900) + 9.0, model=B), rows(series(900))], TERMS, JUDGED, None)
    assert only(found, "count").mean == pytest.approx(0.0, abs=0.4)


def test_of_what_too_little_was_seen_nothing_is_known() -> None:
    with pytest.raises(DriftReferenceError, match="too little"):
        fit_shadow([rows(series(290))], TERMS, JUDGED, None)
    # Of the embedding less than of the count, and of the night less than of the day.
    values = np.concatenate([series(900), series(120, NIGHT, seed=2)])
    values[:700, 3] = np.nan
    assert known(fit_shadow([rows(values)], TERMS, JUDGED, None)) == {("day", "count")}


def test_a_slow_feature_takes_fifty_of_its_autocorrelation_times() -> None:
    values = series(900)
    values[:, 2] = ar1(np.random.default_rng(5), 0.97, 900)[:, 0]
    assert known(fit_shadow([rows(values)], TERMS, JUDGED, None)) == {("day", "embedding_1")}
    longer = series(9000)
    longer[:, 2] = ar1(np.random.default_rng(5), 0.97, 9000)[:, 0]
    slow = only(fit_shadow([rows(longer)], TERMS, JUDGED, None), "count")
    assert slow.known and slow.frames >= LEARN_TAU * slow.tau


def test_frames_that_fit_no_context_teach_nothing() -> None:
    smeared = series(900, 60.0, seed=3)
    smeared[:, 2:] += 9.0
    with pytest.raises(DriftReferenceError, match="too little"):
        fit_shadow([rows(smeared)], TERMS, JUDGED, None)
    found = fit_shadow([rows(np.concatenate([series(900), smeared]))], TERMS, JUDGED, None)
    assert only(found, "count").mean == pytest.approx(0.0, abs=0.4)


def test_without_contexts_all_is_one() -> None:
    nothing = Reference(
        RATE_HZ, 24.0, (replace(JUDGED.contexts[0], name=UNNAMED, misfit=float("inf")),)
    ).without(("picture", "detections", "embedding"))
    values = np.concatenate([series(600), series(600, 60.0, seed=2)])
    assert known(fit_shadow([rows(values)], TERMS, nothing, None)) == {
        (UNNAMED, "count"),
        (UNNAMED, "embedding_1"),
    }


def test_days_in_shadow_promise_nothing() -> None:
    """The camera's own picture may promise; what it is told beside it must not."""
    day = fit(series(5 * 7200, seed=7), RATE_HZ, NAMES, origins=ORIGINS, context="day")
    assert day.promises("day")
    found = fit_shadow([rows(series(5 * 3600))], TERMS, day.without(OF_A_MODEL), None)
    assert not any(feature.calibrated(RATE_HZ) for feature in found.contexts[0].features if feature.known)
    monitor = DriftMonitor(day.without(OF_A_MODEL))
    monitor.know(found)
    assert not monitor.reference.promises("day")
    states = [monitor.observe(number * S // 2, vector) for number, vector in enumerate(series(1200, seed=8))]
    last = [state for state in states if state is not None][-1]
    verdicts = {one.name: one.verdict for one in last.features if one.context == "day"}
    assert verdicts["brightness"] is Verdict.STABLE and verdicts["count"] is Verdict.UNCALIBRATED
    assert last.verdict is Verdict.UNCALIBRATED


def test_how_far_drives_differ_is_taken_from_the_model_before() -> None:
    drives = [series(300, seed=300 + number) for number in range(8)]
    for number, one in enumerate(drives):
        one[:, 2] += number
    past = fit(drives, RATE_HZ, NAMES, origins=ORIGINS, context="day")
    alone = only(fit_shadow([rows(series(900))], TERMS, JUDGED, None), "count")
    beside = only(fit_shadow([rows(series(900))], TERMS, JUDGED, past), "count")
    assert alone.margin == 0.0 < only(past, "count").drive_sigma
    assert beside.margin > 3.0 and beside.mean == alone.mean


def test_frames_that_are_too_far_apart_would_take_longer_to_judge_by_than_to_learn() -> None:
    assert fit_shadow([rows(series(900), 1 / 14)], TERMS, JUDGED, None)
    with pytest.raises(DriftReferenceError, match="a frame each 20 s"):
        fit_shadow([rows(series(900), 1 / 20)], TERMS, JUDGED, None)


@settings(max_examples=6)
@given(st.sampled_from([2, 3, 5, 8]), st.sampled_from([0.5, 0.8, 0.95]), st.integers(0, 1000))
def test_a_feature_seen_seldom_is_taken_for_slower_and_never_for_faster(
    every: int, rho: float, seed: int
) -> None:
    """So its windows are longer, in seconds, and it alarms later but no more often."""
    values = ar1(np.random.default_rng(seed), rho, 40_000)
    whole = fit(values, RATE_HZ, ["count"]).contexts[0].features[0]
    seldom = fit(values[::every], RATE_HZ / every, ["count"])
    (brought,) = at_rate(seldom, RATE_HZ, most_ratio=every).contexts[0].features
    assert brought.tau >= 0.8 * whole.tau
    assert all(new.frames >= 0.8 * old.frames for new, old in zip(brought.tails, whole.tails, strict=True))
    with pytest.raises(DriftReferenceError):
        at_rate(fit(values, RATE_HZ, ["count"]), RATE_HZ / 3, most_ratio=every)


def test_it_alarms_less_than_what_is_learned_on_the_way_and_finds_a_change() -> None:
    """Half an hour in shadow at every fourth frame, beside the five minutes of all that a monitor takes."""
    nothing = unlearned(RATE_HZ, NAMES[2:], origins=ORIGINS[2:], context=UNNAMED)
    alarms = {"shadow": 0, "learned": 0}
    found = 0
    for seed in range(4):
        values = ar1(np.random.default_rng(50 + seed), 0.8, 3600 + 4 * 7200, 2).astype(np.float32)
        shadow, drive = values[:3600], values[3600:]
        seen = Segment(
            Head(UNNAMED, A, RATE_HZ / 4, NAMES[2:], "run"),
            (np.arange(900) * 4 * S / RATE_HZ).astype(np.int64),
            shadow[::4],
        )
        known_now = fit_shadow([seen], TERMS, nothing, None)
        alarms["shadow"] += len(scan_arrays(known_now, drive, RATE_HZ).onsets())
        alarms["learned"] += len(scan_arrays(nothing, drive, RATE_HZ).onsets())
        changed = drive[:2400].copy()
        changed[1200:, 0] += 3.0
        onsets = scan_arrays(known_now, changed, RATE_HZ).onsets()
        found += bool((onsets >= 600).any())
    assert alarms["shadow"] <= alarms["learned"] and alarms["learned"] > 0, alarms
    assert found == 4


LEVELS = st.lists(st.tuples(st.sampled_from([0.0, NIGHT, 60.0]), st.integers(1, 80)), min_size=1, max_size=6)


@settings(max_examples=30)
@given(LEVELS, st.sampled_from([0.2, 1.0, 2.0]), st.integers(0, 100))
def test_a_frame_is_of_the_context_that_it_looks_like_or_of_none(
    parts: list[tuple[float, int]], rate_hz: float, seed: int
) -> None:
    values = np.concatenate(
        [series(length, level, seed=seed + at) for at, (level, length) in enumerate(parts)]
    )
    looks_like = np.concatenate(
        [[{0.0: 0, NIGHT: 1, 60.0: UNKNOWN}[level]] * length for level, length in parts]
    )
    labels = contexts_of(values, JUDGED, rate_hz)
    assert len(labels) == len(values)
    assert not ((labels != UNKNOWN) & (labels != looks_like)).any()
    for level, number in ((0.0, 0), (NIGHT, 1)):
        lasts = [length for one, length in parts if one == level]
        if lasts and max(lasts) > 2 * 15 * rate_hz + 5:
            assert (labels == number).any()


def test_a_child_finds_the_same(tmp_path: Path) -> None:
    values = series(900)
    part = rows(values)
    assert Rows(tmp_path).append(part.head, part.times, part.values)
    expected = fit_shadow([part], TERMS, JUDGED, DAY_AND_NIGHT)
    found = fit_shadow_in_child(tmp_path, TERMS, JUDGED, DAY_AND_NIGHT, threading.Event())
    assert found.digest == expected.digest
    with pytest.raises(DriftReferenceError, match="nothing was kept"):
        fit_shadow_in_child(tmp_path, replace(TERMS, model=B), JUDGED, None, threading.Event())
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(DriftReferenceError, match="broken off"):
        fit_shadow_in_child(tmp_path, TERMS, JUDGED, None, stopping)
