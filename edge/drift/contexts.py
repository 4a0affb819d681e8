"""Which context do frames belong to? By the picture alone: detections change with the model.

A frame goes to the context that fits it best, well or badly, so that no frame escapes being judged; those
that fit none are counted. Only where one context follows another is something left out: the frames in between
that fit neither.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.drift.reference import ContextReference
from edge.drift.state import Origin

Scores = npt.NDArray[np.float64]

# One absurd feature (a lamp in the lens) shall not decide alone.
_MOST = 25.0
_LIMIT_QUANTILE = 0.999
_ROOM = 1.5  # between the worst frames of the reference and a misfit
_SHARE_S = 60.0  # memory of the share of misfits
_BACK_MEMORIES = 3.0  # a change is found by then, where one context fits even a tenth as badly as the other


class Fits:
    """How well vectors fit contexts, by a Gaussian naive Bayes made robust.

    The mean over the picture features of the squared distance from the context's mean in standard deviations,
    each at most 25, plus the log variance. Features that not all contexts judge are left out.
    """

    def __init__(self, contexts: Sequence[ContextReference]) -> None:
        """Gather means and deviations; a context without picture features fits everything equally."""
        features = [context.features for context in contexts]
        used = np.array(
            [[one.origin is Origin.PICTURE and bool(one.tails) for one in row] for row in features]
        )
        # What was learned in one context alone says nothing between them.
        common = used.all(axis=0)
        self._used = used & common if common.any() else used
        self._mean = np.array([[one.mean for one in row] for row in features])
        # A drive unlike those known moves as a whole; its margin is about three of its deviations.
        variances = np.array([[one.sigma**2 + (one.margin / 3) ** 2 for one in row] for row in features])
        self._precision = np.divide(1.0, variances, out=np.zeros_like(variances), where=self._used)
        logs = np.log(variances, out=np.zeros_like(variances), where=self._used)
        # A context's score, the smaller the better, is the distance and this.
        self.offset = logs.sum(axis=1) / np.maximum(self._used.sum(axis=1), 1)

    def distances(self, vector: npt.NDArray[np.floating]) -> Scores:
        """Of `float[..., F]`: `float64[..., C]`, 0 to 25; 0 where a frame has none of the features."""
        with np.errstate(invalid="ignore"):  # infinity has no distance in a feature that is not used
            squares = np.square(vector[..., None, :] - self._mean) * self._precision
        there = self._used & np.isfinite(squares)
        sums = np.where(there, np.minimum(squares, _MOST), 0.0).sum(axis=-1)
        return np.asarray(sums / np.maximum(there.sum(axis=-1), 1), np.float64)


def misfit_limit(context: ContextReference, vectors: npt.NDArray[np.floating]) -> float:
    """The distance beyond which a frame does not fit the context that was made of `float[N, F]`."""
    distances = Fits([context]).distances(np.asarray(vectors, np.float64))[:, 0]
    return _ROOM * float(np.quantile(distances, _LIMIT_QUANTILE))


@dataclass(frozen=True, slots=True)
class Following:
    """An assignment at rest.

    Attributes:
        current: number of the context of the last frames.
        levels: the contexts' scores over the last seconds; empty before the first frame.
        misfit: share of the last seconds' frames that fit no context.
        unknown_share: the same of the last minute.
    """

    current: int = 0
    levels: tuple[float, ...] = ()
    misfit: float = 0.0
    unknown_share: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Handover:
    """What a change of the context says of the frames before the one that decided it.

    Attributes:
        left: number of the context that was left.
        back: `float[n, F]` the latest frames that were judged in it, and are not its own.
        given: `float[m, F]` those of them that the new context takes.
    """

    left: int
    back: npt.NDArray[np.floating]
    given: npt.NDArray[np.floating]


class Assignment:
    """Follows the context through a drive; a few seconds must agree before it changes."""

    def __init__(self, contexts: Sequence[ContextReference], rate_hz: float, memory_s: float = 5.0) -> None:
        """Begin without a frame, in the first context."""
        self._fits = Fits(contexts)
        # Plain numbers: of a handful of contexts, arrays would cost more than the arithmetic.
        self._offsets: list[float] = self._fits.offset.tolist()
        self._limits = [context.misfit for context in contexts]
        self._new = 1.0 - math.exp(-1.0 / max(1.0, memory_s * rate_hz))
        self._new_in_share = 1.0 - math.exp(-1.0 / max(1.0, _SHARE_S * rate_hz))
        self._levels: list[float] = []
        # Vector, scores, and which contexts it fits, of the latest frames of the current context.
        self._recent: deque[tuple[npt.NDArray[np.floating], list[float], list[bool]]] = deque(
            maxlen=max(1, math.ceil(_BACK_MEMORIES * memory_s * rate_hz)) if len(contexts) > 1 else 0
        )
        self.current = 0
        # Whether the latest frame fits no context.
        self.misfit = False
        self.unknown_share = 0.0
        self._misfit = 0.0

    @property
    def fits(self) -> bool:
        """Whether most of the latest seconds' frames fit a known context."""
        return self._misfit < 0.5

    def distances(self, vectors: npt.NDArray[np.floating]) -> Scores:
        """How far frames, `float[..., F]`, are from each context: `float64[..., C]`, for `take`."""
        return self._fits.distances(vectors)

    def follow(self, vector: npt.NDArray[np.floating]) -> Handover | None:
        """Take the next frame's `float[F]`, which is judged in the context that is current then.

        Returns:
            What a change of the context says of the frames before this one; None where it has not changed.
        """
        return self.take(vector, self.distances(vector).tolist())

    def take(self, vector: npt.NDArray[np.floating], distances: Sequence[float]) -> Handover | None:
        """Take the next frame, whose distances are known; see `follow`."""
        if not any(distances):
            # It has nothing to tell contexts by.
            self.misfit = False
            return None
        scores = [distance + offset for distance, offset in zip(distances, self._offsets, strict=True)]
        levels = self._levels or scores
        self._levels = [
            level + self._new * (score - level) for level, score in zip(levels, scores, strict=True)
        ]
        fitting = [distance <= limit for distance, limit in zip(distances, self._limits, strict=True)]
        self._recent.append((vector, scores, fitting))
        best = min(self._levels)
        handover = None
        if best < self._levels[self.current]:
            handover = self._change(self._levels.index(best))
        self.misfit = not any(fitting)
        misfit = float(self.misfit)
        self._misfit += self._new * (misfit - self._misfit)
        self.unknown_share += self._new_in_share * (misfit - self.unknown_share)
        return handover

    def _change(self, to: int) -> Handover | None:
        """Go to another context; the frames since it fits better, and those that fit neither, change too.

        The scores are log likelihoods up to a factor: their sum over the latest frames, the new context's
        less the old one's, is the largest from the likeliest moment of the change on (Page, 1954).
        """
        left, self.current = self.current, to
        recent = list(self._recent)[:-1]
        self._recent.clear()
        if not recent:
            return None
        gains = np.array([scores[left] - scores[to] for _, scores, _ in reversed(recent)])
        sums = np.cumsum(gains)
        latest = int(sums.argmax()) + 1 if sums.max() > 0 else 0
        start = len(recent) - latest
        while start > 0 and not recent[start - 1][2][left]:
            start -= 1
        back = recent[start:]
        if not back:
            return None
        vectors = np.array([vector for vector, _, _ in back])
        return Handover(left, vectors, vectors[[fitting[to] for _, _, fitting in back]])

    def snapshot(self) -> Following:
        """Where it is."""
        return Following(self.current, tuple(self._levels), self._misfit, self.unknown_share)

    def go_on(self, following: Following) -> None:
        """Continue from a snapshot of an assignment of the same contexts."""
        self.current = following.current
        self._levels = list(following.levels)
        self._misfit, self.unknown_share = following.misfit, following.unknown_share

    def restart(self) -> None:
        """Forget what was followed: the next frame decides anew."""
        self._levels = []
        self._misfit = self.unknown_share = 0.0
        self._recent.clear()
