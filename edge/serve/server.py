"""The gRPC server for local programs: Unix sockets and TCP, never an address that another listens on."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from edge.errors import TrafficVisionError
from edge.serve.perception_service import PerceptionService
from edge.unix_socket import SOCKET_MODE, SocketError, require_free_path
from protos.traffic_vision.v1 import perception_pb2, perception_pb2_grpc

logger = logging.getLogger(__name__)

SERVICE_NAME = perception_pb2.DESCRIPTOR.services_by_name["PerceptionService"].full_name
_UNARY_THREADS = 4  # beside those that streams hold
_OPTIONS = (
    # Without it, a second server would share the port in silence and take half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 65_536),
)


class ServeError(TrafficVisionError):
    """The address cannot be served at; the message says why."""


class PerceptionServer:
    """Listens from its making on, says that it serves once it is told to, ends within a grace time."""

    def __init__(
        self,
        service: PerceptionService,
        *addresses: str,
        max_streams: int,
        credentials: Callable[[], grpc.ServerCredentials] | None = None,
    ) -> None:
        """Bind every address.

        Args:
            service: what is served.
            addresses: `unix:/a/path` or `127.0.0.1:PORT`, port 0 for any; one or more.
            max_streams: of the service.
            credentials: makes those of TLS, for each TCP address its own: gRPC hands one's renewed files to
                one port alone. None: TCP is in the clear. Unix sockets always are.

        Raises:
            ServeError: an address is taken or cannot be bound; none is bound then.
            TrafficVisionError: the credentials cannot be made.
        """
        for address in addresses:
            _require_free(address)
        self._threads = ThreadPoolExecutor(max_streams + _UNARY_THREADS, "serve")
        self._health = health.HealthServicer()
        self._server = grpc.server(self._threads, options=_OPTIONS)
        perception_pb2_grpc.add_PerceptionServiceServicer_to_server(service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self._serving: bool | None = None
        self.serving(False)
        try:
            self.addresses = tuple(self._bind(address, credentials) for address in addresses)
        except TrafficVisionError:
            self._server.stop(None)
            raise
        self.address = self.addresses[0]

    def start(self) -> None:
        """Answer calls."""
        self._server.start()

    def serving(self, is_well: bool) -> None:
        """Let health say whether the daemon does its work (`edge.health.health`)."""
        if is_well == self._serving:
            return
        self._serving = is_well
        status = health_pb2.HealthCheckResponse
        self._say(status.SERVING if is_well else status.NOT_SERVING)

    def stop(self, grace_s: float) -> bool:
        """Refuse new calls, give those under way so long, then cut them. False where that took too long."""
        self._health.enter_graceful_shutdown()
        stopped = self._server.stop(grace_s).wait(grace_s + 0.5)
        self._threads.shutdown(wait=False)  # gRPC leaves them waiting for more
        return stopped

    def _bind(self, address: str, credentials: Callable[[], grpc.ServerCredentials] | None) -> str:
        is_path = address.startswith("unix:")
        try:
            if credentials is None or is_path:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, credentials())
        except RuntimeError as error:
            raise ServeError(f"cannot serve at {address}: {error}") from None
        if is_path:
            Path(address.removeprefix("unix:")).chmod(SOCKET_MODE)
            return address
        return f"{address.rpartition(':')[0]}:{port}"

    def _say(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", SERVICE_NAME):
            self._health.set(name, status)


def _require_free(address: str) -> None:
    """Find out ourselves: gRPC would unlink a living daemon's socket, and says little of a port."""
    try:
        if address.startswith("unix:"):
            require_free_path(Path(address.removeprefix("unix:")))
        else:
            _require_free_port(address)
    except SocketError as error:
        raise ServeError(str(error)) from None
    except OSError as error:
        raise ServeError(f"cannot serve at {address}: {error.strerror or error}") from None


def _require_free_port(address: str) -> None:
    host, _, port = address.rpartition(":")
    family, kind, protocol, _, found = socket.getaddrinfo(
        host.strip("[]"), int(port), type=socket.SOCK_STREAM
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(found)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ServeError(f"cannot serve at {address}: another process listens there") from None
            raise
