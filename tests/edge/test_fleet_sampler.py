"""The sampler's rules, on drives that hypothesis makes up."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.day_budget import DAY_NS
from edge.fleet.sampler import (
    BASELINE,
    DRIFT,
    REQUESTED,
    UNCERTAINTY,
    Sampler,
    SampleReason,
    SamplerOptions,
    SamplerOptionsError,
)
from edge.fleet.similarity import dhash, distance
from edge.fleet.uncertainty import uncertainty

SECOND = 10**9
NO_BOXES = np.empty((0, 6), np.float32)
ONLY_DRIFT = SamplerOptions(uncertainty_minimum=10**6, baseline_spacing_s=math.inf, near_duplicate_bits=-1)


def scene(seed: int) -> npt.NDArray[np.uint8]:
    """A picture whose layout differs from any other seed's."""
    return np.random.default_rng(seed).integers(0, 255, (16, 18, 3), dtype=np.uint8)


def boxes(*scores: float) -> npt.NDArray[np.float32]:
    return np.array([[0, 0, 1, 1, score, 0] for score in scores], np.float32).reshape(-1, 6)


@dataclass(frozen=True)
class Offer:
    time_ns: int
    scene: int
    scores: tuple[float, ...]
    alarm: bool
    strength: float
    weight: int


offers = st.lists(
    st.builds(
        Offer,
        st.integers(0, 8 * SECOND),  # made absolute below
        st.integers(0, 12),
        st.lists(st.floats(0, 1, width=32), max_size=3).map(tuple),
        st.booleans(),
        st.floats(allow_nan=True, allow_infinity=True),
        st.integers(0, 100),
    ),
    max_size=80,
)
spacings = st.sampled_from([0.0, 1.5, 5.0, 30.0])
options = st.builds(
    SamplerOptions,
    drift_spacing_s=spacings,
    uncertainty_spacing_s=spacings,
    baseline_spacing_s=spacings,
    uncertain_share=st.sampled_from([0.1, 0.5]),
    uncertainty_minimum=st.sampled_from([1, 5]),
    near_duplicate_bits=st.sampled_from([-1, 2, 10]),
    remembered=st.sampled_from([1, 64]),
    bytes_per_day=st.integers(0, 4000),
    sample_bytes=st.just(100),
)


def drive(sampler: Sampler, offers: list[Offer]) -> list[tuple[Offer, tuple[SampleReason, ...]]]:
    """Offer one after the other, times made absolute; what was taken."""
    taken, now = [], 0
    for offer in offers:
        now += offer.time_ns
        at = replace(offer, time_ns=now)
        reasons = sampler.offer(now, scene(offer.scene), boxes(*offer.scores), offer.alarm, offer.strength)
        if reasons:
            taken.append((at, reasons))
            sampler.weighed(offer.weight)
    return taken


@settings(deadline=None)
@given(options, offers)
def test_every_rule_holds_for_every_drive(options: SamplerOptions, offers: list[Offer]) -> None:
    sampler = Sampler(options)
    taken = drive(sampler, offers)
    spacing = {
        DRIFT: options.drift_spacing_s,
        UNCERTAINTY: options.uncertainty_spacing_s,
        BASELINE: options.baseline_spacing_s,
    }
    for kind, spacing_s in spacing.items():
        times = [offer.time_ns for offer, reasons in taken if kind in {reason.kind for reason in reasons}]
        assert all(later - earlier >= spacing_s * SECOND for earlier, later in pairwise(times))
    for offer, reasons in taken:
        kinds = [reason.kind for reason in reasons]
        assert len(set(kinds)) == len(kinds)
        assert [reason.priority for reason in reasons] == sorted((r.priority for r in reasons), reverse=True)
        for reason in reasons:
            low = {DRIFT: 3, UNCERTAINTY: 1, BASELINE: 0}[reason.kind]
            assert low <= reason.priority < low + 1
        assert DRIFT not in kinds or offer.alarm
        assert UNCERTAINTY not in kinds or uncertainty(boxes(*offer.scores)) > 0
    hashes = [dhash(scene(offer.scene)) for offer, _ in taken]
    for index, seen in enumerate(hashes):
        lately = hashes[max(0, index - options.remembered) : index]
        assert all(distance(seen, other) > options.near_duplicate_bits for other in lately)
    for start, _ in taken:
        day = [o.weight for o, _ in taken if start.time_ns <= o.time_ns < start.time_ns + DAY_NS]
        assert sum(day) <= options.bytes_per_day
    counts = sampler.counts()
    assert (counts.offered, counts.taken) == (len(offers), len(taken))
    again = drive(Sampler(options), offers)
    assert again == taken


