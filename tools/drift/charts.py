"""The drift report's charts, each a pure function from figures to SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from edge.drift.explaining import label
from edge.drift.features import FEATURES
from edge.drift.pacing import GAP_S
from edge.drift.reference import FeatureReference
from edge.drift.unknown import NAME as UNKNOWN
from tools.charts.drives import LETTER, STRIP, time_axis, verdict_bar
from tools.charts.svg import Axis, Drawing, clock, line_steps, unbroken
from tools.drift.judged import JudgedDrive, Misfits, Series
from tools.drift.words import figure, unit

_WIDTH = 1060
_NAMES, _RIGHT = 172, 92  # pixels for the names, and for the figures at the right
_HEAD = 6
_VALUES, _DISTANCES, _WITHIN, _BETWEEN = 54, 34, 5, 16
_LEAST_SHOWN = 0.005  # of a distance: less is told as 0.00
_RANGES = {feature.name: (feature.least, feature.most) for feature in FEATURES}
_LEAST_STEP = 0.1  # pixels: a limit that moves by less is the same line

Points: TypeAlias = "list[tuple[float, float] | None]"
_Value = TypeVar("_Value")


def timeline_chart(drive: JudgedDrive) -> str:
    """A drive's features over its time, a row each: values above, distances from the reference below.

    Windows are lines (the longer, the heavier), and the distance at which a window's alarm begins is a dashed
    line of the same weight.
    """
    series = drive.series
    columns = [number for number in range(series.values.shape[1]) if _shown(series, number)]
    row = _VALUES + _WITHIN + _DISTANCES + _BETWEEN
    top = _HEAD + STRIP + _BETWEEN
    bottom = top + len(columns) * row + (_VALUES + _BETWEEN if series.misfits else 0)
    end_s = max(float(series.times_s[-1]), float(series.times_s[0]) + 1.0)
    along = Axis(float(series.times_s[0]), end_s, _NAMES, _WIDTH - _RIGHT)
    drawing = Drawing(_WIDTH, bottom + 34, f"Drift features over the time of {drive.source}")
    _verdicts(drawing, along, drive)
    for place, column in enumerate(columns):
        _feature_row(drawing, along, top + place * row, drive, column)
    if series.misfits:
        _misfits_row(drawing, along, bottom - _BETWEEN, series, series.misfits)
    time_axis(drawing, along, bottom - _BETWEEN / 2)
    return drawing.markup()


def distribution_chart(feature: FeatureReference, values: npt.NDArray[np.floating], words: str) -> str:
    """Share of frames up to each value: of what was seen, against what the reference allows.

    Args:
        feature: the reference's; it has edges.
        values: `float[n]`, all finite, at least one.
        words: what was seen, for people.
    """
    width, height, left, bottom, top = 340, 216, 34, 168, 26
    ordered = np.sort(np.asarray(values, np.float64))
    # A reference's room may reach beyond what the feature can be.
    first, last = (_possible(feature.name, edge) for edge in (feature.edges[0], feature.edges[-1]))
    low, high = min(float(ordered[0]), first), max(float(ordered[-1]), last)
    room = 0.04 * (high - low) or 1.0
    along, up = Axis(low - room, high + room, left, width - 10), Axis(0.0, 1.0, bottom, top)
    drawing = Drawing(width, height, f"{label(feature.name)}: {words} against the reference")
    drawing.text(0, 12, label(feature.name), "label strong")
    for share in (0.0, 0.5, 1.0):
        drawing.line(left, up.at(share), along.end, up.at(share), "grid")
        drawing.text(left - 6, up.at(share) + 4, f"{share:g}", "tick", "end")
    upper, lower = (_steps(along, up, feature.edges, shares) for shares in (feature.upper, feature.lower))
    drawing.path(line_steps([*upper, *reversed(lower)]) + "Z", "band")
    for line in (upper, lower):
        drawing.path(line_steps(line), "reference")
    shares = np.arange(1, len(ordered) + 1) / len(ordered)
    drawing.path(line_steps(_steps(along, up, ordered, shares)), "curve strong")
    at_edges = np.searchsorted(ordered, feature.edges, side="right") / len(ordered)
    beyond = np.maximum(at_edges - feature.upper, feature.lower - at_edges)
    worst = int(beyond.argmax())
    if beyond[worst] >= _LEAST_SHOWN:
        x = along.at(float(feature.edges[worst]))
        edge = feature.upper if at_edges[worst] > feature.upper[worst] else feature.lower
        drawing.line(x, up.at(float(at_edges[worst])), x, up.at(float(edge[worst])), "worst-gap")
        drawing.text(along.end, top - 8, f"D {beyond[worst]:.2f}", "label", "end")
    drawing.line(left, bottom, along.end, bottom, "axis")
    for value, anchor in ((low, "start"), (high, "end")):
        drawing.text(along.at(value), bottom + 18, figure(value), "tick", anchor)
    drawing.text((left + along.end) / 2, bottom + 18, unit(feature.name), "tick", "middle")
    drawing.text((left + along.end) / 2, bottom + 38, words, "tick", "middle")
    return drawing.markup()


def _possible(name: str, value: float) -> float:
    """The value, or the end of the feature's range that it lies beyond."""
    least, most = _RANGES.get(name, (-math.inf, math.inf))
    return min(most, max(least, float(value)))


