"""The gRPC server for local programs: a Unix socket or loopback, never one that another listens on."""

from __future__ import annotations

import errno
import logging
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from edge.errors import TrafficVisionError
from edge.serve.perception_service import PerceptionService
from protos.traffic_vision.v1 import perception_pb2, perception_pb2_grpc

logger = logging.getLogger(__name__)

SERVICE_NAME = perception_pb2.DESCRIPTOR.services_by_name["PerceptionService"].full_name
_UNARY_THREADS = 4  # beside those that streams hold
_SOCKET_MODE = 0o660  # the daemon's user and group
_OPTIONS = (
    # Without it, a second server would share the port in silence and take half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 65_536),
)


class ServeError(TrafficVisionError):
    """The address cannot be served at; the message says why."""


class PerceptionServer:
    """Listens from its making on, says that it serves once it is told to, ends within a grace time."""

    def __init__(self, service: PerceptionService, address: str, *, max_streams: int) -> None:
        """Bind the address.

        Args:
            service: what is served.
            address: `unix:/a/path` or `127.0.0.1:PORT`, port 0 for any.
            max_streams: of the service.

        Raises:
            ServeError: the address is taken or cannot be bound.
        """
        _require_free(address)
        threads = ThreadPoolExecutor(max_streams + _UNARY_THREADS, "serve")
        self._health = health.HealthServicer()
        self._server = grpc.server(threads, options=_OPTIONS)
        perception_pb2_grpc.add_PerceptionServiceServicer_to_server(service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._say(health_pb2.HealthCheckResponse.NOT_SERVING)
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise ServeError(f"cannot serve at {address}: {error}") from None
        if address.startswith("unix:"):
            Path(address.removeprefix("unix:")).chmod(_SOCKET_MODE)
            self.address = address
        else:
            self.address = f"{address.rpartition(':')[0]}:{port}"

    def start(self) -> None:
        """Answer calls."""
        self._server.start()

    def ready(self) -> None:
        """Let health say that it serves: frames are being answered."""
        self._say(health_pb2.HealthCheckResponse.SERVING)

    def stop(self, grace_s: float) -> bool:
        """Refuse new calls, give those under way so long, then cut them. False where that took too long."""
        self._health.enter_graceful_shutdown()
        return self._server.stop(grace_s).wait(grace_s + 0.5)

    def _say(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", SERVICE_NAME):
            self._health.set(name, status)


def _require_free(address: str) -> None:
    """Find out ourselves: gRPC would unlink a living daemon's socket, and says little of a port."""
    try:
        if address.startswith("unix:"):
            _require_free_path(Path(address.removeprefix("unix:")))
        else:
            _require_free_port(address)
    except OSError as error:
        raise ServeError(f"cannot serve at {address}: {error.strerror or error}") from None


def _require_free_path(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ServeError(f"cannot serve at unix:{path}: a file of that name is there, and it is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:  # left behind by a daemon that was killed
            return
    raise ServeError(f"cannot serve at unix:{path}: another process listens there")


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
