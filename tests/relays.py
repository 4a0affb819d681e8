"""Somebody on the way: a TCP relay in front of a server, that slows down, swallows or listens."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_TICK_S = 0.05
_BUFFER_BYTES = 4096
_READ_BYTES = 65536


class Relay:
    """Connections from its port to a server's, both ways; whoever sits there says what passes."""

    def __init__(
        self, port: int, lets_pass: Callable[[bytes], bool], read_bytes: int, buffer_bytes: int | None
    ) -> None:
        """Take the server's port, what says of each piece whether it goes on, and how large pieces may be."""
        self._to = port
        self._lets_pass = lets_pass
        self._read_bytes = read_bytes
        self._buffer_bytes = buffer_bytes
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def address(self) -> str:
        """To connect to."""
        return f"127.0.0.1:{self.port}"

    def hang_up(self) -> None:
        """End the connections that there are."""
        for end in tuple(self._open):
            _shut(end)

    def close(self) -> None:
        """End, with every connection."""
        _shut(self._listener)
        self._accepting.join()
        self.hang_up()
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._open):
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket()
                if self._buffer_bytes is not None:
                    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer_bytes)
                far.connect(("127.0.0.1", self._to))
                self._open.extend((near, far))
                for ends in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=self._forward, args=ends, daemon=True))
                    self._threads[-1].start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(self._read_bytes):
                if self._lets_pass(data):
                    sink.sendall(data)
        for end in (source, sink):
            _shut(end)


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(
    port: int,
    lets_pass: Callable[[bytes], bool],
    read_bytes: int = _READ_BYTES,
    buffer_bytes: int | None = None,
) -> Iterator[Relay]:
    """Relay a port of this machine.

    Args:
        port: the server's.
        lets_pass: is shown each piece, from several threads, and says whether it goes on.
        read_bytes: of a piece, at most.
        buffer_bytes: of the socket that reads from the server; None: the system's choice.
    """
    opened = Relay(port, lets_pass, read_bytes, buffer_bytes)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def slow_link(port: int, bytes_per_s: int) -> Iterator[int]:
    """A link of little bandwidth; gives the port to connect to. Each direction has the whole bandwidth."""
    over = threading.Event()

    def lets_pass(data: bytes) -> bool:
        return not over.wait(len(data) / bytes_per_s)

    with relay(port, lets_pass, max(1, int(bytes_per_s * _TICK_S)), _BUFFER_BYTES) as link:
        try:
            yield link.port
        finally:
            over.set()


class BlackHole:
    """Takes connections and, while it is open, all that is sent on them, and gives nothing back."""

    def __init__(self) -> None:
        """Closed: everything passes."""
        self._is_open = threading.Event()
        self.swallowed_bytes = 0
        self.relay: Relay

    def __call__(self, data: bytes) -> bool:
        """Say whether a piece goes on."""
        if self._is_open.is_set():
            self.swallowed_bytes += len(data)
        return not self._is_open.is_set()

    def open(self) -> None:
        """Swallow from now on."""
        self._is_open.set()

    def close(self) -> None:
        """Let pass again; connections that lost something are no use to anybody."""
        self.relay.hang_up()
        self._is_open.clear()


@contextmanager
def black_hole(port: int) -> Iterator[BlackHole]:
    """A way to a port of this machine that can be turned into one."""
    hole = BlackHole()
    with relay(port, hole) as hole.relay:
        yield hole


class Recorder:
    """Writes down what passes, both ways."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._pieces: list[bytes] = []
        self.relay: Relay

    def __call__(self, data: bytes) -> bool:
        """Write it down, and let it pass."""
        self._pieces.append(data)
        return True

    @property
    def heard(self) -> bytes:
        """All of it. What one side said stands in pieces of what it sent, so a short secret may be cut."""
        return b"".join(self._pieces)


@contextmanager
def recorder(port: int) -> Iterator[Recorder]:
    """Somebody who listens on the way to a port of this machine."""
    listening = Recorder()
    with relay(port, listening) as listening.relay:
        yield listening
