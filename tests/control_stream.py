"""A cloud's end of the control stream, and a vehicle at the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from edge.backoff import BackoffOptions
from edge.fleet.channel import open_channel
from edge.fleet.control import ControlClient
from edge.fleet.control_terms import ControlHandlers, ControlOptions
from edge.fleet.spool import Spool
from protos import handshake
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests.certificates import Authority
from tests.fleet_cloud import Cloud, serving, vehicle_options

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
