"""One writer at a time, also between processes."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud.release.errors import ReleaseError

WAIT_S = 30.0
_POLL_S = 0.02


@contextmanager
def locked(folder: Path, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the folder's lock for the block; the system gives it back when the process ends, however it ends.

    Raises:
        ReleaseError: another process held it for `wait_s` seconds.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _acquire(handle, folder, time.monotonic() + wait_s)
        yield
    finally:
        os.close(handle)


def _acquire(handle: int, folder: Path, end: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise ReleaseError(f"another process is writing to {folder}: try again later") from None
            time.sleep(_POLL_S)  # flock knows no time-out
        else:
            return
