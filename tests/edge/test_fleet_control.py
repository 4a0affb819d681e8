"""The control stream over real gRPC with mutual TLS, against a cloud that says what each test lets it say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from edge.backoff import BackoffOptions
from edge.fleet.channel import open_channel
from edge.fleet.control import ControlClient, ControlHandlers, ControlOptions
from edge.fleet.spool import Spool
from protos import handshake
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests.certificates import Authority
from tests.fleet_cloud import Cloud, serving, vehicle_options
from tests.waiting import eventually

QUICK = BackoffOptions(0.01, 0.1)
OPTIONS = ControlOptions("1.2.3", ("x86_64-cpu",), "instance-1", backoff=QUICK)
TEN_YEARS_NS = 10 * 365 * 86400 * 10**9

Behaviour = Callable[[int, Iterator[fleet.ControlRequest]], Iterator[fleet.ControlResponse]]


class ControlCloud(Cloud):
    """Answers the n-th control stream (from 0) by `behaviour(n, requests)`; remembers what it heard."""

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__()
        self.behaviour = behaviour
        self.heard: list[tuple[int, fleet.ControlRequest]] = []
        self.count = 0

    def Control(
        self, request_iterator: Any, context: grpc.ServicerContext
    ) -> Iterator[fleet.ControlResponse]:
        with self.changed:
            number, self.count = self.count, self.count + 1
            self.changed.notify_all()
        yield from self.behaviour(number, self._listen(number, request_iterator))

    def _listen(self, number: int, requests: Any) -> Iterator[fleet.ControlRequest]:
        for request in requests:
            with self.changed:
                self.heard.append((number, request))
                self.changed.notify_all()
            yield request

    def of(self, kind: str, stream: int | None = None) -> list[Any]:
        """The messages of one kind that were heard."""
        return [
            getattr(request, kind)
            for number, request in list(self.heard)
            if request.WhichOneof("message") == kind and stream in (None, number)
        ]


@dataclass
class Vehicle:
    """Handlers that remember."""

    nudges: list[int] = field(default_factory=list)
    requests: list[fleet.SampleRequest] = field(default_factory=list)
    welcomes: list[fleet.Welcome] = field(default_factory=list)
    assigned: list[fleet.Assignment | None] = field(default_factory=list)
    statuses: int = 0

    def handlers(self) -> ControlHandlers:
        return ControlHandlers(
            self._status,
            self.nudges.append,
            self._sample,
            self._budget,
            self.welcomes.append,
            self.assigned.append,
        )

    def _status(self) -> common.VehicleStatus:
        self.statuses += 1
        return common.VehicleStatus(uptime_ns=self.statuses)

    def _sample(self, request: fleet.SampleRequest) -> str | None:
        self.requests.append(request)
        return None

    def _budget(self, budget: fleet.UploadBudget) -> str | None:
        if budget.bytes_per_day == 13:
            raise RuntimeError("a defect")
        return "never" if budget.bytes_per_day == 0 else None


def welcome(**fields: Any) -> fleet.ControlResponse:
    fields.setdefault("protocol_version", handshake.NEWEST_PROTOCOL)
    return fleet.ControlResponse(welcome=fleet.Welcome(protocol=handshake.supported(), **fields))


def receipt(event_id: str) -> fleet.ControlResponse:
    return fleet.ControlResponse(drift_event_receipt=fleet.DriftEventReceipt(drift_event_id=event_id))


def polite(number: int, requests: Iterator[fleet.ControlRequest]) -> Iterator[fleet.ControlResponse]:
    """What a cloud does: welcome, and a receipt for each event."""
    for request in requests:
        if request.WhichOneof("message") == "hello":
            yield welcome()
        elif request.WhichOneof("message") == "drift_event":
            yield receipt(request.drift_event.id)


@contextmanager
def control(
    folder: Path, cloud: ControlCloud, vehicle: Vehicle | None = None, options: ControlOptions = OPTIONS
) -> Iterator[ControlClient]:
    authority = Authority()
    with serving(cloud, authority) as address:
        where = vehicle_options(folder / "v", address, authority, authority.vehicle("v"), backoff=QUICK)
        with open_channel(where) as channel:
            events = Spool(folder / "events")
            client = ControlClient(channel, events, (vehicle or Vehicle()).handlers(), options)
            client.start()
            try:
                yield client
            finally:
                assert client.stop(timeout_s=30)


def event(event_id: str) -> fleet.DriftEvent:
    state = common.DriftState(camera="front", verdict=common.DRIFT_VERDICT_ALARM)
    return fleet.DriftEvent(id=event_id, state=state, previous=common.DRIFT_VERDICT_STABLE)


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
