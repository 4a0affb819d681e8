"""What the gate measures: both models on the whole holdout and on each of its slices, with intervals.

Slices are the values of attributes, single classes, and sizes of boxes as COCO has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from cloud.config import GateConfig
from cloud.datasets import LabeledImage
from cloud.pipeline.bootstrap import PairedScores, class_bootstrap
from cloud.pipeline.evaluation import NO_VALUE
from cloud.pipeline.evaluation_coco import SIZES, Matches, RankedClass

OVERALL = "(all)"
CLASS, SIZE = "class", "size"
POWER = 0.8

_NOTHING = ("", NO_VALUE, "undefined")  # the last is BDD100K's word for it


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """A model's matches on the holdout.

    Attributes:
        whole: class by class.
        by_size: the same for boxes of each size, where sizes are judged.
    """

    whole: Sequence[RankedClass]
    by_size: Mapping[str, Sequence[RankedClass]]

    @classmethod
    def of(cls, matches: Matches, gate: GateConfig) -> Ranked:
        """Take what the gate asks for."""
        sizes = SIZES if SIZE in gate.slices else ()
        return cls(matches.ranked(), {size: matches.ranked(size) for size in sizes})


@dataclass(frozen=True, slots=True)
class SliceFigures:
    """Both models on one slice of the holdout.

    Attributes:
        name: "(all)"; a value of `gate.slice_by`; of others KIND=VALUE, such as "class=car".
        kind: "" for the whole, an attribute, "class" or "size".
        images, drives, boxes: there are so many; boxes of the classes that count.
        classes: those with enough boxes; the others are not averaged.
        champion, challenger, difference: mAP50; None where the slice has too little to be judged.
        low, high: one-sided bounds of the difference.
        spread: standard deviation of the difference, over holdouts like this one.
        detectable: a true difference of this size would be shown in `POWER` of such holdouts.
        too_little: what there is too little of; empty where the slice is judged.
    """

    name: str
    images: int
    drives: int
    boxes: int
    classes: tuple[str, ...]
    champion: float | None = None
    challenger: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    detectable: float | None = None
    too_little: str = ""
    kind: str = ""
    spread: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Give JSON-able values."""
        return {**asdict(self), "classes": list(self.classes)}


def measure(
    images: Sequence[LabeledImage], champion: Ranked, challenger: Ranked, gate: GateConfig, seed: int = 0
) -> tuple[SliceFigures, ...]:
    """Measure both models on the whole holdout and on each of its slices, the whole first.

    Args:
        images: the holdout.
        champion: its matches on these images.
        challenger: its matches of the same classes.
        gate: the rules' numbers.
        seed: of the resamples.
    """
    drives = [image.drive for image in images]
    everything = list(range(len(images)))
    pair = champion.whole, challenger.whole
    found = [*_whole(images, pair, drives, gate, seed)]
    for kind in dict.fromkeys((gate.slice_by, *gate.slices)):
        if kind == CLASS:
            continue  # of the whole's resamples
        if kind == SIZE:
            for size in champion.by_size:
                sized = champion.by_size[size], challenger.by_size[size]
                name = slice_name(SIZE, size, gate)
                found.append(_averaged(name, kind, sized, drives, everything, gate, seed))
            continue
        for value, chosen in _places(images, kind):
            if len(chosen) == len(images) and kind != gate.slice_by:
                continue  # it says nothing that the whole does not
            name = slice_name(kind, value, gate)
            found.append(_averaged(name, kind, pair, drives, chosen, gate, seed))
    return tuple(found)


