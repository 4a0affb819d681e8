"""From a spool to the cloud: a thread and a bidirectional stream for samples, the same for feature series.

At least once on the wire, exactly once in the store: an item leaves the spool when its answer is there, and
what has no answer when a stream ends is sent again under its id.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from edge.backoff import BackoffOptions
from edge.fleet.spool import Spool
from edge.fleet.streaming import Call, StreamStatus, StreamThread
from edge.fleet.upload_budget import UploadBudget
from edge.fleet.upload_rules import Fate, UploadCounts, UploadRules, reason_name
from edge.logs import Repeated
from protos.traffic_vision.v1 import fleet_pb2, fleet_pb2_grpc

_log = logging.getLogger(__name__)

# A gRPC server takes messages of 4 MiB unless it is told otherwise; the rest is for what is around the item.
_MESSAGE_LIMIT_BYTES = (4 << 20) - 4096
# Of a stream's time. After it only answers are waited for, so that no deadline has to cut the stream.
_SENDING_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Lane:
    """What tells the two uploads apart.

    Attributes:
        name: in logs and of the thread.
        method: the RPC's name.
        request: the message for a spooled payload.
        answered_id: which item a response is about.
    """

    name: str
    method: str
    request: Callable[[bytes], Any]
    answered_id: Callable[[Any], str]


def _samples_request(payload: bytes) -> fleet_pb2.UploadSamplesRequest:
    return fleet_pb2.UploadSamplesRequest(sample=fleet_pb2.Sample.FromString(payload))


def _features_request(payload: bytes) -> fleet_pb2.UploadFeaturesRequest:
    return fleet_pb2.UploadFeaturesRequest(series=fleet_pb2.FeatureSeries.FromString(payload))


SAMPLES = Lane("samples", "UploadSamples", _samples_request, lambda response: str(response.sample_id))
FEATURES = Lane("features", "UploadFeatures", _features_request, lambda response: str(response.series_id))


@dataclass(frozen=True, slots=True)
class UplinkOptions:
    """How to send.

    Attributes:
        in_flight: items without an answer at a time, at most; the cloud may ask for fewer.
        idle_s: a stream without work is closed after so long: each costs the cloud a thread.
        stream_s: a stream ends after so long; what hangs in it is then sent again.
        backoff: between tries.
    """

    in_flight: int = 8
    idle_s: float = 10.0
    stream_s: float = 300.0
    backoff: BackoffOptions = field(default_factory=BackoffOptions)


@dataclass(frozen=True, slots=True)
class UplinkStatus:
    """How a lane is doing: its stream, and what was sent and answered since the start."""

    stream: StreamStatus
    counts: UploadCounts


class Uplink:
    """Empties one spool into the cloud, in a thread of its own."""

    def __init__(
        self,
        lane: Lane,
        spool: Spool,
        channel: grpc.Channel,
        options: UplinkOptions | None = None,
        *,
        budget: UploadBudget | None = None,
    ) -> None:
        """Make ready; nothing is sent before `start`. The caller closes the channel, after `stop`.

        Args:
            lane: `SAMPLES` or `FEATURES`.
            spool: where the items are; its payloads are serialized messages of the lane.
            channel: see `edge.fleet.channel.open_channel`.
            options: how to send.
            budget: of bytes, shared by the uplinks of a vehicle; None: no limit.
        """
        options = options or UplinkOptions()
        self.name = lane.name
        self._party = _Upload(lane, spool, options, budget or UploadBudget(None))
        method = getattr(fleet_pb2_grpc.FleetServiceStub(channel), lane.method)

        def call(requests: Iterator[Any], deadline_s: float) -> Call[Any]:
            return method(requests, timeout=deadline_s)  # type: ignore[no-any-return]

        self._stream: StreamThread[Any, Any] = StreamThread(
            f"uplink-{lane.name}", call, self._party, deadline_s=options.stream_s, backoff=options.backoff
        )
        spool.listen(self.wake)

    def start(self) -> None:
        """Start the thread."""
        self._stream.start()

    def wake(self) -> None:
        """Look at the spool and the budget again."""
        self._party.wake()
        self._stream.wake()

    def stop(self, timeout_s: float = 1.0) -> bool:
        """Cut the stream and end the thread; False where it has not ended in time."""
        return self._stream.stop(timeout_s)

    def limit_to(self, in_flight: int, item_bytes: int) -> None:
        """Take the limits of the cloud's Welcome; 0 leaves one as it is."""
        self._party.limit_to(in_flight, item_bytes)

    def status(self) -> UplinkStatus:
        """How it is doing."""
        return UplinkStatus(self._stream.status(), self._party.counts())


