"""The sliding windows of all features of one context: what enters is added, what leaves is taken off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.drift.calibration import BINS, EXPONENT, WINDOWS_TAU
from edge.drift.distances import distance
from edge.drift.reference import FeatureReference

Vector = npt.NDArray[np.float32]

DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """Every window of every feature, `[W, F]` each.

    Attributes:
        full: whether the window has all its frames; the rest means nothing where it has not.
        d: distance from the reference's band.
        per_window: how often such a distance is reached with nothing changed, per length of the window.
        per_day: the same per day of driving.
        shift_sigma: the window's mean less the reference's, in its standard deviations.
    """

    full: npt.NDArray[np.bool_]
    d: npt.NDArray[np.float64]
    per_window: npt.NDArray[np.float64]
    per_day: npt.NDArray[np.float64]
    shift_sigma: npt.NDArray[np.float64]


class SlidingWindows:
    """Histograms and sums of the last frames, for WINDOWS_TAU windows of each feature that is judged.

    A feature that is not to be had for a frame (NaN) keeps its windows as they are.
    """

    def __init__(self, features: Sequence[FeatureReference], rate_hz: float) -> None:
        """Begin with empty windows."""
        count, windows = len(features), len(WINDOWS_TAU)
        self.judged = np.array([bool(feature.tails) for feature in features])
        self._edges = np.full((count, BINS - 1), np.inf)
        # Beyond the last edge is everything, in the window as in the band.
        self._lower = np.ones((count, BINS - 1))
        self._upper = np.ones((count, BINS - 1))
        self.lengths = np.ones((windows, count), np.int64)
        self._slope = np.zeros((windows, count))
        self._offset = np.zeros((windows, count))
        self._mean = np.array([feature.mean for feature in features])
        self._sigma = np.array([feature.sigma or 1.0 for feature in features])
        for number, feature in enumerate(features):
            edges = len(feature.edges)
            self._edges[number, :edges] = feature.edges
            self._lower[number, :edges] = feature.lower
            self._upper[number, :edges] = feature.upper
            for window, tail in enumerate(feature.tails):
                self.lengths[window, number] = tail.frames
                self._slope[window, number] = tail.slope
                self._offset[window, number] = tail.offset
        self._seconds = self.lengths / rate_hz
        # One ring after the other, each as long as its feature's longest window.
        self._depths = self.lengths.max(axis=0)
        self._bases = np.concatenate([[0], np.cumsum(self._depths)[:-1]])
        # Where each histogram begins.
        self._rows = np.arange(windows * count).reshape(windows, count) * BINS
        self._values = np.zeros(int(self._depths.sum()), np.float32)
        self._bins = np.zeros(len(self._values), np.uint8)
        self.clear()

    def clear(self) -> None:
        """Forget all frames."""
        windows, count = self.lengths.shape
        self._seen = np.zeros(count, np.int64)
        self._counts = np.zeros((windows, count, BINS), np.int32)
        self._sums = np.zeros((windows, count))

    def push(self, vector: Vector) -> None:
        """Take one frame's `float32[F]`."""
        usable = np.isfinite(vector) & self.judged
        there = slice(None) if usable.all() else np.flatnonzero(usable)
        values = vector[there]
        bins = (self._edges[there] < values[:, None]).sum(axis=1)
        seen, bases, depths = self._seen[there], self._bases[there], self._depths[there]
        rows, lengths, counts = self._rows[:, there], self.lengths[:, there], self._counts.reshape(-1)
        full = seen >= lengths
        slots = bases + (seen - lengths) % depths
        counts[(rows + self._bins[slots])[full]] -= 1
        counts[rows + bins] += 1
        self._sums[:, there] += values - np.where(full, self._values[slots], np.float32(0)).astype(np.float64)
        slots = bases + seen % depths
        self._bins[slots] = bins
        self._values[slots] = values
        self._seen[there] += 1

    def judge(self) -> Judgement:
        """Compare each window with the reference."""
        full = (self._seen >= self.lengths) & self.judged
        d = distance(self._counts, self._lower, self._upper)
        per_window = np.exp(np.minimum(self._slope * d**EXPONENT + self._offset, 0.0))
        shift = (self._sums / self.lengths - self._mean) / self._sigma
        return Judgement(full, d, per_window, per_window * DAY_S / self._seconds, shift)

    def content(self, feature: int) -> Vector:
        """The values in a feature's longest window, the oldest first."""
        seen, base, depth = (int(array[feature]) for array in (self._seen, self._bases, self._depths))
        ring = self._values[base : base + depth]
        return ring[:seen].copy() if seen < depth else np.roll(ring, -(seen % depth))

    def fill(self, feature: int, values: Vector) -> None:
        """Put values, all finite and the oldest first, in place of a feature's content."""
        base, depth = int(self._bases[feature]), int(self._depths[feature])
        values = values[-depth:]
        bins = np.searchsorted(self._edges[feature], values, side="left")
        self._values[base : base + len(values)] = values
        self._bins[base : base + len(values)] = bins
        self._seen[feature] = len(values)
        for window, length in enumerate(self.lengths[:, feature]):
            self._counts[window, feature] = np.bincount(bins[-length:], minlength=BINS)
            self._sums[window, feature] = values[-length:].sum(dtype=np.float64)
