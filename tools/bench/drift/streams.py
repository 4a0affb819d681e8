"""Streams of features in which nothing changes, autocorrelated in different ways.

Constants of the monitor may be tuned on TUNED alone. Figures that are published come from JUDGED: other
families, other parameters, other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

Series = npt.NDArray[np.float32]
Draw = Callable[[np.random.Generator, int, int], npt.NDArray[np.floating]]

RATE_HZ = 2.0  # the daemon's
TUNED_SEEDS = range(50_000, 60_000)
JUDGED_SEEDS = range(60_000, 70_000)
_SEEDS_A_FAMILY = 500


@dataclass(frozen=True, slots=True)
class Family:
    """A way in which neighbouring frames are alike.

    Attributes:
        name: for people; `AR(1) 0.9` has the correlation of two neighbouring frames.
        tau: autocorrelation time of the slowest feature, frames.
        draw: `(rng, frames, features) -> float[frames, features]`, stationary from the first frame.
        rate_hz: frames per second.
    """

    name: str
    tau: float
    draw: Draw
    rate_hz: float = RATE_HZ

    def series(self, seed: int, part: int, frames: int, features: int) -> Series:
        """Stretch `part` of the stream `seed`; the parts know nothing of each other."""
        return np.asarray(self.draw(np.random.default_rng([seed, part]), frames, features), np.float32)


def ar1(rng: np.random.Generator, rho: float, frames: int, features: int) -> npt.NDArray[np.float64]:
    """Autoregressive streams of variance 1, `float64[frames, features]`; tau = (1 + rho) / (1 - rho)."""
    noise = rng.normal(size=(frames, features)) * math.sqrt(1 - rho**2)
    noise[:1] /= math.sqrt(1 - rho**2)
    return np.asarray(lfilter([1.0], [1.0, -rho], noise, axis=0), np.float64)


def tau_of(rho: float) -> float:
    """Autocorrelation time of an AR(1), frames."""
    return (1 + rho) / (1 - rho)


def rho_of(tau: float) -> float:
    """The AR(1) of this autocorrelation time, frames, 1 or more."""
    return (tau - 1) / (tau + 1)


def _ar1(rho: float, rate_hz: float = RATE_HZ) -> Family:
    at = "" if rate_hz == RATE_HZ else f" at {rate_hz:g} Hz"
    return Family(f"AR(1) {rho:g}{at}", tau_of(rho), lambda rng, n, f: ar1(rng, rho, n, f), rate_hz)


def _cuts(mean_s: float, level: float, rho: float) -> Family:
    """A level that jumps at Poisson times, the same for all features, under an AR(1); variance 1."""
    held = math.exp(-1 / (mean_s * RATE_HZ))

    def draw(rng: np.random.Generator, frames: int, features: int) -> npt.NDArray[np.float64]:
        scene = np.cumsum(rng.random(frames) >= held)
        levels = rng.normal(size=(int(scene[-1]) + 1, features)) if frames else np.zeros((1, features))
        return level * levels[scene] + math.sqrt(1 - level**2) * ar1(rng, rho, frames, features)

    tau = level**2 * tau_of(held) + (1 - level**2) * tau_of(rho)
    return Family(f"scene cuts, {mean_s:g} s", tau, draw)


def _log_normal(rho: float, sigma: float) -> Family:
    return Family(f"log-normal {rho:g}", tau_of(rho), lambda rng, n, f: np.exp(sigma * ar1(rng, rho, n, f)))


def _scales(*rhos: float) -> Family:
    """The sum of AR(1) streams of equal variance."""

    def draw(rng: np.random.Generator, frames: int, features: int) -> npt.NDArray[np.float64]:
        total = np.zeros((frames, features))
        for rho in rhos:
            total += ar1(rng, rho, frames, features)
        return total

    return Family(f"scales {'/'.join(f'{rho:g}' for rho in rhos)}", sum(map(tau_of, rhos)) / len(rhos), draw)


def _counts(mean: float, sigma: float, rho: float) -> Family:
    """Poisson counts on a log-normal rate: many ties."""

    def draw(rng: np.random.Generator, frames: int, features: int) -> npt.NDArray[np.float64]:
        rate = mean * np.exp(sigma * ar1(rng, rho, frames, features) - sigma**2 / 2)
        return rng.poisson(rate).astype(np.float64)

    return Family(f"counts of {mean:g}, {rho:g}", tau_of(rho), draw)


def _mostly_zero(above: float, rho: float) -> Family:
    """Zero but in the spells in which an AR(1) is above a level; positive in them."""

    def draw(rng: np.random.Generator, frames: int, features: int) -> npt.NDArray[np.float64]:
        hidden = ar1(rng, rho, frames, features)
        return np.where(hidden > above, np.exp(0.5 * ar1(rng, rho, frames, features)), 0.0)

    return Family(f"mostly zero, {rho:g}", tau_of(rho), draw)


def _mixed(rhos: tuple[float, ...], shared: float) -> Family:
    """Features of all kinds that go together: a share of their variance is one stream, common to all."""

    def draw(rng: np.random.Generator, frames: int, features: int) -> npt.NDArray[np.float64]:
        found = np.empty((frames, features))
        common = {rho: ar1(rng, rho, frames, 1)[:, 0] for rho in rhos}
        for number in range(features):
            rho = rhos[number % len(rhos)]
            sign = 1 if number % 3 else -1
            own = ar1(rng, rho, frames, 1)[:, 0]
            value = sign * math.sqrt(shared) * common[rho] + math.sqrt(1 - shared) * own
            kind = number % 4
            if kind == 1:
                value = np.exp(0.7 * value)
            elif kind == 2:
                value = rng.poisson(5 * np.exp(0.4 * value)).astype(np.float64)
            elif kind == 3:
                value = np.clip(0.5 + 0.3 * value, 0.0, 1.0)  # a share: both ends are reached
            found[:, number] = value
        return found

    return Family(f"mixed, {shared:g} in common", tau_of(max(rhos)), draw)


JUDGED: tuple[Family, ...] = (
    _ar1(0.9),
    _ar1(0.97),
    _ar1(0.99),
    _ar1(0.97, rate_hz=10.0),
    _cuts(60.0, 0.8, 0.9),
    _log_normal(0.97, 0.8),
    _scales(0.9, 0.99, 0.999),
    _counts(4.0, 0.5, 0.97),
    _mostly_zero(1.0, 0.95),
    _mixed((0.9, 0.97, 0.99), 0.6),
)
TUNED: tuple[Family, ...] = (
    _ar1(0.8),
    _ar1(0.95),
    _ar1(0.98),
    _ar1(0.95, rate_hz=10.0),
    _cuts(40.0, 0.7, 0.8),
    _log_normal(0.95, 0.6),
    _scales(0.8, 0.98, 0.998),
    _counts(7.0, 0.4, 0.95),
    _mostly_zero(0.8, 0.9),
    _mixed((0.8, 0.95, 0.98), 0.4),
)


def seed_of(families: tuple[Family, ...], family: int, replicate: int) -> int:
    """The seed of a family's `replicate`-th stream; the two sets share none.

    Raises:
        ValueError: there are not so many.
    """
    if not 0 <= replicate < _SEEDS_A_FAMILY:
        raise ValueError(f"replicate {replicate} is not from 0 to {_SEEDS_A_FAMILY - 1}")
    seeds = TUNED_SEEDS if families is TUNED else JUDGED_SEEDS
    return seeds[family * _SEEDS_A_FAMILY + replicate]
