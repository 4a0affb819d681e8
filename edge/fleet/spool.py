"""The queue on disk between the vehicle and its cloud. What it took survives `kill -9` and a power cut.

One file per item: a line of JSON that says what it is, then the payload. Files appear whole (temporary
file, fsync, rename, fsync of the folder), so the folder is the queue, and its index is made anew from it at
each start. Nothing here raises for a disk that is full or broken: that is a counted refusal.
"""

from __future__ import annotations

import enum
import errno
import logging
import math
import threading
from bisect import bisect_left, insort
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from edge.errors import TrafficVisionError
from edge.files import TEMPORARY_SUFFIX, atomic_write
from edge.fleet.spool_item import (
    ID_FORM,
    SUFFIX,
    DamagedItem,
    Item,
    encode_item,
    item_name,
    read_item,
    read_payload,
)
from edge.logs import Repeated
from edge.machine.disk_budget import DiskBudget, DiskLane

_log = logging.getLogger(__name__)

QUARANTINE = "quarantine"
QUARANTINE_LIMIT = 16  # files that are kept for people to look at; the oldest go first


class SpoolError(TrafficVisionError):
    """A folder that cannot be a spool; the message names it."""


class Refusal(enum.Enum):
    """Why an item was not taken. The values are the names in files and metrics."""

    TOO_LARGE = "too_large"  # larger than the whole spool may be
    FULL = "full"  # and nothing of lower priority could make room
    BUDGET = "budget"  # the day's bytes are written
    DISK = "disk"  # an error of the operating system


@dataclass(frozen=True, slots=True)
class SpoolOptions:
    """Limits.

    Attributes:
        limit_bytes: that the items may take on disk.
    """

    limit_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """What is there, and what has happened since the start.

    Attributes:
        items, used_bytes, limit_bytes: at this moment.
        appended: taken, and on disk.
        acknowledged: gone because the cloud has them.
        discarded: gone because the cloud will never take them.
        dropped: gone to make room for what is more important.
        quarantined: damaged, set aside.
        refused: not taken, by reason.
        disk_errors: errors of the operating system, those behind refusals among them.
    """

    items: int
    used_bytes: int
    limit_bytes: int
    appended: int
    acknowledged: int
    discarded: int
    dropped: int
    quarantined: int
    refused: Mapping[Refusal, int]
    disk_errors: int


