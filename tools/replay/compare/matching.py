"""Which detections of two models are the same object: one frame, pure rules."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.perception.overlap import overlaps

IOU_THRESHOLD = 0.5


class Kind(enum.Enum):
    """What came of one detection, or of a pair."""

    AGREED = "agreed"
    ONLY_A = "only_a"
    ONLY_B = "only_b"
    # Both see something there, and call it by different names.
    CLASS_DIFFERS = "class_differs"
    # Of a class that the other model does not know: no disagreement, it could not have found it.
    UNKNOWN_TO_B = "unknown_to_b"
    UNKNOWN_TO_A = "unknown_to_a"


DISAGREE = (Kind.ONLY_A, Kind.ONLY_B, Kind.CLASS_DIFFERS)


@dataclass(frozen=True, slots=True)
class Seen:
    """A detection under the canonical name of its class; `box`: x1, y1, x2, y2 in pixels."""

    name: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Match:
    """What came of a detection of A, of B, or of both. `iou` of pairs, 0 else."""

    kind: Kind
    a: Seen | None
    b: Seen | None
    iou: float = 0.0

    @property
    def weight(self) -> float:
        """How much it counts as a disagreement, 0 to 1: what scores near the threshold comes and goes."""
        if self.kind not in DISAGREE:
            return 0.0
        return max(seen.score for seen in (self.a, self.b) if seen)


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model's classes by their canonical names; several of a model's classes may share one."""

    names: tuple[str, ...]

    def seen(self, boxes: npt.NDArray[np.float32]) -> list[Seen]:
        """`float32[N, 6]` x1, y1, x2, y2, score, class, as detections."""
        return [
            Seen(self.names[int(index)], score, (x1, y1, x2, y2))
            for x1, y1, x2, y2, score, index in boxes.tolist()
        ]


def match(
    a: Sequence[Seen], b: Sequence[Seen], names_a: frozenset[str], names_b: frozenset[str]
) -> list[Match]:
    """Match two models' detections of one frame, one to one.

    First within a class, then what is left across classes; each time the pair that overlaps the most first,
    by an IoU of 0.5 or more. What is of a class that the other model does not know takes no part.

    Args:
        a: what the first model found.
        b: what the second one found.
        names_a: all classes that the first one knows.
        names_b: all classes that the second one knows.
    """
    matches = [Match(Kind.UNKNOWN_TO_B, seen, None) for seen in a if seen.name not in names_b]
    matches += [Match(Kind.UNKNOWN_TO_A, None, seen) for seen in b if seen.name not in names_a]
    left = [seen for seen in a if seen.name in names_b]
    right = [seen for seen in b if seen.name in names_a]
    shares = overlaps(_boxes(left), _boxes(right))
    same = np.array([[one.name == other.name for other in right] for one in left], bool).reshape(shares.shape)
    paired_a: set[int] = set()
    paired_b: set[int] = set()
    for kind, allowed in ((Kind.AGREED, same), (Kind.CLASS_DIFFERS, ~same)):
        rows, columns = np.nonzero(allowed & (shares >= IOU_THRESHOLD))
        for place in np.argsort(-shares[rows, columns], kind="stable"):
            row, column = int(rows[place]), int(columns[place])
            if row in paired_a or column in paired_b:
                continue
            paired_a.add(row)
            paired_b.add(column)
            matches.append(Match(kind, left[row], right[column], float(shares[row, column])))
    matches += [Match(Kind.ONLY_A, seen, None) for row, seen in enumerate(left) if row not in paired_a]
    matches += [Match(Kind.ONLY_B, None, seen) for row, seen in enumerate(right) if row not in paired_b]
    return matches


def _boxes(seen: Sequence[Seen]) -> npt.NDArray[np.float32]:
    return np.array([one.box for one in seen], np.float32).reshape(-1, 4)
