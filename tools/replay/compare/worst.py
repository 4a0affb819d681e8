"""The frames on which two models disagree the most, apart in time, so that no scene is shown ten times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tools.replay.compare.matching import Match

_KEPT_FOR_EACH = 10  # candidates for one picture that is shown
LEAST_SPACING_S = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A frame with its disagreement.

    Attributes:
        camera, sequence, name, time_s: which frame.
        weight: how much the models disagree on it.
        matches: what came of each detection.
        jpeg: the picture, smaller than it was.
        height, width: of the picture as it was, pixels: what boxes are in.
    """

    camera: str
    sequence: int
    name: str
    time_s: float
    weight: float
    matches: tuple[Match, ...]
    jpeg: bytes
    height: int
    width: int


class Worst:
    """Keeps the worst frame of each second, of the worst seconds: a bounded number of pictures."""

    def __init__(self, shown: int) -> None:
        """`shown` pictures are wanted in the end."""
        self._shown = shown
        self._limit = shown * _KEPT_FOR_EACH
        self._kept: dict[tuple[str, int], Candidate] = {}

    def offer(self, camera: str, time_s: float, weight: float, make: Callable[[], Candidate]) -> None:
        """Take a frame, if it is among the worst; its picture is made only then."""
        if weight <= 0:
            return
        key = (camera, int(time_s / LEAST_SPACING_S))
        there = self._kept.get(key)
        if there is not None and there.weight >= weight:
            return
        if there is None and len(self._kept) >= self._limit:
            least = min(self._kept, key=lambda key: self._kept[key].weight)
            if self._kept[least].weight >= weight:
                return
            del self._kept[least]
        self._kept[key] = make()

    def chosen(self) -> list[Candidate]:
        """The worst first; as far apart as gives the number wanted, a second at least."""
        ranked = sorted(self._kept.values(), key=lambda one: (-one.weight, one.camera, one.time_s))
        longest = max((one.time_s for one in ranked), default=0.0)
        spacing_s = max(LEAST_SPACING_S, longest / (2 * self._shown))
        while True:
            chosen: list[Candidate] = []
            for one in ranked:
                if len(chosen) < self._shown and all(_apart(one, other, spacing_s) for other in chosen):
                    chosen.append(one)
            if len(chosen) == self._shown or spacing_s <= LEAST_SPACING_S:
                return chosen
            spacing_s = max(LEAST_SPACING_S, spacing_s / 2)


def _apart(one: Candidate, other: Candidate, spacing_s: float) -> bool:
    return one.camera != other.camera or abs(one.time_s - other.time_s) >= spacing_s
