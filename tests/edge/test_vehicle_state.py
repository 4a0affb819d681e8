"""What a report may say, how long it holds, and when the vehicle is parked: the rules alone."""

from __future__ import annotations

import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.vehicle_state.lines import FIELDS, parse_line
from edge.vehicle_state.standing import ReportedStanding, SeenStanding
from edge.vehicle_state.state import Reports, VehicleStateError, require_possible
from protos.traffic_vision.v1 import common_pb2 as common

SECOND = 10**9
LOOK = SECOND // 2


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "speed_mps": st.floats(-150, 150),
            "ignition": st.sampled_from(["on", "off"]),
            "ambient_light_lux": st.floats(0, 1e6, width=32),
            "headlights_on": st.booleans(),
        },
    ),
    st.none() | st.tuples(st.floats(-90, 90), st.floats(-180, 180)),
)
def test_a_line_says_what_it_says(fields: dict, position: tuple[float, float] | None) -> None:
    if position is not None:
        fields |= {"latitude_deg": position[0], "longitude_deg": position[1]}
    state = parse_line(json.dumps(fields).encode())
    require_possible(state)
    for name in FIELDS:
        if name == "ignition":
            words = {common.IGNITION_ON: "on", common.IGNITION_OFF: "off"}
            assert words.get(state.ignition) == fields.get(name)
        else:
            assert state.HasField(name) == (name in fields)
            assert name not in fields or getattr(state, name) == fields[name]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_report_or_refused(line: bytes) -> None:
    try:
        require_possible(parse_line(line))
    except VehicleStateError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "the line is no JSON"),
        ("[1]", "the line is [1], expected one object"),
        ('{"speed": 1}', 'unknown field "speed"; known are speed_mps'),
        ('{"speed_mps": "1"}', 'speed_mps is "1", expected a number'),
        ('{"speed_mps": true}', "speed_mps is true, expected a number"),
        ('{"speed_mps": null}', "speed_mps is null, expected a number"),
        ('{"speed_mps": NaN}', "a value is NaN, expected a finite number"),
        ('{"speed_mps": 1e999}', "speed_mps is inf, expected -150 to 150"),
        ('{"speed_mps": 1' + "0" * 400 + "}", "which is no number that can be"),
        ('{"speed_mps": -151}', "speed_mps is -151, expected -150 to 150"),
        ('{"latitude_deg": 91, "longitude_deg": 0}', "latitude_deg is 91, expected -90 to 90"),
        ('{"latitude_deg": 47.5}', "latitude_deg is 47.5 and longitude_deg is missing"),
        ('{"longitude_deg": 8.5}', "longitude_deg is 8.5 and latitude_deg is missing"),
        ('{"ambient_light_lux": -1}', "ambient_light_lux is -1, expected 0 to 1e+06"),
        ('{"ignition": 1}', 'ignition is 1, expected "on" or "off"'),
        ('{"headlights_on": 1}', "headlights_on is 1, expected true or false"),
        ('{"speed_mps": 1, "speed_mps": 2}', 'field "speed_mps" is there twice'),
        ("[" * 4000, "the line is nested too deeply"),
    ],
)
def test_a_refusal_names_field_and_value(line: str, reason: str) -> None:
    with pytest.raises(VehicleStateError) as refused:
        require_possible(parse_line(line.encode()))
    assert reason in str(refused.value)


def test_a_report_holds_for_its_time_and_a_bad_one_leaves_the_one_before() -> None:
    now = 0
    reports = Reports(lambda: common.Instant(monotonic_ns=7), valid_ms=100, monotonic_ns=lambda: now)
    assert reports.valid() is None
    assert reports.report(common.VehicleState(speed_mps=3)) == 100
    with pytest.raises(VehicleStateError):
        reports.report(common.VehicleState(speed_mps=math.nan))
    valid = reports.valid()
    assert valid is not None and valid.state.speed_mps == 3 and valid.state.observed.monotonic_ns == 7
    now = 100_000_001
    assert reports.valid() is None


def reported(parked_after_s: float = 30.0) -> ReportedStanding:
    return ReportedStanding(moving_mps=0.5, parked_after_s=parked_after_s, valid_ms=2000)


@given(st.lists(st.tuples(st.floats(0.01, 3), st.floats(-2, 2)), max_size=60))
def test_parked_by_reports_means_that_it_stood_all_the_time(steps: list[tuple[float, float]]) -> None:
    standing, now, history = reported(5.0), 0, []
    for wait_s, speed in steps:
        now += round(wait_s * SECOND)
        standing.report(now, common.VehicleState(speed_mps=speed))
        history.append((now, speed))
        if standing.parked(now):
            since = [(at, speed) for at, speed in history if at >= now - 5 * SECOND]
            assert all(abs(speed) < 0.5 for _, speed in since)
            times = [at for at, _ in since]
            assert all(b - a <= 2 * SECOND for a, b in itertools.pairwise(times))
        assert standing.moves is None or standing.moves == (abs(speed) >= 0.5) or 0.4 < abs(speed) < 0.5


def test_the_ignition_and_a_speed_that_is_not_known() -> None:
    standing = reported()
    standing.report(0, common.VehicleState(speed_mps=0, ignition=common.IGNITION_OFF))
    assert standing.parked(0)
    standing.report(SECOND, common.VehicleState(speed_mps=5, ignition=common.IGNITION_OFF))  # towed
    assert standing.moves and not standing.parked(SECOND)
    standing.report(2 * SECOND, common.VehicleState(headlights_on=True))
    assert standing.moves is None and not standing.parked(10**15)
    standing.report(3 * SECOND, common.VehicleState(speed_mps=0))
    assert not standing.parked(4 * SECOND) and standing.parked(33 * SECOND)


def test_a_picture_that_stands_is_parked_and_a_bus_does_not_start_it() -> None:
    seen = SeenStanding(parked_after_s=30)
    times = iter(range(0, 10**15, LOOK))

    def go(seconds: float, moves: bool | None) -> int:
        for _ in range(round(seconds * 2)):
            seen.look(next(times), moves)
        return seen.motion

    assert go(10, True) == common.MOTION_DRIVING
    assert go(25, False) == common.MOTION_DRIVING
    assert go(10, False) == common.MOTION_PARKED
    assert go(2, True) == common.MOTION_PARKED
    assert go(5, False) == common.MOTION_PARKED
    assert go(600, None) == common.MOTION_PARKED  # a dark garage says nothing
    assert go(4, True) == common.MOTION_DRIVING
    assert go(20, False) == common.MOTION_DRIVING
    assert go(12, False) == common.MOTION_PARKED


@given(st.lists(st.tuples(st.floats(0.4, 40), st.sampled_from([True, False, None])), max_size=200))
def test_parked_by_pictures_needs_stillness_for_so_long_without_a_hole(
    steps: list[tuple[float, bool | None]],
) -> None:
    seen, now, history = SeenStanding(parked_after_s=20), 0, [(-(10**18), True)]
    for wait_s, moves in steps:
        now += round(wait_s * SECOND)
        before = seen.motion
        after = seen.look(now, moves)
        if moves is not None:
            history.append((now, moves))
        if after == common.MOTION_PARKED != before:
            span = [(at, moved) for at, moved in history if at >= now - 20 * SECOND]
            assert sum(not moved for _, moved in span) >= 0.8 * len(span) and len(span) >= 3
            assert all(b[0] - a[0] <= 10 * SECOND for a, b in itertools.pairwise(span))
    assert len(seen._looks) <= 52
