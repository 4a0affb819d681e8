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


def paired_bootstrap(
    champion: Sequence[RankedClass],
    challenger: Sequence[RankedClass],
    drives: Sequence[str],
    chosen: Sequence[int],
    resamples: int,
    seed: int = 0,
) -> PairedScores:
    """Score both models on some images, and on resamples of their drives.

    Args:
        champion: its matches, class by class; the mean is over these classes.
        challenger: its matches of the same classes.
        drives: of all images that were matched.
        chosen: places of the images that count.
        resamples: how many.
        seed: another one draws others.
    """
    places = np.asarray(chosen, np.int64)
    names, drive_of = np.unique(np.asarray(drives)[places], return_inverse=True)
    generator = np.random.default_rng(seed)
    times = np.zeros(len(drives), np.int64)
    times[places] = 1
    both = _map50(champion, challenger, times)
    scores = np.empty((resamples, 2))
    for number in range(resamples):
        drawn = np.bincount(generator.integers(0, len(names), len(names)), minlength=len(names))
        times[places] = drawn[drive_of]
        scores[number] = _map50(champion, challenger, times)
    return PairedScores(*both, scores)


def _map50(
    champion: Sequence[RankedClass], challenger: Sequence[RankedClass], times: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """The means over the classes that this draw has boxes of: the same for both."""
    pairs = [
        (first, second)
        for one, other in zip(champion, challenger, strict=True)
        if (first := one.ap50(times)) is not None and (second := other.ap50(times)) is not None
    ]
    if not pairs:
        return 0.0, 0.0
    return float(np.mean([first for first, _ in pairs])), float(np.mean([second for _, second in pairs]))
