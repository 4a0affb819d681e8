"""The report's page: one HTML file, no script, nothing fetched. What it says is counted in `findings`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cloud.datasets.classes import CANONICAL, canonical
from edge.perception.jpeg import jpeg_size
from tools.charts.pages import NOTHING, jpeg_uri, number, page_environment
from tools.demo import charts
from tools.demo.findings import WAYS_OUT, Detected, Findings, Span, finite, objects_found, score
from tools.demo.promises import promises
from tools.demo.record import SLICES, Comparison, DemoRecord, Score

# Paul Tol's light scheme (SRON/EPS/TN/09-002, 3.2): told apart with any colour vision, and at night. It has
# nine colours: trains and bicycles share one.
_COLOURS = (
    "#ee8866", "#bbcc33", "#99ddff", "#44bb99", "#77aadd",
    "#aaaa00", "#dddddd", "#aaaa00", "#eedd88", "#ffaabb",
)  # fmt: skip
_OF_CLASS = dict(zip(CANONICAL, _COLOURS, strict=True))

_Slice = tuple[str, Score | None, Score | None]  # name, the old model's, the new one's


@dataclass(frozen=True, slots=True)
class Mark:
    """A box over a picture: pixels, what stands at it, where that stands, its colour."""

    x: float
    y: float
    width: float
    height: float
    words: str
    words_y: float
    colour: str


@dataclass(frozen=True, slots=True)
class Side:
    """A picture as one model sees it; `found` of the labelled objects."""

    title: str
    marks: tuple[Mark, ...]
    found: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with what both models see in it.

    Attributes:
        uri: the JPEG as a data URI.
        letters: height of the letters, pixels of the picture.
        objects: that are labelled.
    """

    name: str
    uri: str
    width: int
    height: int
    letters: float
    objects: int
    truth: tuple[Mark, ...]
    sides: tuple[Side, Side]


@dataclass(frozen=True, slots=True)
class StageTime:
    """How long a stage took; `counted`: it is training or evaluation."""

    name: str
    seconds: float
    share: float
    counted: bool


def page(record: DemoRecord, found: Findings) -> str:
    """Lay the record, and what was found in it, out as HTML."""
    environment = page_environment("tools.demo")
    environment.filters.update(grouped=_grouped, figure=number, duration=_duration)
    slices = [(name, score(record.baseline, name), score(record.candidate, name)) for name in SLICES]
    ways = {way: record.frames.get(way, 0) for way in WAYS_OUT}
    loss, map50 = ([epoch[column] for epoch in record.training] for column in (0, 1))
    return environment.get_template("report.html.jinja").render(
        record=record,
        found=found,
        headline=_headline(record, found, slices),
        tiles=_tiles(record, found, slices),
        promises=promises(record, found),
        drift_chart=charts.drift_chart(record.drift, found.spans, record.night_from_s, record.swap.drive_s)
        if record.drift
        else None,
        pictures=[picture for each in record.comparisons if (picture := _picture(each))],
        slices=slices,
        score_chart=charts.score_chart(slices),
        gaps_chart=charts.gaps_chart(record.swap, found.gaps) if record.swap.gaps else None,
        ways=ways,
        unaccounted=record.frames.get("captured", 0) - sum(ways.values()),
        stages=_stage_times(record, found.wall_s),
        loss_chart=charts.curve_chart(loss, "loss"),
        map_chart=charts.curve_chart(map50, "mAP50 on the validation pictures"),
    )