def test_the_baseline_is_a_steady_rate() -> None:
    sampler = Sampler(SamplerOptions(baseline_spacing_s=10.0, uncertainty_minimum=10**6))
    taken = [
        tick / 2 for tick in range(200) if sampler.offer(tick * SECOND // 2, scene(tick), NO_BOXES, False)
    ]
    assert taken == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]


def test_an_alarm_is_sampled_while_it_lasts_and_outranks_the_rest() -> None:
    sampler = Sampler(replace(ONLY_DRIFT, baseline_spacing_s=0.0))
    (reason,) = sampler.offer(0, scene(0), NO_BOXES, False)
    assert reason.kind == BASELINE
    drift, baseline = sampler.offer(SECOND, scene(1), NO_BOXES, True, 0.4)
    assert (drift.kind, baseline.kind) == (DRIFT, BASELINE)
    assert drift.priority > baseline.priority
    stronger, _ = sampler.offer(10 * SECOND, scene(2), NO_BOXES, True, 0.8)
    assert stronger.priority > drift.priority


def test_only_what_is_unsure_beside_its_neighbours_is_uncertain() -> None:
    options = SamplerOptions(uncertainty_spacing_s=0.0, baseline_spacing_s=math.inf, uncertainty_minimum=20)
    sampler = Sampler(options)
    for tick in range(50):  # a steady scene is not uncertain, however low its scores are
        reasons = sampler.offer(tick * SECOND, scene(tick), boxes(0.5, 0.5), False)
        assert UNCERTAINTY not in {reason.kind for reason in reasons}
    (reason,) = sampler.offer(50 * SECOND, scene(50), boxes(0.5, 0.5, 0.6), False)
    assert reason.kind == UNCERTAINTY
    assert sampler.offer(51 * SECOND, scene(51), boxes(0.99), False) == ()


def test_a_camera_that_stands_still_is_taken_once() -> None:
    sampler = Sampler(replace(ONLY_DRIFT, near_duplicate_bits=2))
    noisy = [np.clip(scene(0).astype(int) + tick % 2, 0, 255).astype(np.uint8) for tick in range(100)]
    assert sum(bool(sampler.offer(t * 10 * SECOND, noisy[t], NO_BOXES, True, 0.5)) for t in range(100)) == 1
    assert sampler.counts().near_duplicates == 99


def test_a_parked_vehicle_is_sampled_only_where_it_was_asked_for() -> None:
    sampler = Sampler(SamplerOptions(baseline_spacing_s=0.0, drift_spacing_s=0.0))
    offers = [sampler.offer(tick * SECOND, scene(tick), boxes(0.5), True, parked=True) for tick in range(100)]
    assert not any(offers)
    assert sampler.request(1, 0)
    (reason,) = sampler.offer(100 * SECOND, scene(100), NO_BOXES, False, parked=True)
    assert reason.kind == REQUESTED
    assert sampler.offer(101 * SECOND, scene(101), NO_BOXES, False)


def test_a_time_that_goes_back_is_a_new_drive() -> None:
    sampler = Sampler(ONLY_DRIFT)
    assert sampler.offer(1000 * SECOND, scene(0), NO_BOXES, True)
    assert sampler.offer(0, scene(1), NO_BOXES, True)
    assert not sampler.offer(SECOND, scene(2), NO_BOXES, True)


