"""The perception service: what the contract in `protos/traffic_vision/v1/perception.proto` promises."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, TypeVar

import grpc

from edge.frames.rate_limit import RateLimit
from edge.messages import Clock, frame_detections
from edge.publication import Publication
from edge.serve.hub import Delivery, Hub, Subscription
from edge.vehicle_state.state import VehicleStateError
from protos.handshake import agree, supported
from protos.traffic_vision.v1 import common_pb2, perception_pb2, perception_pb2_grpc

logger = logging.getLogger(__name__)

T = TypeVar("T")

# How long a stream without news waits before it looks whether its client is still there.
_IDLE_S = 1.0
_SHA256_DIGITS = 64

Reload = Callable[[perception_pb2.ReloadModelRequest], perception_pb2.ReloadModelResponse]


class PerceptionService(perception_pb2_grpc.PerceptionServiceServicer):
    """Serves local programs. Every stream holds a thread of the server, so there are only so many."""

    def __init__(
        self,
        *,
        cameras: Iterable[str],
        detections: Hub[Publication],
        drift: Hub[common_pb2.DriftState],
        clock: Clock,
        status: Callable[[], perception_pb2.GetStatusResponse],
        reload_model: Reload,
        report_vehicle: Callable[[common_pb2.VehicleState], int],
        max_streams: int,
        queue_limit: int,
    ) -> None:
        """Over what the daemon makes.

        Args:
            cameras: their names.
            detections: what the frame loop publishes.
            drift: what the drift monitor publishes.
            clock: of this run.
            status: how the vehicle is.
            reload_model: changes the model; may take minutes.
            report_vehicle: takes what the vehicle says of itself, and gives how long it holds, ms; raises
                VehicleStateError where a value cannot be.
            max_streams: at a time; one more is refused.
            queue_limit: messages that wait for a slow client at most, and unless it asks for fewer.
        """
        self._cameras = frozenset(cameras)
        self._detections = detections
        self._drift = drift
        self._clock = clock
        self._status = status
        self._reload_model = reload_model
        self._report_vehicle = report_vehicle
        self._queue_limit = queue_limit
        self._max_streams = max_streams
        self._streams = threading.BoundedSemaphore(max_streams)

    def limit_queues(self, queue_limit: int) -> None:
        """Change how many messages wait for a slow client, from the next stream on."""
        self._queue_limit = queue_limit

    def StreamDetections(  # noqa: N802 - the contract's name
        self, request: perception_pb2.StreamDetectionsRequest, context: grpc.ServicerContext
    ) -> Iterator[perception_pb2.StreamDetectionsResponse]:
        """Detections as they are made."""
        self._require_protocol(request, context)
        cameras = self._known_cameras(request.cameras, context)
        if not 0 <= request.min_score <= 1:
            _refuse(context, f"min_score is {request.min_score:g}, expected 0 to 1")
        if not (math.isfinite(request.max_rate_hz) and request.max_rate_hz >= 0):
            _refuse(context, f"max_rate_hz is {request.max_rate_hz:g}, expected 0 (every frame) or more")
        class_names = frozenset(request.class_names)
        limits = {name: RateLimit(request.max_rate_hz or None) for name in cameras}

        def accepts(publication: Publication) -> bool:
            camera = publication.key.camera
            return camera in cameras and limits[camera].passes(publication.captured_ns)

        def keep(name: str, score: float) -> bool:
            return score >= request.min_score and (not class_names or name in class_names)

        limit = min(request.queue_limit or self._queue_limit, self._queue_limit)
        for delivery in self._deliver(self._detections, accepts, limit, context):
            yield perception_pb2.StreamDetectionsResponse(
                sequence=delivery.sequence,
                dropped_messages=delivery.dropped,
                detections=frame_detections(delivery.item, self._clock, keep=keep),
            )

    def StreamDrift(  # noqa: N802
        self, request: perception_pb2.StreamDriftRequest, context: grpc.ServicerContext
    ) -> Iterator[perception_pb2.StreamDriftResponse]:
        """Drift states: the present ones, then each new one."""
        self._require_protocol(request, context)
        cameras = self._known_cameras(request.cameras, context)
        verdicts: dict[str, int] = {}

        def accepts(state: common_pb2.DriftState) -> bool:
            before = verdicts.get(state.camera)
            verdicts[state.camera] = state.verdict
            return state.camera in cameras and not (request.changes_only and before == state.verdict)

        for delivery in self._deliver(self._drift, accepts, self._queue_limit, context):
            yield perception_pb2.StreamDriftResponse(
                sequence=delivery.sequence, dropped_messages=delivery.dropped, state=delivery.item
            )

    def GetStatus(  # noqa: N802
        self, request: perception_pb2.GetStatusRequest, context: grpc.ServicerContext
    ) -> perception_pb2.GetStatusResponse:
        """How the vehicle is."""
        response = self._status()
        response.protocol.CopyFrom(supported())
        return response

    def ReloadModel(  # noqa: N802
        self, request: perception_pb2.ReloadModelRequest, context: grpc.ServicerContext
    ) -> perception_pb2.ReloadModelResponse:
        """Another model between two frames."""
        expected = request.expected_sha256
        if expected and (len(expected) != _SHA256_DIGITS or set(expected) - set("0123456789abcdef")):
            _refuse(context, f"expected_sha256 is {expected[:70]!r}, expected 64 lower-case hex digits")
        return self._reload_model(request)

    def ReportVehicle(  # noqa: N802
        self, request: perception_pb2.ReportVehicleRequest, context: grpc.ServicerContext
    ) -> perception_pb2.ReportVehicleResponse:
        """What the vehicle says of itself."""
        try:
            valid_ms = self._report_vehicle(request.state)
        except VehicleStateError as error:
            _refuse(context, str(error))
        return perception_pb2.ReportVehicleResponse(valid_ms=valid_ms)

    def _require_protocol(
        self,
        request: perception_pb2.StreamDetectionsRequest | perception_pb2.StreamDriftRequest,
        context: grpc.ServicerContext,
    ) -> None:
        ours = supported()
        if request.HasField("protocol") and agree(ours, request.protocol) is None:
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"no protocol version in common: this daemon speaks {ours.oldest} to {ours.newest}",
            )

    def _known_cameras(self, asked: Iterable[str], context: grpc.ServicerContext) -> frozenset[str]:
        unknown = sorted(set(asked) - self._cameras)
        if unknown:
            _refuse(context, f"no camera {unknown[0]!r}; there are {', '.join(sorted(self._cameras))}")
        return frozenset(asked) or self._cameras

    def _deliver(
        self, hub: Hub[T], accepts: Callable[[T], bool], limit: int, context: grpc.ServicerContext
    ) -> Iterator[Delivery[T]]:
        if not self._streams.acquire(blocking=False):
            reason = f"{self._max_streams} streams are open, which is all that this daemon serves at a time"
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, reason)
        try:
            subscription = hub.subscribe(accepts=accepts, limit=limit)
            yield from _until_ended(subscription, context)
        finally:
            self._streams.release()


def _until_ended(subscription: Subscription[T], context: grpc.ServicerContext) -> Iterator[Delivery[T]]:
    try:
        if not context.add_callback(subscription.close):  # the client has gone already
            return
        while context.is_active() and not subscription.ended:
            delivery = subscription.next(_IDLE_S)
            if delivery is not None:
                yield delivery
    finally:
        subscription.close()
    if context.is_active():
        context.abort(grpc.StatusCode.UNAVAILABLE, "the daemon stops")


def _refuse(context: grpc.ServicerContext, reason: str) -> NoReturn:
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
    raise AssertionError("abort raises")
