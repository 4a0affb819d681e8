"""The control stream over real gRPC with mutual TLS, against a cloud that says what each test lets it say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.fleet.control_terms import ControlOptions
from edge.fleet.spool import Spool
from protos import handshake
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests.control_stream import QUICK, ControlCloud, Vehicle, control, event, polite, receipt, welcome
from tests.waiting import eventually


def test_the_vehicle_says_who_and_how_it_is_and_hears_hints(tmp_path: Path) -> None:
    def behaviour(number: int, requests: Any) -> Iterator[fleet.ControlResponse]:
        next(requests)
        yield welcome(server_version="9.9", heartbeat_interval_ms=1, samples_in_flight_limit=3)
        yield fleet.ControlResponse(update_nudge=fleet.UpdateNudge(release_counter=7))
        yield fleet.ControlResponse()  # something that only a newer cloud knows
        yield from (receipt("unknown") for _ in requests)

    cloud, vehicle = ControlCloud(behaviour), Vehicle()
    with control(tmp_path, cloud, vehicle) as client:
        cloud.wait_for(lambda: len(cloud.of("heartbeat")) >= 3, "three heartbeats")
        client.model_changed(common.ModelState(detail="one"))
        client.model_changed(common.ModelState(detail="two"))
        cloud.wait_for(lambda: len(cloud.of("model_state")) == 2, "each change of the model")
        status = client.status()
        assert status.stream.connected and status.heartbeats >= 3 and not status.problem
        assert status.server_version == "9.9" and status.clock_ahead_s is None
    hello = cloud.of("hello")[0]
    assert (hello.daemon_version, list(hello.hardware_ids)) == ("1.2.3", ["x86_64-cpu"])
    assert hello.instance_id == "instance-1" and hello.status.uptime_ns == 1
    assert hello.protocol == handshake.supported()
    assert not hello.HasField("fleet"), "nobody gave one"
    assert [state.detail for state in cloud.of("model_state")] == ["one", "two"]
    assert vehicle.nudges == [7]
    assert [said.samples_in_flight_limit for said in vehicle.welcomes] == [3]
    assert cloud.of("heartbeat")[1].status.uptime_ns == 3


def test_an_assignment_is_handed_on_and_so_is_that_there_is_none(tmp_path: Path) -> None:
    def behaviour(number: int, requests: Any) -> Iterator[fleet.ControlResponse]:
        next(requests)
        yield welcome(assigns_releases=number > 0)
        if number == 0:
            return
        for counter in (3, 4):
            yield fleet.ControlResponse(assignment=fleet.Assignment(release_counter=counter))
        yield from (receipt("unknown") for _ in requests)

    cloud, vehicle = ControlCloud(behaviour), Vehicle()
    with control(tmp_path, cloud, vehicle):
        eventually(lambda: len(vehicle.assigned) >= 3, "what two streams said")
    assert vehicle.assigned[0] is None, "the first cloud assigns nothing"
    assert [said.release_counter for said in vehicle.assigned[1:] if said is not None] == [3, 4]


def test_an_assignment_before_the_welcome_is_not_listened_to(tmp_path: Path) -> None:
    def behaviour(number: int, requests: Any) -> Iterator[fleet.ControlResponse]:
        next(requests)
        if number == 0:
            yield fleet.ControlResponse(assignment=fleet.Assignment(release_counter=3))
        yield welcome(assigns_releases=True)
        yield from (receipt("unknown") for _ in requests)

    cloud, vehicle = ControlCloud(behaviour), Vehicle()
    with control(tmp_path, cloud, vehicle):
        cloud.wait_for(lambda: cloud.count >= 2, "another stream")
    assert vehicle.assigned == []


def test_each_command_is_carried_out_once_and_answered_each_time(tmp_path: Path) -> None:
    commands = [
        fleet.Command(id="a", sample_request=fleet.SampleRequest(samples=5)),
        fleet.Command(id="a", sample_request=fleet.SampleRequest(samples=5)),
        fleet.Command(id="b", upload_budget=fleet.UploadBudget(bytes_per_day=0)),
        fleet.Command(id="c", upload_budget=fleet.UploadBudget(bytes_per_day=13)),
        fleet.Command(id="d"),
        fleet.Command(id="e", status_request=fleet.StatusRequest()),
    ]

    def behaviour(number: int, requests: Any) -> Iterator[fleet.ControlResponse]:
        next(requests)
        yield welcome(heartbeat_interval_ms=3_600_000)
        yield from (fleet.ControlResponse(command=command) for command in commands)
        yield from (receipt("unknown") for _ in requests)

    cloud, vehicle = ControlCloud(behaviour), Vehicle()
    with control(tmp_path, cloud, vehicle) as client:
        cloud.wait_for(lambda: len(cloud.of("command_result")) == 6, "an answer to each")
        cloud.wait_for(lambda: len(cloud.of("heartbeat")) == 1, "the status that was asked for")
        assert client.status().commands == 5
    results = [(said.command_id, said.outcome, said.detail) for said in cloud.of("command_result")]
    done = fleet.COMMAND_OUTCOME_DONE
    assert results == [
        ("a", done, ""),
        ("a", done, ""),
        ("b", fleet.COMMAND_OUTCOME_REFUSED, "never"),
        ("c", fleet.COMMAND_OUTCOME_FAILED, ""),
        ("d", fleet.COMMAND_OUTCOME_UNKNOWN_ACTION, ""),
        ("e", done, ""),
    ]
    assert [request.samples for request in vehicle.requests] == [5]


def test_drift_events_are_sent_until_their_receipt_over_cuts_and_restarts(tmp_path: Path) -> None:
    def deadly(number: int, requests: Any) -> Iterator[fleet.ControlResponse]:
        next(requests)
        yield welcome()
        yield receipt("another")  # for what was not sent in this stream
        for request in requests:
            if request.WhichOneof("message") == "drift_event":
                raise RuntimeError("the cloud dies with the event")

    cloud = ControlCloud(deadly)
    Spool(tmp_path / "events").append("noise", b"\xff\xff no message")
    with control(tmp_path, cloud) as client:
        assert client.report(event("one"))
        cloud.wait_for(lambda: len(cloud.of("drift_event")) >= 2, "a second try")
    assert Spool(tmp_path / "events").status().items == 1
    cloud.behaviour = polite
    with control(tmp_path, cloud) as client:
        assert client.report(event("two"))
        eventually(lambda: client.status().events_pending == 0, "both have a receipt")
    ids = [said.id for said in cloud.of("drift_event")]
    assert set(ids) == {"one", "two"} and len(ids) >= 3
    assert cloud.of("drift_event")[-1].state.verdict == common.DRIFT_VERDICT_ALARM
    assert Spool(tmp_path / "events").status().items == 0


def test_an_event_without_a_receipt_is_sent_again_in_the_same_stream(tmp_path: Path) -> None:
    def behaviour(number: int, requests: Any) -> Iterator[fleet.ControlResponse]:
        seen = 0
        for request in requests:
            if request.WhichOneof("message") == "hello":
                yield welcome()
            seen += request.WhichOneof("message") == "drift_event"
            if seen == 3:
                yield receipt("one")

    cloud = ControlCloud(behaviour)
    with control(tmp_path, cloud, options=ControlOptions(receipt_s=0.05, backoff=QUICK)) as client:
        client.report(event("one"))
        cloud.wait_for(lambda: len(cloud.of("drift_event")) >= 3, "three times")
        eventually(lambda: client.status().events_pending == 0, "the receipt")
    assert cloud.count == 1
