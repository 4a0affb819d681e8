"""Which context do frames belong to? By the picture alone: detections change with the model.

A frame goes to the context that fits it best, well or badly, so that no frame escapes being judged; those
that fit none are counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edge.drift.reference import ContextReference
from edge.drift.state import Origin

Scores = npt.NDArray[np.float64]

# One absurd feature (a lamp in the lens) shall not decide alone.
_MOST = 25.0
_LIMIT_QUANTILE = 0.999
_ROOM = 1.5  # between the worst frames of the reference and a misfit


class Fit:
    """How well vectors fit one context: the mean over its picture features of the squared distance from the
    mean in standard deviations, each at most 25, plus the log variance (a Gaussian naive Bayes, made robust).
    """

    def __init__(self, context: ContextReference) -> None:
        """Gather means and deviations; a context without picture features fits everything equally."""
        chosen = [
            (number, feature)
            for number, feature in enumerate(context.features)
            if feature.origin is Origin.PICTURE and feature.tails
        ]
        self._columns = np.array([number for number, _ in chosen], np.intp)
        self._mean = np.array([feature.mean for _, feature in chosen])
        # A drive unlike those known moves as a whole.
        variances = [feature.sigma**2 + (feature.margin / 3) ** 2 for _, feature in chosen]
        self._precision = 1.0 / np.array(variances)
        self._log_variance = float(np.log(variances).mean()) if variances else 0.0

    def distance(self, vectors: npt.NDArray[np.floating]) -> Scores:
        """Of `float[N, F]`: `float64[N]` 0 to 25; NaN where a frame has none of the features."""
        if not len(self._columns):
            return np.zeros(len(vectors))
        squares = np.square(vectors[:, self._columns].astype(np.float64) - self._mean) * self._precision
        there = np.isfinite(squares)
        sums = np.where(there, np.minimum(squares, _MOST), 0.0).sum(axis=1)
        counts = there.sum(axis=1)
        return np.where(counts > 0, sums / np.maximum(counts, 1), math.nan)

    def score(self, distances: Scores | float) -> Scores | float:
        """What is compared between contexts: the smaller, the better."""
        return distances + self._log_variance


def misfit_limit(context: ContextReference, vectors: npt.NDArray[np.floating]) -> float:
    """The distance beyond which a frame does not fit the context that was made of `vectors`."""
    distances = Fit(context).distance(vectors)
    distances = distances[np.isfinite(distances)]
    return _ROOM * float(np.quantile(distances, _LIMIT_QUANTILE)) if len(distances) else math.inf


class Assignment:
    """Follows the context through a drive; a few seconds must agree before it changes."""

    def __init__(self, contexts: Sequence[ContextReference], rate_hz: float, memory_s: float = 5.0) -> None:
        """Begin without a frame, in the first context."""
        self._fits = [Fit(context) for context in contexts]
        self._limits = [context.misfit for context in contexts]
        self._keep = math.exp(-1.0 / max(1.0, memory_s * rate_hz))
        self._keep_share = math.exp(-1.0 / max(1.0, 60.0 * rate_hz))
        self.levels: list[float] = []
        self.current = 0
        self.unknown_share = 0.0
        self.fits = True

    def follow(self, vector: npt.NDArray[np.floating]) -> int:
        """Take the next frame's `float[F]`; returns the number of the context it is judged in."""
        distances = [float(fit.distance(vector[None])[0]) for fit in self._fits]
        if any(math.isnan(distance) for distance in distances):
            return self.current
        scores = [float(fit.score(distance)) for fit, distance in zip(self._fits, distances, strict=True)]
        if not self.levels:
            self.levels = scores
            self.current = int(np.argmin(scores))
        else:
            self.levels = [
                level + (1 - self._keep) * (score - level)
                for level, score in zip(self.levels, scores, strict=True)
            ]
            best = int(np.argmin(self.levels))
            if self.levels[best] < self.levels[self.current]:
                self.current = best
        self.fits = any(distance <= limit for distance, limit in zip(distances, self._limits, strict=True))
        self.unknown_share += (1 - self._keep_share) * ((not self.fits) - self.unknown_share)
        return self.current

    def restart(self) -> None:
        """Forget what was followed: the next frame decides anew."""
        self.levels = []
