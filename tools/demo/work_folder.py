"""The folder that a demonstration works in: its own, one demonstration at a time, empty at the start."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from types import TracebackType

from tools.demo.errors import DemoError

LOCK_NAME = "demo.lock"  # also the sign that the folder may be emptied


class WorkFolder:
    """Held from its making until it is closed, or the process ends in whatever way."""

    def __init__(self, path: Path) -> None:
        """Make it where it is missing, lock it, and empty it of what an earlier demonstration left.

        Raises:
            DemoError: it cannot be used, another demonstration runs in it, or it is not a demonstration's.
        """
        self.path = path.absolute()
        lock = self.path / LOCK_NAME
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not lock.exists() and any(self.path.iterdir()):
                raise DemoError(
                    f"{path} is not empty and no demonstration's, so it is not touched: give another --work"
                )
            self._lock = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DemoError(f"work folder {str(path)!r} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise DemoError(
                f"another demonstration runs in {path}: wait for it, or give another --work"
            ) from None
        self._empty()

    def close(self) -> None:
        """Let go of it; what is in it stays."""
        os.close(self._lock)

    def _empty(self) -> None:
        for entry in self.path.iterdir():
            if entry.name == LOCK_NAME:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def __enter__(self) -> WorkFolder:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Let go of it."""
        self.close()