def _shown(series: Series, column: int) -> bool:
    return bool(np.isfinite(series.values[:, column]).any())


def _verdicts(drawing: Drawing, along: Axis, drive: JudgedDrive) -> None:
    series = drive.series
    drawing.text(0, _HEAD + 15, "verdict", "label strong")
    told = [
        (verdict.value, drive.reference.contexts[number].name)
        for verdict, number in zip(series.verdicts, series.judged_in, strict=True)
    ]
    for (verdict, context), begin, end in _spans(told):
        left = along.at(float(series.judged_s[begin]))
        right = along.at(float(series.judged_s[min(end, len(told) - 1)]))
        words = f"{verdict}, {context}"
        title = f"{words}: {clock(float(series.judged_s[begin]))} to {clock(float(series.judged_s[end - 1]))}"
        verdict_bar(drawing, left, right, _HEAD, verdict, [words, verdict], title)


def _feature_row(drawing: Drawing, along: Axis, top: float, drive: JudgedDrive, column: int) -> None:
    series, feature = drive.series, drive.reference.names[column]
    floor = top + _VALUES + _WITHIN + _DISTANCES
    _row_head(drawing, along, top, floor, series, feature, series.alarming[:, column])
    _values_panel(drawing, along, top, drive, column)
    _distances_panel(drawing, along, floor, drive, column)


def _misfits_row(drawing: Drawing, along: Axis, floor: float, series: Series, misfits: Misfits) -> None:
    """The share of frames that fit no context, and the shares at which its alarm begins."""
    top = floor - _VALUES
    _row_head(drawing, along, top, floor, series, UNKNOWN, misfits.alarming)
    up = Axis(0.0, 1.0, floor, top)
    drawing.rectangle(along.start, top, along.end, floor, "panel")
    drawing.line(along.start, up.at(misfits.usual), along.end, up.at(misfits.usual), "reference")
    for window in range(misfits.shares.shape[1]):
        shares, limit = misfits.shares[:, window], misfits.limit[:, window]
        _window_lines(drawing, along, up, series, window, shares, limit)
    for share, down in ((1.0, 9.0), (0.0, 0.0)):
        drawing.text(along.start - 6, up.at(share) + down, f"{share:g}", "tick", "end")
    told = [f"{np.nanmax(one):.2f}" for one in misfits.shares.T if np.isfinite(one).any()]
    if told:
        drawing.text(along.end + 6, (top + floor) / 2 + 4, f"to {' '.join(told)}", "tick")


def _row_head(
    drawing: Drawing,
    along: Axis,
    top: float,
    floor: float,
    series: Series,
    feature: str,
    alarming: npt.NDArray[np.bool_],
) -> None:
    """A row's name at the left, and the ground of when it is in alarm, `bool[J]`."""
    name = label(feature)
    for alarm, begin, end in _spans(alarming.tolist()):
        if alarm:
            left = along.at(float(series.judged_s[begin]))
            right = along.at(float(series.judged_s[min(end, len(series.judged_s) - 1)]))
            title = f"{name} in alarm from {clock(float(series.judged_s[begin]))}"
            drawing.rectangle(left, top, max(right, left + 1), floor, "alarm-ground", title)
    lines = _broken(name)
    for number, line in enumerate(lines):
        drawing.text(0, top + 15 + 16 * number, line, "label strong")
    drawing.text(0, top + 15 + 16 * len(lines), unit(feature), "tick")


def _values_panel(drawing: Drawing, along: Axis, top: float, drive: JudgedDrive, column: int) -> None:
    series = drive.series
    values = series.values[:, column]
    known = [context.features[column] for context in drive.reference.contexts]
    ends = [float(np.nanmin(values)), float(np.nanmax(values))]
    ends += [
        _possible(one.name, one.mean + side * one.sigma)
        for one in _judged(drive, column)
        for side in (-1.0, 1.0)
    ]
    low, high = min(ends), max(ends)
    room = 0.06 * (high - low) or 1.0
    up = Axis(low - room, high + room, top + _VALUES, top)
    drawing.rectangle(along.start, top, along.end, top + _VALUES, "panel")
    for number, begin, end in _spans(series.judged_in.tolist()):
        one = known[number]
        if one.known:
            left = along.at(float(series.judged_s[begin]))
            right = along.at(float(series.judged_s[min(end, len(series.judged_s) - 1)]))
            drawing.rectangle(left, up.at(one.mean + one.sigma), right, up.at(one.mean - one.sigma), "band")
            drawing.line(left, up.at(one.mean), right, up.at(one.mean), "reference")
    for piece in unbroken(_points(along, up, series.times_s, values)):
        drawing.path(line_steps(_envelope(piece)), "raw")
    for piece in unbroken(_points(along, up, series.judged_s, series.means[:, column])):
        drawing.path(line_steps(_envelope(piece)), "curve strong")
    drawing.text(along.end + 6, top + 11, figure(high), "tick")
    drawing.text(along.end + 6, top + _VALUES - 2, figure(low), "tick")


