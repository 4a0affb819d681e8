"""The features of the frames that a camera's own reference is made from, on disk until it is made.

A folder of segments, each of one context and one model and at most an hour of frames. A segment only grows:
a line of JSON that says what it holds, then one row a frame with a checksum of its own, so that what a power
cut or a full disk tore is cut off at the next start and costs itself alone. A run of the daemon begins
segments of its own: between two runs time is lost.
"""

from __future__ import annotations

import logging
import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.drift.frame_rate import SAME_RATE
from edge.drift.pacing import breaks
from edge.drift.reference import DriftReferenceError
from edge.files import sync_folder
from edge.logs import Repeated
from edge.machine.disk_budget import DiskBudget, DiskLane

_LOG = logging.getLogger(__name__)

SEGMENT_S = 3600.0
_SUFFIX = ".f32"
_MOST_HEAD_BYTES = 1 << 16
# More than one write, 420 s of frames at most, of a camera that is judged at 30 Hz: those before were on disk
# when it began.
_LAST_ROWS = 16_384

Vectors = npt.NDArray[np.float32]
Times = npt.NDArray[np.int64]


class _Document(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    format: Literal["traffic-vision drift rows"]
    version: Annotated[int, Field(ge=1, le=1)]
    context: Annotated[str, Field(min_length=1, max_length=100)]
    model: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    rate_hz: Annotated[float, Field(gt=0, lt=1e4)]
    names: Annotated[list[str], Field(min_length=1, max_length=256)]
    run: Annotated[str, Field(max_length=100)]
    day: Annotated[str, Field(max_length=10)] = ""


@dataclass(frozen=True, slots=True)
class Head:
    """What all rows of a segment have in common.

    Attributes:
        context: in which the frames were judged.
        model: digest of the model that the features of detections come from.
        rate_hz: frames per second of the frames' time.
        names: of the features, in the order of a row.
        run: of the daemon; times of different runs say nothing of each other.
        day: the date on which they were seen, where that counts; another day begins another segment.
    """

    context: str
    model: str
    rate_hz: float
    names: tuple[str, ...]
    run: str
    day: str = ""

    def to_bytes(self) -> bytes:
        """The segment's first line."""
        document = _Document(
            format="traffic-vision drift rows",
            version=1,
            context=self.context,
            model=self.model,
            rate_hz=self.rate_hz,
            names=list(self.names),
            run=self.run,
            day=self.day,
        )
        return document.model_dump_json().encode() + b"\n"

    @classmethod
    def from_bytes(cls, line: bytes) -> Head:
        """Read the first line.

        Raises:
            DriftReferenceError: it is none.
        """
        try:
            part = _Document.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(step) for step in first["loc"]) or "the first line"
            raise DriftReferenceError(f"not a segment of drift rows: {place}: {first['msg']}") from None
        return cls(part.context, part.model, part.rate_hz, tuple(part.names), part.run, part.day)


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """What one file holds.

    Attributes:
        head: what its rows have in common.
        times: `int64[n]` the frames' time, ns.
        values: `float32[n, F]`, NaN where a feature is not to be had.
    """

    head: Head
    times: Times
    values: Vectors


@dataclass(slots=True)
class _Stored:
    path: Path
    head: Head
    start: int  # of the first row, bytes
    rows: int