def _headline(record: DemoRecord, found: Findings, slices: Sequence[_Slice]) -> list[str]:
    """The outcome in a few sentences."""
    said = []
    for name, before, after in reversed(slices):
        if before and after:
            old, new = (f"{one.map50:.3f}" for one in (before, after))
            verb = "rose" if after.map50 > before.map50 else "fell"
            moved = f"stayed at {old}" if old == new else f"{verb} from {old} to {new}"
            gain = found.night_gain if name == "night" else None
            times = f", {gain:.1f} times as much" if gain and gain > 1 else ""
            said.append(f"By {name}, mAP50 {moved}{times}.")
    late = found.alarm_after_s
    noticed = "no alarm after dusk" if late is None else f"the alarm {late:.0f} s of drive after dusk"
    said.append(f"The vehicle raised {noticed}.")
    lost, worst = record.swap.frames_lost, found.gaps.worst_ms
    what = "no frame" if lost == 0 else f"{lost} frame{'s' * (lost > 1)}"
    gap = "" if worst is None else f"; the longest gap around it was {worst:.0f} ms"
    return [*said, f"The swap lost {what}{gap}."]


def _tiles(record: DemoRecord, found: Findings, slices: Sequence[_Slice]) -> list[tuple[str, str]]:
    """Figures and what they are."""
    late, worst = found.alarm_after_s, found.gaps.worst_ms
    return [
        *(
            (" → ".join(number(one.map50 if one else None) for one in both), f"mAP50 by {name}")
            for name, *both in reversed(slices)
        ),
        (NOTHING if late is None else f"{late:.0f} s", "of drive from dusk to alarm"),
        (_alarms(found.alarms.by_day, found.judged_by_day_s), "false alarms by day"),
        (_alarms(found.alarms.after_swap, found.judged_s), "alarms at night under the new model"),
        (str(record.swap.frames_lost), "frames lost by the swap"),
        (NOTHING if worst is None else f"{worst:.0f} ms", "longest gap around the swap"),
        (_duration(found.wall_s), "wall time of it all"),
    ]


def _alarms(alarms: Sequence[Span], judged_s: float) -> str:
    """How many; where the monitor judged nothing, none says nothing."""
    return str(len(alarms)) if alarms or judged_s > 0 else NOTHING


def _picture(comparison: Comparison) -> Picture | None:
    """Lay one comparison out; None where there is no JPEG to show."""
    size = jpeg_size(comparison.jpeg)
    if size is None or 0 in size:
        return None
    height, width = size
    letters = max(width / 52, 6.0)
    sides = [
        Side(title, _marks(boxes, letters), objects_found(boxes, comparison.truth))
        for title, boxes in (("before", comparison.before), ("after", comparison.after))
    ]
    truth = _marks([(*labelled[:4], 1.0, labelled[4]) for labelled in comparison.truth], letters)
    return Picture(
        comparison.name,
        jpeg_uri(comparison.jpeg),
        width,
        height,
        letters,
        len(comparison.truth),
        truth,
        (sides[0], sides[1]),
    )


def _marks(boxes: Sequence[Detected], letters: float) -> tuple[Mark, ...]:
    return tuple(
        Mark(
            x1,
            y1,
            max(0.0, x2 - x1),
            max(0.0, y2 - y1),
            f"{name} {score:.2f}",
            y1 - letters / 4 if y1 > 1.3 * letters else y2 + letters,
            colour(name),
        )
        for x1, y1, x2, y2, score, name in boxes
        if all(map(math.isfinite, (x1, y1, x2, y2)))
    )


def colour(name: str) -> str:
    """The colour of a class: always the same."""
    other = _COLOURS[sum(name.encode(errors="replace")) % len(_COLOURS)]
    return _OF_CLASS.get(canonical(name), other)


def _stage_times(record: DemoRecord, wall_s: float | None) -> list[StageTime]:
    return [
        StageTime(name, seconds, min(1.0, seconds / (wall_s or 1.0)), name in record.train_and_evaluate)
        for name, seconds in record.timings.items()
        if math.isfinite(seconds)
    ]


def _grouped(number: int | None) -> str:
    return NOTHING if number is None else f"{number:,}"


def _duration(seconds: float | None) -> str:
    known = finite(seconds)
    if known is None:
        return NOTHING
    if known < 60:
        return f"{known:.1f} s"
    whole = round(known)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {whole % 60:02d} s"