def _distances_panel(drawing: Drawing, along: Axis, floor: float, drive: JudgedDrive, column: int) -> None:
    series = drive.series
    up = Axis(0.0, 1.0, floor, floor - _DISTANCES)
    drawing.rectangle(along.start, floor - _DISTANCES, along.end, floor, "panel")
    told = []
    for window in range(series.d.shape[1]):
        distances = series.d[:, window, column]
        _window_lines(drawing, along, up, series, window, distances, series.limit[:, window, column])
        if np.isfinite(distances).any():
            told.append(f"{np.nanmax(distances):.2f}")
    drawing.text(along.start - 22, floor - _DISTANCES / 2 + 4, "D", "tick", "end")
    for share, down in ((1.0, 9.0), (0.0, 0.0)):
        drawing.text(along.start - 6, up.at(share) + down, f"{share:g}", "tick", "end")
    room = max((one.margin for one in _judged(drive, column)), default=0.0)
    if told:
        middle = floor - _DISTANCES / 2 + (-2 if room else 4)
        drawing.text(along.end + 6, middle, f"D to {' '.join(told)}", "tick")
    if told and room:
        drawing.text(along.end + 6, middle + 14, f"room {figure(room)}", "tick")


def _window_lines(
    drawing: Drawing,
    along: Axis,
    up: Axis,
    series: Series,
    window: int,
    values: npt.NDArray[np.float32],
    limit: npt.NDArray[np.float32],
) -> None:
    """A window's line, `float32[J]`, and where its alarm begins; a limit above 1 is never reached."""
    kind = f"window-{min(window, 2)}"
    heights = [round(up.at(one) / _LEAST_STEP) * _LEAST_STEP if one <= 1 else None for one in limit.tolist()]
    for height, begin, end in _spans(heights):
        if height is not None:
            left = along.at(float(series.judged_s[begin]))
            right = along.at(float(series.judged_s[min(end, len(series.judged_s) - 1)]))
            drawing.line(left, height, right, height, f"limit {kind}")
    for piece in unbroken(_points(along, up, series.judged_s, values)):
        drawing.path(line_steps(_envelope(piece)), f"distance {kind}")


def _judged(drive: JudgedDrive, column: int) -> list[FeatureReference]:
    """What this feature was judged by, in each context that the drive was in."""
    known = [context.features[column] for context in drive.reference.contexts]
    return [known[number] for number in sorted(set(drive.series.judged_in.tolist())) if known[number].known]


def _points(
    along: Axis, up: Axis, times_s: npt.NDArray[np.float64], values: npt.NDArray[np.floating]
) -> Points:
    points: Points = []
    before = -math.inf
    for second, value in zip(times_s.tolist(), values.tolist(), strict=True):
        if not 0 <= second - before <= GAP_S:
            points.append(None)
        before = second
        points.append((along.at(second), up.at(value)) if math.isfinite(value) else None)
    return points


def _envelope(piece: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of the points in one column of pixels the first, highest, lowest and last: a line looks the same."""
    kept = []
    for _, group in groupby(piece, key=lambda point: int(point[0])):
        points = list(group)
        chosen = {0, len(points) - 1}
        chosen |= {pick(range(len(points)), key=lambda at: points[at][1]) for pick in (min, max)}
        kept += [points[at] for at in sorted(chosen)]
    return kept


def _steps(
    along: Axis, up: Axis, places: npt.NDArray[np.floating], shares: npt.NDArray[np.floating]
) -> list[tuple[float, float]]:
    """A distribution function as steps, from the axis' one end to the other."""
    line = [(along.start, up.at(0.0))]
    for place, share in zip(places.tolist(), shares.tolist(), strict=True):
        x = along.at(place)
        line += [(x, line[-1][1]), (x, up.at(share))]
    return [*line, (along.end, line[-1][1])]


def _spans(values: Sequence[_Value]) -> Iterator[tuple[_Value, int, int]]:
    begin = 0
    for value, group in groupby(values):
        end = begin + sum(1 for _ in group)
        yield value, begin, end
        begin = end


def _broken(name: str) -> list[str]:
    """A name on at most two lines."""
    if len(name) * LETTER <= _NAMES - 30:
        return [name]
    blanks = (at for at, letter in enumerate(name) if letter == " ")
    middle = min(blanks, key=lambda at: abs(at - len(name) / 2), default=0)
    return [name[:middle], name[middle + 1 :]] if middle else [name]