class Rows:
    """A camera's rows on disk. Safe to use from any thread; one process at a time writes."""

    def __init__(self, folder: Path, disk: DiskLane | None = None) -> None:
        """Look at what is there; torn tails are cut off, files that are no segments removed.

        Args:
            folder: made when the first rows come.
            disk: where what is written is counted, and whether more may be; None: nowhere.
        """
        self._folder = folder
        self._disk = disk or DiskBudget().lane("drift-rows")
        self._lock = threading.Lock()
        self._troubles = Repeated(_LOG, logging.WARNING)
        self._stored: list[_Stored] = []
        for path in segments(folder):
            stored = _opened(path)
            if stored is not None:
                self._stored.append(stored)

    def hours(self) -> dict[tuple[str, str], float]:
        """Hours of frames, by context and model."""
        found: dict[tuple[str, str], float] = {}
        with self._lock:
            for one in self._stored:
                key = (one.head.context, one.head.model)
                found[key] = found.get(key, 0.0) + one.rows / one.head.rate_hz / 3600
        return found

    def days(self, context: str) -> set[str]:
        """The dates on which frames of a context were seen."""
        with self._lock:
            return {one.head.day for one in self._stored if one.head.context == context}

    def append(self, head: Head, times: Times, values: Vectors) -> bool:
        """Put rows on disk.

        Args:
            head: what they have in common.
            times: `int64[n]` the frames' time, ns.
            values: `float32[n, F]`.

        Returns:
            False where the day's bytes are spent or the disk fails: these rows are lost, and nothing else.
        """
        if not len(times):
            return True
        data = _packed(times, values)
        if not self._disk.allows(len(data)):
            return False
        with self._lock:
            try:
                written = self._write(head, data, len(times))
            except OSError as error:
                self._troubles.log(
                    "drift rows are not kept in %s: %s", self._folder, error.strerror, key=error.errno
                )
                return False
        self._disk.wrote(written)
        return True

    def drop(self, context: str | None = None, *, keep_hours: float = 0.0) -> None:
        """Remove what is kept of a context, or of all, but for the latest whole segments of so many hours."""
        with self._lock:
            kept = 0.0
            for one in reversed(list(self._stored)):
                if context not in (None, one.head.context):
                    continue
                kept += one.rows / one.head.rate_hz / 3600
                if kept > keep_hours:
                    self._remove(one)

    def drop_other_rates(self, rate_hz: float) -> None:
        """Remove what was taken at another rate: it says how a camera looked that is judged otherwise."""
        with self._lock:
            for one in list(self._stored):
                if abs(one.head.rate_hz / rate_hz - 1) > SAME_RATE:
                    self._remove(one)

    def _remove(self, one: _Stored) -> None:
        try:
            one.path.unlink(missing_ok=True)
        except OSError as error:
            _LOG.warning("drift rows %s cannot be removed: %s", one.path, error.strerror)
            return
        self._stored.remove(one)

    def _write(self, head: Head, data: bytes, rows: int) -> int:
        last = next((one for one in reversed(self._stored) if one.head.context == head.context), None)
        full = last is not None and last.rows / head.rate_hz >= SEGMENT_S
        if last is None or full or last.head != head:
            self._folder.mkdir(parents=True, exist_ok=True)
            number = 1 + max((int(path.stem[5:]) for path in segments(self._folder)), default=0)
            line = head.to_bytes()
            path = self._folder / f"rows-{number:06d}{_SUFFIX}"
            try:
                with path.open("xb", buffering=0) as file:
                    _write_all(file.fileno(), line + data, 0)
                sync_folder(self._folder)
            except OSError:
                path.unlink(missing_ok=True)
                raise
            self._stored.append(_Stored(path, head, len(line), rows))
            return len(line) + len(data)
        # At the end of what is whole: half a write that could not be taken back is written over.
        end = last.start + last.rows * _row_type(len(head.names)).itemsize
        try:
            opened = last.path.open("r+b", buffering=0)
        except FileNotFoundError:  # somebody removed it: what it held is lost, what comes need not be
            self._stored.remove(last)
            return self._write(head, data, rows)
        with opened as file:
            try:
                _write_all(file.fileno(), data, end)
            except OSError:
                with suppress(OSError):
                    file.truncate(end)
                raise
        last.rows += rows
        return len(data)


def segments(folder: Path) -> list[Path]:
    """The segments' files, the oldest first."""
    return sorted(path for path in folder.glob(f"rows-*{_SUFFIX}") if path.stem[5:].isdigit())


def read(folder: Path) -> Iterator[Segment]:
    """Read all segments, each as far as it is whole; what is no segment is left out. Changes nothing."""
    for path in segments(folder):
        try:
            with path.open("rb") as file:
                line = file.readline(_MOST_HEAD_BYTES)
                head = Head.from_bytes(line)
                data = file.read()
        except (OSError, DriftReferenceError) as error:
            _LOG.warning("drift rows %s are not read: %s", path, error)
            continue
        rows = _whole(data, len(head.names))
        yield Segment(head, rows["time_ns"].astype(np.int64), rows["values"].astype(np.float32))


