"""A TCP link of little bandwidth in front of a server: a relay that forwards so much a second."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_TICK_S = 0.05
_BUFFER_BYTES = 4096


@contextmanager
def slow_link(port: int, bytes_per_s: int) -> Iterator[int]:
    """Relay a port of this machine; gives the port to connect to. Each direction has the whole bandwidth."""
    over = threading.Event()
    opened: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def forward(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(max(1, int(bytes_per_s * _TICK_S))):
                if over.wait(len(data) / bytes_per_s):
                    return
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.socket()
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
                far.connect(("127.0.0.1", port))
                opened.extend((near, far))
                for ends in ((near, far), (far, near)):
                    threads.append(threading.Thread(target=forward, args=ends, daemon=True))
                    threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            for end in (listener, *opened):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()
            for end in opened:
                end.close()
