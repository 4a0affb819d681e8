"""Frames that come slower than a reference's, and what that does to a promise in time.

A reference counts in frames: its windows, its autocorrelation times, its tails. Its rate is the most at which
frames are judged; a camera that is slower (a long exposure by night, a machine that has too much to do) is
taken whole. Two questions come of it.

How large does D get with nothing changed? The variance of the share of a window's n frames that lie up to an
edge is the sum over all pairs of their autocorrelation rho(t_i - t_j), over n^2. Frames are taken a period or
more apart, so the i-th and the j-th of a window are at least |i - j| periods apart; where the autocorrelation
does not rise with the time between two frames, no term is larger than in a window of the reference's rate,
and so the variance is not, whatever the rates within the window and however often they change. A window of as
many frames is worth at least as many independent ones (n / tau) as the reference's tails were made for: the
tails hold, exactly at the reference's rate, with room to spare below it. What comes back in time with the
frames, a lamp that blinks, is the exception.

How often is that? A tail says how often D is passed per window's length of W frames; a day of driving
brings its frames over W of these. With s the time between two frames, an alarm that begins where
rate * 86400 / (W s) falls to the limit L is passed with nothing changed at the rate L s / 86400 a frame at
most, and over a drive at most L / 86400 times the sum of s. That sum is the time driven where s is the time
since the frame before, and also where s is its moving average over the frames: what one step adds to it, a
change of the rate or a pause, is spread over the frames after it, and all of it comes back. So the promise is
kept in true time while the rate changes. Windows last as much longer as frames come slower, and so does the
time until a change is found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edge.drift.reference import ContextReference, DriftReferenceError, FeatureReference, Reference
from edge.drift.smoothing import smoothed

SAME_RATE = 0.05  # cameras jitter: rates that differ by less are one
MEMORY_S = 60.0  # of frames at the reference's rate

_MOST_RATIO = 2.0  # beyond it, what neighbouring frames have in common is another thing
_LONGEST_WINDOW = 2**20
_PAUSE = 5.0  # steps: between frames that are farther apart the vehicle stood, or rows were left out


class FrameRate:
    """The moving average of the time between the frames that are judged."""

    def __init__(self, rate_hz: float) -> None:
        """Begin at the reference's rate."""
        self._period_s = 1.0 / rate_hz
        self._period_ns = round(1e9 / rate_hz)
        self._new = 1.0 - math.exp(-1.0 / max(1.0, MEMORY_S * rate_hz))
        self._mean_s = self._period_s
        self._last_ns: int | None = None

    @property
    def step_s(self) -> float:
        """Time between two frames, s; the reference's own where it is about that."""
        return float(self.told(np.array(self._mean_s)))

    @property
    def mean_s(self) -> float:
        """The average as it is, to be kept."""
        return self._mean_s

    def go_on(self, mean_s: float) -> None:
        """Continue from an average that was kept."""
        self._mean_s = max(mean_s, self._period_s)

    def take(self, time_ns: int, *, counts: bool) -> int:
        """Take a frame's time.

        Args:
            time_ns: the frames' time.
            counts: False where the vehicle stands: nothing is promised of that time.

        Returns:
            The time that the frame adds, ns: since the frame before, a period of the reference's where that
            is not known.
        """
        before, self._last_ns = self._last_ns, time_ns
        if before is None or not counts:
            return self._period_ns
        step_ns = time_ns - before
        self._mean_s += self._new * (step_ns / 1e9 - self._mean_s)
        return step_ns

    def interrupt(self) -> None:
        """Time was lost: the next frame says nothing of the time between two."""
        self._last_ns = None

    def run(self, times: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Take frames all at once, none of them after a gap, as the first ones.

        Args:
            times: `int64[n]` ns.

        Returns:
            What each adds, `int64[n]` ns, and the average at each, `float64[n]` s, as it is.
        """
        steps = np.diff(times, prepend=times[:1] - self._period_ns)
        return steps, smoothed(steps / 1e9, self._new, self._period_s)

    def told(self, means_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Averages as they are reckoned with: the reference's own period where they are about that."""
        slow = means_s * (1 - SAME_RATE) > self._period_s
        return np.where(slow, means_s, self._period_s)


def slowdown(seconds: float, frames: int, rate_hz: float) -> float:
    """By what factor frames came slower than at a rate; 1 where it was about that rate.

    Args:
        seconds: that the frames took.
        frames: how many.
        rate_hz: frames per second.
    """
    factor = seconds * rate_hz / frames
    return factor if factor * (1 - SAME_RATE) > 1.0 else 1.0


def slowdown_of(times: Sequence[npt.NDArray[np.int64]], rate_hz: float) -> float:
    """By what factor the frames of some series came slower than at a rate; see `slowdown`.

    Args:
        times: `int64[n]` ns of each series; what lies between two of them does not count, nor do pauses.
        rate_hz: frames per second.
    """
    steps = np.concatenate([np.diff(moments) for moments in times])
    steps = steps[steps > 0]
    steps = steps[steps <= _PAUSE * np.median(steps)] if len(steps) else steps
    return slowdown(float(steps.sum()) / 1e9, len(steps), rate_hz) if len(steps) else 1.0


def at_rate(reference: Reference, rate_hz: float, *, most_ratio: float = _MOST_RATIO) -> Reference:
    """The reference as one that is judged at another rate; see `feature_at`.

    Args:
        reference: made of frames at its own rate.
        rate_hz: at which it will be judged, frames per second.
        most_ratio: by which that may be the higher rate: windows last as much longer.

    Raises:
        DriftReferenceError: the rate is more than `most_ratio` times the reference's, or less than half.
    """
    if rate_hz == reference.rate_hz:
        return reference
    ratio = rate_hz / reference.rate_hz
    if not 1 / _MOST_RATIO <= ratio <= most_ratio:
        raise DriftReferenceError(
            f"a reference of {reference.rate_hz:g} frames a second cannot be judged at {rate_hz:g}: "
            "fit one at about that rate"
        )
    return taken_to(reference, rate_hz)


def taken_to(reference: Reference, rate_hz: float) -> Reference:
    """The same, however far apart the rates are."""
    ratio = rate_hz / reference.rate_hz
    contexts = tuple(context_at(context, ratio) for context in reference.contexts)
    return replace(reference, rate_hz=rate_hz, contexts=contexts)


def context_at(context: ContextReference, ratio: float) -> ContextReference:
    """A context as it is judged at a rate that is `ratio` times the reference's; see `feature_at`."""
    return replace(context, features=tuple(feature_at(feature, ratio) for feature in context.features))


def feature_at(feature: FeatureReference, ratio: float) -> FeatureReference:
    """A feature as it is judged at a rate that is `ratio` times the reference's.

    A distribution does not depend on the rate; the autocorrelation is a function of time, and tau is 1 + 2
    times its sum over the frames to come. Of frames m times as dense it is at most m times as much where the
    autocorrelation falls ever more slowly (the trapezoidal rule overestimates what is convex); of frames m
    times as sparse at most 1 + (tau - 1) / m where it only falls (each term is at most the mean of the m that
    it stands for). Windows are longer or shorter in frames as tau is, so that they are worth as many
    independent frames as the tails were made for, or more.
    """
    if not feature.known or ratio == 1.0:
        return feature
    tau = feature.tau * ratio if ratio > 1.0 else 1.0 + (feature.tau - 1.0) * ratio
    longer = tau / feature.tau
    tails = tuple(
        replace(tail, frames=min(max(1, round(tail.frames * longer)), _LONGEST_WINDOW))
        for tail in feature.tails
    )
    return replace(feature, frames=max(1, round(feature.frames * ratio)), tau=tau, tails=tails)