def drives(found: Sequence[Segment], names: Sequence[str], gap_s: float) -> list[tuple[Segment, Vectors]]:
    """Put together what followed each other, as a monitor would see it.

    Args:
        found: segments of one context, the oldest first.
        names: of the features that are asked for; NaN where a segment does not have one.
        gap_s: after so long without a frame, another stretch of driving begins.

    Returns:
        `float32[n, len(names)]` for each stretch of one run and one model, with a segment that it is of.
    """
    pieces: list[tuple[Segment, list[Vectors]]] = []
    last: tuple[Head, int] | None = None
    for segment in found:
        columns = _columns(segment, names)
        parts = np.split(columns, breaks(segment.times, gap_s))
        goes_on = (
            last is not None
            and len(segment.times) > 0
            and last[0] == segment.head
            and 0 <= int(segment.times[0]) - last[1] <= gap_s * 1e9
        )
        if goes_on:
            pieces[-1][1].append(parts.pop(0))
        pieces += [(segment, [part]) for part in parts if len(part)]
        if len(segment.times):
            last = (segment.head, int(segment.times[-1]))
    return [(segment, np.concatenate(parts)) for segment, parts in pieces]


def _columns(segment: Segment, names: Sequence[str]) -> Vectors:
    there = {name: number for number, name in enumerate(segment.head.names)}
    columns = np.full((len(segment.times), len(names)), np.nan, np.float32)
    for number, name in enumerate(names):
        if name in there:
            columns[:, number] = segment.values[:, there[name]]
    return columns


def _row_type(features: int) -> np.dtype[np.void]:
    return np.dtype([("time_ns", "<i8"), ("values", "<f4", (features,)), ("check", "<u4")])


def _packed(times: Times, values: Vectors) -> bytes:
    rows = np.zeros(len(times), _row_type(values.shape[1]))
    rows["time_ns"], rows["values"] = times, values
    rows["check"] = _checks(rows)
    return rows.tobytes()


def _checks(rows: npt.NDArray[np.void]) -> npt.NDArray[np.uint32]:
    content = rows.dtype.itemsize - 4
    data = rows.tobytes()
    return np.array(
        [zlib.crc32(data[at : at + content]) for at in range(0, len(data), content + 4)], np.uint32
    )


def _whole(data: bytes, features: int) -> npt.NDArray[np.void]:
    """The rows before the first that is damaged."""
    kind = _row_type(features)
    rows = np.frombuffer(data[: len(data) // kind.itemsize * kind.itemsize], kind)
    wrong = np.flatnonzero(rows["check"] != _checks(rows))
    return rows[: wrong[0]] if len(wrong) else rows


def _opened(path: Path) -> _Stored | None:
    try:
        with path.open("r+b") as file:
            head = Head.from_bytes(file.readline(_MOST_HEAD_BYTES))
            start = file.tell()
            size, row_bytes = file.seek(0, os.SEEK_END) - start, _row_type(len(head.names)).itemsize
            synced = max(0, size // row_bytes - _LAST_ROWS)
            file.seek(start + synced * row_bytes)
            rows = synced + len(_whole(file.read(), len(head.names)))
            if rows * row_bytes < size:
                _LOG.info("drift rows %s: %d torn bytes are cut off", path, size - rows * row_bytes)
                file.truncate(start + rows * row_bytes)
        if rows:
            return _Stored(path, head, start, rows)
        why = "it holds no whole row"
    except DriftReferenceError as error:
        why = str(error)
    except OSError as error:
        _LOG.warning("drift rows %s cannot be read: %s", path, error.strerror)
        return None
    _LOG.warning("drift rows %s are removed: %s", path, why)
    try:
        path.unlink()
    except OSError as error:
        _LOG.warning("drift rows %s cannot be removed: %s", path, error.strerror)
    return None


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written
    os.fsync(descriptor)
