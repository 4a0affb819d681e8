"""What the control stream is given, and what it says of itself."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from edge.backoff import BackoffOptions
from edge.fleet.session_token import SessionToken
from edge.fleet.streaming import StreamStatus
from protos.traffic_vision.v1 import common_pb2, fleet_pb2


@dataclass(frozen=True, slots=True)
class ControlOptions:
    """Who we are, and how patient.

    Attributes:
        daemon_version, hardware_ids, fleet: see `Hello`; `fleet` None: it is not said.
        instance_id: made anew at each start, as the channel's calls say it.
        welcome_s: a cloud that does not answer Hello in so long is hung up on.
        receipt_s: a drift event without a receipt is sent again after so long.
        stream_s: a stream ends after so long, and a new one begins.
        backoff: between tries.
    """

    daemon_version: str = ""
    hardware_ids: tuple[str, ...] = ()
    instance_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    welcome_s: float = 10.0
    receipt_s: float = 30.0
    stream_s: float = 3600.0
    backoff: BackoffOptions = field(default_factory=BackoffOptions)
    fleet: str | None = None


@dataclass(frozen=True, slots=True)
class ControlHandlers:
    """What the rest of the daemon does with what is said; called from the stream's threads, to return soon.

    Attributes:
        status: how the vehicle is, now.
        update_nudge: takes a release counter: there may be something new.
        sample_request, upload_budget: carry out a command; why it is refused, or None where it is done.
        welcome: takes the cloud's limits, at each connection.
        assignment: takes which release to have; None: this cloud assigns nothing.
        session: keeps the token that the cloud knows this vehicle by; None: nothing is said of tokens.
    """

    status: Callable[[], common_pb2.VehicleStatus]
    update_nudge: Callable[[int], None]
    sample_request: Callable[[fleet_pb2.SampleRequest], str | None]
    upload_budget: Callable[[fleet_pb2.UploadBudget], str | None]
    welcome: Callable[[fleet_pb2.Welcome], None] = lambda welcome: None
    assignment: Callable[[fleet_pb2.Assignment | None], None] = lambda assignment: None
    session: SessionToken | None = None


@dataclass(frozen=True, slots=True)
class ControlStatus:
    """How the control stream is doing.

    Attributes:
        stream: connected: the cloud has welcomed us in the present stream.
        problem: what the cloud refused us for, for people; empty after a welcome.
        server_version: as the latest welcome said.
        clock_ahead_s: this vehicle's clock less the cloud's, as of the latest welcome; None before.
        heartbeats, events_sent, commands: since the start.
        events_pending: drift events without a receipt.
    """

    stream: StreamStatus
    problem: str
    server_version: str
    clock_ahead_s: float | None
    heartbeats: int
    events_sent: int
    commands: int
    events_pending: int