class Spool:
    """A durable queue with priorities. Safe to use from several threads; one process at a time."""

    def __init__(
        self,
        folder: Path,
        options: SpoolOptions | None = None,
        *,
        disk: DiskLane | None = None,
        is_optional: bool = True,
    ) -> None:
        """Read what is there: half-written files are removed, damaged ones quarantined, the rest queued.

        Args:
            folder: holds nothing else.
            options: limits.
            disk: where what is written is counted; None: nowhere.
            is_optional: what the day's bytes do not allow is refused; else it is counted all the same.

        Raises:
            SpoolError: the folder cannot be made or read.
        """
        self.folder = folder
        self.options = options or SpoolOptions()
        self._disk = disk or DiskBudget().lane("spool")
        self._is_optional = is_optional
        self._writing = threading.Lock()  # one writer at a time; held across fsync, which may take seconds
        self._lock = threading.Lock()  # the index and the counts; never held across a write
        self._items: dict[str, Item] = {}
        self._ranked: list[tuple[float, int, str]] = []
        self._used = 0
        self._sequence = 0
        self._appended = self._acknowledged = self._discarded = self._dropped = self._quarantined = 0
        self._refused = dict.fromkeys(Refusal, 0)
        self._disk_errors = 0
        self._disk_fails = False
        self._damages, self._troubles = Repeated(_log, logging.WARNING), Repeated(_log, logging.WARNING)
        self._recoveries = Repeated(_log, logging.INFO)
        self._listeners: list[Callable[[], None]] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._read_folder()
        except OSError as error:
            raise SpoolError(f"the spool {str(folder)!r} cannot be opened: {error.strerror}") from error
        self._drop(self._victims(0, math.inf) or [])  # the limit may be lower than at the last start

    def append(self, item_id: str, payload: bytes, priority: float = 0.0) -> bool:
        """Take an item; it is on disk when this returns True. Dropped for it: what has lower priority.

        Among equals the older stay. An id that is in the spool already is taken as the same item.

        Args:
            item_id: 1 to 64 of `[A-Za-z0-9_-]`; names the item for ever.
            payload: the bytes, as they will be sent.
            priority: any finite number.

        Returns:
            False where it was refused: counted by reason in `status()`.

        Raises:
            ValueError: an id or a priority that breaks the contract above, a defect of the caller.
        """
        if not ID_FORM.fullmatch(item_id) or not math.isfinite(priority):
            raise ValueError(f"item id {item_id!r} or priority {priority!r} is not one")
        data = encode_item(item_id, payload, priority)
        with self._writing:
            refusal = self._write(item_id, data, priority)
        if refusal is not None:
            with self._lock:
                self._refused[refusal] += 1
            return False
        for listener in self._listeners:
            listener()
        return True

    def next(self, skip: Container[str] = ()) -> tuple[str, bytes] | None:
        """The id and payload of the first item in the order of sending that is not in `skip`; it stays."""
        unreadable: set[str] = set()
        while True:
            with self._lock:
                ranks = reversed(self._ranked)
                found = next((r[2] for r in ranks if r[2] not in skip and r[2] not in unreadable), None)
            if found is None:
                return None
            payload = self._read(found)
            if payload is not None:
                return found, payload
            unreadable.add(found)

    def pending(self) -> Iterator[tuple[str, bytes]]:
        """The items that are there now, in the order of sending; each is read when its turn comes."""
        with self._lock:
            ids = [item_id for _, _, item_id in reversed(self._ranked)]
        for item_id in ids:
            payload = self._read(item_id)
            if payload is not None:
                yield item_id, payload

    def acknowledge(self, item_id: str) -> bool:
        """Remove an item that the cloud has; False where it is not there (any more)."""
        # The removal is not synced: an item that comes back after a power cut is sent again, and known there.
        with self._lock:
            item = self._forget(item_id)
            self._acknowledged += item is not None
        return item is not None and self._unlink(item)

    def discard(self, item_id: str) -> bool:
        """Remove an item that the cloud will never take; False where it is not there (any more)."""
        with self._lock:
            item = self._forget(item_id)
            self._discarded += item is not None
        return item is not None and self._unlink(item)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each item that was taken, from the thread that appended it."""
        self._listeners.append(listener)

    def status(self) -> SpoolStatus:
        """A consistent reading; never waits for the disk."""
        with self._lock:
            return SpoolStatus(
                items=len(self._items),
                used_bytes=self._used,
                limit_bytes=self.options.limit_bytes,
                appended=self._appended,
                acknowledged=self._acknowledged,
                discarded=self._discarded,
                dropped=self._dropped,
                quarantined=self._quarantined,
                refused=MappingProxyType(dict(self._refused)),
                disk_errors=self._disk_errors,
            )

    def _write(self, item_id: str, data: bytes, priority: float) -> Refusal | None:
        size = len(data)
        if size > self.options.limit_bytes:
            return Refusal.TOO_LARGE
        with self._lock:
            if item_id in self._items:
                return None
            victims = self._victims(size, priority)
        if victims is None:
            return Refusal.FULL
        if self._is_optional and not self._disk.allows(size):
            return Refusal.BUDGET
        self._drop(victims)
        self._sequence += 1
        item = Item(item_id, self._sequence, priority, size, self.folder / item_name(self._sequence, item_id))
        try:
            atomic_write(item.path, data)
        except OSError as error:
            # Renamed, perhaps, and not synced: what was refused must not come back at the next start.
            with suppress(OSError):
                item.path.unlink(missing_ok=True)
            self._trouble("an item was not written", error)
            return Refusal.DISK
        self._disk.wrote(size)
        with self._lock:
            self._add(item)
            self._appended += 1
            recovered, self._disk_fails = self._disk_fails, False
        if recovered:
            self._recoveries.log("spool %s: items are written again", self.folder)
        return None

    def _victims(self, size: int, priority: float) -> list[Item] | None:
        """What must go so that `size` bytes fit, all below `priority`; None where that is not enough."""
        too_much = self._used + size - self.options.limit_bytes
        victims: list[Item] = []
        for rank, _, item_id in self._ranked:
            if too_much <= 0:
                break
            if rank >= priority:
                return None
            victims.append(self._items[item_id])
            too_much -= victims[-1].size
        return victims if too_much <= 0 else None

    def _drop(self, victims: list[Item]) -> None:
        # Before the new item is written, so that the limit holds at every moment.
        for victim in victims:
            with self._lock:
                gone = self._forget(victim.id)
                self._dropped += gone is not None
            if gone is not None:
                self._unlink(gone)

    def _add(self, item: Item) -> None:
        self._items[item.id] = item
        insort(self._ranked, item.rank)
        self._used += item.size

    def _forget(self, item_id: str) -> Item | None:
        item = self._items.pop(item_id, None)
        if item is not None:
            del self._ranked[bisect_left(self._ranked, item.rank)]
            self._used -= item.size
        return item

    def _unlink(self, item: Item) -> bool:
        try:
            item.path.unlink(missing_ok=True)
        except OSError as error:
            # It comes back at the next start, is sent again, and is known there.
            self._trouble("an item was not removed", error)
        return True

    def _read(self, item_id: str) -> bytes | None:
        """An item's payload; None where it has gone or cannot be read. A damaged one is set aside."""
        with self._lock:
            item = self._items.get(item_id)
        if item is None:
            return None
        try:
            return read_payload(item.path)
        except (DamagedItem, FileNotFoundError) as damage:
            self._quarantine(item.path, str(damage), item_id)
        except OSError as error:
            self._trouble("an item was not read", error)
            if error.errno == errno.EIO:  # a bad block does not get better
                self._quarantine(item.path, str(error.strerror), item_id)
        return None

    def _read_folder(self) -> None:
        paths = sorted(self.folder.iterdir())
        for path in paths:
            if path.name.endswith(TEMPORARY_SUFFIX):
                with suppress(OSError):
                    path.unlink()
            elif path.name.endswith(SUFFIX):
                try:
                    item = read_item(path)
                    if item.id in self._items:
                        raise DamagedItem("its id is there already")
                except (DamagedItem, OSError) as damage:
                    self._quarantine(path, str(damage), None)
                else:
                    self._add(item)
                    self._sequence = max(self._sequence, item.sequence)

    def _quarantine(self, path: Path, reason: str, item_id: str | None) -> None:
        with self._lock:
            if item_id is not None and self._forget(item_id) is None:
                return  # acknowledged or dropped while it was read
            self._quarantined += 1
        self._damages.log("spool %s: %s is set aside: %s", self.folder, path.name, reason)
        folder = self.folder / QUARANTINE
        try:
            folder.mkdir(exist_ok=True)
            if path.exists():
                path.replace(folder / path.name)
            for oldest in sorted(folder.iterdir())[:-QUARANTINE_LIMIT]:
                oldest.unlink()
        except OSError as error:
            self._trouble("a damaged item was not moved", error)

    def _trouble(self, what: str, error: OSError) -> None:
        with self._lock:
            self._disk_errors += 1
            first, self._disk_fails = not self._disk_fails, True
        # A full disk fails at every sample: one line when it starts, one when it is over.
        if first:
            self._troubles.log("spool %s: %s: %s", self.folder, what, error.strerror)
        else:
            _log.debug("spool %s: %s: %s", self.folder, what, error.strerror)
