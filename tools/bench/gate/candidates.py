"""Candidates that are better or worse than the champion by a known mAP50, made of real detections.

A candidate begins as what a second look at the same pictures found: other mistakes on other pictures, as two
trained models have them. Then in each slice and class it is made worse, by boxes that no longer fit, or
better, by false alarms that go and missed boxes that are found, until its AP50 on all pictures is the
champion's and the difference asked for. Drives differ in how much of that they get (exponentially).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud.pipeline.evaluation_coco import RankedClass

_STRENGTHS = (1e-7, 60.0)  # from nothing to everything, in drives of the mean
_STEPS = 60


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Detections of one class on the pictures of one slice.

    Attributes:
        ranks: `float64[n]`, the lower the surer.
        images: `int64[n]`, places of pictures.
        hits: `bool[n]`.
    """

    ranks: npt.NDArray[np.float64]
    images: npt.NDArray[np.int64]
    hits: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Chance:
    """What is drawn once, so that more strength changes all that less does, and more.

    Attributes:
        detections: `float64[n]`, of each detection: changed where its drive's share is more.
        missed: places of the boxes' pictures that no detection found.
        found: `float64[missed]`, as `detections`.
        ranks: `float64[missed]`, where a found box would stand.
    """

    detections: npt.NDArray[np.float64]
    missed: npt.NDArray[np.int64]
    found: npt.NDArray[np.float64]
    ranks: npt.NDArray[np.float64]


def calibrated(
    champion: Sequence[RankedClass],
    challenger: Sequence[RankedClass],
    slices: Mapping[str, npt.NDArray[np.int64]],
    aims: Mapping[str, float],
    drives: Sequence[str],
    min_boxes: int,
    seed: int,
) -> list[RankedClass]:
    """Make a candidate of known differences.

    Args:
        champion: its matches on all pictures, class by class.
        challenger: those of a second look, of the same classes.
        slices: name to the places of its pictures.
        aims: name of a slice to the difference in AP50 that each class there gets; others stay as they are.
        drives: of all pictures.
        min_boxes: classes with fewer boxes in a slice stay as they are there.
        seed: another one changes others.
    """
    generator = np.random.default_rng(seed)
    names, drive_of = np.unique(np.asarray(drives), return_inverse=True)
    share = generator.exponential(1.0, len(names))[drive_of]
    made = []
    for before, after in zip(champion, challenger, strict=True):
        everywhere = np.ones(len(drives), np.bool_)
        parts = []
        for name, places in slices.items():
            inside = np.zeros(len(drives), np.bool_)
            inside[places] = True
            if name not in aims or int(before.boxes[places].sum()) < min_boxes:
                continue
            everywhere &= ~inside
            aim = _ap50(before, inside) + aims[name]
            parts.append(_aimed(after, inside, aim, share, generator))
        parts.append(_part(after, everywhere))
        made.append(_joined(after, parts))
    return made


def _aimed(
    of: RankedClass,
    inside: npt.NDArray[np.bool_],
    aim: float,
    share: npt.NDArray[np.float64],
    generator: np.random.Generator,
) -> Part:
    """The part with the strength by which its AP50 comes nearest to the aim."""
    part = _part(of, inside)
    worse = _ap50(of, inside) > aim
    chance = _chance(of, part, inside, generator)

    def reached(strength: float) -> float:
        return _ap50(_joined(of, [_changed(part, chance, strength * share, worse)]), inside)

    low, high = _STRENGTHS
    for _ in range(_STEPS):
        strength = float(np.sqrt(low * high))
        if (reached(strength) > aim) == worse:
            low = strength
        else:
            high = strength
    nearest = min((high, low), key=lambda strength: abs(reached(strength) - aim))
    return _changed(part, chance, nearest * share, worse)


def _changed(part: Part, chance: _Chance, strength: npt.NDArray[np.float64], worse: bool) -> Part:
    changes = chance.detections < 1 - np.exp(-strength[part.images])
    if worse:
        return Part(part.ranks, part.images, part.hits & ~changes)
    stays = part.hits | ~changes
    found = chance.found < 1 - np.exp(-strength[chance.missed])
    return Part(
        np.concatenate([part.ranks[stays], chance.ranks[found]]),
        np.concatenate([part.images[stays], chance.missed[found]]),
        np.concatenate([part.hits[stays], np.ones(int(found.sum()), np.bool_)]),
    )


def _chance(
    of: RankedClass, part: Part, inside: npt.NDArray[np.bool_], generator: np.random.Generator
) -> _Chance:
    hits = np.bincount(part.images[part.hits], minlength=len(inside))
    left = np.where(inside, np.maximum(of.boxes - hits, 0), 0)
    missed = np.repeat(np.arange(len(inside)), left)
    ranks = part.ranks[part.hits] if part.hits.any() else np.zeros(1)
    # As sure as the boxes that were found are; in between, so that no two stand at the same place.
    chosen = generator.choice(ranks, len(missed)) + generator.uniform(0, 1, len(missed))
    return _Chance(
        generator.uniform(size=len(part.hits)), missed, generator.uniform(size=len(missed)), chosen
    )


def _part(of: RankedClass, inside: npt.NDArray[np.bool_]) -> Part:
    chosen = np.flatnonzero(inside[of.images])
    return Part(chosen.astype(np.float64), of.images[chosen], of.hits[chosen])


def _joined(of: RankedClass, parts: Sequence[Part]) -> RankedClass:
    order = np.argsort(np.concatenate([part.ranks for part in parts]), kind="stable")
    images = np.concatenate([part.images for part in parts])[order]
    hits = np.concatenate([part.hits for part in parts])[order]
    return RankedClass(of.name, images, hits, of.boxes)


def _ap50(of: RankedClass, inside: npt.NDArray[np.bool_]) -> float:
    return of.ap50(inside.astype(np.int64)) or 0.0
