"""What a reference is made of: tau, tails, and how sure they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, t

from edge.drift import fit
from edge.drift.calibration import TAIL_SHARE, Tail, autocorrelation, unsure
from edge.drift.reference import FeatureReference
from tests.edge.drift_streams import ar1

RATE_HZ = 2.0
TAIL = Tail(120, -25.0, 1.0, tuple(np.linspace(0.1, 0.5, 9)))


def feature_of(drives: list[np.ndarray]) -> FeatureReference:
    return fit([drive[:, None] for drive in drives], RATE_HZ, ["feature"]).contexts[0].features[0]


@pytest.mark.parametrize("rho", [0.5, 0.8, 0.95])
def test_the_lag_is_that_of_an_autoregressive_stream(rho: float) -> None:
    found = autocorrelation([ar1(np.random.default_rng(0), rho, 200_000)[:, 0]])
    # 2 * sum(k rho^k) / tau.
    assert found.lag == pytest.approx(2 * rho / (1 - rho**2), rel=0.15)
    assert autocorrelation([np.random.default_rng(1).normal(size=20_000)]).lag < 0.1


@given(st.floats(40, 1e5), st.floats(1e-6, 0.05))
def test_a_limit_is_widened_as_a_normal_quantile_is_to_students(samples: float, rate: float) -> None:
    wider = unsure(TAIL, samples, rate)
    freedom = max(3, round(samples / 10))
    ratio = t.isf(rate / 2, freedom) / norm.isf(rate / 2)
    assert wider.limit(rate) == pytest.approx(min(1.0, ratio * TAIL.limit(rate)), rel=0.03)
    assert wider.limit(rate) >= TAIL.limit(rate) * (1 - 1e-9)
    # What is often passed is as often passed as before.
    assert wider.limit(TAIL_SHARE) == pytest.approx(TAIL.limit(TAIL_SHARE))
    assert wider.quantiles == TAIL.quantiles


@settings(max_examples=20)
@given(st.floats(100, 1e5), st.floats(1.5, 10))
def test_the_longer_the_reference_the_surer_it_is(samples: float, times: float) -> None:
    assert unsure(TAIL, samples * times, 1e-4).limit(1e-4) <= unsure(TAIL, samples, 1e-4).limit(1e-4)


def test_a_blind_window_stays_blind() -> None:
    blind = replace(TAIL, slope=0.0)
    assert unsure(blind, 1000.0, 1e-4) == blind


def test_drives_that_are_alike_need_no_band_once_they_are_enough() -> None:
    rng = np.random.default_rng(2)
    drives = [ar1(rng, 0.7, 3600)[:, 0] for _ in range(10)]
    few, many = feature_of(drives[:4]), feature_of(drives)
    assert not few.calibrated(RATE_HZ)
    assert many.calibrated(RATE_HZ)
    assert many.margin == 0.0
    np.testing.assert_array_equal(many.lower, many.upper)


def test_drives_that_differ_keep_their_band_until_there_are_many_of_them() -> None:
    rng = np.random.default_rng(3)
    drives = [ar1(rng, 0.7, 3600)[:, 0] + rng.normal(0, 3) for _ in range(10)]
    assert feature_of(drives).margin > 3.0
    # Of so many drives their differences are a part of the distribution.
    short = [ar1(rng, 0.7, 60)[:, 0] + rng.normal(0, 1) for _ in range(3000)]
    feature = feature_of(short)
    assert feature.margin == 0.0
    assert feature.tau > 15


def test_counts_stay_counts_where_drives_are_moved_together() -> None:
    rng = np.random.default_rng(4)
    feature = feature_of([rng.poisson(level, 600).astype(float) for level in (2, 3, 5, 6)])
    assert feature.margin > 0
    # Each edge is a count, moved by the band's margin to one side or the other.
    beside = np.minimum(
        *(
            abs(moved - np.round(moved))
            for moved in (feature.edges - feature.margin, feature.edges + feature.margin)
        )
    )
    assert beside.max() < 1e-4
