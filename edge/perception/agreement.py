"""How far two models agree on what is on the same frames. Rules alone, no I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.perception.overlap import overlaps

MATCH_IOU = 0.5  # as in PASCAL VOC

Boxes = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of one class, or of all.

    Attributes:
        active, candidate: detections of each model.
        matched: pairs of them that are the same thing.
        score_difference: the candidate's score less the active model's, added up over the pairs.
    """

    active: int = 0
    candidate: int = 0
    matched: int = 0
    score_difference: float = 0.0

    def __add__(self, other: Agreement) -> Agreement:
        """Both together."""
        return Agreement(
            self.active + other.active,
            self.candidate + other.candidate,
            self.matched + other.matched,
            self.score_difference + other.score_difference,
        )

    @property
    def f1(self) -> float:
        """Of the candidate's detections, with the active model's taken for the truth; NaN without any."""
        found = self.active + self.candidate
        return 2 * self.matched / found if found else math.nan

    @property
    def count_ratio(self) -> float:
        """The candidate's detections by the active model's; NaN where that had none."""
        return self.candidate / self.active if self.active else math.nan

    @property
    def mean_score_difference(self) -> float:
        """Over the pairs; NaN without any."""
        return self.score_difference / self.matched if self.matched else math.nan


def compare(
    active: Boxes, candidate: Boxes, active_classes: Sequence[str], candidate_classes: Sequence[str]
) -> dict[str, Agreement]:
    """Compare what two models found on one frame.

    Pairs are of the same class (by its name) and overlap by `MATCH_IOU`; the candidate's most confident
    detections choose first, each the one that it overlaps most.

    Args:
        active: `float32[N, 6]` x1, y1, x2, y2, score, class.
        candidate: `float32[M, 6]`, the same.
        active_classes: names by class number.
        candidate_classes: the same of the candidate.
    """
    found = {}
    names = [active_classes[int(row[5])] for row in active]
    own_names = [candidate_classes[int(row[5])] for row in candidate]
    for name in sorted({*names, *own_names}):
        left = active[[each == name for each in names]]
        right = candidate[[each == name for each in own_names]]
        pairs = _pairs(left, right)
        difference = sum(float(right[column, 4]) - float(left[row, 4]) for row, column in pairs)
        found[name] = Agreement(len(left), len(right), len(pairs), difference)
    return found


def _pairs(left: Boxes, right: Boxes) -> list[tuple[int, int]]:
    shares = overlaps(left, right)
    pairs: list[tuple[int, int]] = []
    for column in np.argsort(-right[:, 4], kind="stable"):
        if len(pairs) == len(left):
            break
        row = int(shares[:, column].argmax())
        if shares[row, column] >= MATCH_IOU:
            pairs.append((row, int(column)))
            shares[row] = -1.0
    return pairs
