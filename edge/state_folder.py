"""The folder that holds what the daemon keeps, and the lock that lets one daemon at a time have it."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from edge.errors import TrafficVisionError
from edge.files import lock

LOCK_NAME = "daemon.lock"
_MODE = 0o700  # keys and pictures of the road


class StateFolderError(TrafficVisionError):
    """The state folder cannot be used, or another daemon uses it."""


class StateFolder:
    """Held from its making until it is closed, or the process ends in whatever way."""

    def __init__(self, path: Path) -> None:
        """Make the folder where it is missing, and lock it.

        Raises:
            StateFolderError: it cannot be made or written to, or another daemon holds it.
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True, mode=_MODE)
            self._lock = lock(path / LOCK_NAME)
        except BlockingIOError:
            holder = (path / LOCK_NAME).read_text(errors="replace")[:32].strip()
            raise StateFolderError(
                f"state folder {str(path)!r} is in use by another daemon"
                f" (process {holder or 'unknown'}); stop it, or give this one a folder of its own"
            ) from None
        except OSError as error:
            raise StateFolderError(f"state folder {str(path)!r} cannot be used: {error.strerror}") from None
        # For people: the lock is the kernel's, not the file's content.
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let go of it. The lock file stays: without it, two daemons could lock two files of one name."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> StateFolder:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Let go of it."""
        self.close()
