"""What an alarm costs the detector: estimated without labels, and by what it can be told."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.drift import DriftMonitor, DriftReferenceError, DriftState, Origin, Reference, fit
from edge.drift.drop import DropModel, change_of, estimate, usable
from tests.edge.drift_streams import ar1

NAMES = ["light", "mean_confidence", "count"]
ORIGINS = ["picture", "detections", "detections"]
RATE_HZ = 2.0
SECOND = 1_000_000_000

BY_CONFIDENCE = DropModel(("mean_confidence",), (2.0,), 0.04, 0.6, "a test")
BY_COUNT = DropModel(("count",), (0.5,), 0.05, 0.6, "a test")
DROP = DropModel(("mean_confidence", "count"), (1.0, 0.3), 0.02, 0.6, "a test", (BY_CONFIDENCE, BY_COUNT))

numbers = st.floats(-1e3, 1e3)
positive = st.floats(0.01, 1e3)


@given(confidence=st.tuples(numbers, numbers), count=st.tuples(positive, positive))
def test_a_loss_is_the_dot_product_of_what_has_changed(
    confidence: tuple[float, float], count: tuple[float, float]
) -> None:
    now = {"mean_confidence": confidence[0], "count": count[0], "else": 1.0}
    before = {"mean_confidence": confidence[1], "count": count[1]}
    told = 1.0 * (confidence[0] - confidence[1]) + 0.3 * min(count[0] / count[1] - 1, 0)
    assert estimate(DROP, now, before) == pytest.approx(min(max(told, -0.6), 0.4), abs=1e-9)
    assert estimate(DROP, before, before) == 0.0


@given(slope=numbers, mean=numbers, reference=numbers, map50=st.floats(0, 1))
def test_map50_stays_what_it_can_be(slope: float, mean: float, reference: float, map50: float) -> None:
    model = DropModel(("x",), (slope,), 0.0, map50, "")
    told = estimate(model, {"x": mean}, {"x": reference})
    assert told is not None and 0.0 <= map50 + told <= 1.0 + 1e-12


@given(scale=positive, now=positive, before=positive)
def test_half_of_the_detections_is_half_for_every_camera(scale: float, now: float, before: float) -> None:
    here, there = change_of("count", now, before), change_of("count", scale * now, scale * before)
    assert here == pytest.approx(there, rel=1e-6, abs=1e-9)
    # More than before may be noise: it is no gain.
    assert here <= 0.0 and (here == 0.0) == (now >= before)


def test_what_is_not_to_be_had_is_told_by_fewer_features_or_not_at_all() -> None:
    before = {"mean_confidence": 0.5, "count": 10.0}
    assert usable(DROP, {"mean_confidence": 0.4}, before) is BY_CONFIDENCE
    assert estimate(DROP, {"mean_confidence": 0.4}, before) == pytest.approx(-0.2)
    # Nothing is found any more: there is no confidence then.
    blind = {"mean_confidence": math.nan, "count": 0.0}
    assert usable(DROP, blind, before) is BY_COUNT
    assert estimate(DROP, blind, before) == pytest.approx(-0.5)
    assert estimate(DROP, {}, before) is None
    assert estimate(DROP, before, {}) is None
    # How many times more than nothing?
    assert estimate(BY_COUNT, {"count": 3.0}, {"count": 0.0}) is None
    assert estimate(DropModel((), (), 0.0, 0.5, ""), before, before) is None


def drive(seed: int, light: float = 0.0, confidence: float = 0.0, count: float = 0.0) -> np.ndarray:
    """Two minutes: light about 0, confidence about .5, count about 10."""
    noise = ar1(np.random.default_rng(seed), 0.6, round(120 * RATE_HZ), 3)
    return noise * [1.0, 0.02, 0.5] + [light, 0.5 + confidence, 10.0 + count]


REFERENCE = replace(
    fit([drive(seed) for seed in range(8)], RATE_HZ, NAMES, origins=ORIGINS, context="day"), drop=DROP
)


def watch(monitor: DriftMonitor, series: np.ndarray, start_s: float = 0.0) -> list[DriftState]:
    states = (
        monitor.observe(round((start_s + number / RATE_HZ) * SECOND), row)
        for number, row in enumerate(series)
    )
    return [state for state in states if state is not None]


def test_an_alarm_tells_what_it_costs_and_no_alarm_tells_nothing() -> None:
    monitor = DriftMonitor(REFERENCE)
    quiet = watch(monitor, drive(50))
    assert not any(state.alarm for state in quiet)
    assert {state.estimated_map50_change for state in quiet} == {None}
    dark = watch(monitor, drive(51, light=-20, confidence=-0.1, count=-5), start_s=120)
    last = dark[-1]
    assert last.alarm
    # 1 * -.1 + .3 * -5 / 10
    assert last.estimated_map50_change == pytest.approx(-0.25, abs=0.03)
    assert last.to_json()["estimated_map50_change"] == last.estimated_map50_change
    assert json.dumps(last.to_json())
    # The sooner what was before the change has left the window, the sooner it is told.
    first = next(state for state in dark if state.alarm)
    assert first.estimated_map50_change is not None
    assert last.estimated_map50_change < first.estimated_map50_change <= 0.0


def test_without_a_change_in_the_picture_fewer_detections_may_be_less_traffic() -> None:
    monitor = DriftMonitor(REFERENCE)
    states = watch(monitor, drive(52, confidence=-0.1, count=-5))
    assert states[-1].alarm
    alarming = {one.origin for one in states[-1].features if one.verdict.value == "alarm"}
    assert alarming == {Origin.DETECTIONS}
    assert states[-1].estimated_map50_change == pytest.approx(2.0 * -0.1, abs=0.03)
    fewer = watch(DriftMonitor(REFERENCE), drive(53, count=-5))
    assert fewer[-1].alarm
    assert fewer[-1].estimated_map50_change == pytest.approx(0.0, abs=0.03)


def test_a_camera_that_shows_nothing_is_told_by_the_count_alone() -> None:
    series = drive(54, light=-20, count=-10)
    series[:, 1], series[:, 2] = math.nan, 0.0
    monitor = DriftMonitor(REFERENCE)
    watch(monitor, drive(55))
    states = watch(monitor, series, start_s=120)
    assert states[-1].alarm
    assert states[-1].estimated_map50_change == pytest.approx(-0.5)


def test_where_nothing_is_known_of_the_model_nothing_is_told() -> None:
    series = drive(56, light=-20, confidence=-0.1, count=-5)
    unknowing = watch(DriftMonitor(replace(REFERENCE, drop=None)), series)
    assert unknowing[-1].alarm and unknowing[-1].estimated_map50_change is None
    # Another model's slopes are not this one's.
    assert REFERENCE.without({Origin.DETECTIONS}).drop is None
    assert REFERENCE.without({Origin.EMBEDDING}).drop == DROP
    swapped = DriftMonitor(REFERENCE)
    swapped.model_changed()
    states = watch(swapped, series)
    assert states[-1].alarm and states[-1].estimated_map50_change is None


def test_what_it_costs_is_told_over_a_restart_as_well() -> None:
    series = drive(57, light=-20, confidence=-0.1, count=-5)
    whole, before, after = (DriftMonitor(REFERENCE) for _ in range(3))
    expected = watch(whole, series)[-1]
    watch(before, series[:200])
    after.restore(before.to_bytes())
    assert watch(after, series[200:], start_s=100)[-1] == expected
    assert expected.estimated_map50_change is not None


def test_a_reference_keeps_every_way_to_tell() -> None:
    back = Reference.from_bytes(REFERENCE.to_bytes())
    assert back.drop == DROP and back.digest == REFERENCE.digest
    alone = replace(REFERENCE, drop=BY_COUNT)
    assert "alternatives" not in json.loads(alone.to_bytes())["drop"]
    assert Reference.from_bytes(alone.to_bytes()).drop == BY_COUNT


@pytest.mark.parametrize(
    "change",
    [
        {"slopes": []},
        {"features": ["a", "a"], "slopes": [1, 2]},
        {"residual": -1},
        {"map50": 2},
        {"slopes": ["x"]},
    ],
)
def test_an_alternative_that_is_wrong_is_refused(change: dict[str, object]) -> None:
    document = json.loads(REFERENCE.to_bytes())
    document["drop"]["alternatives"][1] |= change
    with pytest.raises(DriftReferenceError, match="not a drift reference: drop"):
        Reference.from_bytes(json.dumps(document).encode())
