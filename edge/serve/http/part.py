"""HTTP as a part of the daemon: a server in a thread of its own, with an event loop of its own."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import cv2

from edge.config import HttpConfig
from edge.config.types import is_loopback
from edge.errors import TrafficVisionError
from edge.frame_loop import FrameObserver
from edge.parts import Links
from edge.serve.http.guard import Guard, read_token
from edge.serve.http.live import LiveView
from edge.serve.http.metrics import Metrics
from protos.traffic_vision.v1 import common_pb2

if TYPE_CHECKING:
    from edge.serve.http.server import HttpServer

logger = logging.getLogger(__name__)

_FIRST_FRAME_S = 1.5
_THREADS = 6  # two pictures, a reload, and what is quick
_BACKLOG = 128


class HttpError(TrafficVisionError):
    """The address cannot be served at; the message says why."""


class HttpPart:
    """Listens from its making on, answers once it is started: a `BackgroundPart`, and its observers."""

    name = "http server"

    def __init__(self, config: HttpConfig, vehicle: str, cameras: tuple[str, ...], links: Links) -> None:
        """Bind the address.

        Args:
            config: the section [http].
            vehicle: its name.
            cameras: their names.
            links: what the daemon gives its parts.

        Raises:
            HttpError: the address is taken or cannot be bound.
            TokenError: the token file cannot be used.
        """
        self._config = config
        self._vehicle = vehicle
        self._cameras = cameras
        self._links = links
        token = None if config.token_file is None else read_token(config.token_file)
        self._guard = Guard(token, is_loopback=is_loopback(config.address))
        self._metrics = Metrics(links.status, links.loop_health)
        self._executor = ThreadPoolExecutor(_THREADS, "http")
        self._live = LiveView(cameras, self._executor) if config.live_page else None
        self._socket = _bind(config.address)
        port = self._socket.getsockname()[1]
        self.address = f"{config.address.rpartition(':')[0]}:{port}"
        self._stopping = threading.Event()
        self._server: HttpServer | None = None
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def observers(self) -> tuple[FrameObserver, ...]:
        """What sees every published frame."""
        stages = self._metrics.stages
        return (stages,) if self._live is None else (stages, self._live)

    def start(self) -> None:
        """Start the thread. Until the first frame is answered, or is long in coming, requests wait."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests, send away who watches, give the rest a second."""
        self._stopping.set()
        self._metrics.stages.seen.set()
        if self._server is not None:
            self._server.should_exit = True
        if self._thread.ident is None:
            self._socket.close()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; False where it hangs."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self._executor.shutdown(wait=False, cancel_futures=True)
        return not self._thread.is_alive()

    def fill_status(self, status: common_pb2.VehicleStatus) -> None:
        """Nothing: it shows what others know."""

    def _run(self) -> None:
        try:
            self._serve()
        except Exception:  # the thread's top
            logger.exception("the http server failed", extra={"event": "http_failed"})
        finally:
            self._socket.close()

    def _serve(self) -> None:
        # A quarter of a second of imports, which would hold the interpreter's lock against the first frame.
        self._metrics.stages.seen.wait(_FIRST_FRAME_S)
        from edge.serve.http.app import Routes
        from edge.serve.http.server import HttpServer

        # Who posts damaged pictures must not fill the journal: OpenCV tells each one twice, here and in its
        # answer. (A line or two of libjpeg and libpng remain, which ask nobody.)
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        routes = Routes(
            self._vehicle,
            self._cameras,
            self._links,
            self._guard,
            self._metrics,
            self._live,
            self._executor,
            max_picture_bytes=self._config.max_picture_bytes,
        )
        server = self._server = HttpServer(routes, self._guard, self._metrics)
        if self._stopping.is_set():
            return
        logger.info(
            "http serves at %s, %s",
            self.address,
            "with the token" if self._guard.needs_token else "to programs of this machine",
            extra={"event": "http_started", "address": self.address},
        )
        server.run(sockets=[self._socket])


def _bind(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        family, kind, protocol, _, found = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(found)
            bound.listen(_BACKLOG)  # before that, another process could still bind it too
        except OSError:
            bound.close()
            raise
    except OSError as error:
        reason = "another process listens there" if error.errno == errno.EADDRINUSE else error.strerror
        raise HttpError(f"cannot serve http at {address}: {reason or error}") from None
    return bound
