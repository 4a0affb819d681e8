from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, t

from edge.drift import fit
from edge.drift.calibration import BINS, autocorrelation_time, no_steeper
from edge.drift.distances import distance, distances_over_time
from edge.drift.reference import FeatureReference
from edge.drift.student import student_quantile
from edge.drift.windows import SlidingWindows, Yardstick
from tests.edge.drift_streams import ar1

RATE_HZ = 2.0


def feature_of(values: np.ndarray, short: int = 8, long: int = 20) -> FeatureReference:
    """A reference of these values, with windows short enough for a test."""
    feature = fit(values[:, None], RATE_HZ, ["feature"]).contexts[0].features[0]
    tails = (replace(feature.tails[0], frames=short), replace(feature.tails[1], frames=long))
    return replace(feature, tails=tails)


NORMAL = feature_of(np.random.default_rng(0).normal(size=2000))
COUNTS = feature_of(np.random.default_rng(1).poisson(3, size=2000).astype(float), 5, 31)

values = st.floats(-5, 9, width=32) | st.sampled_from([0.0, 1.0, 2.0, 3.0])
streams = st.lists(st.tuples(values | st.just(float("nan")), values), max_size=90)


def from_scratch(feature: FeatureReference, seen: list[float], length: int) -> tuple[float, float]:
    window = np.array(seen[-length:], np.float32)
    below = (window[:, None] <= feature.edges).mean(axis=0)
    d = max(0.0, float(np.maximum(below - feature.upper, feature.lower - below).max()))
    return d, (float(window.mean(dtype=float)) - feature.mean) / feature.sigma


@settings(max_examples=80, deadline=None)
@given(streams)
def test_sliding_gives_what_counting_from_scratch_gives(stream: list[tuple[float, float]]) -> None:
    features = (NORMAL, COUNTS)
    windows = SlidingWindows(features, RATE_HZ)
    seen: list[list[float]] = [[], []]
    for row in stream:
        windows.push(np.array(row, np.float32))
        for series, value in zip(seen, row, strict=True):
            if not np.isnan(value):
                series.append(value)
    judgement = windows.judge()
    for number, feature in enumerate(features):
        for window, tail in enumerate(feature.tails):
            assert judgement.full[window, number] == (len(seen[number]) >= tail.frames)
            if judgement.full[window, number]:
                d, shift = from_scratch(feature, seen[number], tail.frames)
                assert judgement.d[window, number] == pytest.approx(d, abs=1e-6)
                assert judgement.shift_sigma[window, number] == pytest.approx(shift, abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(streams)
def test_windows_that_are_filled_go_on_as_those_that_slid(stream: list[tuple[float, float]]) -> None:
    slid, filled = SlidingWindows((NORMAL, COUNTS), RATE_HZ), SlidingWindows((NORMAL, COUNTS), RATE_HZ)
    middle = len(stream) // 2
    for row in stream[:middle]:
        slid.push(np.array(row, np.float32))
    for number in range(2):
        filled.fill(number, slid.content(number))
    for row in stream[middle:]:
        slid.push(np.array(row, np.float32))
        filled.push(np.array(row, np.float32))
    one, other = slid.judge(), filled.judge()
    np.testing.assert_array_equal(one.full, other.full)
    np.testing.assert_allclose(one.d[one.full], other.d[one.full], atol=1e-9)
    np.testing.assert_allclose(one.shift_sigma[one.full], other.shift_sigma[one.full], atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-4, 4, width=32), min_size=20, max_size=20), st.randoms())
def test_the_order_within_a_window_does_not_matter(window: list[float], random: object) -> None:
    def judged(series: list[float]) -> float:
        windows = SlidingWindows((NORMAL,), RATE_HZ)
        for value in series:
            windows.push(np.array([value], np.float32))
        return float(windows.judge().d[1, 0])

    shuffled = list(window)
    random.shuffle(shuffled)
    assert judged(shuffled) == judged(window)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-3, 3), st.floats(0.2, 3), st.integers(10, 400))
