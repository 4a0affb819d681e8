"""What the daemon writes to disk within a day, counted in one place: flash wears out.

Every writer has a lane, and counts there what it wrote. The samples and series can wait or be missed, so they
ask first, and are refused beyond the day's bytes. What must be written (slots, the drift monitor's state,
events, the budgets' own files) is counted and never refused.

Counted are whole blocks, and one more for the folder and the inode: about what a file system sends to the
device for a file that is synced. What the system's journal and the device itself add is not in it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edge.day_budget import DayBudget
from edge.files import atomic_write
from protos.traffic_vision.v1 import common_pb2

logger = logging.getLogger(__name__)

BLOCK_BYTES = 4096
FILE_NAME = "disk-budget.json"
# What reading a file that holds anything at all may raise.
_DAMAGE = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
_OWN = "budgets"  # the lane of this file itself
# Of the day's bytes: what a kill may have it forget, so that not each write writes this file too.
_SAVED_SHARE = 0.005
_FREE_SHARE = 0.9  # of the day's bytes: a budget that was spent counts as free again below it


def on_disk(size_bytes: int) -> int:
    """What a file of that size costs, bytes."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES + BLOCK_BYTES


class DiskLane:
    """One writer's account. Safe to use from any thread."""

    def __init__(self, budget: DiskBudget, name: str) -> None:
        """Made by `DiskBudget.lane`."""
        self._budget = budget
        self.name = name

    def allows(self, size_bytes: int) -> bool:
        """Whether a file of that size may be written; what may not is counted as refused."""
        return self._budget.allows(self.name, size_bytes)

    def wrote(self, size_bytes: int) -> None:
        """Count a file that was written, allowed or not."""
        self._budget.wrote(self.name, size_bytes)


