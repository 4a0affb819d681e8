"""Other processes, looked at from outside."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import psutil


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended and was not reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def descendants(of: int | None, holds: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """The children of a process, and theirs, of which it holds; None: of this one. They may end meanwhile."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(of).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if holds(child):
                    found.append(child)
    return found