def test_other_options_hold_from_the_next_offer_on_and_what_was_taken_counts() -> None:
    sampler = Sampler(replace(ONLY_DRIFT, drift_spacing_s=0.0, bytes_per_day=10**9, sample_bytes=100))

    def taken(seconds: int) -> bool:
        found = sampler.offer(seconds * SECOND, scene(seconds), NO_BOXES, True)
        if found:
            sampler.weighed(100)
        return bool(found)

    assert [taken(second) for second in range(3)] == [True] * 3
    sampler.change(replace(sampler.options, drift_spacing_s=2.0))
    assert [taken(second) for second in range(3, 8)] == [False, True, False, True, False]
    sampler.change(replace(sampler.options, drift_spacing_s=0.0, bytes_per_day=600))
    assert [taken(second) for second in range(8, 11)] == [True, False, False]
    assert sampler.counts().over_budget == 2
    sampler.change(replace(sampler.options, bytes_per_day=700))
    assert taken(11) and not taken(12)


def test_what_is_not_weighed_yet_counts_for_what_it_may_weigh() -> None:
    sampler = Sampler(replace(ONLY_DRIFT, drift_spacing_s=0.0, bytes_per_day=1000, sample_bytes=400))
    times = iter(range(1000))

    def offer() -> bool:
        tick = next(times)
        return bool(sampler.offer(tick * SECOND, scene(tick), NO_BOXES, True))

    assert [offer() for _ in range(4)] == [True, True, False, False]
    sampler.weighed(100)
    sampler.weighed(0)  # came to nothing
    assert [offer() for _ in range(4)] == [True, True, False, False]
    sampler.weighed(500)  # more than was thought: the next one may be as large
    sampler.weighed(0)
    assert not offer()
    assert sampler.counts().over_budget == 5


def test_what_is_asked_for_is_taken_as_asked() -> None:
    sampler = Sampler(replace(ONLY_DRIFT, near_duplicate_bits=60))
    sampler.offer(0, scene(0), NO_BOXES, False)  # the first of the baseline
    assert sampler.request(3, 2 * SECOND)
    assert sampler.request(1, 0)
    taken = []
    for second in range(1, 20):
        for reason in sampler.offer(second * SECOND, scene(0), NO_BOXES, False):
            assert reason.kind == REQUESTED and reason.priority >= 4
            taken.append(second)
    assert taken == [1, 3, 5, 6]
    assert sampler.request(0, 0)
    assert [sampler.request(1, 0) for _ in range(10)] == [True] * 8 + [False] * 2


@pytest.mark.parametrize(
    "changes",
    [
        {"drift_spacing_s": -1},
        {"baseline_spacing_s": math.nan},
        {"uncertain_share": 1.0},
        {"near_duplicate_bits": 64},
        {"bytes_per_day": -1},
        {"remembered": 0},
    ],
)
def test_an_option_that_makes_no_sense_is_named(changes: dict[str, float]) -> None:
    with pytest.raises(SamplerOptionsError, match=next(iter(changes))):
        SamplerOptions(**changes)


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=20))
def test_uncertainty_is_bounded_by_the_number_of_boxes(scores: list[float]) -> None:
    assert 0.0 <= uncertainty(boxes(*scores)) <= len(scores)


@settings(deadline=None)
@given(st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_box_is_more_uncertain_the_closer_its_score_is_to_a_half(one: float, other: float) -> None:
    nearer, farther = sorted((one, other))
    for sign in (1, -1):
        assert uncertainty(boxes(0.5 + sign * nearer)) >= uncertainty(boxes(0.5 + sign * farther))
    assert uncertainty(boxes(0.5)) == 1.0 and uncertainty(boxes(1.0, 0.0)) == 0.0


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(-20, 20))
def test_the_hash_is_blind_to_size_and_brightness(seed: int, factor: int, brighter: int) -> None:
    coarse = np.random.default_rng(seed).integers(60, 190, (8, 9, 1), dtype=np.uint8).repeat(3, axis=2)
    larger = coarse.repeat(8 * factor, axis=0).repeat(8 * factor, axis=1)
    lighter = (larger.astype(int) + brighter).astype(np.uint8)
    assert distance(dhash(larger), dhash(lighter)) == 0
    assert dhash(larger) == dhash(coarse.repeat(8, axis=0).repeat(8, axis=1))
    rises = coarse[:, 1:, 0] > coarse[:, :-1, 0]
    assert dhash(larger) == int("".join("01"[bit] for bit in rises.astype(int).ravel()), 2)


def test_the_distance_is_the_number_of_bits() -> None:
    assert distance(0, (1 << 64) - 1) == 64
    assert distance(0b1011, 0b0010) == 2