class DiskBudget:
    """The day's bytes of all lanes, kept over restarts; a `BackgroundPart` without threads.

    Days are measured by the monotonic clock from the start on, so that a board whose clock jumps from 1970 to
    today gets no second day's bytes for it. Between two starts the wall clock is all there is; one that went
    back counts as no time.
    """

    name = "disk-budget"

    def __init__(
        self,
        bytes_per_day: int | None = None,
        path: Path | None = None,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Go on from what `path` says was written; a file that cannot be read counts as nothing written."""
        self._path = path
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._total = DayBudget(bytes_per_day)
        self._lanes: dict[str, DayBudget] = {_OWN: DayBudget(None)}
        self._refused = 0
        self._spent: set[str] = set()  # lanes that were refused something, and told of it
        self._unsaved = 0
        self._offset_ns = wall_ns() - clock_ns()
        if path is not None:
            self._load(path)

    def lane(self, name: str, bytes_per_day: int | None = None) -> DiskLane:
        """A writer's account, with a limit of its own below the whole's, or without."""
        with self._lock:
            self._lanes.setdefault(name, DayBudget(None)).limit = bytes_per_day
        return DiskLane(self, name)

    def limit_to(self, bytes_per_day: int, lanes: dict[str, int] | None = None) -> None:
        """Change the limits, of the whole and of lanes that are there."""
        with self._lock:
            self._total.limit = bytes_per_day
            for name, limit in (lanes or {}).items():
                if name in self._lanes:
                    self._lanes[name].limit = limit

    def allows(self, lane: str, size_bytes: int) -> bool:
        """As `DiskLane.allows`."""
        size, now_ns = on_disk(size_bytes), self._now_ns()
        with self._lock:
            allowed = self._total.allows(now_ns, size) and self._lanes[lane].allows(now_ns, size)
            self._refused += not allowed
            news = self._news(lane, allowed, now_ns)
        if news:
            self._tell(lane, allowed)
        return allowed

    def wrote(self, lane: str, size_bytes: int) -> None:
        """As `DiskLane.wrote`."""
        size, now_ns = on_disk(size_bytes), self._now_ns()
        with self._lock:
            self._total.spend(now_ns, size)
            self._lanes[lane].spend(now_ns, size)
            self._unsaved += size
            if self._total.limit is None or self._unsaved < self._total.limit * _SAVED_SHARE:
                return
        self.save()

    def written(self, lane: str | None = None) -> int:
        """Bytes of the last 24 hours, of a lane or of all."""
        now_ns = self._now_ns()
        with self._lock:
            return (self._total if lane is None else self._lanes[lane]).spent(now_ns)

    def save(self) -> None:
        """Write the file; called by itself now and then, and at the end."""
        if self._path is None:
            return
        now_ns = self._now_ns()
        with self._lock:
            # Its own write is in what it says.
            size = on_disk(len(self._document(now_ns)) + 32)
            self._total.spend(now_ns, size)
            self._lanes[_OWN].spend(now_ns, size)
            content, self._unsaved = self._document(now_ns), 0
        try:
            atomic_write(self._path, content)
        except OSError as error:
            logger.warning("the disk budget %s is not kept: %s", self._path, error.strerror)

    def start(self) -> None:
        """Nothing to start: writers call from their own threads."""

    def stop(self) -> None:
        """Nothing to stop."""

    def join(self, timeout_s: float) -> bool:
        """Keep what was counted."""
        self.save()
        return True

    def fill_status(self, status: common_pb2.VehicleStatus) -> None:
        """Put in what was written and refused, the largest lane first."""
        now_ns = self._now_ns()
        with self._lock:
            by_lane = {name: budget.spent(now_ns) for name, budget in self._lanes.items()}
            filled = common_pb2.DiskStatus(
                written_bytes=self._total.spent(now_ns),
                limit_bytes_per_day=self._total.limit or 0,
                refused_writes=self._refused,
            )
        for name in sorted(by_lane, key=lambda name: -by_lane[name]):
            filled.writers.add(name=name, written_bytes=by_lane[name])
        status.disk.CopyFrom(filled)

    def _now_ns(self) -> int:
        return self._clock_ns() + self._offset_ns

    def _news(self, lane: str, allowed: bool, now_ns: int) -> bool:
        """Whether a lane's refusals begin or end. A small file that still fits ends nothing."""
        if not allowed:
            begins = lane not in self._spent
            self._spent.add(lane)
            return begins
        if lane not in self._spent or not all(
            budget.limit is None or budget.spent(now_ns) <= budget.limit * _FREE_SHARE
            for budget in (self._total, self._lanes[lane])
        ):
            return False
        self._spent.discard(lane)
        return True

    def _tell(self, lane: str, allowed: bool) -> None:
        written = self.written() / 1e6
        if allowed:
            logger.info("disk: %s are written again", lane, extra={"event": "disk_budget_free", "lane": lane})
        else:
            text = "disk: the day's bytes are written (%.0f MB in 24 h): %s are refused until some are older"
            logger.warning(text, written, lane, extra={"event": "disk_budget_spent", "lane": lane})

    def _document(self, now_ns: int) -> bytes:
        lanes = {name: budget.hours() for name, budget in self._lanes.items()}
        return json.dumps({"now_ns": now_ns, "total": self._total.hours(), "lanes": lanes}).encode()

    def _load(self, path: Path) -> None:
        try:
            document = json.loads(path.read_bytes())
            saved_ns = int(document["now_ns"])
            total = _hours(document["total"])
            lanes = {str(name): _hours(hours) for name, hours in document["lanes"].items()}
        except FileNotFoundError:
            return
        except (
            OSError,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            logger.warning("the disk budget %s begins anew: %s", path, error)
            return
        self._offset_ns += max(0, saved_ns - self._now_ns())
        self._total.restore(total)
        for name, hours in lanes.items():
            budget = self._lanes.setdefault(name, DayBudget(None))
            budget.restore(hours)


def _hours(hours: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(int(hour), max(0, int(amount))) for hour, amount in hours]
