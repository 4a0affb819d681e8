"""One verdict for a vehicle of several cameras."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from edge.drift.device import device_drift
from edge.health import LoopHealth
from edge.serve.http.metrics import StageTimes
from edge.serve.http.overview import overview
from protos.traffic_vision.v1 import common_pb2 as common
from tools.watch.words import device_verdict

ALARM, STABLE = common.DRIFT_VERDICT_ALARM, common.DRIFT_VERDICT_STABLE
LEARNING, UNCALIBRATED = common.DRIFT_VERDICT_LEARNING, common.DRIFT_VERDICT_UNCALIBRATED
PAUSED = common.DRIFT_VERDICT_PAUSED


def state(camera: str, verdict: common.DriftVerdict, per_day: float = 0.0) -> common.DriftState:
    return common.DriftState(camera=camera, verdict=verdict, expected_false_alarms_per_day=per_day)


@pytest.mark.parametrize(
    ("verdicts", "said", "cameras"),
    [
        ([STABLE, ALARM, LEARNING], ALARM, ["1"]),
        ([STABLE, STABLE], STABLE, ["0", "1"]),
        ([STABLE, UNCALIBRATED, LEARNING], LEARNING, ["2"]),
        ([UNCALIBRATED, STABLE, PAUSED], UNCALIBRATED, ["0"]),
        ([PAUSED, STABLE], STABLE, ["1"]),
        ([PAUSED, PAUSED], PAUSED, ["0", "1"]),
    ],
)
def test_it_is_the_worst_of_those_that_are_judged(
    verdicts: list[common.DriftVerdict], said: common.DriftVerdict, cameras: list[str]
) -> None:
    device = device_drift([state(str(number), verdict) for number, verdict in enumerate(verdicts)])
    assert device is not None
    assert (device.verdict, list(device.cameras)) == (said, cameras)


def test_of_no_camera_there_is_none() -> None:
    assert device_drift([]) is None
    assert device_drift([state("front", common.DRIFT_VERDICT_UNSPECIFIED)]) is None
    shown = overview(common.VehicleStatus(), StageTimes(CollectorRegistry()), LoopHealth(True, 0), ())
    assert shown["device_drift"] is None


@given(st.lists(st.floats(1e-6, 1e5), min_size=1, max_size=8), st.floats(0.1, 1000))
def test_its_alarm_begins_where_its_expected_false_alarms_fall_to_the_promise(
    rates: list[float], hours: float
) -> None:
    """A camera's does where its own fall to its share of it, as `DriftMonitor` has it."""
    share = 24 / hours / len(rates)
    states = [
        state(str(number), ALARM if rate <= share else STABLE, rate) for number, rate in enumerate(rates)
    ]
    device = device_drift(states)
    assert device is not None
    promise = pytest.approx(24 / hours)
    if device.expected_false_alarms_per_day != promise:
        assert (device.verdict == ALARM) == (device.expected_false_alarms_per_day < 24 / hours)
    # One that is parked has no share in it.
    parked = device_drift([*states, state("parked", PAUSED)])
    assert parked == device


def test_it_is_shown_where_people_look() -> None:
    states = [state("front", STABLE, 40.0), state("rear", ALARM, 0.25)]
    status = common.VehicleStatus(drift=states, device_drift=device_drift(states))
    shown = overview(status, StageTimes(CollectorRegistry()), LoopHealth(True, 0), ())
    assert shown["device_drift"] == {"verdict": "alarm", "false_alarms_per_day": 0.5, "cameras": ["rear"]}
    assert device_verdict(status.device_drift) == "alarm (rear)"
