"""The monitor's figures against exact ones: D against a sliding Kolmogorov-Smirnov test, p against scipy."""

from __future__ import annotations

from bisect import bisect_left, insort
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from edge.drift import Reference, fit, scan_arrays
from edge.drift.calibration import BINS, autocorrelation_time
from tests.edge.drift_streams import ar1

RATE_HZ = 1.0


class SlidingTest:
    """The exact statistic over a sliding window: both samples sorted, nothing binned."""

    def __init__(self, reference: np.ndarray, length: int) -> None:
        self.reference = np.sort(reference)
        self.length = length
        self.arrived: list[float] = []
        self.ordered: list[float] = []

    def push(self, value: float) -> None:
        self.arrived.append(value)
        insort(self.ordered, value)
        if len(self.ordered) > self.length:
            oldest = self.arrived[-self.length - 1]
            del self.ordered[bisect_left(self.ordered, oldest)]

    def statistic(self) -> float:
        window = np.array(self.ordered)
        places = np.concatenate([self.reference, window])
        ours = np.searchsorted(window, places, side="right") / len(window)
        theirs = np.searchsorted(self.reference, places, side="right") / len(self.reference)
        return float(np.abs(ours - theirs).max())


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.6]),
    st.sampled_from([0.0, 1.0, -4.0]),
    st.booleans(),
)
def test_d_is_the_exact_sliding_statistic_within_a_bin(
    seed: int, rho: float, shift: float, counts: bool
) -> None:
    rng = np.random.default_rng(seed)
    streams = [ar1(rng, rho, frames)[:, 0] for frames in (1200, 400)]
    if counts:
        # Ties: some bins are wider than others.
        streams = [np.round(2 * stream) for stream in streams]
    values, stream = (np.float32(one).astype(np.float64) for one in streams)
    stream[200:] += shift
    reference = fit(values[:, None], RATE_HZ, ["feature"])
    found = scan_arrays(reference, stream[:, None], RATE_HZ)
    feature = reference.contexts[0].features[0]
    # Within a bin, the statistic cannot be larger than at its end by more than the reference has in it.
    widest = float(np.diff([0.0, *feature.lower, 1.0]).max())
    assert counts or widest < 1.1 / BINS
    for window, tail in enumerate(feature.tails):
        exact = SlidingTest(values, tail.frames)
        for frame, value in enumerate(stream):
            exact.push(float(value))
            d = found.d[frame, window, 0]
            if frame + 1 < tail.frames:
                assert np.isnan(d)
            elif frame % 5 == 0:
                assert exact.statistic() - widest - 1e-5 <= d <= exact.statistic() + 1e-5


@lru_cache(maxsize=2)
def thinned(rho: float) -> tuple[Reference, np.ndarray]:
    """Frames that are an autocorrelation time apart, and the reference of them."""
    stream = ar1(np.random.default_rng(5), rho, 60_000)[:, 0]
    step = max(1, round(autocorrelation_time([stream])))
    values = np.float32(stream[::step]).astype(np.float64)
    return fit(values[:, None], RATE_HZ, ["feature"]), values


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_p_is_scipys_on_frames_an_autocorrelation_time_apart(rho: float) -> None:
    reference, values = thinned(rho)
    feature = reference.contexts[0].features[0]
    rng = np.random.default_rng(6)
    ratios = []
    for tail in feature.tails:
        # So far off that the p-values reach from one half to a thousandth.
        for shift in np.linspace(0.0, 3.2 / np.sqrt(tail.frames), 60):
            window = rng.normal(shift, 1, tail.frames)
            test = ks_2samp(window, values, method="asymp")
            if 1e-3 < test.pvalue < 0.5:
                shares = np.searchsorted(np.sort(window), feature.edges, side="right") / tail.frames
                d = float(np.abs(shares - feature.lower).max())
                ratios.append(tail.p_value(d) / test.pvalue)
    assert len(ratios) > 30
    # Each is as far off as a bin allows; together they are the same.
    assert 1 / 2 <= np.median(ratios) <= 2
    assert 1 / 5 <= np.quantile(ratios, 0.05) <= np.quantile(ratios, 0.95) <= 5


# As many windows' worth of frames as chance leaves room to tell by.
@pytest.mark.parametrize(("rho", "frames"), [(0.0, 100_000), (0.9, 400_000)])
def test_p_values_come_about_as_often_as_they_say(rho: float, frames: int) -> None:
    rng = np.random.default_rng(7)
    reference = fit(ar1(rng, rho, 40_000), RATE_HZ, ["feature"])
    feature = reference.contexts[0].features[0]
    found = scan_arrays(reference, ar1(rng, rho, frames), RATE_HZ)
    for window, tail in enumerate(feature.tails):
        # Windows that do not overlap.
        d = found.d[tail.frames - 1 :: tail.frames, window, 0]
        p = np.array([tail.p_value(float(one)) for one in d])
        for level in (0.2, 0.05):
            expected = level * len(p)
            chance = 3 * np.sqrt(expected) / len(p)
            assert abs((p <= level).mean() - level) <= 0.4 * level + chance


def test_p_values_that_take_frames_for_independent_are_found_out() -> None:
    rng = np.random.default_rng(8)
    stream = ar1(rng, 0.9, 40_000)
    reference = fit(rng.permutation(stream), RATE_HZ, ["feature"])
    tail = reference.contexts[0].features[0].tails[1]
    found = scan_arrays(reference, ar1(rng, 0.9, 100_000), RATE_HZ)
    p = np.array([tail.p_value(float(one)) for one in found.d[tail.frames - 1 :: tail.frames, 1, 0]])
    assert (p <= 0.05).mean() > 0.4
