"""Reports as JSON lines on a Unix socket: one thread for all clients, and bad input costs itself alone.

Each line is answered by one: `{"valid_ms": 2000}`, or `{"error": "speed_mps is 900, expected -150 to 150"}`.
"""

from __future__ import annotations

import json
import logging
import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edge.logs import Repeated
from edge.unix_socket import bind_unix_socket
from edge.vehicle_state.lines import LINE_LIMIT_BYTES, parse_line
from edge.vehicle_state.state import VehicleStateError
from protos.traffic_vision.v1 import common_pb2

logger = logging.getLogger(__name__)

CLIENTS_LIMIT = 8
_ANSWERS_LIMIT_BYTES = 65_536  # of a client that does not read them; beyond it, it is cut off
_READ_BYTES = 16_384
_WAIT_S = 1.0
_WAKE: Final = object()
_ACCEPT: Final = object()


@dataclass(slots=True, eq=False)
class _Client:
    socket: socket.socket
    unread: bytearray = field(default_factory=bytearray)
    answers: bytearray = field(default_factory=bytearray)
    skipping: bool = False  # the rest of a line that was too long


class LineListener:
    """Listens from its making on; `start` answers."""

    def __init__(self, path: Path, report: Callable[[common_pb2.VehicleState], int]) -> None:
        """Bind the socket, readable and writable for the daemon's user and group.

        Args:
            path: of the socket.
            report: takes a state and gives how long it holds, ms; raises VehicleStateError.

        Raises:
            SocketError: the path is taken, or cannot be bound.
        """
        self._path = path
        self._report = report
        self._listening = bind_unix_socket(path, backlog=CLIENTS_LIMIT)
        self._inode = path.stat().st_ino
        self._listening.setblocking(False)
        self._waker, self._wakes = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ, _ACCEPT)
        self._selector.register(self._wakes, selectors.EVENT_READ, _WAKE)
        self._clients: set[_Client] = set()
        self._refusals = Repeated(logger, logging.WARNING)
        self._stopping = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="vehicle-state", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end. May be called twice."""
        self._stopping.set()
        if self._thread.ident is None:
            self._close()
        elif not self._closed:
            with suppress(OSError):  # closed in between
                self._waker.send(b"\n")

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; False where it hangs."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                for key, events in self._selector.select(_WAIT_S):
                    if key.data is _ACCEPT:
                        self._accept()
                    elif isinstance(key.data, _Client):
                        self._serve(key.data, events)
        except Exception:  # the thread's top
            logger.exception("the vehicle's state is not listened to any more")
        finally:
            self._close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except OSError:  # it went before it was let in, or there are no file handles left
            return
        connection.setblocking(False)
        client = _Client(connection)
        if len(self._clients) >= CLIENTS_LIMIT:
            self._refusals.log("vehicle state: a client more than the %d that are served", CLIENTS_LIMIT)
            client.answers += _error(f"{CLIENTS_LIMIT} clients are connected, which is all that are served")
            self._send(client)
            connection.close()
            return
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _serve(self, client: _Client, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                data = client.socket.recv(_READ_BYTES)
                if not data:
                    self._drop(client)
                    return
                self._take(client, data)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
            return
        if not self._send(client) or len(client.answers) > _ANSWERS_LIMIT_BYTES:
            self._drop(client)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.answers else 0)
        self._selector.modify(client.socket, wanted, client)

    def _take(self, client: _Client, data: bytes) -> None:
        *lines, rest = (bytes(client.unread) + data).split(b"\n")
        client.unread.clear()
        for line in lines:
            if client.skipping:
                client.skipping = False
            elif len(line) > LINE_LIMIT_BYTES:
                client.answers += self._refused(_too_long())
            elif line.strip():
                client.answers += self._answer(line)
        if client.skipping:
            return
        if len(rest) > LINE_LIMIT_BYTES:
            client.skipping = True
            client.answers += self._refused(_too_long())
        else:
            client.unread += rest

    def _answer(self, line: bytes) -> bytes:
        try:
            return json.dumps({"valid_ms": self._report(parse_line(line))}).encode() + b"\n"
        except VehicleStateError as error:
            return self._refused(str(error))

    def _refused(self, reason: str) -> bytes:
        self._refusals.log("vehicle state: a line is refused: %s", reason)
        return _error(reason)

    def _send(self, client: _Client) -> bool:
        """Send what its buffer takes; False where it is gone."""
        try:
            while client.answers:
                del client.answers[: client.socket.send(client.answers)]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def _drop(self, client: _Client) -> None:
        self._clients.discard(client)
        self._selector.unregister(client.socket)
        client.socket.close()

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for client in tuple(self._clients):
            self._drop(client)
        self._selector.close()
        for one in (self._listening, self._waker, self._wakes):
            one.close()
        with suppress(OSError):
            if self._path.stat().st_ino == self._inode:  # not one that another daemon has put there since
                self._path.unlink()


def _error(reason: str) -> bytes:
    return json.dumps({"error": reason}).encode() + b"\n"


def _too_long() -> str:
    return f"the line is longer than {LINE_LIMIT_BYTES} bytes"
