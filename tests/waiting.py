"""Waiting for what has no event of its own."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

LIMIT_S = 60.0
_LOOK_EVERY_S = 0.01
_SOME_TOTAL = re.compile(r"some .*total=(\d+)")  # microseconds


def eventually(holds: Callable[[], bool], what: str, within_s: float = LIMIT_S) -> None:
    """Look until it holds; a failure where it does not in that time."""
    pause, end = threading.Event(), time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, f"not within {within_s:.0f} s: {what}"
        pause.wait(_LOOK_EVERY_S)


class Stopwatch:
    """Seconds since it was made, less those in which something here waited for a processor or a disk.

    What a promise of time is held to where others use the machine too: on an idle one, all of the time. By
    Linux's pressure stall information (Documentation/accounting/psi.rst); without it, by the clock alone.
    """

    def __init__(self) -> None:
        self._began, self._stalled = time.monotonic(), _stalled_s()

    def __call__(self) -> float:
        return time.monotonic() - self._began - (_stalled_s() - self._stalled)


def _stalled_s() -> float:
    total = 0
    for resource in ("cpu", "io"):
        try:
            found = _SOME_TOTAL.search(Path("/proc/pressure", resource).read_text())
        except OSError:
            continue
        total += int(found[1]) if found else 0
    return total / 1e6
