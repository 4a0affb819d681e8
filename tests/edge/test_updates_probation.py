"""When a probation is over, and what fails it: by the vehicle's rules, and by what the release promised."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.updates.driving import stretches_of
from edge.updates.frame_records import KEPT, FrameRecord, FrameRecords
from edge.updates.probation import (
    LEAST_ERRORS,
    FrameTotals,
    Probation,
    ProbationRules,
    drift_failure,
    terms_of,
)
from edge.vehicle_state.drive_time import GAP_S, DriveTime
from protos.release_promise import Promise, Range
from protos.traffic_vision.v1 import common_pb2

RULES = ProbationRules(seconds=300, frames=500, most_seconds=3600)
HZ = 10


def records(
    seconds: float,
    digest: str = "new",
    latency_ms: float | Sequence[float] = 10.0,
    detections: float = 4.0,
    context: str = "day",
    start_s: float = 0.0,
    parked: bool = False,
    seed: int = 0,
) -> list[FrameRecord]:
    """Frames at 10 Hz; the detections scatter around their mean from one stretch to the next."""
    rng = np.random.default_rng(seed)
    count = round(seconds * HZ)
    latencies = [latency_ms] * count if isinstance(latency_ms, float) else list(latency_ms)
    level = np.repeat(rng.gamma(8, detections / 8, count // 50 + 1), 50)
    return [
        FrameRecord(
            digest,
            "front",
            round((start_s + frame / HZ) * 1e9),
            parked,
            context,
            latencies[frame],
            int(rng.poisson(level[frame])),
        )
        for frame in range(count)
    ]


def lognormal(seconds: float, median_ms: float, seed: int = 0) -> list[float]:
    return list(np.random.default_rng(seed).lognormal(math.log(median_ms), 0.2, round(seconds * HZ)))


def driven(
    promise: Promise,
    own: list[FrameRecord],
    before: Sequence[FrameRecord] = (),
    rules: ProbationRules = RULES,
) -> Probation:
    """A probation at its end."""
    probation = Probation("new", terms_of(RULES, promise), FrameTotals(), before)
    for start in range(0, len(own), HZ):
        probation.observe(own[start : start + HZ])
        probation.count(FrameTotals(published=start + HZ))
        if probation.failure():
            break
    probation.over()
    return probation


def test_a_probation_takes_driving_and_frames() -> None:
    frames = records(301)
    probation = Probation("new", terms_of(RULES, None), FrameTotals(200, 3))
    probation.observe(frames[:2999])
    probation.count(FrameTotals(200 + 500, 3))
    assert not probation.over(), "a second too short"
    probation.observe(frames[2999:])
    assert probation.over()
    probation = Probation("new", terms_of(RULES, None), FrameTotals(200, 3), frames)
    probation.count(FrameTotals(200 + 499, 3))
    assert not probation.over(), "a frame too few"


@pytest.mark.parametrize(
    "frames",
    [
        records(1000, parked=True),
        records(1000, digest="old"),
        [record for second in range(1000) for record in records(0.1, start_s=second * (GAP_S + 1))],
    ],
)
def test_parked_time_gaps_and_other_models_do_not_count(frames: list[FrameRecord]) -> None:
    probation = Probation("new", terms_of(RULES, None), FrameTotals(), frames)
    assert probation.drive_s == 0


frame_times = st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=50)


@given(st.dictionaries(st.sampled_from(["front", "rear"]), frame_times))
def test_drive_time_is_never_longer_than_the_frames_time(cameras: dict[str, list[tuple[int, bool]]]) -> None:
    drive, spans = DriveTime(), [0]
    for camera, steps in cameras.items():
        now_s = 0
        for step_s, parked in steps:
            now_s += step_s
            before = drive.seconds
            drive.add(camera, now_s * 10**9, parked=parked)
            assert before <= drive.seconds <= before + min(step_s, GAP_S)
        spans.append(now_s)
    assert drive.seconds <= max(spans)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 7 * 86400), st.integers(0, 10**9))
def test_no_promise_shortens_a_probation_or_makes_it_endless(drive_s: int, frames: int) -> None:
    terms = terms_of(RULES, Promise(drive_s=drive_s, frames=frames))
    assert RULES.seconds <= terms.seconds <= RULES.most_seconds
    assert terms.frames >= RULES.frames
    probation = Probation("new", terms, FrameTotals(), [])
    for second in range(0, 3700, 4):
        probation.observe([FrameRecord("new", "front", second * 10**9, False, "", 1.0, 0)])
    probation.count(FrameTotals(RULES.frames))
    assert probation.over()


def test_of_two_bounds_the_stricter_holds() -> None:
    rules = dataclasses.replace(RULES, latency_ms=20.0, latency_ratio=3.0)
    terms = terms_of(rules, Promise(latency_p99_us=50_000, latency_percent=200))
    assert (terms.latency_ms, terms.latency_ratio) == (20.0, 2.0)
    assert terms_of(rules, None).latency_ms == 20.0


@pytest.mark.parametrize(
    ("before", "own", "fails"),
    [
        (FrameTotals(1000, 0), FrameTotals(0, LEAST_ERRORS - 1), False),  # too few to say
        (FrameTotals(1000, 0), FrameTotals(0, LEAST_ERRORS), True),
        (FrameTotals(1000, 0), FrameTotals(95, 5), False),
        (FrameTotals(1000, 0), FrameTotals(950, 50), False),
        (FrameTotals(1000, 0), FrameTotals(940, 60), True),
        (FrameTotals(800, 200), FrameTotals(800, 200), False),  # the old one had as many
        (FrameTotals(800, 200), FrameTotals(740, 260), True),
        (FrameTotals(), FrameTotals(90, 10), True),  # after a restart nothing is known of the old one
    ],
)
def test_errors_fail_a_probation_where_they_are_more_than_before(
    before: FrameTotals, own: FrameTotals, fails: bool
) -> None:
    probation = Probation("new", terms_of(RULES, None), before)
    probation.count(FrameTotals(before.published + own.published, before.errors + own.errors))
    reason = probation.failure()
    assert bool(reason) is fails
    if fails:
        assert f"{own.errors} of {own.errors + own.published} frames" in reason


def test_a_promised_share_of_errors_is_held_below_what_every_release_may_have() -> None:
    probation = Probation("new", terms_of(RULES, Promise(errors_permille=1)), FrameTotals(5000))
    probation.count(FrameTotals(5000 + 970, 30))
    probation.count(FrameTotals(5000 + 9700, 300))
    assert "error_share is 0.03" in probation.failure()
    kept = Probation("new", terms_of(RULES, Promise(errors_permille=50)), FrameTotals(5000))
    kept.count(FrameTotals(5000 + 9700, 300))
    assert kept.failure() == ""


@pytest.mark.parametrize(
    "promise",
    [Promise(latency_p99_us=20_000), Promise(latency_percent=200)],
    ids=["against a number", "against the model before"],
)
def test_a_slow_model_fails_and_soon(promise: Promise) -> None:
    before = records(120, "old", latency_ms=lognormal(120, 10.0))
    slow = driven(promise, records(400, latency_ms=lognormal(400, 40.0, 1), start_s=120), before)
    assert "latency_p99" in slow.failure()
    assert slow.drive_s < 60
    healthy = driven(promise, records(400, latency_ms=lognormal(400, 10.0, 2), start_s=120), before)
    assert healthy.failure() == ""
    (figure,) = healthy.figures()
    assert figure.samples == 4000 and figure.most is not None and figure.value < figure.most


def test_without_frames_of_the_model_before_nothing_is_said_of_the_ratio() -> None:
    probation = driven(Promise(latency_percent=200), records(400, latency_ms=1000.0))
    assert probation.failure() == ""
    (figure,) = probation.figures()
    assert math.isnan(figure.value) and not figure.broken


RANGE = Promise(
    detections_per_1000_frames=(("(all)", Range(1000, 16000)), ("night", Range(500, 8000))),
    detections_percent=Range(25, 400),
)


@pytest.mark.parametrize(("detections", "context"), [(0.0, "day"), (60.0, "day"), (0.1, "night"), (0.0, "")])
def test_a_model_that_finds_nothing_or_too_much_fails(detections: float, context: str) -> None:
    probation = driven(RANGE, records(400, detections=detections, context=context))
    assert "detections_per_frame" in probation.failure()
    if context:
        assert f"in context {context}" in probation.failure()


@pytest.mark.parametrize("detections", [0.0, 60.0])
def test_or_by_what_the_model_before_found_on_this_vehicle(detections: float) -> None:
    promise = Promise(detections_percent=Range(25, 400))
    before = records(200, "old")
    probation = driven(promise, records(400, detections=detections, start_s=200), before)
    assert "detections_ratio" in probation.failure()


def test_roads_differ_and_a_healthy_model_stays() -> None:
    """Drives of 300 s, in which a stretch has now half and now twice of what the whole has."""
    promise = dataclasses.replace(RANGE, latency_percent=200)
    failed = [
        reason
        for seed in range(60)
        if (
            reason := driven(
                promise,
                records(310, latency_ms=lognormal(310, 10.0, seed), start_s=120, seed=seed),
                records(120, "old", latency_ms=lognormal(120, 10.0, 1000 + seed), seed=1000 + seed),
            ).failure()
        )
    ]
    assert failed == []


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 2.0, 30.0]))
def test_what_has_failed_stays_failed(seed: int, detections: float) -> None:
    probation = Probation("new", terms_of(RULES, RANGE), FrameTotals())
    failed = ""
    own = records(200, detections=detections, seed=seed) + records(200, start_s=200, seed=seed)
    for start in range(0, len(own), 100):
        probation.observe(own[start : start + 100])
        assert not failed or probation.failure()
        failed = probation.failure()


def test_stretches_are_of_one_context_and_of_driving() -> None:
    frames = [*records(25), *records(25, context="night", start_s=25), *records(30, parked=True, start_s=50)]
    assert [stretch.context for stretch in stretches_of(frames)] == ["day", "day", "night", "night"]


def _alarm(
    *features: tuple[str, common_pb2.FeatureOrigin], context: str = "day", sha256: str = "new"
) -> common_pb2.DriftState:
    state = common_pb2.DriftState(camera="front", verdict=common_pb2.DRIFT_VERDICT_ALARM, context=context)
    state.model.sha256 = sha256
    for name, origin in features:
        state.features.add(name=name, origin=origin, verdict=common_pb2.DRIFT_VERDICT_ALARM)
    return state


DETECTIONS, PICTURE = common_pb2.FEATURE_ORIGIN_DETECTIONS, common_pb2.FEATURE_ORIGIN_PICTURE


@pytest.mark.parametrize(
    ("state", "fails"),
    [
        (_alarm(("count", DETECTIONS)), True),
        (_alarm(("mean_size", DETECTIONS)), False),  # learned on the way, not in the model's file
        (_alarm(("count", DETECTIONS), context="night"), False),  # not known there
        (_alarm(("count", DETECTIONS), context=""), False),
        (_alarm(("count", DETECTIONS), ("brightness", PICTURE)), False),  # the world has changed
        (_alarm(("count", DETECTIONS), sha256="old"), False),
        (common_pb2.DriftState(camera="front", verdict=common_pb2.DRIFT_VERDICT_STABLE), False),
    ],
)
def test_drift_of_its_own_detections_fails_it(state: common_pb2.DriftState, fails: bool) -> None:
    known = {("day", "count")}
    assert bool(drift_failure([state], "new", known)) is fails
    for promised in (True, False):
        terms = terms_of(RULES, Promise(no_drift_alarm=promised))
        probation = Probation("new", terms, FrameTotals(), known=known)
        probation.look_at_drift([state])
        assert bool(probation.failure()) is (fails and promised)


def test_records_are_bounded_and_taken_once() -> None:
    kept = FrameRecords()

    def more() -> Iterator[FrameRecord]:
        return iter(records(KEPT / HZ + 10))

    for record in more():
        kept.add(record)
    taken = kept.take()
    assert len(taken) == KEPT and taken[-1] == list(more())[-1]
    assert kept.take() == []
