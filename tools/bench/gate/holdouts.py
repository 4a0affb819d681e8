"""Holdouts drawn from a population of drives, and the gate's verdict on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cloud.config import GateConfig
from cloud.datasets import LabeledImage
from cloud.pipeline.evaluation_coco import RankedClass
from cloud.pipeline.gate import demands_of, judge
from cloud.pipeline.gate_power import power_of
from cloud.pipeline.gate_slices import Ranked, measure
from cloud.store.states import VerdictKind


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """All drives that there are: holdouts are drawn from them, and what is true is true on them.

    Attributes:
        images: the pictures.
        champion: its matches.
        candidates: name to each one's matches, of the same classes.
    """

    images: Sequence[LabeledImage]
    champion: Sequence[RankedClass]
    candidates: Mapping[str, Sequence[RankedClass]]


@dataclass(frozen=True, slots=True)
class Trial:
    """What the gate said on one holdout, and whether its power report had called it enough."""

    verdict: VerdictKind
    enough: bool


def judged(
    population: Population, candidate: str, drives: int, seed: Sequence[int], gate: GateConfig
) -> Trial:
    """Draw a holdout and judge one candidate on it.

    Args:
        population: to draw from, with replacement: a drive that is drawn twice counts as two.
        candidate: which.
        drives: of the holdout.
        seed: of the draw.
        gate: the rules, with their targets.
    """
    images, places = drawn(population.images, drives, np.random.default_rng(list(seed)))
    champion, challenger = (
        Ranked([redrawn(of, places, len(population.images)) for of in model], {})
        for model in (population.champion, population.candidates[candidate])
    )
    figures = measure(images, champion, challenger, gate, seed=int(seed[-1]))
    power = power_of(demands_of(gate, figures, gate.targets), figures, gate.targets, gate.effect)
    return Trial(judge(figures, gate.targets, gate).verdict, power.enough)


def drawn(
    images: Sequence[LabeledImage], drives: int, generator: np.random.Generator
) -> tuple[list[LabeledImage], npt.NDArray[np.int64]]:
    """Draw drives with replacement.

    Returns:
        Their pictures, each draw a drive of its own; and the places that they were at.
    """
    of_drive: dict[str, list[int]] = {}
    for place, image in enumerate(images):
        of_drive.setdefault(image.drive, []).append(place)
    all_drives = list(of_drive.values())
    places: list[int] = []
    chosen: list[LabeledImage] = []
    for number, drive in enumerate(generator.integers(0, len(all_drives), drives).tolist()):
        places += all_drives[drive]
        chosen += [replace(images[place], drive=str(number)) for place in all_drives[drive]]
    return chosen, np.array(places, np.int64)


def redrawn(of: RankedClass, places: npt.NDArray[np.int64], count: int) -> RankedClass:
    """A class's matches on pictures that were drawn.

    Args:
        of: its matches on all pictures.
        places: of those that were drawn; one may come several times.
        count: of all pictures.
    """
    copies = np.bincount(places, minlength=count)
    new_places = np.argsort(places, kind="stable")  # of all copies, picture by picture
    first = np.concatenate([[0], np.cumsum(copies)])[:-1]
    times = copies[of.images]
    detections = np.repeat(np.arange(len(of.images)), times)
    ends = np.cumsum(times)
    which = np.arange(len(detections)) - np.repeat(ends - times, times)  # copy of its picture
    return RankedClass(
        of.name,
        new_places[first[of.images[detections]] + which],
        of.hits[detections],
        of.boxes[places],
    )
