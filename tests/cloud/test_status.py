"""The cloud's status: what vehicles say of their drift, for people and for programs."""

from __future__ import annotations

import json
import math
from pathlib import Path

from cloud.fleet.vehicle_records import Record, VehicleRecords
from cloud.fleet.vehicles import list_vehicles
from cloud.fleet.vehicles import to_text as vehicles_to_text
from cloud.status import Status, read_status
from cloud.status_text import to_text
from protos.traffic_vision.v1 import common_pb2, fleet_pb2
from tests.clouds import database, make_cloud

VEHICLE = "one"
WORDS = "brightness 3.1 sigma below the day reference, since 18:42 UTC"


def an_event(identity: str, **state: object) -> fleet_pb2.DriftEvent:
    said = common_pb2.DriftState(camera="front", context="day", **state)  # type: ignore[arg-type]
    said.features.add(name="brightness", ks_d=0.7)
    return fleet_pb2.DriftEvent(id=identity, state=said)


def status_of(folder: Path, *events: fleet_pb2.DriftEvent) -> Status:
    config = make_cloud(folder, VEHICLE)
    with database(config) as store:
        assert all(VehicleRecords(store).commit([Record(VEHICLE, event) for event in events]))
        return read_status(config, store)


def test_a_drift_alarm_says_what_has_changed_and_what_it_costs(tmp_path: Path) -> None:
    status = status_of(
        tmp_path,
        an_event("1", verdict=common_pb2.DRIFT_VERDICT_STABLE, explanation="count is not judged"),
        an_event(
            "2",
            verdict=common_pb2.DRIFT_VERDICT_ALARM,
            kind=common_pb2.DRIFT_KIND_CAMERA_MOVED,
            explanation=WORDS,
            estimated_map50_change=-0.125,
        ),
    )
    alarm, stable = status.to_json()["drift"]
    assert (alarm["kind"], alarm["explanation"], alarm["estimated_map50_change"]) == (
        "camera_moved", WORDS, -0.125,
    )  # fmt: skip
    assert (stable["kind"], stable["estimated_map50_change"]) == ("", None)
    text = to_text(status, width=260)
    for told in ("alarm (camera moved)", WORDS, "-0.125", "brightness, day"):
        assert told in text


def test_a_vehicle_s_estimate_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    events = [
        an_event(str(number), verdict=common_pb2.DRIFT_VERDICT_ALARM, estimated_map50_change=value)
        for number, value in enumerate((math.nan, math.inf))
    ]
    document = status_of(tmp_path, *events).to_json()["drift"]
    assert [line["estimated_map50_change"] for line in document] == [None, None]
    assert json.dumps(document, allow_nan=False)


def test_a_model_that_nobody_signed_is_told(tmp_path: Path) -> None:
    config = make_cloud(tmp_path, VEHICLE)
    state = common_pb2.ModelState(
        active=common_pb2.ModelRef(name="own", version="3"), unsigned_allowed=True, active_is_unsigned=True
    )
    beat = fleet_pb2.Heartbeat(status=common_pb2.VehicleStatus(model=state))
    with database(config) as store:
        assert all(VehicleRecords(store).commit([Record(VEHICLE, state), Record(VEHICLE, beat)]))
        status, vehicles = read_status(config, store), list_vehicles(store)
    words = "UNSIGNED: nobody signed the model that runs"
    assert [line["signature"] for line in status.to_json()["vehicles"]] == [words]
    assert words in to_text(status, width=200)
    assert [vehicle.to_json()["signature"] for vehicle in vehicles] == [words]
    assert words in vehicles_to_text(vehicles)
