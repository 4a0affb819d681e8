"""Shadow's rules: the CPU budget, the agreement of two models, and who has passed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.perception.agreement import MATCH_IOU, Agreement, compare
from edge.perception.cpu_budget import CpuBudget
from edge.updates.shadow_rules import (
    LEAST_COMPARED,
    ShadowTally,
    early_failure,
    failure,
    is_over,
    shadow_terms,
)
from edge.updates.shadow_turns import Turns
from protos.release_promise import Promise, Range, ShadowFacts
from protos.traffic_vision.v1 import common_pb2

shares = st.floats(0.01, 1.0)


@given(shares, st.lists(st.tuples(st.floats(0, 5), st.floats(0, 3)), min_size=1, max_size=40))
def test_from_one_beginning_to_any_later_one_the_share_holds(
    share: float, work: list[tuple[float, float]]
) -> None:
    """Work is asked for at any time, takes any CPU time, and never runs on two cores at once."""
    budget, now_s = CpuBudget(share), 100.0
    began: list[tuple[float, float]] = []
    for pause_s, cpu_s in work:
        now_s += pause_s
        if budget.allows(now_s):
            budget.spent(now_s, cpu_s)
            began.append((now_s, cpu_s))
            now_s += cpu_s
    for first, (start_s, _) in enumerate(began):
        for last in range(first + 1, len(began)):
            spent_s = sum(cpu_s for _, cpu_s in began[first:last])
            assert spent_s <= share * (began[last][0] - start_s) + 1e-6
    end_s = now_s + 1000 / share
    assert budget.spent_share(end_s) <= share + 1e-9


def boxes(*rows: tuple[float, float, float, float, float, int]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 6)


def test_pairs_have_a_class_by_name_and_overlap() -> None:
    active = boxes((0, 0, 10, 10, 0.9, 0), (20, 20, 30, 30, 0.8, 1), (50, 50, 60, 60, 0.7, 0))
    candidate = boxes((0, 0, 10, 9, 0.5, 1), (20, 20, 30, 30, 0.6, 1), (50, 55, 60, 65, 0.7, 1))
    found = compare(active, candidate, ("car", "bus"), ("bus", "car"))
    assert found["car"] == Agreement(2, 3, 1, pytest.approx(-0.4))
    assert found["bus"] == Agreement(1, 0, 0, 0.0)


def test_one_thing_is_matched_once() -> None:
    active = boxes((0, 0, 10, 10, 0.9, 0))
    candidate = boxes((0, 0, 10, 10, 0.5, 0), (0, 0, 10, 9, 0.6, 0))
    (found,) = compare(active, candidate, ("car",), ("car",)).values()
    assert (found.active, found.candidate, found.matched) == (1, 2, 1)
    assert found.score_difference == pytest.approx(-0.3), "the more confident one chooses first"


coordinates = st.integers(0, 50)
rows = st.lists(
    st.tuples(
        coordinates, coordinates, st.integers(1, 30), st.integers(1, 30), st.floats(0, 1), st.integers(0, 2)
    ).map(lambda r: (r[0], r[1], r[0] + r[2], r[1] + r[3], r[4], r[5])),
    max_size=12,
)
NAMES = ("a", "b", "c")


@given(rows, rows)
def test_agreement_is_bounded_and_whole(left: list[tuple], right: list[tuple]) -> None:
    found = compare(boxes(*left), boxes(*right), NAMES, NAMES)
    total = sum(found.values(), Agreement())
    assert (total.active, total.candidate) == (len(left), len(right))
    assert all(one.matched <= min(one.active, one.candidate) for one in found.values())
    assert math.isnan(total.f1) or 0 <= total.f1 <= 1
    assert MATCH_IOU == 0.5


@given(rows)
def test_a_model_agrees_with_itself(found: list[tuple]) -> None:
    total = sum(compare(boxes(*found), boxes(*found), NAMES, NAMES).values(), Agreement())
    assert total.matched == len(found)
    assert total.f1 == 1.0 or not found


def tally(active: int, candidate: int, matched: int, frames: int = LEAST_COMPARED) -> ShadowTally:
    found = ShadowTally()
    for frame in range(frames):
        found.add({"car": Agreement(active, candidate, matched)} if frame == 0 else {}, 1.0)
    return found


TERMS = shadow_terms(
    ShadowFacts(60, every_frames=5, cpu_percent=40, least_agreement_percent=50),
    Promise(detections_percent=Range(50, 200), no_drift_alarm=True),
    most_seconds=3600,
    most_cpu_share=0.25,
)


def test_the_vehicle_bounds_what_a_release_asks_for() -> None:
    assert (TERMS.seconds, TERMS.cpu_share, TERMS.every_frames) == (60, 0.25, 5)
    long = shadow_terms(ShadowFacts(86_400), None, most_seconds=3600, most_cpu_share=0.25)
    assert (long.seconds, long.cpu_share, long.least_f1) == (3600, 0.10, None)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (tally(1000, 1000, 900), ""),
        (tally(1000, 1000, 100), "agrees with the active model by F1 0.10"),
        (tally(1000, 3000, 1000), "found 3000 things where the active model found 1000"),
        (tally(0, 3000, 0), "where the active model found 0"),
    ],
)
def test_who_passes(found: ShadowTally, says: str) -> None:
    assert is_over(TERMS, 60, found) and not is_over(TERMS, 59.9, found)
    reason = failure(TERMS, found, "new", ())
    assert says in reason and bool(reason) is bool(says)


def test_its_own_drift_fails_it_where_its_reference_knows_the_context() -> None:
    found = tally(1000, 1000, 900)
    state = common_pb2.DriftState(camera="front", verdict=common_pb2.DRIFT_VERDICT_ALARM, context="day")
    state.model.sha256 = "new"
    state.features.add(
        name="count",
        origin=common_pb2.FEATURE_ORIGIN_DETECTIONS,
        verdict=common_pb2.DRIFT_VERDICT_ALARM,
    )
    found.drift["front"] = state
    assert "its own reference" in failure(TERMS, found, "new", {("day", "count")})
    assert failure(TERMS, found, "new", {("night", "count")}) == ""


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (tally(1000, 1000, 900, frames=LEAST_COMPARED - 1), "29 frames were compared"),
        (tally(50, 49, 49), "found 99 things on 30 frames, at least 100 are needed"),
        (tally(0, 0, 0), "found 0 things"),
    ],
)
def test_what_says_too_little_is_waited_for_and_fails_in_the_end(found: ShadowTally, says: str) -> None:
    """What cannot be judged is not taken: the model that runs is one that was."""
    assert not is_over(TERMS, 3599.9, found) and is_over(TERMS, 3600, found)
    assert says in failure(TERMS, found, "new", ())


def test_where_nothing_is_promised_of_detections_an_empty_road_is_enough() -> None:
    asked = shadow_terms(ShadowFacts(60), Promise(no_drift_alarm=True), most_seconds=3600, most_cpu_share=1.0)
    assert is_over(asked, 60, tally(0, 0, 0)) and failure(asked, tally(0, 0, 0), "new", ()) == ""


def test_errors_end_it_early() -> None:
    found = tally(10, 10, 10, frames=100)
    for _ in range(9):
        found.error("boom")
    assert early_failure(found) == ""
    found.error("the last one")
    assert early_failure(found) == "in shadow 10 of 110 frames ended in an error: the last one"


@given(
    st.integers(1, 12),
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=9),
    st.lists(st.booleans(), min_size=1, max_size=7),
)
def test_turns_go_round_among_the_cameras(every: int, order: list[str], taken: list[bool]) -> None:
    """However the cameras' frames interleave, and whichever of the turns come to nothing."""
    turns, shown, offers, frames = Turns(every), dict.fromkeys(order, 0), 0, 300 * every
    for number in range(frames):
        camera = order[number % len(order)]
        if turns.is_next(camera):
            offers += 1
            if taken[offers % len(taken)]:
                turns.shown(camera)
                shown[camera] += 1
    assert frames // (every + 2 * len(shown) + 1) - 1 <= offers <= frames // every
    if len(shown) == 1:
        assert offers == frames // every
    if len(order) <= 2 * len(shown):  # none comes so seldom that it is taken for gone
        assert max(shown.values()) - min(shown.values()) <= len(order)


def test_a_camera_that_is_gone_holds_nothing_up_and_one_that_comes_is_next() -> None:
    turns = Turns(2)
    seen = [camera for camera in "abababab" if turns.is_next(camera) and not turns.shown(camera)]
    assert set(seen) == {"a", "b"}
    alone = [number for number in range(200) if turns.is_next("a") and not turns.shown("a")]
    assert len(alone) >= 95 and max(np.diff(alone)) <= 6
    back = [camera for camera in "ab" * 4 if turns.is_next(camera) and not turns.shown(camera)]
    assert back[:2] in (["b", "a"], ["a", "b"]) and set(back) == {"a", "b"}
