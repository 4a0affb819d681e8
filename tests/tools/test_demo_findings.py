"""The rules by which a demonstration's figures are counted."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.demo.findings import (
    ALARM,
    feature_alarms,
    feature_names,
    gaps,
    iou,
    objects_found,
    other_share,
    sort_alarms,
    spans,
    stage_keys,
)
from tools.demo.record import DriftPoint, SwapRecord

OLD, NEW = "a" * 64, "b" * 64
VERDICTS = ("stable", ALARM, "learning")

whole_or_none = st.one_of(st.floats(0, 1e6), st.just(math.nan))
states = st.lists(
    st.tuples(st.sampled_from(VERDICTS), st.sampled_from((OLD, NEW)), st.sets(st.sampled_from("xyz"))),
    max_size=40,
)
edges = st.floats(0, 100)
corners = st.tuples(edges, edges, st.floats(0.5, 60), st.floats(0.5, 60))
classes = st.sampled_from(("car", "person", "pedestrian"))


def drive(drawn: list[tuple[str, str, set[str]]]) -> list[DriftPoint]:
    """A state a second."""
    return [
        DriftPoint(
            float(second), verdict, "", {"x": 0.1}, tuple(sorted(alarming)) if verdict == ALARM else (), model
        )
        for second, (verdict, model, alarming) in enumerate(drawn)
    ]


def swap(gap_ms: float, *around: float) -> SwapRecord:
    return SwapRecord(9.0, 99, 100, 0, gap_ms, 0.0, list(enumerate(around)))


@settings(deadline=None)
@given(states)
def test_the_spans_are_the_drive_without_gap_or_overlap(drawn: list[tuple[str, str, set[str]]]) -> None:
    points = drive(drawn)
    found = spans(points)
    assert all(one.end_s == other.begin_s for one, other in pairwise(found))
    assert all((one.verdict, one.model) != (other.verdict, other.model) for one, other in pairwise(found))
    for point in points:
        covering = [span for span in found if span.begin_s <= point.drive_s < span.end_s] or [found[-1]]
        assert [(span.verdict, span.model) for span in covering] == [(point.verdict, point.model)]
        assert set(point.alarming) <= set(covering[0].features)


@settings(deadline=None)
@given(states, st.floats(-5, 50), st.floats(-5, 50))
def test_each_alarm_is_in_exactly_one_place(
    drawn: list[tuple[str, str, set[str]]], night_from_s: float, swap_s: float
) -> None:
    found = spans(drive(drawn))
    alarms = sort_alarms(found, night_from_s, swap_s, NEW)
    placed = [*alarms.by_day, *alarms.at_night, *alarms.after_swap]
    expected = [span for span in found if span.verdict == ALARM]
    assert sorted(placed, key=lambda span: span.begin_s) == expected
    assert all(span.begin_s < night_from_s for span in alarms.by_day)
    assert all(span.model == OLD and span.begin_s < swap_s for span in alarms.at_night)


def test_an_alarm_that_outlives_the_swap_counts_against_the_new_model() -> None:
    points = drive([("stable", OLD, set())] * 2 + [(ALARM, OLD, {"x"})] * 3 + [(ALARM, NEW, {"x"})] * 2)
    alarms = sort_alarms(spans(points), 1.0, 5.0, NEW)
    assert [(span.begin_s, span.end_s) for span in alarms.at_night] == [(2.0, 5.0)]
    assert [(span.begin_s, span.end_s) for span in alarms.after_swap] == [(5.0, 6.0)]


def test_an_alarm_under_the_old_model_after_the_swap_is_none_that_was_wanted() -> None:
    points = drive([("stable", NEW, set()), (ALARM, OLD, {"x"})])
    alarms = sort_alarms(spans(points), 0.0, 0.0, NEW)
    assert (len(alarms.at_night), len(alarms.after_swap)) == (0, 1)


@settings(deadline=None)
@given(states)
def test_a_features_alarms_hold_its_states_and_no_other(drawn: list[tuple[str, str, set[str]]]) -> None:
    points = drive(drawn)
    found = feature_alarms(points, "x")
    for number, point in enumerate(points[:-1]):
        inside = any(begin <= number < end for begin, end in found)
        assert inside == ("x" in point.alarming)


def test_features_that_alarm_first_come_first() -> None:
    points = [
        DriftPoint(0.0, "stable", "", {"calm": 0.2, "wild": 0.1, "lost": math.nan}, (), OLD),
        DriftPoint(1.0, ALARM, "", {"calm": 0.3, "wild": 0.25, "late": 0.2}, ("wild",), OLD),
        DriftPoint(2.0, ALARM, "", {"late": 0.9}, ("wild", "late"), OLD),
    ]
    assert feature_names(points) == ("wild", "late", "calm", "lost")


@settings(deadline=None)
@given(whole_or_none, st.lists(whole_or_none, max_size=9))
def test_the_worst_gap_is_none_of_fewer(own: float, around: list[float]) -> None:
    found = gaps(swap(own, *around))
    known = [gap for gap in [own, *around] if math.isfinite(gap)]
    assert found.worst_ms == (max(known) if known else None)
    assert (found.median_ms is None) == (not any(map(math.isfinite, around)))
    if found.median_ms is not None and found.worst_ms is not None:
        assert found.median_ms <= found.worst_ms


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), whole_or_none), st.sets(st.sampled_from("abcde")))
def test_the_share_of_other_work_is_a_share(timings: dict[str, float], counted: set[str]) -> None:
    share = other_share(timings, counted, None)
    known = {name: seconds for name, seconds in timings.items() if math.isfinite(seconds)}
    if not sum(known.values()):
        assert share is None
        return
    assert share is not None and 0 <= share <= 1
    rest = other_share(timings, set(timings) - counted, None)
    assert rest is not None and share + rest == pytest.approx(1)


@pytest.mark.parametrize(("wall_s", "share"), [(None, 0.25), (8.0, 0.625), (2.0, 0.0), (math.nan, None)])
def test_the_measured_wall_time_counts_where_there_is_one(wall_s: float | None, share: float | None) -> None:
    assert other_share({"train": 3.0, "ship": 1.0}, ("train", "evaluate"), wall_s) == share


def test_stages_get_names_that_a_program_likes() -> None:
    keys = stage_keys({"Driving by day": 2.0, "driving-by-day": 3.0, "train": 1.5, "lost": math.nan})
    assert keys == {"driving_by_day_s": 5.0, "train_s": 1.5, "lost_s": None}


@settings(deadline=None)
@given(corners, corners)
def test_the_overlap_is_of_both_alike(
    one: tuple[float, float, float, float], other: tuple[float, float, float, float]
) -> None:
    first, second = ((x, y, x + width, y + height) for x, y, width, height in (one, other))
    assert iou(first, second) == iou(second, first)
    assert 0 <= iou(first, second) <= 1 + 1e-9
    assert iou(first, first) == pytest.approx(1)


@settings(deadline=None)
@given(
    st.lists(st.tuples(corners, st.floats(0, 1), classes), max_size=6),
    st.lists(st.tuples(corners, classes), max_size=6),
)
def test_no_object_is_found_twice(detected: list, labelled: list) -> None:
    found = [(x, y, x + w, y + h, score, name) for (x, y, w, h), score, name in detected]
    truth = [(x, y, x + w, y + h, name) for (x, y, w, h), name in labelled]
    assert 0 <= objects_found(found, truth) <= min(len(found), len(truth))
    perfect = [(*box[:4], 0.5, box[4]) for box in truth]
    assert objects_found(perfect, truth) == len(truth)
    assert objects_found(perfect + perfect, truth) == len(truth)


def test_an_object_is_found_by_its_class_under_any_of_its_names() -> None:
    box = (10.0, 10.0, 30.0, 50.0)
    assert objects_found([(*box, 0.4, "person")], [(*box, "pedestrian")]) == 1
    assert objects_found([(*box, 0.4, "car")], [(*box, "pedestrian")]) == 0
    assert objects_found([(math.nan, 10.0, 30.0, 50.0, 0.9, "car")], [(*box, "car")]) == 0
