"""How far two sources of labels agree on the same pictures: people and a teacher, two teachers. Rules alone.

Boxes are paired one to one so that their overlaps add up to the most (H. W. Kuhn, The Hungarian Method for
the Assignment Problem, 1955), whatever their classes; pairs that overlap by less than a bound are none. Of
those that are pairs, Cohen's kappa (J. Cohen, A Coefficient of Agreement for Nominal Scales, 1960) tells how
far the classes agree beyond chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud.datasets.dataset import Box, LabeledImage
from cloud.pipeline.purity.objectlab import overlap


@dataclass(frozen=True, slots=True)
class ClassAgreement:
    """Of one class.

    Attributes:
        both: objects that both have, and say are of it.
        first_only, second_only: objects that one alone has, or has as another class.
    """

    both: int
    first_only: int
    second_only: int

    @property
    def f1(self) -> float:
        """2 both / (all boxes of the two): 1 where they agree on all; what F1 is of a detector."""
        whole = 2 * self.both + self.first_only + self.second_only
        return 2 * self.both / whole if whole else 1.0


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One object on which two sources differ.

    Attributes:
        picture: its name.
        first, second: the boxes; one may be missing.
    """

    picture: str
    first: Box | None
    second: Box | None

    def to_text(self, first: str, second: str) -> str:
        """Say it in one line, with the sources' names."""
        if self.first is None or self.second is None:
            one, box, other = (first, self.first, second) if self.first else (second, self.second, first)
            assert box is not None
            return f"{one} has a {box.category}, {other} has nothing there"
        return f"{first} says {self.first.category}, {second} says {self.second.category}"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two sources on the same pictures.

    Attributes:
        first, second: the sources' names.
        pictures: that both have labelled.
        pairs: objects that both have.
        same_class: of those, of the same class.
        mean_iou: of the pairs; NaN without any.
        kappa: Cohen's, of the pairs' classes; NaN where chance alone would agree on all.
        classes: by class.
        disagreements: in the order of the pictures.
    """

    first: str
    second: str
    pictures: int
    pairs: int
    same_class: int
    mean_iou: float
    kappa: float
    classes: Mapping[str, ClassAgreement]
    disagreements: tuple[Disagreement, ...]

    @property
    def boxes(self) -> int:
        """Objects that either has."""
        single = sum(one.first is None or one.second is None for one in self.disagreements)
        return self.pairs + single

    @property
    def whole(self) -> ClassAgreement:
        """Of all classes together."""
        parts = self.classes.values()
        return ClassAgreement(
            sum(part.both for part in parts),
            sum(part.first_only for part in parts),
            sum(part.second_only for part in parts),
        )

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON-able values; what is not a number is None."""
        return {
            "first": self.first,
            "second": self.second,
            "pictures": self.pictures,
            "objects": self.boxes,
            "pairs": self.pairs,
            "same_class": self.same_class,
            "mean_iou": _number(self.mean_iou),
            "kappa": _number(self.kappa),
            "f1": _number(self.whole.f1),
            "classes": {
                name: {
                    "both": part.both,
                    "first_only": part.first_only,
                    "second_only": part.second_only,
                    "f1": _number(part.f1),
                }
                for name, part in self.classes.items()
            },
        }


def agreement(
    first: str,
    first_images: Sequence[LabeledImage],
    second: str,
    second_images: Sequence[LabeledImage],
    iou: float,
) -> Agreement:
    """Compare two sources' labels of the pictures that both have, by their names.

    Args:
        first: the source's name.
        first_images: with its labels.
        second: the other's name.
        second_images: with the other's.
        iou: overlap from which two boxes are the same object.
    """
    theirs = {image.name: image for image in second_images}
    both: Counter[str] = Counter()
    first_only: Counter[str] = Counter()
    second_only: Counter[str] = Counter()
    overlaps: list[float] = []
    pairs: list[tuple[str, str]] = []
    disagreements: list[Disagreement] = []
    pictures = 0
    for image in first_images:
        other = theirs.get(image.name)
        if other is None:
            continue
        pictures += 1
        matched = _paired(image.boxes, other.boxes, iou)
        overlaps += [value for _, _, value in matched]
        for mine, his, _ in matched:
            one, two = image.boxes[mine], other.boxes[his]
            pairs.append((one.category, two.category))
            if one.category == two.category:
                both[one.category] += 1
            else:
                first_only[one.category] += 1
                second_only[two.category] += 1
                disagreements.append(Disagreement(image.name, one, two))
        for place in sorted(set(range(len(image.boxes))) - {mine for mine, _, _ in matched}):
            first_only[image.boxes[place].category] += 1
            disagreements.append(Disagreement(image.name, image.boxes[place], None))
        for place in sorted(set(range(len(other.boxes))) - {his for _, his, _ in matched}):
            second_only[other.boxes[place].category] += 1
            disagreements.append(Disagreement(image.name, None, other.boxes[place]))
    return Agreement(
        first,
        second,
        pictures,
        len(pairs),
        sum(one == two for one, two in pairs),
        float(np.mean(overlaps)) if overlaps else float("nan"),
        _kappa(pairs),
        {
            name: ClassAgreement(both[name], first_only[name], second_only[name])
            for name in sorted({*both, *first_only, *second_only})
        },
        tuple(disagreements),
    )


def _paired(first: Sequence[Box], second: Sequence[Box], iou: float) -> list[tuple[int, int, float]]:
    if not first or not second:
        return []
    from scipy.optimize import linear_sum_assignment

    common = overlap(_corners(first), _corners(second))
    # What is no pair must not be traded for: it counts nothing.
    rows, columns = linear_sum_assignment(np.where(common >= iou, common, 0.0), maximize=True)
    return [
        (int(row), int(column), float(common[row, column]))
        for row, column in zip(rows, columns, strict=True)
        if common[row, column] >= iou
    ]


def _kappa(pairs: Sequence[tuple[str, str]]) -> float:
    if not pairs:
        return float("nan")
    firsts, seconds = Counter(one for one, _ in pairs), Counter(two for _, two in pairs)
    chance = sum(firsts[name] * seconds[name] for name in firsts) / len(pairs) ** 2
    agreed = sum(one == two for one, two in pairs) / len(pairs)
    return (agreed - chance) / (1 - chance) if chance < 1 else float("nan")


def _corners(boxes: Sequence[Box]) -> npt.NDArray[np.float64]:
    return np.array([(box.x1, box.y1, box.x2, box.y2) for box in boxes], np.float64).reshape(-1, 4)


def _number(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None
