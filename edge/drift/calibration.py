"""How unusual a Kolmogorov-Smirnov distance is on autocorrelated frames: a block bootstrap of the reference.

Neighbouring frames are alike, so the textbook's p-values do not hold. Here reference and stream are both
resampled from the reference's own frames in blocks long enough to keep what neighbours have in common
(circular block bootstrap: Politis & Romano, 1992), and the distances that come of it are the yardstick. Their
far tail, where a promise of one false alarm a day lives, is extrapolated: the logarithm of the rate falls
about linearly with D^1.5. All of it follows from the data and the seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from edge.drift.distances import distances_over_time
from edge.drift.student import student_quantile

Values = npt.NDArray[np.float64]

BINS = 32
WINDOWS_TAU = (20, 80)  # lengths of the sliding windows, in autocorrelation times
BLOCK_TAU = 20  # half of it promises too much: 17 h for 24
EXPONENT = 1.5  # D^2 gave 12 h for 24
TAIL_SHARE = 0.2  # of the maxima, that the fit uses
# Probabilities at which the p-value's table has the distance.
P_LEVELS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)

_SOKAL = 5.0  # the sum of autocorrelations ends where it has run this many times its own value
_LAGS_TAU = 3.0  # beyond so many times tau, the weighted sum of autocorrelations is mostly noise
_MOST_LAG_TAU = 2.0
_LONG_WINDOWS = 500  # maxima of the longest window that are drawn
_RESAMPLES = 20  # of the reference
_REFERENCE_FRAMES = 1_000_000  # drawn for them at most; a long reference is hardly uncertain
_STEPS_A_TAU = 10.0  # finer steps than this change the maxima little


@dataclass(frozen=True, slots=True)
class Autocorrelation:
    """How much neighbouring frames have in common.

    Attributes:
        time: integrated autocorrelation time, frames; 1 for independent ones.
        lag: how far apart those frames are on the average that have something in common, frames: the lags,
            weighted by the autocorrelation, both signs of them. Half the time where it falls exponentially.
    """

    time: float
    lag: float

    def no_faster(self, time: float) -> Autocorrelation:
        """The same, or that of an exponential of so long a time where that is longer."""
        return self if time <= self.time else Autocorrelation(time, max(self.lag, time / 2))


def autocorrelation_time(drives: Sequence[Values]) -> float:
    """Integrated autocorrelation time of the values' ranks, frames; see `autocorrelation`."""
    return autocorrelation(drives).time


