"""The page of a comparison: one HTML file, no script, nothing fetched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.charts.pages import NOTHING, jpeg_uri, number, page_environment
from tools.replay.compare.matching import Kind, Seen
from tools.replay.compare.timeline import Timeline
from tools.replay.compare.worst import Candidate

if TYPE_CHECKING:
    from tools.replay.compare.run import Comparing

_WORDS = {
    Kind.AGREED: "agreed",
    Kind.ONLY_A: "only A",
    Kind.ONLY_B: "only B",
    Kind.CLASS_DIFFERS: "class differs",
    Kind.UNKNOWN_TO_B: "B has no such class",
    Kind.UNKNOWN_TO_A: "A has no such class",
}
_CHART_WIDTH, _CHART_HEIGHT = 960.0, 120.0


@dataclass(frozen=True, slots=True)
class Mark:
    """A box over a picture, in pixels; `words` stand at `at`: None where there is no room or need."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    words: str
    at: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Side:
    """A picture as one model sees it."""

    letter: str
    title: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame on which the models disagree; `letters`: their height in pixels."""

    title: str
    facts: str
    uri: str
    width: int
    height: int
    letters: float
    sides: tuple[Side, Side]


@dataclass(frozen=True, slots=True)
class Chart:
    """A camera's disagreement over time, as bars `x, y, width, height, words`, and marks of the pictures."""

    camera: str
    bars: tuple[tuple[float, float, float, float, str], ...]
    pictures: tuple[tuple[float, int], ...]
    most: float
    end_s: float


def page(comparing: Comparing) -> str:
    """Lay the comparison out as HTML."""
    environment = page_environment("tools.replay.compare")
    environment.filters.update(
        grouped=lambda number: f"{number:,}",
        share=lambda value: NOTHING if value is None else f"{value:.1%}",
        signed=lambda value: number(value, 3, "+"),
        figure=number,
    )
    chosen = comparing.worst.chosen()
    titles = [f"{model.metadata.name} {model.metadata.version}" for model in comparing.models]
    return environment.get_template("page.html.jinja").render(
        titles=titles,
        models=comparing.models,
        figures=comparing.figures,
        total=comparing.figures.total,
        kinds=Kind,
        classes=comparing.figures.ranked(),
        known_to_one=comparing.known_to_one,
        charts=[
            _chart(camera, timeline, chosen, number_of(chosen))
            for camera, timeline in comparing.timelines.items()
        ],
        chart_width=_CHART_WIDTH,
        chart_height=_CHART_HEIGHT,
        pictures=[_picture(one, titles) for one in chosen],
    )


def number_of(chosen: list[Candidate]) -> dict[tuple[str, int], int]:
    """The number of each frame's picture on the page."""
    return {(one.camera, one.sequence): number for number, one in enumerate(chosen, 1)}


def _chart(
    camera: str, timeline: Timeline, chosen: list[Candidate], numbers: dict[tuple[str, int], int]
) -> Chart:
    bins = timeline.bins()
    end_s = len(bins) * timeline.bin_s
    most = max((weight for _, weight in bins if weight is not None), default=0.0)
    width = _CHART_WIDTH / len(bins)
    bars = []
    for start_s, weight in bins:
        if weight:
            height = _CHART_HEIGHT * weight / most
            words = f"{start_s:.1f} s: {weight:.2f}"
            x = start_s / timeline.bin_s * width
            bars.append((x, _CHART_HEIGHT - height, max(width * 0.9, 0.5), height, words))
    shown = [
        (one.time_s / end_s * _CHART_WIDTH, numbers[one.camera, one.sequence])
        for one in chosen
        if one.camera == camera
    ]
    return Chart(camera, tuple(bars), tuple(shown), most, end_s)


def _picture(one: Candidate, titles: list[str]) -> Picture:
    letters = max(9.0, one.width / 48)
    counts = [
        f"{count} {_WORDS[kind]}"
        for kind in Kind
        if (count := sum(match.kind is kind for match in one.matches))
    ]
    sides = []
    for letter, title in zip("AB", titles, strict=True):
        paired = [(match.kind, match.a if letter == "A" else match.b) for match in one.matches]
        found = [(kind, seen) for kind, seen in paired if seen is not None]
        sides.append(Side(letter, title, _marks(found, (one.width, one.height), letters)))
    name = f" · {one.name}" if one.name else ""
    return Picture(
        title=f"{one.camera} · {one.time_s:.2f} s · frame {one.sequence}{name}",
        facts=", ".join(counts),
        uri=jpeg_uri(one.jpeg),
        width=one.width,
        height=one.height,
        letters=letters,
        sides=(sides[0], sides[1]),
    )


def _marks(found: list[tuple[Kind, Seen]], size: tuple[int, int], letters: float) -> tuple[Mark, ...]:
    """Boxes, what agrees lowest; where words would run into others, the better-scored stay."""
    marks = []
    taken: list[tuple[float, float, float, float]] = []
    for kind, seen in sorted(found, key=lambda item: (item[0] is Kind.AGREED, -item[1].score)):
        x1, y1, x2, y2 = seen.box
        words = f"{seen.name} {seen.score:.2f}"
        at = None if kind is Kind.AGREED else _words_at(seen, words, size, letters, taken)
        marks.append(Mark(kind.value, x1, y1, x2 - x1, y2 - y1, words, at))
    return tuple(reversed(marks))


def _words_at(
    seen: Seen,
    words: str,
    size: tuple[int, int],
    letters: float,
    taken: list[tuple[float, float, float, float]],
) -> tuple[float, float] | None:
    """Where a box's words stand: above it, below, or inside at the top; None where there is no room."""
    _, y1, _, y2 = seen.box
    width = 0.62 * letters * len(words)  # about what a bold sans serif takes
    x = max(0.0, min(seen.box[0], size[0] - width))
    for baseline in (y1 - letters / 3, y2 + letters, y1 + letters):
        place = (x, baseline - letters, x + width, baseline + letters / 4)
        inside = place[1] >= 0 and place[3] <= size[1]
        if inside and not any(_overlap(place, other) for other in taken):
            taken.append(place)
            return x, baseline
    return None


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
