"""The memory of a process and all that it started, read from /proc while they run."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud.children import tree_of

SAMPLE_S = 0.5
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


def pss_bytes(pid: int) -> int:
    """Give what a process and its descendants hold, pages that they share counted once (proc(5), Pss)."""
    total = 0
    for each in tree_of(pid):
        try:
            match = _PSS.search(Path(f"/proc/{each}/smaps_rollup").read_text())
        except OSError:
            continue
        total += int(match[1]) * 1024 if match else 0
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
