"""A client of the perception service that connects again by itself, for local programs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import grpc

from edge.backoff import Backoff, BackoffOptions
from edge.errors import TrafficVisionError
from protos.handshake import supported
from protos.traffic_vision.v1 import common_pb2, perception_pb2, perception_pb2_grpc

T = TypeVar("T")

CALL_TIMEOUT_S = 5.0
RELOAD_TIMEOUT_S = 900.0  # a provider may build an engine first
RETRY = BackoffOptions(initial_s=0.1, limit_s=2.0)  # the daemon is on this machine

# What passes by itself: a daemon that restarts, or cuts a call while it stops.
_PASSING = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}
)


class ClientError(TrafficVisionError):
    """The daemon refused a call, or cannot be reached; the message says why."""


class PerceptionClient:
    """One connection to a daemon, for any number of threads.

    Streams never end while the daemon is away: they go on when it is back. What was published meanwhile is
    lost; a new connection counts its sequence from 0.
    """

    def __init__(
        self,
        address: str,
        *,
        ca: Path | None = None,
        cert: Path | None = None,
        key: Path | None = None,
        server_name: str | None = None,
        disconnected: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """For a daemon that may not run yet.

        Args:
            address: `unix:/a/path` or `127.0.0.1:PORT`.
            ca: PEM file of the authority that the daemon's certificate comes from: the connection is by TLS.
            cert: PEM file of this client's own certificate, where the daemon asks for one.
            key: PEM file of its private key.
            server_name: the name in the daemon's certificate, where it is not the address's host.
            disconnected: told, with the reason, when a stream was lost; from the stream's thread.

        Raises:
            TrafficVisionError: a file is not what it should be, or a Unix socket is to be reached by TLS.
        """
        self._address = address
        self._disconnected = disconnected
        self._closing = threading.Event()
        options: list[tuple[str, int | str]] = [
            ("grpc.max_reconnect_backoff_ms", round(RETRY.limit_s * 1000)),
            ("grpc.enable_http_proxy", 0),
        ]
        if server_name is not None:
            options.append(("grpc.ssl_target_name_override", server_name))
        if ca is cert is key is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            if address.startswith("unix:"):
                raise ClientError(f"{address} is a Unix socket, which has no TLS: leave out ca, cert and key")
            from edge.serve.tls import channel_credentials  # its libraries are for those who use it

            self._channel = grpc.secure_channel(address, channel_credentials(ca, cert, key), options)
        self._stub = perception_pb2_grpc.PerceptionServiceStub(self._channel)

    def detections(
        self,
        *,
        cameras: Sequence[str] = (),
        class_names: Sequence[str] = (),
        min_score: float = 0.0,
        max_rate_hz: float = 0.0,
        queue_limit: int = 0,
    ) -> Iterator[perception_pb2.StreamDetectionsResponse]:
        """Detections as they are made; filters as in the contract. Ends when the client is closed.

        Raises:
            ClientError: the daemon refuses the filters.
        """
        request = perception_pb2.StreamDetectionsRequest(
            protocol=supported(),
            cameras=cameras,
            class_names=class_names,
            min_score=min_score,
            max_rate_hz=max_rate_hz,
            queue_limit=queue_limit,
        )
        return self._for_ever(lambda: self._stub.StreamDetections(request))

    def drift(
        self, *, cameras: Sequence[str] = (), changes_only: bool = False
    ) -> Iterator[perception_pb2.StreamDriftResponse]:
        """Drift states: the present ones, then each new one. Ends when the client is closed.

        Raises:
            ClientError: the daemon refuses the filters.
        """
        request = perception_pb2.StreamDriftRequest(
            protocol=supported(), cameras=cameras, changes_only=changes_only
        )
        return self._for_ever(lambda: self._stub.StreamDrift(request))

    def status(self, *, timeout_s: float = CALL_TIMEOUT_S) -> perception_pb2.GetStatusResponse:
        """How the vehicle is.

        Raises:
            ClientError: the daemon does not answer.
        """
        try:
            return self._stub.GetStatus(perception_pb2.GetStatusRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            raise self._error(error) from None

    def reload(
        self, slot: common_pb2.Slot = common_pb2.SLOT_UNSPECIFIED, *, expected_sha256: str = ""
    ) -> perception_pb2.ReloadModelResponse:
        """Ask for the model of a slot. Returns when it runs, or was refused.

        Raises:
            ClientError: the daemon does not answer.
        """
        request = perception_pb2.ReloadModelRequest(slot=slot, expected_sha256=expected_sha256)
        try:
            return self._stub.ReloadModel(request, timeout=RELOAD_TIMEOUT_S)
        except grpc.RpcError as error:
            raise self._error(error) from None

    def report_vehicle(
        self, state: common_pb2.VehicleState, *, timeout_s: float = CALL_TIMEOUT_S
    ) -> perception_pb2.ReportVehicleResponse:
        """Tell the daemon what the vehicle does: the whole state, again before `valid_ms` is over.

        Raises:
            ClientError: a value cannot be, or the daemon does not answer.
        """
        request = perception_pb2.ReportVehicleRequest(state=state)
        try:
            return self._stub.ReportVehicle(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise self._error(error) from None

    def close(self) -> None:
        """End every stream. May be called twice, from any thread."""
        self._closing.set()
        self._channel.close()

    def __enter__(self) -> PerceptionClient:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        self.close()

    def _for_ever(self, call: Callable[[], Iterator[T]]) -> Iterator[T]:
        backoff = Backoff(RETRY)
        while not self._closing.is_set():
            try:
                for message in call():
                    backoff.reset()
                    yield message
                reason = "the daemon ended the stream"
            except ValueError:  # grpc's way to say that the channel is closed
                return
            except grpc.RpcError as error:
                if self._closing.is_set():
                    return
                if error.code() not in _PASSING:
                    raise self._error(error) from None
                reason = error.details() or error.code().name
            self._disconnected(reason)
            self._closing.wait(backoff.next_s())

    def _error(self, error: grpc.RpcError) -> ClientError:
        return ClientError(f"daemon at {self._address}: {error.details() or error.code().name}")
