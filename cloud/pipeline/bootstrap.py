"""The paired bootstrap over drives: how far the difference of two models is chance.

Pictures of one drive are alike, so drives are drawn, not pictures; both models are scored on the same draw,
so that what is hard in it cancels. Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap,
1993, chapters 8 and 13 (percentile intervals).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud.pipeline.evaluation_coco import RankedClass

_CELLS = 1_000_000  # of one matrix of counts, draws by detections: it stays in the processor's cache


@dataclass(frozen=True, slots=True, eq=False)
class PairedScores:
    """Two models' mAP50 on the same images.

    Attributes:
        champion, challenger: on the images as they are.
        resamples: `float64[resamples, 2]`, both on each draw, the champion first.
    """

    champion: float
    challenger: float
    resamples: npt.NDArray[np.float64]

    @property
    def differences(self) -> npt.NDArray[np.float64]:
        """`float64[resamples]`, challenger's less champion's: what is hard in a draw cancels."""
        return self.resamples[:, 1] - self.resamples[:, 0]


@dataclass(frozen=True, slots=True, eq=False)
class ClassScores:
    """Two models' AP50 of each class, `float64[classes, 1 + resamples]`, NaN where a draw has no box of it.

    Attributes:
        champion, challenger: first on the images as they are, then on each draw, which is the same for both.
    """

    champion: npt.NDArray[np.float64]
    challenger: npt.NDArray[np.float64]

    def mean(self, classes: Sequence[int] | None = None) -> PairedScores:
        """Average some classes, or all; in each draw those that it has boxes of, the same for both."""
        chosen = list(range(len(self.champion))) if classes is None else list(classes)
        pair = np.stack([self.champion[chosen], self.challenger[chosen]], axis=-1)
        there = ~np.isnan(pair).any(axis=-1, keepdims=True)
        counts = np.maximum(there.sum(axis=0), 1)
        means = np.where(there, pair, 0.0).sum(axis=0) / counts
        return PairedScores(float(means[0, 0]), float(means[0, 1]), means[1:])


def class_bootstrap(
    champion: Sequence[RankedClass],
    challenger: Sequence[RankedClass],
    drives: Sequence[str],
    chosen: Sequence[int],
    resamples: int,
    seed: int = 0,
) -> ClassScores:
    """Score each class of both models on some images, and on resamples of their drives.

    Args:
        champion: its matches, class by class.
        challenger: its matches of the same classes.
        drives: of all images that were matched.
        chosen: places of the images that count.
        resamples: how many.
        seed: another one draws others.
    """
    places = np.asarray(chosen, np.int64)
    names, drive_of = np.unique(np.asarray(drives)[places], return_inverse=True)
    generator = np.random.default_rng(seed)
    longest = max((len(ranked.hits) for ranked in (*champion, *challenger)), default=1)
    step = max(1, _CELLS // max(longest, len(drives), 1))
    columns: list[npt.NDArray[np.float64]] = []
    for first in range(0, resamples + 1, step):
        rows = min(step, resamples + 1 - first)
        times = np.zeros((rows, len(drives)), np.int32)
        for row in range(rows):
            if first + row == 0:
                times[row, places] = 1
                continue
            drawn = np.bincount(generator.integers(0, len(names), len(names)), minlength=len(names))
            times[row, places] = drawn[drive_of]
        columns.append(
            np.array([[ranked.ap50s(times) for ranked in model] for model in (champion, challenger)])
        )
    scores = np.concatenate(columns, axis=-1).reshape(2, len(champion), resamples + 1)
    return ClassScores(scores[0], scores[1])


def paired_bootstrap(
    champion: Sequence[RankedClass],
    challenger: Sequence[RankedClass],
    drives: Sequence[str],
    chosen: Sequence[int],
    resamples: int,
    seed: int = 0,
) -> PairedScores:
    """Score both models on some images, and on resamples of their drives: the mean over all classes.

    See `class_bootstrap` for the arguments.
    """
    return class_bootstrap(champion, challenger, drives, chosen, resamples, seed).mean()
