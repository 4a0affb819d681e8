"""Labels that a person should look at again: overlooked, badly located, of the wrong class. Rules alone.

`objectlab` scores a picture's labels against what a model finds. Alone it accuses whatever the model does not
see: small and far boxes, and all of a class that it does not know. So a label is held against its like. For
one where nothing is seen, `placing` tells how likely it is to be in a wrong place. One in whose place another
class is seen, and a detection without a label, are ranked by how rare that is among labels of the class, and
among detections as sure.
"""

from __future__ import annotations

import enum
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud.datasets.classes import UNSURE, canonical
from cloud.datasets.dataset import Box, LabeledImage
from cloud.pipeline.purity.objectlab import objectlab, overlap
from cloud.pipeline.purity.placing import place_log_odds, probability, shapes, support_log_odds

# Detections with a lower score are no evidence for or against a label.
LEAST_SCORE = 0.05
# A label with so much for it (score times overlap) is never doubtful; a detection that is not so sure accuses
# no label of having another class, and is not missed by anybody.
SUPPORTED = 0.3
SURE = 0.5
# Overlap from which a label covers a detection, or is of the same object.
COVERS, SAME = 0.3, 0.5
# Sizes are square roots of areas, pixels in a picture of this width.
_WIDTH, _HEIGHT = 1280, 720
_SIZES = np.array([16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 192.0])
# So many others stand in for a class of few.
_BORROWED = 20.0


class Doubt(str, enum.Enum):
    """What may be wrong with a label."""

    OVERLOOKED = "overlooked"
    LOCATED = "badly located"
    SWAPPED = "of another class"


@dataclass(frozen=True, slots=True)
class DoubtRules:
    """What is doubtful; see `[purity]` of the configuration.

    Attributes:
        chance: a label in a wrong place with this probability.
        rarity: what else is so rare among its like.
    """

    chance: float
    rarity: float


@dataclass(frozen=True, slots=True)
class Doubtful:
    """One box to look at again.

    Attributes:
        image: its place in the sequence that was reviewed.
        doubt: what may be wrong.
        box: place of the label; None: it is missing.
        corners: of the label, or of the detection that has none; pixels.
        category: that the label says; of an overlooked one, the detection.
        found: the detection's class in its place; empty: there is none.
        score: of that detection, 0 to 1.
        chance: that it is wrong, 0 to 1; of one that is not badly located, 1 less how rare it is among its
            like. Comparable within a doubt.
        objectlab: ObjectLab's score of this box and doubt, 0 to 1.
    """

    image: int
    doubt: Doubt
    box: int | None
    corners: tuple[float, float, float, float]
    category: str
    found: str
    score: float
    chance: float
    objectlab: float

    def to_text(self) -> str:
        """Say it in one line."""
        if self.doubt is Doubt.LOCATED:
            return f"{self.doubt.value}: {self.category}, nothing seen there; wrong by {self.chance:.0%}"
        rare = f"as rare as {1 - self.chance:.1%} of its like"
        seen = f"a {self.found} seen with {self.score:.2f}"
        if self.doubt is Doubt.OVERLOOKED:
            return f"{self.doubt.value}: no label for {seen}; {rare}"
        return f"{self.doubt.value}: {self.category}, {seen}; {rare}"


