"""Axes, ticks and lines of the report's charts."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.charts.svg import Axis, clock, highest_per_pixel, ticks, time_ticks, unbroken

places = st.lists(st.one_of(st.none(), st.tuples(st.floats(0, 30), st.floats(0, 1))), max_size=80)


@settings(deadline=None)
@given(st.floats(1e-6, 1e9))
def test_ticks_reach_the_highest_value_and_are_few(high: float) -> None:
    marks = ticks(high)
    assert marks[0] == 0 and marks[-1] >= high * (1 - 1e-6)
    assert marks[-2] < high
    assert 2 <= len(marks) <= 7
    steps = [later - earlier for earlier, later in pairwise(marks)]
    assert max(steps) == pytest.approx(min(steps))


@pytest.mark.parametrize("high", [0.0, -1.0, math.nan, math.inf])
def test_nothing_to_show_has_an_axis_too(high: float) -> None:
    assert ticks(high) == [0.0, 1.0]


@settings(deadline=None)
@given(st.floats(-1e5, 1e5), st.floats(1, 1e6))
def test_times_are_round_few_and_inside(low: float, length: float) -> None:
    marks = time_ticks(low, low + length)
    assert len(marks) <= 11
    assert all(low - 1e-6 <= mark <= low + length + 1e-6 and mark == int(mark) for mark in marks)


@settings(deadline=None)
@given(places)
def test_a_line_keeps_its_peaks_and_its_breaks(drawn: list[tuple[float, float] | None]) -> None:
    known = sorted(point for point in drawn if point)
    points = [None if point is None else known.pop(0) for point in drawn]  # to the right
    kept = highest_per_pixel(points)
    assert kept.count(None) == points.count(None)
    assert all(any(one is other for other in points) for one in kept)
    for piece, whole in zip(unbroken(kept), unbroken(points), strict=True):
        columns = [int(x) for x, _ in piece]
        assert len(set(columns)) == len(columns)
        assert {column: y for column, (_, y) in zip(columns, piece, strict=True)} == {
            column: min(y for x, y in whole if int(x) == column) for column in columns
        }


@settings(deadline=None)
@given(st.floats(-1e3, 1e3))
def test_what_lies_beyond_an_axis_is_at_its_end(value: float) -> None:
    along = Axis(0.0, 10.0, 50.0, 20.0)
    assert 20.0 <= along.at(value) <= 50.0
    assert along.at(0.0) == 50.0 and along.at(10.0) == 20.0


@pytest.mark.parametrize(("seconds", "words"), [(0, "0:00"), (59.6, "1:00"), (725, "12:05"), (-5, "-0:05")])
def test_the_clock(seconds: float, words: str) -> None:
    assert clock(seconds) == words
