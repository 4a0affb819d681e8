"""Drawing with SVG: elements, axes, ticks. The serializer escapes all text, so that none can break out.

Colours are classes of the page's style sheet, so that a drawing follows the page into the dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


@dataclass(frozen=True, slots=True)
class Axis:
    """From values to pixels.

    Attributes:
        low, high: values at the ends; apart by more than nothing.
        start, end: where these are, pixels.
    """

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where a value is; one beyond an end is at that end."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)


class Drawing:
    """An SVG that is being drawn, for inclusion in HTML."""

    def __init__(self, width: float, height: float, label: str) -> None:
        """Begin; `label` says in words what the picture shows."""
        self._root = ElementTree.Element(
            "svg", {"viewBox": f"0 0 {_text(width)} {_text(height)}", "role": "img", "aria-label": label}
        )

    def rectangle(
        self, left: float, top: float, right: float, bottom: float, kind: str, title: str = ""
    ) -> None:
        """A filled rectangle of a class, with what a pointer over it tells."""
        self._add(
            "rect", kind, title, x=left, y=top, width=max(0.0, right - left), height=max(0.0, bottom - top)
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """A straight line."""
        self._add("line", kind, x1=x1, y1=y1, x2=x2, y2=y2)

    def circle(self, x: float, y: float, radius: float, kind: str, title: str = "") -> None:
        """A disc."""
        self._add("circle", kind, title, cx=x, cy=y, r=radius)

    def path(self, steps: str, kind: str) -> None:
        """A path."""
        self._add("path", kind, d=steps)

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        """Words; `anchor` is `start`, `middle` or `end`."""
        element = self._add("text", kind, x=x, y=y, text_anchor=anchor)
        element.text = words

    def markup(self) -> str:
        """The finished element."""
        return ElementTree.tostring(self._root, encoding="unicode")

    def _add(self, tag: str, kind: str, title: str = "", **attributes: float | str) -> ElementTree.Element:
        element = ElementTree.SubElement(self._root, tag, {"class": kind} if kind else {})
        for name, value in attributes.items():
            element.set(name.replace("_", "-"), value if isinstance(value, str) else _text(value))
        if title:
            ElementTree.SubElement(element, "title").text = title
        return element


def unbroken(points: Iterable[tuple[float, float] | None]) -> list[list[tuple[float, float]]]:
    """Cut a line where it has no value."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if point is None:
            pieces.append([])
        else:
            pieces[-1].append(point)
    return [piece for piece in pieces if piece]


def line_steps(piece: Sequence[tuple[float, float]]) -> str:
    """A path through points."""
    return "M" + "L".join(f"{_text(x)},{_text(y)}" for x, y in piece)


def area_steps(piece: Sequence[tuple[float, float]], floor: float) -> str:
    """A path around what is between a line and the floor."""
    first, last = (piece[0][0], floor), (piece[-1][0], floor)
    return line_steps([first, *piece, last]) + "Z"


def highest_per_pixel(points: Sequence[tuple[float, float] | None]) -> list[tuple[float, float] | None]:
    """Of the points in one column of pixels the highest: as many as can be seen. They go to the right."""
    kept: list[tuple[float, float] | None] = []
    for point in points:
        last = kept[-1] if kept else None
        if point is None or last is None or int(point[0]) != int(last[0]):
            kept.append(point)
        elif point[1] < last[1]:  # downwards is more
            kept[-1] = point
    return kept


def ticks(high: float, count: int = 5) -> list[float]:
    """Round numbers from 0 to at least `high`, about `count` steps; of no height: 0 and 1."""
    if not (math.isfinite(high) and high > 0):
        return [0.0, 1.0]
    rough = high / count
    size = 10.0 ** math.floor(math.log10(rough))
    step = size * next(factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * (1 - 1e-9))
    return [step * number for number in range(math.ceil(high / step - 1e-9) + 1)]


def time_ticks(low: float, high: float, count: int = 10) -> list[float]:
    """Round times between two, seconds, at most about `count`."""
    longest = _TIME_STEPS[-1] * max(1, math.ceil((high - low) / count / _TIME_STEPS[-1]))
    step = next((step for step in _TIME_STEPS if (high - low) / step <= count), longest)
    return [float(step * number) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def clock(seconds: float) -> str:
    """Minutes and seconds, `12:05`."""
    whole = round(seconds)
    return f"{'-' if whole < 0 else ''}{abs(whole) // 60}:{abs(whole) % 60:02d}"


def _text(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
