"""The control stream: who we are and how we are goes up; commands and hints come down.

Nothing that comes down installs anything: a nudge is a hint to look at the signed metadata.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta

import grpc
from google.protobuf.message import DecodeError

from edge.backoff import Backoff
from edge.fleet.commands import CommandDesk, CommandHandlers
from edge.fleet.control_terms import ControlHandlers, ControlOptions, ControlStatus
from edge.fleet.spool import Spool
from edge.fleet.streaming import Call, StreamStatus, StreamThread
from edge.logs import Repeated
from protos import handshake
from protos.traffic_vision.v1 import common_pb2, fleet_pb2, fleet_pb2_grpc

_log = logging.getLogger(__name__)

_SENDING_SHARE = 0.9  # of a stream's time; then it ends by itself and a new one begins
_HEARTBEAT_S = 30.0  # where the cloud asks for nothing
_HEARTBEAT_FASTEST_S = 0.1
_HEARTBEAT_SHARE = 0.8  # of the interval that the cloud expects
_OUTBOX = 64  # messages that wait for a connection; the oldest are forgotten
_CLOCK_SKEW_S = 300.0  # from here on people are told

# Problems that do not pass by themselves: asking again soon is of no use.
_LASTING = frozenset(
    {
        fleet_pb2.PROBLEM_CODE_PROTOCOL,
        fleet_pb2.PROBLEM_CODE_UNKNOWN_VEHICLE,
        fleet_pb2.PROBLEM_CODE_REVOKED,
        fleet_pb2.PROBLEM_CODE_IDENTITY_IN_USE,
    }
)


class ControlClient:
    """Keeps the control stream, in a thread of its own."""

    def __init__(
        self, channel: grpc.Channel, events: Spool, handlers: ControlHandlers, options: ControlOptions
    ) -> None:
        """Make ready; nothing is said before `start`. The caller closes the channel, after `stop`.

        Args:
            channel: see `edge.fleet.channel.open_channel`.
            events: keeps drift events until their receipt.
            handlers: what is done with what comes down.
            options: who we are.
        """
        self._events = events
        self._party = _Control(events, handlers, options, self._hang_up)
        stub = fleet_pb2_grpc.FleetServiceStub(channel)

        def call(
            requests: Iterator[fleet_pb2.ControlRequest], deadline_s: float
        ) -> Call[fleet_pb2.ControlResponse]:
            return stub.Control(requests, timeout=deadline_s)

        self._stream = StreamThread(
            "control", call, self._party, deadline_s=options.stream_s, backoff=options.backoff
        )
        events.listen(self._party.wake)

    def start(self) -> None:
        """Start the thread."""
        self._stream.start()

    def stop(self, timeout_s: float = 1.0) -> bool:
        """Cut the stream and end the thread; False where it has not ended in time."""
        return self._stream.stop(timeout_s)

    def report(self, event: fleet_pb2.DriftEvent) -> bool:
        """Keep a drift event on disk and send it until its receipt is there; False where the disk refuses."""
        return self._events.append(event.id, event.SerializeToString())

    def model_changed(self, state: common_pb2.ModelState) -> None:
        """Tell a change of the model's state; the oldest are forgotten where many wait for a connection."""
        self._party.tell(fleet_pb2.ControlRequest(model_state=state))

    def cloud_ahead(self) -> timedelta | None:
        """The cloud's clock less this vehicle's, as of the latest welcome; None before."""
        ahead_s = self.status().clock_ahead_s
        return None if ahead_s is None else timedelta(seconds=-ahead_s)

    def status(self) -> ControlStatus:
        """How it is doing."""
        return self._party.status(self._stream.status())

    def _hang_up(self, reason: str) -> None:
        self._stream.cancel(reason)