@dataclass(frozen=True, slots=True)
class Review:
    """What a model makes of labels.

    Attributes:
        doubtful: by doubt, the likeliest first.
        qualities: ObjectLab's score of each picture.
        boxes: labels that were reviewed.
        classes: canonical names that the model could judge.
    """

    doubtful: tuple[Doubtful, ...]
    qualities: tuple[float, ...]
    boxes: int
    classes: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Count the doubtful boxes by doubt."""
        return {kind.value: sum(one.doubt is kind for one in self.doubtful) for kind in Doubt}


@dataclass(slots=True)
class _Evidence:
    """Of one picture: labels and detections by number of class, and what each has for it."""

    labels: npt.NDArray[np.float64]
    label_classes: npt.NDArray[np.int64]
    places: list[int]
    sizes: npt.NDArray[np.int64]
    found: npt.NDArray[np.float64]
    found_classes: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    support: npt.NDArray[np.float64]  # [L] the best score times overlap, whatever the class
    own: npt.NDArray[np.float64]  # [L] the same of the label's class
    other: npt.NDArray[np.float64]  # [L] the same of another class, in the label's place
    rival: npt.NDArray[np.int64]  # [L] which detection that is
    cover: npt.NDArray[np.float64]  # [M] the best overlap with any label, crowds and unsure ones too
    located: npt.NDArray[np.float64]
    swapped: npt.NDArray[np.float64]
    overlooked: npt.NDArray[np.float64]
    shapes: npt.NDArray[np.float64]


def review(
    images: Sequence[LabeledImage],
    predictions: Sequence[npt.NDArray[np.float32]],
    class_names: Sequence[str],
    rules: DoubtRules,
) -> Review:
    """Rank labels by how doubtful they are.

    Args:
        images: with their labels.
        predictions: of each image `float32[N, 6]`: x1, y1, x2, y2 (pixels), score, class; by a model that
            was not trained on these labels.
        class_names: of the predictions' classes, in any spelling.
        rules: what is doubtful.
    """
    labelled = {box.category for image in images for box in image.boxes}
    names = sorted({canonical(name) for name in class_names} | labelled)
    numbers = {name: number for number, name in enumerate(names)}
    model = [numbers[canonical(name)] for name in class_names]
    known = sorted({number for number in model if names[number] in labelled})
    evidence, qualities = [], []
    for image, rows in zip(images, predictions, strict=True):
        one, quality = _evidence(image, rows, numbers, model, known)
        evidence.append(one)
        qualities.append(quality)
    doubtful = [
        *(one for one in _located(evidence, names) if one.chance >= rules.chance),
        *(one for one in _swapped(evidence, names, known) if one.chance >= 1 - rules.rarity),
        *(one for one in _overlooked(evidence, names) if one.chance >= 1 - rules.rarity),
    ]
    order = {doubt: number for number, doubt in enumerate(Doubt)}
    # Of the equally likely, the one that ObjectLab doubts more.
    doubtful.sort(key=lambda one: (order[one.doubt], -one.chance, one.objectlab, one.image, one.box or 0))
    return Review(
        tuple(doubtful),
        tuple(qualities),
        sum(len(one.labels) for one in evidence),
        tuple(names[number] for number in known),
    )


def _evidence(
    image: LabeledImage,
    rows: npt.NDArray[np.float32],
    numbers: dict[str, int],
    model: Sequence[int],
    known: Sequence[int],
) -> tuple[_Evidence, float]:
    # What may or may not be of a class, and what holds several objects, excuses detections and is not judged.
    judged = [
        place
        for place, box in enumerate(image.boxes)
        if not box.crowd and box.category not in UNSURE and _is_box(box)
    ]
    everything = _corners(image, [place for place, box in enumerate(image.boxes) if _is_box(box)])
    labels = _corners(image, judged)
    label_classes = np.array([numbers[image.boxes[place].category] for place in judged], np.int64)
    seen = rows[rows[:, 4] >= LEAST_SCORE].astype(np.float64)
    found_classes = np.array([model[int(row[5])] for row in seen], np.int64)
    wanted = np.isin(found_classes, known)
    found, scores, found_classes = seen[wanted, :4], seen[wanted, 4], found_classes[wanted]
    common = overlap(labels, found)
    weighed = common * scores[np.newaxis, :]
    same = label_classes[:, np.newaxis] == found_classes[np.newaxis, :]
    rivals = np.where(~same & (common >= SAME), weighed, 0.0)
    width = image.width or _WIDTH
    roots = np.sqrt(np.prod(labels[:, 2:] - labels[:, :2], axis=1)) * _WIDTH / width
    lab = objectlab(labels, label_classes, found, found_classes, scores)
    evidence = _Evidence(
        labels=labels,
        label_classes=label_classes,
        places=judged,
        sizes=np.searchsorted(_SIZES, roots),
        found=found,
        found_classes=found_classes,
        scores=scores,
        support=weighed.max(axis=1, initial=0.0),
        own=np.where(same, weighed, 0.0).max(axis=1, initial=0.0),
        other=rivals.max(axis=1, initial=0.0),
        rival=rivals.argmax(axis=1) if len(found) else np.zeros(len(labels), np.int64),
        cover=overlap(everything, found).max(axis=0, initial=0.0),
        located=lab.located,
        swapped=lab.swapped,
        overlooked=lab.overlooked,
        shapes=shapes(labels, width, image.height or _HEIGHT),
    )
    return evidence, lab.quality


def _located(evidence: Sequence[_Evidence], names: Sequence[str]) -> list[Doubtful]:
    """Labels where the model sees nothing, with how likely they are to be in a wrong place."""
    if not evidence:
        return []
    classes = np.concatenate([one.label_classes for one in evidence])
    sizes = np.concatenate([one.sizes for one in evidence])
    corners = np.concatenate([one.labels for one in evidence])
    # All labels in each other's places: what is there for them, is there for wrong ones.
    order = np.random.default_rng(0).permutation(len(classes))
    ends = np.cumsum([len(one.labels) for one in evidence])[:-1]
    elsewhere = [
        (overlap(there, one.found) * one.scores[np.newaxis, :]).max(axis=1, initial=0.0)
        for one, there in zip(evidence, np.split(corners[order], ends), strict=True)
    ]
    odds = support_log_odds(
        np.concatenate([one.support for one in evidence]),
        sizes,
        classes,
        np.concatenate(elsewhere),
        sizes[order],
    )
    odds += place_log_odds(np.concatenate([one.shapes for one in evidence]), classes)
    doubtful = []
    for number, (one, chances) in enumerate(zip(evidence, np.split(probability(odds), ends), strict=True)):
        for place in np.flatnonzero(one.support < SUPPORTED).tolist():
            doubtful.append(
                Doubtful(
                    number,
                    Doubt.LOCATED,
                    one.places[place],
                    _tuple(one.labels[place]),
                    names[int(one.label_classes[place])],
                    "",
                    0.0,
                    float(chances[place]),
                    float(one.located[place]),
                )
            )
    return doubtful


def _swapped(evidence: Sequence[_Evidence], names: Sequence[str], known: Sequence[int]) -> list[Doubtful]:
    """Labels in whose place the model sees another class, where it mostly sees the label's."""
    by_class: defaultdict[int, list[float]] = defaultdict(list)
    for one in evidence:
        for number, other, own in zip(one.label_classes, one.other, one.own, strict=True):
            by_class[int(number)].append(-max(0.0, float(other - own)))
    classes = {key: np.sort(values) for key, values in by_class.items()}
    doubtful = []
    for number, one in enumerate(evidence):
        for place in np.flatnonzero(one.other > one.own).tolist():
            category, rival = int(one.label_classes[place]), int(one.rival[place])
            # A class that the model does not know (a rider) is always seen as another.
            if one.scores[rival] < SURE or category not in known:
                continue
            lead = float(one.other[place] - one.own[place])
            doubtful.append(
                Doubtful(
                    number,
                    Doubt.SWAPPED,
                    one.places[place],
                    _tuple(one.labels[place]),
                    names[category],
                    names[int(one.found_classes[rival])],
                    float(one.scores[rival]),
                    1 - _share_up_to(classes[category], -lead),
                    float(one.swapped[place]),
                )
            )
    return doubtful