def autocorrelation(drives: Sequence[Values]) -> Autocorrelation:
    """Autocorrelation of the values' ranks.

    tau = 1 + 2 * sum of the autocorrelations, summed as far as Sokal's window (Sokal, 1997, section 3).
    Ranks make it the same for any monotone scale, and heavy tails harmless.

    Args:
        drives: `float64[n]` each, consecutive frames; what lies between two of them is not known.
    """
    together = np.concatenate(drives)
    _, inverse, counts = np.unique(together, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2.0
    ranks = middle[inverse] - middle[inverse].mean()
    variance = float(np.square(ranks).mean())
    if variance == 0.0:
        return Autocorrelation(1.0, 0.0)
    longest = max(len(drive) for drive in drives)
    products = np.zeros(longest)
    pairs = np.zeros(longest)
    start = 0
    for drive in drives:
        piece = ranks[start : start + len(drive)]
        start += len(drive)
        size = 1 << (2 * len(piece) - 1).bit_length()
        spectrum = np.fft.rfft(piece, size)
        products[: len(piece)] += np.fft.irfft(spectrum * np.conj(spectrum), size)[: len(piece)]
        pairs[: len(piece)] += np.arange(len(piece), 0, -1)
    reach = max(2, longest // 2)
    correlation = products[1:reach] / np.maximum(pairs[1:reach], 1) / variance
    sums = 1.0 + 2.0 * np.cumsum(correlation)
    enough = np.flatnonzero(np.arange(1, len(sums) + 1) >= _SOKAL * sums)
    tau = max(1.0, float(sums[enough[0]] if len(enough) else sums.max(initial=1.0)))
    near = correlation[: int(_LAGS_TAU * tau)]
    lag = 2.0 * float(near @ np.arange(1, len(near) + 1)) / tau
    return Autocorrelation(tau, min(max(lag, 0.0), _MOST_LAG_TAU * tau))


@dataclass(frozen=True, slots=True)
class Tail:
    """How often a window's distance is how large with nothing changed.

    Attributes:
        frames: length of the window.
        slope, offset: log of the chance that the largest distance within one length of the window passes D
            is slope * D^1.5 + offset. A slope of 0: no distance is unusual enough, the window is blind.
        quantiles: the distance that is passed at one moment with the chances P_LEVELS.
    """

    frames: int
    slope: float
    offset: float
    quantiles: tuple[float, ...]

    def rate(self, d: float) -> float:
        """How often `d` is passed, per length of the window."""
        return math.exp(min(self.slope * d**EXPONENT + self.offset, 0.0))

    def limit(self, rate: float) -> float:
        """The distance that is passed at this rate per length of the window; infinite where there is none."""
        if self.slope >= 0.0:
            return math.inf
        return float(max(0.0, (math.log(rate) - self.offset) / self.slope) ** (1 / EXPONENT))

    def p_value(self, d: float) -> float:
        """Chance of a distance of `d` or more at one moment: the bootstrap's table, and beyond it the fit."""
        last = self.quantiles[-1]
        if d > last:
            return P_LEVELS[-1] * math.exp(self.slope * (d**EXPONENT - last**EXPONENT))
        powers = [0.0, *(quantile**EXPONENT for quantile in self.quantiles)]
        logs = [0.0, *(math.log(level) for level in P_LEVELS)]
        return math.exp(float(np.interp(d**EXPONENT, powers, logs)))


def no_steeper(tail: Tail, samples: float, rate: float) -> Tail:
    """A tail that allows at least the distance that independent frames would reach at this rate.

    What a small reference's bootstrap has not seen, it cannot draw: its tail falls too fast. Kolmogorov's
    bound on as many independent frames as the reference and the window are worth, P(D > d) <= 2 exp(-2 n d^2)
    (Massart, 1990), stands in for it.

    Args:
        tail: as fitted.
        samples: the effective sample size of a two-sample test, 1 / (1/n + 1/m).
        rate: per length of the window, at which the alarm will be raised.
    """
    bound = min(1.0, math.sqrt(math.log(2 / rate) / (2 * samples)))
    return tail if tail.slope == 0.0 or tail.limit(rate) >= bound else _through(tail, bound, rate)


def unsure(tail: Tail, samples: float, rate: float) -> Tail:
    """A tail that allows for what the reference does not know of its own autocorrelation.

    The spread of the distances is an estimate: tau, summed over Sokal's window of 5 tau, has the relative
    variance 20 / samples (Sokal, 1997, section 3), as that of a variance of samples / 10 degrees of
    freedom. Far out, where the limit lies, that is much: a limit for a known spread is passed several times
    too often on the average over references. So it is widened, as a normal quantile is to Student's.

    Args:
        tail: as fitted.
        samples: length of the reference in autocorrelation times.
        rate: per length of the window, at which the alarm will be raised.
    """
    if tail.slope == 0.0:
        return tail
    certain = NormalDist().inv_cdf(1 - rate / 2)
    wider = student_quantile(1 - rate / 2, max(3, round(samples / 10))) / certain
    return _through(tail, min(1.0, tail.limit(rate) * wider), rate)


def _through(tail: Tail, d: float, rate: float) -> Tail:
    """The tail that passes `d` at this rate, and what it passes often as often as before."""
    start = max(0.0, tail.limit(TAIL_SHARE))
    if d <= start or rate >= TAIL_SHARE:
        return tail
    slope = math.log(rate / TAIL_SHARE) / (d**EXPONENT - start**EXPONENT)
    return replace(tail, slope=slope, offset=math.log(TAIL_SHARE) - slope * start**EXPONENT)


def calibrate(
    drives: Sequence[Values],
    correlation: Autocorrelation,
    stride: int,
    windows: Sequence[int],
    rng: np.random.Generator,
) -> tuple[Tail, ...]:
    """Find each window's tail by block bootstrap.

    Args:
        drives: `float64[n]` each, consecutive frames of one feature; at least two different values.
        correlation: theirs.
        stride: a window is judged every so many frames.
        windows: lengths, frames.
        rng: draws the blocks.
    """
    # A slow feature does as well in longer steps: the windows hold as many autocorrelation times.
    step = max(1, int(correlation.time / _STEPS_A_TAU))
    thinned = [drive[offset::step] for drive in drives for offset in range(min(step, len(drive)))]
    tau, stride = correlation.time / step, max(1, round(stride / step))
    lengths = [max(2, round(window / step)) for window in windows]
    together = np.concatenate(thinned)
    edges = quantile_edges(np.sort(together))
    bins = np.searchsorted(edges, together, side="left").astype(np.uint8)
    blocks = _Blocks([len(drive) for drive in thinned], len(drives), tau)
    total = len(together) // step
    resamples = int(np.clip(_REFERENCE_FRAMES // total, 4, _RESAMPLES))
    piece = math.ceil(_LONG_WINDOWS / resamples) * max(lengths)
    lost = blocks.lost(correlation.lag / step)
    found: list[list[npt.NDArray[np.float64]]] = [[] for _ in lengths]
    for _ in range(resamples):
        drawn = bins[blocks.reference(total, rng)]
        reference = np.cumsum(np.bincount(drawn, minlength=len(edges) + 1))[:-1] / len(drawn)
        stream = bins[blocks.stream(piece + max(lengths), rng)]
        for pieces, distances in zip(
            found, distances_over_time(stream, lengths, stride, reference, reference), strict=True
        ):
            pieces.append(np.minimum(distances * lost, 1.0))
    return tuple(
        _tail(window, max(1, round(length / stride)), pieces)
        for window, length, pieces in zip(windows, lengths, found, strict=True)
    )


def quantile_edges(ordered: Values) -> Values:
    """The inner edges of BINS bins of equal share; ties leave fewer. `ordered` is sorted, not empty."""
    positions = np.arange(1, BINS) * len(ordered) // BINS
    return np.unique(ordered[np.maximum(positions - 1, 0)])


class _Blocks:
    """Draws frames in blocks; a block never crosses from one drive to another, it goes round in its own."""

    def __init__(self, lengths: Sequence[int], drives: int, tau: float) -> None:
        self._lengths = np.asarray(lengths)
        self._starts = np.concatenate([[0], np.cumsum(self._lengths)[:-1]])
        self._weights = self._lengths / self._lengths.sum()
        block = max(1, round(BLOCK_TAU * tau))
        if drives >= 4:
            # Short drives are drawn whole: each has more in common than its neighbouring frames. A stream
            # goes round in one until its longest window is full: a window lies within one drive.
            whole = self._lengths <= 4 * block
            longest = max(1, round(WINDOWS_TAU[-1] * tau))
            self._of_reference = np.where(whole, self._lengths, block)
            self._of_stream = np.where(whole, np.maximum(self._lengths, longest), block)
        else:
            # At least three blocks to a drive, or there would be nothing to shuffle.
            self._of_reference = self._of_stream = np.minimum(block, np.maximum(1, self._lengths // 3))

    def reference(self, frames: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
        """Indices of `frames` frames, of all drives one after another, as another reference had them."""
        return self._draw(self._of_reference, frames, rng)

    def stream(self, frames: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
        """Indices of `frames` frames as a vehicle would see them."""
        return self._draw(self._of_stream, frames, rng)

    def lost(self, lag: float) -> float:
        """By what factor a stream's distances are too small, because blocks meet at random.

        What the frames to either side of a joint had in common is lost: the share lag / block of the variance
        of a window's mean (Künsch, 1989).
        """
        block = float(self._weights @ self._of_stream)
        return 1 / math.sqrt(1 - min(0.5, lag / block))

    def _draw(
        self, sizes_of: npt.NDArray[np.int64], frames: int, rng: np.random.Generator
    ) -> npt.NDArray[np.intp]:
        mean_size = float(self._weights @ sizes_of)
        chosen: list[npt.NDArray[np.intp]] = []
        missing = frames
        while missing > 0:
            which = rng.choice(len(self._lengths), math.ceil(missing / mean_size) + 1, p=self._weights)
            sizes = sizes_of[which]
            begins = np.cumsum(sizes) - sizes
            offsets = rng.integers(0, self._lengths[which])
            inside = np.arange(int(sizes.sum())) - np.repeat(begins, sizes)
            turned = (np.repeat(offsets, sizes) + inside) % np.repeat(self._lengths[which], sizes)
            chosen.append((np.repeat(self._starts[which], sizes) + turned)[:missing])
            missing -= len(chosen[-1])
        return np.concatenate(chosen)


def _tail(window: int, judgements: int, pieces: Sequence[npt.NDArray[np.float64]]) -> Tail:
    """Fit the tail of the maxima over `judgements` judgements, one length of the window."""
    whole = [piece[: len(piece) // judgements * judgements] for piece in pieces]
    maxima = np.sort(np.concatenate([piece.reshape(-1, judgements).max(axis=1) for piece in whole]))[::-1]
    top = maxima[: max(3, int(TAIL_SHARE * len(maxima)))]
    # Equal maxima, as few frames or few values have them, are passed as often as the last of them.
    negative, counts = np.unique(-top, return_counts=True)
    powers = (-negative) ** EXPONENT
    chances = (np.cumsum(counts) - 0.5) / len(maxima)
    slope, offset = 0.0, 0.0
    if len(powers) >= 3:
        fitted = np.polyfit(powers, np.log(chances), 1, w=np.sqrt(counts))
        slope, offset = (float(value) for value in fitted)
    everything = np.concatenate(pieces)
    quantiles = np.quantile(everything, 1.0 - np.asarray(P_LEVELS)).astype(np.float32)  # as a file has them
    return Tail(window, min(slope, 0.0), offset, tuple(float(value) for value in quantiles))
