"""What the vehicle may send in a day, kept over restarts."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edge.day_budget import DayBudget
from edge.files import atomic_write
from edge.machine.disk_budget import DiskBudget, DiskLane

_log = logging.getLogger(__name__)

# Of the day's bytes: what may be forgotten by a kill, so that not each sample writes the file.
_SAVED_SHARE = 0.01


class UploadBudget:
    """A `DayBudget` that several uplinks share, by wall clock, with its file. Safe to use from any thread."""

    def __init__(
        self,
        bytes_per_day: int | None,
        path: Path | None = None,
        *,
        disk: DiskLane | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Go on from what `path` says was spent; a file that cannot be read counts as nothing spent."""
        self._configured = bytes_per_day
        self._path = path
        self._disk = disk or DiskBudget().lane("budgets")
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._budget = DayBudget(bytes_per_day)
        self._unsaved = 0
        if path is not None:
            self._load(path)

    def wait_s(self, size_bytes: int) -> float | None:
        """How long until so many bytes may be sent; 0: now; None: never, under the present limit."""
        with self._lock:
            wait_ns = self._budget.wait_ns(self._clock_ns(), size_bytes)
        return None if wait_ns is None else wait_ns / 1e9

    def spend(self, size_bytes: int) -> None:
        """Count bytes that go out."""
        with self._lock:
            self._budget.spend(self._clock_ns(), size_bytes)
            self._unsaved += size_bytes
            limit = self._budget.limit
            if limit is None or self._unsaved < limit * _SAVED_SHARE:
                return
        self.save()

    def limit_to(self, bytes_per_day: int) -> None:
        """Lower the day's bytes until the next start, or raise them again to what is configured at most."""
        with self._lock:
            configured = self._configured
            self._budget.limit = bytes_per_day if configured is None else min(bytes_per_day, configured)

    def spent(self) -> int:
        """Bytes that count now."""
        with self._lock:
            return self._budget.spent(self._clock_ns())

    def save(self) -> None:
        """Write the file; called by itself now and then, and by the owner at the end."""
        if self._path is None:
            return
        with self._lock:
            content = json.dumps({"hours": self._budget.hours()})
            self._unsaved = 0
        try:
            atomic_write(self._path, content.encode())
            self._disk.wrote(len(content))
        except OSError as error:
            _log.warning("the upload budget %s is not kept: %s", self._path, error.strerror)

    def _load(self, path: Path) -> None:
        try:
            hours = json.loads(path.read_bytes())["hours"]
            self._budget.restore([(int(hour), int(amount)) for hour, amount in hours])
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
            _log.warning("the upload budget %s begins anew: %s", path, error)
