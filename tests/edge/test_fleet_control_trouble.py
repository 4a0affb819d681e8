"""The control stream with a cloud that refuses, keeps silent or breaks the contract."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.backoff import BackoffOptions
from edge.fleet.channel import open_channel
from edge.fleet.control import ControlClient
from edge.fleet.control_terms import ControlHandlers, ControlOptions
from edge.fleet.spool import Spool
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests.certificates import Authority
from tests.control_stream import (
    OPTIONS,
    QUICK,
    TEN_YEARS_NS,
    Behaviour,
    ControlCloud,
    Vehicle,
    control,
    event,
    polite,
    receipt,
    welcome,
)
from tests.fleet_cloud import serving, vehicle_options
from tests.waiting import eventually


def problem(code: int, **fields: Any) -> Behaviour:
    def behaviour(number: int, requests: Any) -> Iterator[fleet.ControlResponse]:
        if number >= 2:
            yield from polite(number, requests)
            return
        next(requests)
        yield fleet.ControlResponse(problem=fleet.Problem(code=code, **fields))

    return behaviour


@pytest.mark.parametrize(
    ("code", "fields", "expected"),
    [
        (fleet.PROBLEM_CODE_REVOKED, {"detail": "stolen"}, "revoked: stolen"),
        (
            fleet.PROBLEM_CODE_PROTOCOL,
            {"protocol": common.ProtocolRange(oldest=8, newest=9)},
            "protocol (this daemon speaks 1 to 1, the cloud 8 to 9)",
        ),
        (fleet.PROBLEM_CODE_OVERLOADED, {"retry_after_ms": 20}, "overloaded"),
        (77, {}, "problem 77"),
    ],
)
def test_a_problem_is_told_once_and_asked_again_after_a_pause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, code: int, fields: dict[str, Any], expected: str
) -> None:
    cloud = ControlCloud(problem(code, **fields))
    with control(tmp_path, cloud) as client:
        eventually(lambda: client.status().stream.connected, "it is welcome in the end")
        assert client.status().problem == ""
    assert cloud.count == 3
    told = [r.message for r in caplog.records if r.levelname == "WARNING" and "refuses" in r.message]
    assert told == [f"control: the cloud refuses: {expected}"]


def test_a_problem_that_lasts_is_not_asked_about_all_the_time(tmp_path: Path) -> None:
    cloud = ControlCloud(problem(fleet.PROBLEM_CODE_UNKNOWN_VEHICLE))
    options = ControlOptions(backoff=BackoffOptions(0.01, 3600.0))
    with control(tmp_path, cloud, options=options) as client:
        eventually(lambda: client.status().problem == "unknown_vehicle", "it is told")
    assert cloud.count == 1


def silent(number: int, requests: Any) -> Iterator[fleet.ControlResponse]:
    for _ in requests:
        pass
    yield from ()


def wrong_version(number: int, requests: Any) -> Iterator[fleet.ControlResponse]:
    next(requests)
    yield welcome(protocol_version=9)
    for _ in requests:
        pass


def rude(number: int, requests: Any) -> Iterator[fleet.ControlResponse]:
    next(requests)
    yield receipt("one")
    for _ in requests:
        pass


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (silent, "the cloud does not answer Hello"),
        (wrong_version, "the cloud speaks protocol 9, which this daemon does not"),
        (rude, "the cloud says drift_event_receipt before Welcome"),
    ],
)
def test_a_cloud_that_breaks_the_contract_is_hung_up_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: Behaviour, expected: str
) -> None:
    cloud = ControlCloud(lambda number, requests: (polite if number else bad)(number, requests))
    with control(tmp_path, cloud, options=ControlOptions(welcome_s=0.3, backoff=QUICK)) as client:
        client.report(event("one"))
        eventually(lambda: client.status().events_pending == 0, "the next stream works")
        assert client.status().stream.failures >= 1
    assert expected in caplog.text
    assert not cloud.of("drift_event", stream=0)


def test_a_clock_that_is_wrong_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def behaviour(number: int, requests: Any) -> Iterator[fleet.ControlResponse]:
        next(requests)
        yield welcome(server_wall_ns=time.time_ns() - TEN_YEARS_NS)
        for _ in requests:
            pass

    with control(tmp_path, ControlCloud(behaviour)) as client:
        eventually(lambda: client.status().stream.connected, "it is welcome")
        assert (client.status().clock_ahead_s or 0) >= TEN_YEARS_NS / 1e9
        assert client.cloud_ahead() == -timedelta(seconds=client.status().clock_ahead_s or 0)
    assert "s ahead of the cloud's" in caplog.text


def test_a_stream_that_has_lasted_long_enough_is_replaced(tmp_path: Path) -> None:
    cloud = ControlCloud(polite)
    with control(tmp_path, cloud, options=ControlOptions(stream_s=0.5, backoff=QUICK)):
        cloud.wait_for(lambda: cloud.count >= 3, "the third stream")


def test_a_handler_that_fails_ends_the_stream_and_not_the_thread(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def nudge(counter: int) -> None:
        raise RuntimeError("a defect")

    def behaviour(number: int, requests: Any) -> Iterator[fleet.ControlResponse]:
        next(requests)
        yield welcome()
        if number == 0:
            yield fleet.ControlResponse(update_nudge=fleet.UpdateNudge(release_counter=7))
        yield from polite(number, requests)

    cloud, vehicle = ControlCloud(behaviour), Vehicle()
    authority = Authority()
    with serving(cloud, authority) as address:
        where = vehicle_options(tmp_path / "v", address, authority, authority.vehicle("v"), backoff=QUICK)
        handlers = vehicle.handlers()
        with open_channel(where) as channel:
            broken = ControlHandlers(handlers.status, nudge, handlers.sample_request, handlers.upload_budget)
            client = ControlClient(channel, Spool(tmp_path / "events"), broken, OPTIONS)
            client.start()
            client.report(event("one"))
            eventually(lambda: client.status().events_pending == 0, "the next stream works")
            assert client.stop(timeout_s=30)
    assert "a defect" in caplog.text


def test_it_stops_whatever_it_is_doing(tmp_path: Path) -> None:
    with control(tmp_path, ControlCloud(silent), options=ControlOptions(welcome_s=3600.0)) as client:
        eventually(lambda: client.status().stream.streams == 1, "it waits for the welcome")
        assert client.stop()
    with control(tmp_path, ControlCloud(polite)) as client:
        eventually(lambda: client.status().stream.connected, "it is welcome")
        assert client.stop() and client.stop()
