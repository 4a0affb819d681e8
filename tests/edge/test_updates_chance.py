"""More than chance: against SciPy's distributions, and in simulated drives of healthy and of bad models."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom, binom

from edge.updates.chance import CHANCE, DESIGN_EFFECT, Trial, binomial_tail, exceedance_tail


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(0, 400), st.floats(0.001, 0.999))
def test_the_binomial_tail_is_scipy_s(k: int, n: int, share: float) -> None:
    assert binomial_tail(k, n, share) == pytest.approx(binom.sf(k - 1, n, share), rel=1e-6, abs=1e-12)


@settings(deadline=None)
@given(st.data())
def test_exceedances_are_beta_binomial(data: st.DataObject) -> None:
    n, before = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))
    k, rank = data.draw(st.integers(0, n)), data.draw(st.integers(1, before))
    expected = betabinom.sf(k - 1, n, rank, before - rank + 1)
    assert exceedance_tail(k, n, rank, before) == pytest.approx(expected, rel=1e-5, abs=1e-10)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=30))
def test_a_trial_never_heals_and_counts_everything(steps: list[tuple[int, int]]) -> None:
    trial = Trial(partial(_tail, 0.05), design_effect=DESIGN_EFFECT)
    was_broken = False
    for beyond, within in steps:
        trial.add(beyond, beyond + within)
        assert trial.broken or not was_broken
        was_broken = trial.broken
    assert trial.beyond == sum(beyond for beyond, _ in steps)
    assert trial.of == sum(map(sum, steps))


@given(st.integers(0, 2000))
def test_nothing_beyond_breaks_nothing(frames: int) -> None:
    trial = Trial(partial(_tail, 0.01), design_effect=DESIGN_EFFECT)
    for _ in range(frames):
        trial.add(0, 1)
    trial.last_look()
    assert not trial.broken


# Slow frames come alone, or in bursts.
BURSTS = pytest.mark.parametrize("burst", [1, 10, DESIGN_EFFECT])


@BURSTS
def test_a_healthy_model_is_hardly_ever_thrown_out(burst: int) -> None:
    """At the very edge of the promise: exactly one frame in a hundred is too slow."""
    drives = 1000
    broken = sum(_drive(np.random.default_rng(seed), 0.01, 3000, burst) for seed in range(drives))
    print(f"bursts of {burst}: {broken} of {drives} thrown out")
    assert broken <= binom.ppf(1 - 1e-6, drives, CHANCE)


@BURSTS
def test_with_some_margin_it_never_is(burst: int) -> None:
    assert not any(_drive(np.random.default_rng(seed), 0.003, 3000, burst) for seed in range(300))


@pytest.mark.parametrize(("share", "frames"), [(1.0, 150), (0.5, 600), (0.1, 6000)])
def test_a_slow_model_is(share: float, frames: int) -> None:
    assert all(_drive(np.random.default_rng(seed), share, frames, 1) for seed in range(50))


def _drive(rng: np.random.Generator, share: float, frames: int, burst: int) -> bool:
    slow = np.repeat(rng.random(frames // burst) < share, burst)
    trial = Trial(partial(_tail, 0.01), design_effect=DESIGN_EFFECT)
    for start in range(0, len(slow), 10):
        part = slow[start : start + 10]
        trial.add(int(part.sum()), len(part))
    trial.last_look()
    return trial.broken


def _tail(share: float, k: int, n: int) -> float:
    return binomial_tail(k, n, share)
