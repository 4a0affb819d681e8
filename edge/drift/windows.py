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
# An alarm ends where the distance is ordinary: one window in five has it with nothing changed. In between it
# goes on, so that one change is one alarm.
ORDINARY = 0.2


@dataclass(frozen=True, slots=True)
class Judgement:
    """Every window of every feature, `[W, F]` each.

    Attributes:
        full: whether the window has all its frames; the rest means nothing where it has not.
        d: distance from the reference's band.
        per_window: how often such a distance is reached with nothing changed, per length of the window.
        per_day: the same per day of driving.
        shift_sigma: the window's mean less the reference's, in its standard deviations.
        seconds: how long the window is in the frames' time.
    """

    full: npt.NDArray[np.bool_]
    d: npt.NDArray[np.float64]
    per_window: npt.NDArray[np.float64]
    per_day: npt.NDArray[np.float64]
    shift_sigma: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]


def rates(
    d: npt.NDArray[np.floating],
    slope: npt.NDArray[np.float64] | float,
    offset: npt.NDArray[np.float64] | float,
) -> npt.NDArray[np.float64]:
    """How often distances are reached with nothing changed, per length of the window; see `Tail`."""
    return np.asarray(np.exp(np.minimum(slope * d**EXPONENT + offset, 0.0)), np.float64)


def latched(
    unusual: npt.NDArray[np.bool_], ordinary: npt.NDArray[np.bool_], before: bool
) -> npt.NDArray[np.bool_]:
    """From where a window is unusual to where it is ordinary again, `bool[T]`; `before`: was it at first."""
    places = np.arange(1, len(unusual) + 1)
    begun = np.maximum.accumulate(np.where(unusual, places, 0 if before else -1))
    ended = np.maximum.accumulate(np.where(ordinary & ~unusual, places, -1))
    return np.asarray(begun > ended)


def dated(alarm: npt.NDArray[np.bool_], time_ns: npt.NDArray[np.int64], before: int) -> npt.NDArray[np.int64]:
    """Since when each alarm, `bool[T]`, goes on, 0 where there is none; `before`: the same at first."""
    earlier = np.concatenate([[before != 0], alarm[:-1]])
    begins = np.where(alarm & ~earlier, time_ns, 0)
    begins[:1] += before * (alarm[:1] & earlier[:1])
    return np.where(alarm, np.maximum.accumulate(begins), 0)