class _Control:
    """The party of the control stream."""

    def __init__(
        self,
        events: Spool,
        handlers: ControlHandlers,
        options: ControlOptions,
        hang_up: Callable[[str], None],
    ) -> None:
        self._events = events
        self._handlers = handlers
        self._options = options
        self._hang_up = hang_up
        self._problems = Backoff(options.backoff)
        commands = CommandHandlers(handlers.sample_request, handlers.upload_budget, self._status_request)
        self._desk = CommandDesk(commands)
        self._changed = threading.Condition()  # guards what follows
        self._stream = 0  # goes up as streams begin and end: the iterator of an older one ends
        self._version = 0  # goes up at whatever may be news
        self._welcome: fleet_pb2.Welcome | None = None  # of this stream
        self._retry_s: float | None = None  # after the problem of this stream
        self._sent_events: dict[str, float] = {}  # in this stream, by when
        self._outbox: deque[fleet_pb2.ControlRequest] = deque(maxlen=_OUTBOX)
        self._beat_now = False
        self._problem = self._server_version = ""
        self._refusals, self._skews, self._drops = (Repeated(_log, logging.WARNING) for _ in range(3))
        self._clock_ahead_s: float | None = None
        self._heartbeats = self._events_sent = 0

    def wake(self) -> None:
        with self._changed:
            self._notify()

    def tell(self, request: fleet_pb2.ControlRequest) -> None:
        with self._changed:
            self._outbox.append(request)
            self._notify()

    def status(self, stream: StreamStatus) -> ControlStatus:
        pending = self._events.status().items
        with self._changed:
            return ControlStatus(
                stream,
                self._problem,
                self._server_version,
                self._clock_ahead_s,
                self._heartbeats,
                self._events_sent,
                self._desk.carried_out,
                pending,
            )

    def wanted_in(self) -> float | None:
        return 0.0

    def requests(self) -> Iterator[fleet_pb2.ControlRequest]:
        with self._changed:
            self._stream += 1
            self._welcome, self._retry_s = None, None
            self._sent_events.clear()
            return self._requests(self._stream)

    def received(self, response: fleet_pb2.ControlResponse) -> bool:
        said = response.WhichOneof("message")
        if said == "problem":
            self._take_problem(response.problem)
            return False
        if said == "welcome":
            return self._take_welcome(response.welcome)
        with self._changed:
            welcome = self._welcome
        if welcome is None:
            self._hang_up(f"the cloud says {said or 'something unknown'} before Welcome")
            return False
        if said == "update_nudge":
            self._handlers.update_nudge(response.update_nudge.release_counter)
        elif said == "assignment":
            self._handlers.assignment(response.assignment)
        elif said == "command":
            self.tell(fleet_pb2.ControlRequest(command_result=self._desk.take(response.command)))
        elif said == "drift_event_receipt":
            self._take_receipt(response.drift_event_receipt.drift_event_id)
        # Whatever else a newer cloud says is a hint that this daemon does not know.
        return True

    def closed(self, error: grpc.RpcError | None) -> float:
        with self._changed:
            self._stream += 1
            self._welcome = None
            retry_s = self._retry_s
            self._notify()
        if retry_s is None:
            self._problems.reset()
            return 0.0
        return max(retry_s, self._problems.next_s())

    def _notify(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def _wait(self, version: int, timeout_s: float) -> None:
        self._changed.wait_for(lambda: self._version != version, timeout_s)

    def _requests(self, stream: int) -> Iterator[fleet_pb2.ControlRequest]:
        until_s = time.monotonic() + _SENDING_SHARE * self._options.stream_s
        session = self._handlers.session
        yield fleet_pb2.ControlRequest(
            hello=fleet_pb2.Hello(
                protocol=handshake.supported(),
                daemon_version=self._options.daemon_version,
                hardware_ids=self._options.hardware_ids,
                instance_id=self._options.instance_id,
                status=self._handlers.status(),
                fleet=self._options.fleet,
                session_token=None if session is None else session.shown(),
            )
        )
        with self._changed:
            self._changed.wait_for(
                lambda: self._welcome is not None or self._stream != stream, self._options.welcome_s
            )
            welcome, over = self._welcome, self._stream != stream
        if over:
            return
        if welcome is None:
            self._hang_up("the cloud does not answer Hello")
            return
        asked_s = welcome.heartbeat_interval_ms / 1000 or _HEARTBEAT_S
        interval_s = max(_HEARTBEAT_FASTEST_S, _HEARTBEAT_SHARE * asked_s)
        beat_s = time.monotonic() + interval_s
        while True:
            with self._changed:
                version, now_s = self._version, time.monotonic()
                beat = self._beat_now or now_s >= beat_s
            request = self._next(now_s)
            if request is None and beat:
                beat_s = now_s + interval_s
                request = fleet_pb2.ControlRequest(
                    heartbeat=fleet_pb2.Heartbeat(status=self._handlers.status())
                )
            with self._changed:
                if self._stream != stream or now_s >= until_s:
                    return
                if request is None:
                    wait_s = max(0.0, min(beat_s, until_s, now_s + self._options.receipt_s) - now_s)
                    self._wait(version, wait_s)
                    continue
                self._goes_out(request, now_s)
            yield request

    def _next(self, now_s: float) -> fleet_pb2.ControlRequest | None:
        """The first thing to say that is not a heartbeat: answers and models first, then drift events."""
        with self._changed:
            if self._outbox:
                return self._outbox[0]
            overdue_s = now_s - self._options.receipt_s
            skip = {event_id for event_id, sent_s in self._sent_events.items() if sent_s > overdue_s}
        while (found := self._events.next(skip)) is not None:
            try:
                return fleet_pb2.ControlRequest(drift_event=fleet_pb2.DriftEvent.FromString(found[1]))
            except DecodeError as error:
                self._drops.log("the drift event %s is dropped: %s", found[0], error)
                self._events.discard(found[0])
        return None

    def _goes_out(self, request: fleet_pb2.ControlRequest, now_s: float) -> None:
        said = request.WhichOneof("message")
        if self._outbox and self._outbox[0] is request:
            self._outbox.popleft()
        elif said == "heartbeat":
            self._heartbeats += 1
            self._beat_now = False
        elif said == "drift_event":
            self._events_sent += 1
            self._sent_events[request.drift_event.id] = now_s

    def _status_request(self, request: fleet_pb2.StatusRequest) -> str | None:
        with self._changed:
            self._beat_now = True
        return None

    def _take_welcome(self, welcome: fleet_pb2.Welcome) -> bool:
        spoken = common_pb2.ProtocolRange(oldest=welcome.protocol_version, newest=welcome.protocol_version)
        if handshake.agree(handshake.supported(), spoken) is None:
            self._hang_up(f"the cloud speaks protocol {welcome.protocol_version}, which this daemon does not")
            return False
        ahead_s = (time.time_ns() - welcome.server_wall_ns) / 1e9 if welcome.server_wall_ns else None
        if ahead_s is not None and abs(ahead_s) > _CLOCK_SKEW_S:
            self._skews.log("control: this vehicle's clock is %.0f s ahead of the cloud's", ahead_s)
        self._handlers.welcome(welcome)
        if not welcome.assigns_releases:
            self._handlers.assignment(None)
        with self._changed:
            self._welcome = welcome
            self._problem, self._server_version = "", welcome.server_version
            self._clock_ahead_s = ahead_s
            self._notify()
        if welcome.session_token:
            self._keep(welcome.session_token)
        return True

    def _keep(self, token: bytes) -> None:
        kept = b"" if self._handlers.session is None else self._handlers.session.keep(token)
        if kept:
            said = fleet_pb2.SessionTokenKept(token_sha256=kept)
            self.tell(fleet_pb2.ControlRequest(session_token_kept=said))

    def _take_problem(self, problem: fleet_pb2.Problem) -> None:
        retry_s = problem.retry_after_ms / 1000
        if problem.code in _LASTING:
            retry_s = max(retry_s, self._options.backoff.limit_s)
        name = _problem_name(problem.code)
        text = f"{name}: {problem.detail}" if problem.detail else name
        if problem.code == fleet_pb2.PROBLEM_CODE_PROTOCOL:
            ours = handshake.supported()
            text += (
                f" (this daemon speaks {ours.oldest} to {ours.newest},"
                f" the cloud {problem.protocol.oldest} to {problem.protocol.newest})"
            )
        with self._changed:
            new, self._problem = text != self._problem, text
            self._retry_s = retry_s
            self._stream += 1  # nothing more is said in this stream
            self._notify()
        if new:
            self._refusals.log("control: the cloud refuses: %s", text, key=text)
        else:
            _log.debug("control: the cloud refuses: %s", text)

    def _take_receipt(self, event_id: str) -> None:
        with self._changed:
            asked = self._sent_events.pop(event_id, None) is not None
        if asked:
            self._events.acknowledge(event_id)


def _problem_name(code: int) -> str:
    if code not in fleet_pb2.ProblemCode.values():
        return f"problem {code}"
    return fleet_pb2.ProblemCode.Name(code).removeprefix("PROBLEM_CODE_").lower()