def _overlooked(evidence: Sequence[_Evidence], names: Sequence[str]) -> list[Doubtful]:
    """Detections that no label covers, of a class and sureness that one mostly covers."""
    sure: defaultdict[int, list[tuple[float, bool]]] = defaultdict(list)
    for one in evidence:
        for category, score, cover in zip(one.found_classes, one.scores, one.cover, strict=True):
            if score >= SURE:
                sure[int(category)].append((float(score), bool(cover < COVERS)))
    alone = {category: _share_alone(values) for category, values in sure.items()}
    doubtful = []
    for number, one in enumerate(evidence):
        for place in np.flatnonzero((one.scores >= SURE) & (one.cover < COVERS)).tolist():
            category, score = int(one.found_classes[place]), float(one.scores[place])
            lab = float(one.overlooked[place])
            doubtful.append(
                Doubtful(
                    number,
                    Doubt.OVERLOOKED,
                    None,
                    _tuple(one.found[place]),
                    names[category],
                    names[category],
                    score,
                    1 - alone[category][score],
                    1.0 - score if math.isnan(lab) else lab,
                )
            )
    return doubtful


def _share_alone(values: Sequence[tuple[float, bool]]) -> dict[float, float]:
    """Of the detections that are at least as sure, the share that no label covers; one more is borrowed."""
    shares: dict[float, float] = {}
    lonely = 0
    for rank, (score, alone) in enumerate(sorted(values, reverse=True), start=1):
        lonely += alone
        shares[score] = (lonely + 1) / (rank + _BORROWED)
    return shares


def _share_up_to(rising: npt.NDArray[np.float64], value: float) -> float:
    """The share of values that are no larger; a few are borrowed, and larger."""
    return int(np.searchsorted(rising, value, side="right")) / (len(rising) + _BORROWED)


def _is_box(box: Box) -> bool:
    """What has no area is found by its own rule."""
    return math.isfinite(box.x1 + box.y1 + box.x2 + box.y2) and box.x2 > box.x1 and box.y2 > box.y1


def _corners(image: LabeledImage, places: Sequence[int]) -> npt.NDArray[np.float64]:
    boxes = [image.boxes[place] for place in places]
    return np.array([(box.x1, box.y1, box.x2, box.y2) for box in boxes], np.float64).reshape(-1, 4)


def _tuple(corners: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(value) for value in corners)
    return x1, y1, x2, y2


def review_to_json(review: Review, images: Sequence[LabeledImage]) -> dict[str, Any]:
    """Give what a review came to as JSON-able values, without its boxes."""
    worst = sorted(range(len(images)), key=lambda place: review.qualities[place])[:20]
    return {
        "pictures": len(images),
        "boxes": review.boxes,
        "classes": list(review.classes),
        "doubtful": review.counts(),
        "lowest_quality": [
            {"picture": images[place].name, "quality": round(review.qualities[place], 4)} for place in worst
        ],
    }
