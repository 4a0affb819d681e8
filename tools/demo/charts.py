"""The report's charts, each a pure function from figures to SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tools.charts.drives import LETTER, STRIP, time_axis, verdict_bar
from tools.charts.svg import (
    Axis,
    Drawing,
    area_steps,
    clock,
    highest_per_pixel,
    line_steps,
    ticks,
    unbroken,
)
from tools.demo.findings import LEARNING, Gaps, Span, feature_alarms, feature_names
from tools.demo.record import DriftPoint, Score, SwapRecord

# Verdicts that have a colour in the style sheet.
VERDICTS = ("stable", "uncalibrated", "learning", "alarm", "paused")

_DRIFT_WIDTH = 960
_NAMES = 164  # pixels that the names of features take
_RIGHT = 56
_ROW, _BETWEEN, _HEAD = 34, 8, 22


def drift_chart(
    points: Sequence[DriftPoint], all_spans: Sequence[Span], night_from_s: float, swap_s: float
) -> str:
    """KS distance of each feature over the drive: a row a feature, the verdict of all above them.

    Args:
        points: in order, at least one.
        all_spans: theirs.
        night_from_s: from here on the ground is dark.
        swap_s: a line is here.
    """
    names = feature_names(points)
    begin, end = points[0].drive_s, max(points[-1].drive_s, points[0].drive_s + 1.0)
    along = Axis(begin, end, _NAMES, _DRIFT_WIDTH - _RIGHT)
    top = _HEAD + STRIP + _BETWEEN
    bottom = top + len(names) * (_ROW + _BETWEEN)
    drawing = Drawing(_DRIFT_WIDTH, bottom + 40, "Drift of each feature over the drive's time")
    dusk, swap = along.at(night_from_s), along.at(swap_s)
    drawing.rectangle(dusk, _HEAD, along.end, bottom, "night")
    for span in all_spans:
        if span.verdict == LEARNING:
            drawing.rectangle(along.at(span.begin_s), top, along.at(span.end_s), bottom, "learning-ground")
    _verdict_strip(drawing, along, all_spans)
    for number, name in enumerate(names):
        _feature_row(drawing, along, top + number * (_ROW + _BETWEEN), points, name)
    time_axis(drawing, along, bottom)
    if night_from_s > begin and dusk - along.start > 4 * LETTER:
        drawing.text(along.start + 2, _HEAD - 8, "day", "tick")
    if along.end - dusk > 6 * LETTER:
        drawing.text(dusk + 2, _HEAD - 8, "night", "tick")
    drawing.line(swap, _HEAD - 4, swap, bottom, "swap")
    drawing.text(
        swap, _HEAD - 8, f"swap {clock(swap_s)}", "swap-label", "end" if swap > along.end - 80 else "middle"
    )
    return drawing.markup()


def _verdict_strip(drawing: Drawing, along: Axis, all_spans: Sequence[Span]) -> None:
    drawing.text(0, _HEAD + 15, "verdict", "label strong")
    for span in all_spans:
        left, right = along.at(span.begin_s), along.at(span.end_s)
        kind = span.verdict if span.verdict in VERDICTS else "paused"
        told = f"{span.verdict}, {clock(span.begin_s)} to {clock(span.end_s)}"
        if span.features:
            told += f": {', '.join(span.features)}"
        verdict_bar(drawing, left, right, _HEAD, kind, [span.verdict], told)


def _feature_row(drawing: Drawing, along: Axis, top: float, points: Sequence[DriftPoint], name: str) -> None:
    up = Axis(0.0, 1.0, top + _ROW, top)
    for begin, end in feature_alarms(points, name):
        left = along.at(begin)
        told = f"{name} in alarm, {clock(begin)} to {clock(end)}"
        drawing.rectangle(left, top, max(along.at(end), left + 1), top + _ROW, "alarm-ground", told)
    drawing.line(along.start, up.end, along.end, up.end, "grid")
    drawing.line(along.start, up.start, along.end, up.start, "grid strong")
    distances = [point.ks.get(name, math.nan) for point in points]
    placed = [
        (along.at(point.drive_s), up.at(distance)) if math.isfinite(distance) else None
        for point, distance in zip(points, distances, strict=True)
    ]
    for piece in unbroken(highest_per_pixel(placed)):
        drawing.path(area_steps(piece, up.start), "area")
        drawing.path(line_steps(piece), "curve")
    drawing.text(0, top + _ROW / 2 + 5, _shortened(name, _NAMES - 10), "label")
    farthest = max((distance for distance in distances if math.isfinite(distance)), default=None)
    if farthest is not None:
        drawing.text(_DRIFT_WIDTH - _RIGHT + 8, top + _ROW / 2 + 5, f"≤ {farthest:.2f}", "tick")


def score_chart(slices: Sequence[tuple[str, Score | None, Score | None]]) -> str:
    """MAP50 of both models on each slice, as bars with the ends of their intervals.

    Args:
        slices: name, the old model's score, the new one's; None or NaN leaves the bar out.
    """
    width, bar, between = 520, 22, 4
    group = 2 * bar + between + 22
    scores = [score for _, *both in slices for score in both if score and math.isfinite(score.map50)]
    tops = [value for score in scores for value in (score.map50, score.high) if math.isfinite(value)]
    marks = ticks(max(tops, default=1.0))
    across = Axis(0.0, marks[-1], 64, width - 58)
    bottom = len(slices) * group
    drawing = Drawing(width, bottom + 24, "mAP50 by slice, before and after")
    for mark in marks:
        x = across.at(mark)
        drawing.line(x, 0, x, bottom, "grid")
        drawing.text(x, bottom + 18, f"{mark:g}", "tick", "middle")
    for number, (name, *both) in enumerate(slices):
        top = number * group + 8
        drawing.text(0, top + bar + 6, _shortened(name, 58), "label strong")
        for place, (kind, score) in enumerate(zip(("before", "after"), both, strict=True)):
            if score and math.isfinite(score.map50):
                _score_bar(drawing, across, top + place * (bar + between), bar, kind, score)
    drawing.line(across.start, 0, across.start, bottom, "axis")
    return drawing.markup()


def _score_bar(drawing: Drawing, across: Axis, top: float, bar: float, kind: str, score: Score) -> None:
    end, middle = across.at(score.map50), top + bar / 2
    drawing.rectangle(across.start, top, end, top + bar, kind, f"{kind}: {score.map50:.3f}")
    if math.isfinite(score.low) and math.isfinite(score.high):
        low, high = across.at(score.low), across.at(score.high)
        drawing.line(low, middle, high, middle, "whisker")
        for x in (low, high):
            drawing.line(x, middle - 5, x, middle + 5, "whisker")
        end = max(end, high)
    drawing.text(end + 6, middle + 5, f"{score.map50:.3f}", "label")


def gaps_chart(swap: SwapRecord, figures: Gaps) -> str:
    """Time between publications, frame by frame around the swap; its own frame stands out."""
    width, height, left, bottom = 960, 260, 46, 216
    around = [(sequence, gap) for sequence, gap in swap.gaps if math.isfinite(gap)]
    worst = figures.worst_ms or 0.0
    marks = ticks(worst * 1.08, 4)
    up = Axis(0.0, marks[-1], bottom, 18)
    first = min([swap.frame_after, *(sequence for sequence, _ in around)])
    last = max([swap.frame_after, *(sequence for sequence, _ in around)])
    along = Axis(first - 0.5, last + 0.5, left, width - 12)
    half = max(0.5, 0.4 * (along.end - along.start) / (last - first + 1))
    drawing = Drawing(width, height, "Time between publications around the swap")
    for mark in marks:
        drawing.line(left, up.at(mark), along.end, up.at(mark), "grid")
        drawing.text(left - 6, up.at(mark) + 4, f"{mark:g}", "tick", "end")
    for sequence, gap in around:
        kind = "after" if sequence == swap.frame_after else "plain"
        x = along.at(sequence)
        drawing.rectangle(x - half, up.at(gap), x + half, bottom, kind, f"frame {sequence}: {gap:.1f} ms")
    if figures.median_ms is not None:
        y = up.at(figures.median_ms)
        drawing.line(left, y, along.end, y, "median")
        drawing.text(along.end, y - 5, f"median {figures.median_ms:.1f} ms", "label haloed", "end")
    if figures.worst_ms is not None:
        y = up.at(figures.worst_ms)
        drawing.line(left, y, along.end, y, "worst")
        drawing.text(left + 4, y - 5, f"worst {figures.worst_ms:.1f} ms", "label haloed")
    drawing.line(left, bottom, along.end, bottom, "axis")
    x = along.at(swap.frame_after)
    for place, anchor, words in (
        (left, "start", f"frame {first}"),
        (x, "middle", f"swap: frame {swap.frame_after}"),
        (along.end, "end", f"frame {last}"),
    ):
        if place == x or abs(place - x) > 150:
            drawing.text(place, bottom + 18, words, "tick", anchor)
    drawing.text(left, bottom + 38, "milliseconds since the publication before", "tick")
    return drawing.markup()


def curve_chart(values: Sequence[float], words: str) -> str:
    """One figure of the training, epoch by epoch.

    Args:
        values: of the first epoch on; NaN breaks the line.
        words: what it is.
    """
    width, height, left, bottom = 480, 200, 46, 162
    known = [value for value in values if math.isfinite(value)]
    marks = ticks(max(known, default=1.0), 4)
    up = Axis(0.0, marks[-1], bottom, 26)
    along = Axis(1.0, max(len(values), 2), left, width - 56)
    drawing = Drawing(width, height, f"{words}, epoch by epoch")
    drawing.text(0, 12, words, "label strong")
    for mark in marks:
        drawing.line(left, up.at(mark), along.end, up.at(mark), "grid")
        drawing.text(left - 6, up.at(mark) + 4, f"{mark:g}", "tick", "end")
    placed = [
        (along.at(epoch), up.at(value)) if math.isfinite(value) else None
        for epoch, value in enumerate(values, 1)
    ]
    for piece in unbroken(placed):
        drawing.path(line_steps(piece), "curve strong")
    for epoch, value in enumerate(values, 1):
        if math.isfinite(value):
            told = f"epoch {epoch}: {value:.3f}"
            drawing.circle(along.at(epoch), up.at(value), 3, "dot-mark", told)
    drawing.line(left, bottom, along.end, bottom, "axis")
    drawing.text(left, bottom + 18, "epoch 1", "tick", "middle")
    if len(values) > 1:
        drawing.text(along.end, bottom + 18, str(len(values)), "tick", "middle")
    if placed and placed[-1]:
        x, y = placed[-1]
        drawing.text(x + 8, y + 4, f"{values[-1]:.3f}", "label")
    return drawing.markup()


def _shortened(name: str, pixels: float) -> str:
    most = int(pixels / LETTER)
    return name if len(name) <= most else name[: most - 1] + "…"