@dataclass(frozen=True, slots=True, eq=False)
class Yardstick:
    """What the windows of a context's features are measured by.

    Attributes:
        judged: `bool[F]` which features are.
        lengths: `int64[W, F]` of the windows, frames; 1 where a feature is not judged.
        period_s: between two frames at the reference's rate.
        slope, offset: `float64[W, F]` of the tails; 0 where a feature is not judged.
        mean, sigma: `float64[F]` of the reference.
    """

    judged: npt.NDArray[np.bool_]
    lengths: npt.NDArray[np.int64]
    period_s: float
    slope: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    sigma: npt.NDArray[np.float64]

    @classmethod
    def of(cls, features: Sequence[FeatureReference], rate_hz: float) -> Yardstick:
        """Gather it from a context's features."""
        count, windows = len(features), len(WINDOWS_TAU)
        lengths = np.ones((windows, count), np.int64)
        slope, offset = np.zeros((2, windows, count))
        for number, feature in enumerate(features):
            for window, tail in enumerate(feature.tails):
                lengths[window, number] = tail.frames
                slope[window, number] = tail.slope
                offset[window, number] = tail.offset
        return cls(
            np.array([bool(feature.tails) for feature in features]),
            lengths,
            1.0 / rate_hz,
            slope,
            offset,
            np.array([feature.mean for feature in features]),
            np.array([feature.sigma or 1.0 for feature in features]),
        )

    @property
    def tests(self) -> int:
        """How many windows share the promise."""
        return max(1, int(self.judged.sum()) * len(self.lengths))

    def limit(self, target_hours: float, joint: float) -> float:
        """The rate a day at which a window is in alarm: all of them together are once in the promised time.

        Args:
            target_hours: hours of driving to one false alarm.
            joint: see `ContextReference`.
        """
        return joint * DAY_S / (target_hours * 3600) / self.tests

    def limits(
        self, per_day: float, step_s: float | npt.NDArray[np.floating] | None = None
    ) -> npt.NDArray[np.float64]:
        """The distance at which each window, `[..., W, F]`, reaches a rate a day; infinite where none does.

        Args:
            per_day: the rate.
            step_s: see `seconds`.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            powers = (np.log(per_day * self.seconds(step_s) / DAY_S) - self.offset) / self.slope
        return np.where(self.slope < 0.0, np.maximum(powers, 0.0) ** (1 / EXPONENT), np.inf)

    def per_window(self, d: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """How often `d[..., W, F]` is reached with nothing changed, per length of the window."""
        return rates(d, self.slope, self.offset)

    def seconds(self, step_s: float | npt.NDArray[np.floating] | None = None) -> npt.NDArray[np.float64]:
        """The windows' lengths in the frames' time, `[..., W, F]`.

        Args:
            step_s: `float[...]` time between two frames, s (see `edge.drift.frame_rate`); None: it is the
                reference's.
        """
        steps = np.asarray(self.period_s if step_s is None else step_s, np.float64)
        return np.asarray(self.lengths * steps[..., None, None], np.float64)

    def per_day(
        self, per_window: npt.NDArray[np.float64], step_s: float | npt.NDArray[np.floating] | None = None
    ) -> npt.NDArray[np.float64]:
        """The same per day of driving; `step_s`: see `seconds`."""
        return per_window * DAY_S / self.seconds(step_s)

    def shift_sigma(self, means: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """By how many of the reference's standard deviations the windows' means, `[..., W, F]`, are off."""
        return np.asarray((means - self.mean) / self.sigma, np.float64)


class SlidingWindows:
    """Histograms and sums of the last frames, for WINDOWS_TAU windows of each feature that is judged.

    A feature that is not to be had for a frame (NaN) keeps its windows as they are.
    """

    def __init__(self, features: Sequence[FeatureReference], rate_hz: float) -> None:
        """Begin with empty windows."""
        self.yardstick = Yardstick.of(features, rate_hz)
        self.judged, self.lengths = self.yardstick.judged, self.yardstick.lengths
        windows, count = self.lengths.shape
        self._edges = np.full((count, BINS - 1), np.inf)
        # Beyond the last edge is everything, in the window as in the band.
        self._lower = np.ones((count, BINS - 1))
        self._upper = np.ones((count, BINS - 1))
        for number, feature in enumerate(features):
            edges = len(feature.edges)
            self._edges[number, :edges] = feature.edges
            self._lower[number, :edges] = feature.lower
            self._upper[number, :edges] = feature.upper
        # One ring after the other, each as long as its feature's longest window.
        self._depths = self.lengths.max(axis=0)
        self._bases = np.concatenate([[0], np.cumsum(self._depths)[:-1]])
        # Where each histogram begins.
        self._rows = np.arange(windows * count).reshape(windows, count) * BINS
        self._values = np.zeros(int(self._depths.sum()), np.float32)
        self._bins = np.zeros(len(self._values), np.uint8)
        self._seen = np.zeros(count, np.int64)
        self._are_full = False  # all windows: what saves a look at each, with every frame
        self._counts = np.zeros((windows, count, BINS), np.int32)
        self._sums = np.zeros((windows, count))

    def clear(self, which: npt.NDArray[np.bool_]) -> None:
        """Forget all frames of these features, `bool[F]`."""
        self._seen[which] = 0
        self._are_full = False
        self._counts[:, which] = 0
        self._sums[:, which] = 0.0

    def push(self, vector: Vector) -> None:
        """Take one frame's `float32[F]`."""
        usable = np.isfinite(vector) & self.judged
        there = slice(None) if usable.all() else np.flatnonzero(usable)
        values = vector[there]
        bins = (self._edges[there] < values[:, None]).sum(axis=1)
        seen, bases, depths = self._seen[there], self._bases[there], self._depths[there]
        rows, lengths, counts = self._rows[:, there], self.lengths[:, there], self._counts.reshape(-1)
        slots = bases + (seen - lengths) % depths
        leaving, old = rows + self._bins[slots], self._values[slots].astype(np.float64)
        if not self._are_full:
            full = seen >= lengths
            leaving, old = leaving[full], np.where(full, old, 0.0)
            self._are_full = bool((self._seen >= self.lengths)[:, self.judged].all())
        counts[leaving] -= 1
        counts[rows + bins] += 1
        self._sums[:, there] += values - old
        slots = bases + seen % depths
        self._bins[slots] = bins
        self._values[slots] = values
        self._seen[there] += 1

    def judge(self, step_s: float | None = None) -> Judgement:
        """Compare each window with the reference; `step_s`: see `Yardstick.seconds`."""
        full = (self._seen >= self.lengths) & self.judged
        d = distance(self._counts, self._lower, self._upper)
        per_window = self.yardstick.per_window(d)
        shift = self.yardstick.shift_sigma(self._sums / self.lengths)
        seconds = self.yardstick.seconds(step_s)
        return Judgement(full, d, per_window, per_window * DAY_S / seconds, shift, seconds)

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
        self._are_full = False
        for window, length in enumerate(self.lengths[:, feature]):
            self._counts[window, feature] = np.bincount(bins[-length:], minlength=BINS)
            self._sums[window, feature] = values[-length:].sum(dtype=np.float64)