class _Upload:
    """The party of an upload stream: the rules, a lock around them, and the spool."""

    def __init__(self, lane: Lane, spool: Spool, options: UplinkOptions, budget: UploadBudget) -> None:
        self._lane = lane
        self._refusals = Repeated(_log, logging.WARNING)
        self._strays = Repeated(_log, logging.WARNING)
        self._spool = spool
        self._options = options
        self._budget = budget
        self._changed = threading.Condition()  # guards what follows
        self._rules = UploadRules(options.in_flight, options.backoff)
        self._item_limit = _MESSAGE_LIMIT_BYTES
        self._stream = 0  # goes up as streams begin and end: the iterator of an older one ends
        self._version = 0  # goes up at whatever may let something be sent

    def wake(self) -> None:
        with self._changed:
            self._notify()

    def limit_to(self, in_flight: int, item_bytes: int) -> None:
        with self._changed:
            if in_flight:
                self._rules.limit_to(min(in_flight, self._options.in_flight))
            if item_bytes:
                self._item_limit = min(item_bytes, _MESSAGE_LIMIT_BYTES)
            self._notify()

    def counts(self) -> UploadCounts:
        with self._changed:
            return replace(self._rules.counts, refused=Counter(self._rules.counts.refused))

    def wanted_in(self) -> float | None:
        with self._changed:
            wait_s = self._rules.wait_s(time.monotonic())
        if wait_s > 0:
            return wait_s
        found = self._next()
        return 0.0 if isinstance(found, tuple) else found

    def requests(self) -> Iterator[Any]:
        with self._changed:
            self._stream += 1
            return self._requests(self._stream, time.monotonic() + _SENDING_SHARE * self._options.stream_s)

    def received(self, response: Any) -> bool:
        item_id = self._lane.answered_id(response)
        with self._changed:
            fate = self._rules.answer(
                item_id, response.outcome, response.reason, response.retry_after_ms, time.monotonic()
            )
            # Under the lock: between the two, the item would be in the spool and not in flight.
            if fate is Fate.ACKNOWLEDGE:
                self._spool.acknowledge(item_id)
            elif fate is Fate.DISCARD:
                self._spool.discard(item_id)
            self._notify()
        if fate is Fate.DISCARD:
            reason = reason_name(response.reason)
            self._refusals.log(
                "%s: %s was refused (%s): %s", self._lane.name, item_id, reason, response.detail
            )
        elif fate is Fate.STRAY:
            self._strays.log("%s: an answer to %r, which was not sent", self._lane.name, item_id[:64])
        return fate is not Fate.STRAY

    def closed(self, error: grpc.RpcError | None) -> float:
        code = grpc.StatusCode.OK if error is None else grpc.StatusCode.UNKNOWN
        if isinstance(error, grpc.Call):
            code = error.code()
        with self._changed:
            self._rules.closed(code, time.monotonic())
            self._stream += 1
            self._notify()
        return 0.0

    def _notify(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def _wait(self, version: int, timeout_s: float) -> None:
        self._changed.wait_for(lambda: self._version != version, max(0.0, timeout_s))

    def _requests(self, stream: int, until_s: float) -> Iterator[Any]:
        """Say what may be said, when it may; end where the stream is over, lasted long, or has no work."""
        idle_since_s = time.monotonic()
        while True:
            with self._changed:
                now_s, version = time.monotonic(), self._version
                wait_s, busy = self._rules.wait_s(now_s), bool(self._rules.in_flight)
            found = self._next() if wait_s <= 0 else wait_s
            if isinstance(found, tuple):
                request = self._request(*found)
                if request is not None:
                    with self._changed:
                        if self._stream != stream or now_s >= until_s:
                            return
                        self._rules.sent(found[0], len(found[1]))
                    self._budget.spend(len(found[1]))
                    idle_since_s = now_s
                    yield request
                continue
            if busy:
                idle_since_s = now_s
            ends_s = min(until_s, math.inf if busy else idle_since_s + self._options.idle_s)
            wait_s = min(ends_s - now_s, math.inf if found is None else found)
            with self._changed:
                self._wait(version, wait_s)
                if self._stream != stream or time.monotonic() >= ends_s:
                    return

    def _next(self) -> tuple[str, bytes] | float | None:
        """The item to be sent now; or seconds until one may be; or None: there is none."""
        while True:
            with self._changed:
                skip, limit = set(self._rules.skip(time.monotonic())), self._item_limit
            found = self._spool.next(skip)
            if found is None:
                with self._changed:
                    return self._rules.skips_until_s(time.monotonic())
            item_id, payload = found
            if len(payload) > limit:
                self._refuse(item_id, "too_large", f"{len(payload)} bytes, at most {limit}")
                continue
            wait_s = self._budget.wait_s(len(payload))
            if wait_s is None:  # more than a whole day's bytes, as they are limited now
                with self._changed:
                    self._rules.postpone(item_id, time.monotonic())
                continue
            return wait_s if wait_s > 0 else found

    def _request(self, item_id: str, payload: bytes) -> Any:
        try:
            return self._lane.request(payload)
        except DecodeError as error:
            self._refuse(item_id, "malformed", str(error))
            return None

    def _refuse(self, item_id: str, reason: str, detail: str) -> None:
        with self._changed:
            self._rules.counts.refused[reason] += 1
            self._spool.discard(item_id)
        self._refusals.log("%s: %s is not sent (%s): %s", self._lane.name, item_id, reason, detail)
