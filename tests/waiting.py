"""Waiting for what has no event of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LIMIT_S = 60.0
_LOOK_EVERY_S = 0.01


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Look until it holds; a failure where it does not in a minute."""
    pause, end = threading.Event(), time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < end, f"not within {LIMIT_S:.0f} s: {what}"
        pause.wait(_LOOK_EVERY_S)
