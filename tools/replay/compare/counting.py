"""Agreement in figures: of a frame, and of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tools.replay.compare.matching import DISAGREE, Kind, Match


@dataclass(slots=True)
class ClassFigures:
    """Of one class, or of all together. A pair whose class differs counts in both classes."""

    a: int = 0
    b: int = 0
    kinds: Counter[Kind] = field(default_factory=Counter)
    iou_sum: float = 0.0
    score_sum: float = 0.0  # of B's score less A's

    @property
    def mean_iou(self) -> float | None:
        """Of the pairs that agree; None without one."""
        agreed = self.kinds[Kind.AGREED]
        return self.iou_sum / agreed if agreed else None

    @property
    def mean_score_difference(self) -> float | None:
        """B's score less A's, of the pairs that agree; None without one."""
        agreed = self.kinds[Kind.AGREED]
        return self.score_sum / agreed if agreed else None

    @property
    def agreement(self) -> float | None:
        """Share of what either found that both agree on, 0 to 1; None where neither found anything."""
        found = self.kinds[Kind.AGREED] + sum(self.kinds[kind] for kind in DISAGREE)
        return self.kinds[Kind.AGREED] / found if found else None

    def add(self, match: Match) -> None:
        """Count what came of a detection or a pair."""
        self.kinds[match.kind] += 1
        if match.kind is Kind.AGREED and match.a and match.b:
            self.iou_sum += match.iou
            self.score_sum += match.b.score - match.a.score

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            "a": self.a,
            "b": self.b,
            **{kind.value: self.kinds[kind] for kind in Kind},
            "agreement": _rounded(self.agreement),
            "mean_iou": _rounded(self.mean_iou),
            "mean_score_difference": _rounded(self.mean_score_difference),
        }


@dataclass(slots=True)
class Figures:
    """Of all frames: together, and by canonical class. `failed`: frames that B gave no answer on."""

    frames: int = 0
    frames_disagreeing: int = 0
    failed: int = 0
    total: ClassFigures = field(default_factory=ClassFigures)
    classes: dict[str, ClassFigures] = field(default_factory=dict)

    def add(self, matches: Iterable[Match]) -> None:
        """Count one frame."""
        self.frames += 1
        disagrees = False
        for match in matches:
            disagrees |= match.kind in DISAGREE
            self.total.add(match)
            for name in sorted({seen.name for seen in (match.a, match.b) if seen}):
                self.classes.setdefault(name, ClassFigures()).add(match)
            if match.a:
                self.total.a += 1
                self.classes[match.a.name].a += 1
            if match.b:
                self.total.b += 1
                self.classes[match.b.name].b += 1
        self.frames_disagreeing += disagrees

    def ranked(self) -> list[tuple[str, ClassFigures]]:
        """The classes, the most frequent first."""
        return sorted(self.classes.items(), key=lambda item: (-(item[1].a + item[1].b), item[0]))

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            "frames": self.frames,
            "frames_disagreeing": self.frames_disagreeing,
            "frames_failed": self.failed,
            **self.total.to_json(),
            "classes": {name: figures.to_json() for name, figures in self.ranked()},
        }


def frame_figures(matches: Iterable[Match]) -> dict[str, Any]:
    """One frame's figures as JSON values."""
    figures = ClassFigures()
    for match in matches:
        figures.add(match)
        figures.a += match.a is not None
        figures.b += match.b is not None
    return figures.to_json()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