def targets_of(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Name what a retrain is for: the slice that most of its new samples are of.

    Of several the first by name. Samples of which nobody knows the slice count for none: no holdout has it.

    Args:
        counts: new samples by value of the main attribute.
    """
    known = {value: count for value, count in counts.items() if value not in _NOTHING}
    return (min(known, key=lambda value: (-known[value], value)),) if known else ()


def slice_name(kind: str, value: str, gate: GateConfig) -> str:
    """Name a slice: the values of the main attribute by themselves, others with their kind."""
    return value if kind == gate.slice_by else f"{kind}={value}"


def _places(images: Sequence[LabeledImage], attribute: str) -> Iterator[tuple[str, list[int]]]:
    places: dict[str, list[int]] = {}
    for number, image in enumerate(images):
        value = image.attributes.get(attribute, NO_VALUE)
        if value not in _NOTHING:
            places.setdefault(value, []).append(number)
    for value in sorted(places):
        yield value, places[value]


def map50_95(
    images: Sequence[LabeledImage],
    champion: Matches,
    challenger: Matches,
    figures: Sequence[SliceFigures],
    gate: GateConfig,
) -> dict[str, dict[str, float]]:
    """Both models' mAP over IoU 0.5 to 0.95, for the record: on the whole and by the main attribute.

    Args:
        images: the holdout.
        champion: its matches on these images.
        challenger: its matches on these images.
        figures: say which classes of a slice are averaged.
        gate: names the attribute.

    Returns:
        Slice to model (champion, challenger) to mAP.
    """
    places = {OVERALL: list(range(len(images))), **dict(_places(images, gate.slice_by))}
    found: dict[str, dict[str, float]] = {}
    for each in figures:
        if each.too_little or each.kind not in ("", gate.slice_by):
            continue
        found[each.name] = {}
        for name, of in (("champion", champion), ("challenger", challenger)):
            classes = of.score(places[each.name]).classes
            found[each.name][name] = float(np.mean([classes[own].ap or 0.0 for own in each.classes]))
    return found


_Pair = tuple[Sequence[RankedClass], Sequence[RankedClass]]


def _whole(
    images: Sequence[LabeledImage], pair: _Pair, drives: list[str], gate: GateConfig, seed: int
) -> Iterator[SliceFigures]:
    """The whole, and each class: of the same resamples."""
    chosen = list(range(len(images)))
    enough = _enough(pair[0], chosen, gate)
    there = _there(OVERALL, "", pair[0], enough, drives, chosen, gate)
    if there.too_little:
        yield there
        return
    scores = class_bootstrap(*_part(pair, enough), drives, chosen, gate.resamples, seed)
    yield _with_scores(there, scores.mean(), gate)
    if CLASS not in gate.slices:
        return
    for place, number in enumerate(enough):
        name = slice_name(CLASS, pair[0][number].name, gate)
        of_class = _there(name, CLASS, pair[0], [number], drives, chosen, gate)
        yield _with_scores(of_class, scores.mean([place]), gate)


def _averaged(
    name: str, kind: str, pair: _Pair, drives: list[str], chosen: list[int], gate: GateConfig, seed: int
) -> SliceFigures:
    enough = _enough(pair[0], chosen, gate)
    there = _there(name, kind, pair[0], enough, drives, chosen, gate)
    if there.too_little:
        return there
    scores = class_bootstrap(*_part(pair, enough), drives, chosen, gate.resamples, seed)
    return _with_scores(there, scores.mean(), gate)


def _enough(ranked: Sequence[RankedClass], chosen: list[int], gate: GateConfig) -> list[int]:
    """Numbers of the classes with enough boxes."""
    return [number for number, of in enumerate(ranked) if int(of.boxes[chosen].sum()) >= gate.min_boxes]


def _part(pair: _Pair, numbers: list[int]) -> _Pair:
    return [pair[0][number] for number in numbers], [pair[1][number] for number in numbers]


def _there(
    name: str,
    kind: str,
    ranked: Sequence[RankedClass],
    classes: list[int],
    drives: list[str],
    chosen: list[int],
    gate: GateConfig,
) -> SliceFigures:
    count = len({drives[number] for number in chosen})
    too_little = ""
    if not classes:
        too_little = f"no class has {gate.min_boxes} boxes"
    elif count < gate.min_drives:
        too_little = f"{count} drives, at least {gate.min_drives} are needed"
    return SliceFigures(
        name=name,
        images=len(chosen),
        drives=count,
        boxes=sum(int(ranked[number].boxes[chosen].sum()) for number in classes),
        classes=tuple(ranked[number].name for number in classes),
        too_little=too_little,
        kind=kind,
    )


def _with_scores(there: SliceFigures, scores: PairedScores, gate: GateConfig) -> SliceFigures:
    differences = scores.differences
    low, high = np.quantile(differences, [1 - gate.confidence, gate.confidence])
    normal = NormalDist()
    reach = normal.inv_cdf(gate.confidence) + normal.inv_cdf(POWER)
    spread = float(differences.std(ddof=1))
    return replace(
        there,
        champion=scores.champion,
        challenger=scores.challenger,
        difference=scores.challenger - scores.champion,
        low=float(low),
        high=float(high),
        detectable=reach * spread,
        spread=spread,
    )
