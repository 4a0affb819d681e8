"""The memory of a process and all that it started, looked at while they run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

SAMPLE_S = 0.5


def pss_bytes(pid: int) -> int:
    """Give what a process and its descendants hold, pages that they share counted once (proc(5), Pss)."""
    total = 0
    try:
        process = psutil.Process(pid)
        every = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for each in every:
        with suppress(psutil.Error):  # it has ended meanwhile
            total += each.memory_full_info().pss
    return total


class Peak:
    """The most that was seen, bytes."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.bytes = 0


@contextmanager
def peak_of(*pids: int) -> Iterator[Peak]:
    """Look at these, and all that they start, twice a second while the block runs."""
    peak, stop = Peak(), threading.Event()

    def look() -> None:
        while not stop.is_set():
            peak.bytes = max(peak.bytes, sum(pss_bytes(pid) for pid in pids))
            stop.wait(SAMPLE_S)

    thread = threading.Thread(target=look, name="bench-memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