def test_d_is_the_two_sample_statistic_within_a_bin(seed: int, shift: float, scale: float, size: int) -> None:
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=3000).astype(np.float32)
    window = rng.normal(shift, scale, size).astype(np.float32)
    edges = np.quantile(reference, np.arange(1, BINS) / BINS, method="inverted_cdf")
    shares = np.searchsorted(np.sort(reference), edges, side="right") / len(reference)
    counts = np.bincount(np.searchsorted(edges, window, side="left"), minlength=BINS)
    exact = ks_2samp(window, reference).statistic
    d = float(distance(counts, shares, shares))
    assert exact - 1 / BINS - 1e-3 <= d <= exact + 1e-9


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 40))
def test_a_whole_series_at_once_gives_each_windows_distance(seed: int, stride: int, window: int) -> None:
    rng = np.random.default_rng(seed)
    bins = rng.integers(0, 5, 120)
    shares = np.array([0.1, 0.4, 0.6, 0.9])
    (found,) = distances_over_time(bins, [window], stride, shares, shares)
    steps, length = len(bins) // stride, max(1, round(window / stride))
    expected = [
        distance(np.bincount(bins[(end - length) * stride : end * stride], minlength=5), shares, shares)
        for end in range(length, steps + 1)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.8, 0.95])
def test_tau_is_that_of_an_autoregressive_stream(rho: float) -> None:
    stream = ar1(np.random.default_rng(3), rho, 60_000)[:, 0]
    # Ranks are a little less correlated than the values.
    assert autocorrelation_time([stream]) == pytest.approx((1 + rho) / (1 - rho), rel=0.12)
    assert autocorrelation_time([np.exp(stream)]) == pytest.approx(autocorrelation_time([stream]))


def test_drives_are_not_taken_as_one_after_another() -> None:
    rng = np.random.default_rng(4)
    drives = [ar1(rng, 0.8, 3000)[:, 0] for _ in range(8)]
    assert autocorrelation_time(drives) == pytest.approx(9, rel=0.15)
    shuffled = [drives[number] for number in rng.permutation(8)]
    assert autocorrelation_time(shuffled) == pytest.approx(autocorrelation_time(drives))


@pytest.mark.parametrize("freedom", [1, 2, 5, 19, 100, 500])
@pytest.mark.parametrize("probability", [0.75, 0.975, 0.9995, 0.99999])
def test_students_quantile_is_scipys(freedom: int, probability: float) -> None:
    assert student_quantile(probability, freedom) == pytest.approx(t.ppf(probability, freedom), rel=0.02)


def test_p_values_and_rates_fall_with_the_distance_and_the_limit_is_their_inverse() -> None:
    for tail in (*NORMAL.tails, *COUNTS.tails):
        grid = np.linspace(0, 1, 101)
        for falling in ([tail.p_value(d) for d in grid], [tail.rate(d) for d in grid]):
            assert all(0 <= after <= before <= 1 for before, after in pairwise(falling))
        assert tail.rate(tail.limit(1e-4)) == pytest.approx(1e-4)


@given(st.floats(1e-6, 100))
def test_an_alarm_begins_at_the_limit_s_distance(per_day: float) -> None:
    blind = replace(COUNTS, tails=tuple(replace(tail, slope=0.0, offset=0.0) for tail in COUNTS.tails))
    yardstick = Yardstick.of((NORMAL, COUNTS, blind), RATE_HZ)
    found = yardstick.limits(per_day)
    assert np.isinf(found[:, 2]).all() and np.isfinite(found[:, :2]).all()
    back = yardstick.per_day(yardstick.per_window(np.minimum(found, 1e3)))
    # Of what happens all the time, the least distance is told.
    reached = np.minimum(per_day, yardstick.per_day(yardstick.per_window(np.zeros_like(found))))
    assert back[:, :2] == pytest.approx(reached[:, :2])


def test_a_small_reference_is_not_surer_than_independent_frames_would_be() -> None:
    tail = NORMAL.tails[0]
    flatter = no_steeper(tail, samples=5.0, rate=1e-4)
    assert flatter.limit(1e-4) == pytest.approx(np.sqrt(np.log(2 / 1e-4) / 10))
    assert flatter.limit(0.2) == pytest.approx(tail.limit(0.2))
    assert no_steeper(tail, samples=1e6, rate=1e-4) == tail
