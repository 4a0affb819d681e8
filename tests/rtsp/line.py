"""The line between a camera and the vehicle, which the test cuts: a TCP proxy that knows RTSP's framing."""

from __future__ import annotations

import contextlib
import enum
import random
import select
import socket
import struct
import threading
from types import TracebackType

_POLL_S = 0.05
_CHUNK = 65536


class Way(enum.Enum):
    """What the line does."""

    OPEN = "forwards everything"
    REFUSED = "nobody listens"
    SILENT = "accepts, and never answers"
    HANGS = "answers until the client asks to DESCRIBE, then never again"
    STALLED = "holds the connection, and forwards nothing any more"
    GARBAGE = "answers with noise"
    LOSSY = "loses one packet in 40 of the pictures'"
    NOISY = "turns bits in one packet in 40 of the pictures'"
    CUT = "ends every connection"


class Line:
    """A proxy on a port that stays the same, whatever happens behind it."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.way = Way.OPEN
        self.hurt = 0  # packets lost or damaged
        self._chance = random.Random(7)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def connections(self) -> int:
        """That are open now."""
        return sum(thread.is_alive() for thread in self._threads)

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._stopping.set()
        for thread in [self._thread, *self._threads]:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            if self.way is Way.REFUSED:
                self._listener.close()
                while self.way is Way.REFUSED and not self._stopping.wait(_POLL_S):
                    pass
                self._listener = socket.create_server(("127.0.0.1", self.port))
            if not select.select([self._listener], [], [], _POLL_S)[0]:
                continue
            client, _ = self._listener.accept()
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self.way is Way.GARBAGE:
                client.sendall(self._chance.randbytes(20_000))
                return
            if self.way is Way.SILENT:
                self._hold(client, Way.SILENT)
                return
            with socket.create_connection(("127.0.0.1", self.target_port)) as camera:
                self._forward(client, camera)

    def _forward(self, client: socket.socket, camera: socket.socket) -> None:
        rest = b""
        while not self._stopping.is_set() and self.way not in (Way.REFUSED, Way.CUT):
            for ready in select.select([client, camera], [], [], _POLL_S)[0]:
                if self.way is Way.STALLED:
                    self._hold(client, Way.STALLED)
                    return
                data = ready.recv(_CHUNK)
                if not data:
                    return
                if ready is client:
                    if self.way is Way.HANGS and b"DESCRIBE" in data:
                        self._hold(client, Way.HANGS)
                        return
                    camera.sendall(data)
                elif self.way is Way.GARBAGE:
                    client.sendall(self._chance.randbytes(len(data)))
                else:
                    whole, rest = self._packets(rest + data)
                    client.sendall(whole)

    def _packets(self, data: bytes) -> tuple[bytes, bytes]:
        """What is let through of it, and what is no whole packet yet (RFC 2326, section 10.12)."""
        through = b""
        while data:
            if data[:1] != b"$":
                answer, found, data = data.partition(b"$")
                through += answer
                data = found + data
                continue
            size = 4 + struct.unpack(">H", data[2:4])[0] if len(data) >= 4 else 4
            if len(data) < size:
                break
            packet, data = data[:size], data[size:]
            if data_of_pictures(packet) and self.way in (Way.LOSSY, Way.NOISY):
                packet = self._hurt(packet)
            through += packet
        return through, data

    def _hurt(self, packet: bytes) -> bytes:
        if self._chance.random() >= 1 / 40:
            return packet
        self.hurt += 1
        if self.way is Way.LOSSY:
            return b""
        damaged = bytearray(packet)
        for _ in range(20):
            damaged[self._chance.randrange(20, len(damaged))] ^= 1 << self._chance.randrange(8)
        return bytes(damaged)

    def _hold(self, client: socket.socket, way: Way) -> None:
        while self.way is way and not self._stopping.is_set():
            if select.select([client], [], [], _POLL_S)[0] and not client.recv(_CHUNK):
                return


def data_of_pictures(packet: bytes) -> bool:
    """Whether it is RTP on the first channel, and large enough to hold a part of a picture."""
    return packet[1] == 0 and len(packet) > 100
