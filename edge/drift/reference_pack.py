"""The features of a context as one short text: columns of numbers, without loss.

Like stands beside like: all of a column after each other, byte planes apart, and of arrays that rise the
steps between their numbers, on the grid of powers of two that they lie on. What a fit makes lies on coarse
grids (see `edge.drift.coarse`); any other float32 comes back just as well, and takes more room. The bytes are
deflated (RFC 1950), and in base64.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.drift.calibration import WINDOWS_TAU, Tail
from edge.drift.reference import DriftReferenceError, FeatureReference

Numbers = npt.NDArray[np.float64]

_MOST_BYTES = 2**20  # of a context, inflated
_RAW = 2**14  # exponent of an array that lies on no grid: its bits as they are
_LEAST_EXPONENT, _MOST_EXPONENT = -149, 127


@dataclass(frozen=True, slots=True, eq=False)
class PackedFeature:
    """A feature's numbers as they came, unchecked; the attributes are those of `FeatureReference`."""

    frames: int
    drives: int
    scalars: tuple[float, ...]  # mean, sigma, drive_sigma, margin, tau
    edges: Numbers
    lower: Numbers
    upper: Numbers
    tails: tuple[Tail, ...]


def pack(features: Sequence[FeatureReference]) -> str:
    """Write the features' numbers; names and origins stand elsewhere."""
    judged = [feature for feature in features if feature.tails]
    tails = [tail for feature in judged for tail in feature.tails]
    apart = [not np.array_equal(_float32(one.lower), _float32(one.upper)) for one in judged]
    scalars = [[one.mean, one.sigma, one.drive_sigma, one.margin, one.tau] for one in features]
    columns = [
        _planes(np.array([len(one.edges) for one in features], "<u1")),
        _planes(np.array([len(one.tails) for one in features], "<u1")),
        _planes(np.array([one.frames for one in features], "<u8")),
        _planes(np.array([one.drives for one in features], "<u4")),
        *(_planes(column) for column in np.array(scalars, "<f8").reshape(-1, 5).T),
        _planes(np.array([tail.frames for tail in tails], "<u4")),
        _planes(np.array([tail.slope for tail in tails], "<f8")),
        _planes(np.array([tail.offset for tail in tails], "<f8")),
        _planes(np.array([len(tail.quantiles) for tail in tails], "<u1")),
        _planes(np.array(apart, "<u1")),
        _rows([one.edges for one in judged]),
        _rows([one.lower for one in judged]),
        _rows([one.upper for one, differs in zip(judged, apart, strict=True) if differs]),
        _rows([np.array(tail.quantiles) for tail in tails]),
    ]
    return base64.b64encode(zlib.compress(b"".join(columns), 9)).decode("ascii")


def unpack(text: str, count: int) -> list[PackedFeature]:
    """Read the numbers of so many features; nothing in them is trusted, nor checked but for their number.

    Raises:
        DriftReferenceError: it is no such text.
    """
    columns = _Columns(_inflated(text))
    edges, windows = columns.take("<u1", count), columns.take("<u1", count)
    if (windows > len(WINDOWS_TAU)).any():
        raise DriftReferenceError("a feature has too many windows")
    frames, drives = columns.take("<u8", count), columns.take("<u4", count)
    scalars = np.array([columns.take("<f8", count) for _ in range(5)]).T
    judged, many = np.flatnonzero(windows), int(windows.sum())
    lengths = columns.take("<u4", many)
    slopes, offsets = columns.take("<f8", many), columns.take("<f8", many)
    tables, apart = columns.take("<u1", many), columns.take("<u1", len(judged)).astype(np.bool_)
    inner = columns.rows(edges[judged])
    lower = columns.rows(edges[judged])
    upper = iter(columns.rows(edges[judged][apart]))
    quantiles = columns.rows(tables)
    columns.end()
    tails = [
        Tail(int(length), float(slope), float(offset), tuple(table.tolist()))
        for length, slope, offset, table in zip(lengths, slopes, offsets, quantiles, strict=True)
    ]
    found, place, tail = [], 0, 0
    nothing = np.zeros(0)
    for number in range(count):
        arrays = (nothing, nothing, nothing)
        if windows[number]:
            arrays = (inner[place], lower[place], next(upper) if apart[place] else lower[place])
            place += 1
        elif edges[number]:
            raise DriftReferenceError("a feature that is not judged has edges")
        own = tuple(tails[tail : tail + int(windows[number])])
        tail += len(own)
        known = int(frames[number]), int(drives[number]), tuple(scalars[number].tolist())
        found.append(PackedFeature(*known, *arrays, own))
    return found


class _Columns:
    """Reads columns one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def take(self, kind: str, count: int) -> npt.NDArray[Any]:
        size = np.dtype(kind).itemsize
        part = self._data[self._place : self._place + size * count]
        if len(part) < size * count:
            raise DriftReferenceError("an array ends too early")
        self._place += len(part)
        planes = np.frombuffer(part, np.uint8).reshape(size, count)
        return np.frombuffer(planes.T.tobytes(), kind)

    def rows(self, lengths: npt.NDArray[Any]) -> list[Numbers]:
        exponents = self.take("<i2", len(lengths))
        ends = np.cumsum(np.asarray(lengths, np.int64))
        steps = np.split(self.take("<u4", int(ends[-1]) if len(ends) else 0), ends[:-1])
        return [_off_grid(step, int(power)) for step, power in zip(steps, exponents, strict=False)]

    def end(self) -> None:
        if self._place != len(self._data):
            raise DriftReferenceError("there is more than its features")


def _inflated(text: str) -> bytes:
    try:
        inflating = zlib.decompressobj()
        data = inflating.decompress(base64.b64decode(text, validate=True), _MOST_BYTES)
    except (ValueError, zlib.error):
        raise DriftReferenceError("it is not deflated bytes in base64") from None
    if not inflating.eof or inflating.unused_data:
        raise DriftReferenceError("its deflated bytes are cut off, too many or too much")
    return data


def _planes(column: npt.NDArray[np.generic]) -> bytes:
    """All first bytes of the numbers, then all second ones: alike bytes stand beside each other."""
    size = column.dtype.itemsize
    planes: npt.NDArray[np.uint8] = np.frombuffer(column.tobytes(), np.uint8).reshape(-1, size).T
    return planes.tobytes()


def _rows(arrays: Sequence[Numbers]) -> bytes:
    grids = [_on_grid(_float32(array)) for array in arrays]
    steps = [step for _, step in grids]
    together = np.concatenate(steps) if steps else np.zeros(0, np.uint32)
    exponents = np.array([power for power, _ in grids], "<i2")
    return _planes(exponents) + _planes(together.astype("<u4"))


def _on_grid(array: npt.NDArray[np.float32]) -> tuple[int, npt.NDArray[np.uint32]]:
    """The exponent of the coarsest grid that all values lie on, and the steps between them, modulo 2^32."""
    mantissas, exponents = np.frexp(array.astype(np.float64))
    whole = np.ldexp(mantissas, 24).astype(np.int64)
    there = whole != 0
    lowest = np.log2((whole & -whole)[there].astype(np.float64)).astype(np.int64) + exponents[there] - 24
    power = int(lowest.min(initial=_MOST_EXPONENT)) if there.any() else 0
    places = np.ldexp(array.astype(np.float64), -power)
    # A zero that is negative lies on no grid: its sign would go.
    if np.abs(places).max(initial=0.0) >= 2**31 or (np.signbit(array) & ~there).any():
        return _RAW, np.ascontiguousarray(array, "<f4").view("<u4").astype(np.uint32)
    return power, np.diff(places.astype(np.int64), prepend=0).astype(np.uint32)


def _off_grid(steps: npt.NDArray[Any], power: int) -> Numbers:
    if power == _RAW:
        return steps.astype("<u4").view("<f4").astype(np.float64)
    if not _LEAST_EXPONENT <= power <= _MOST_EXPONENT:
        raise DriftReferenceError("an array lies on no grid")
    places = np.cumsum(steps.astype(np.uint32), dtype=np.uint32).astype(np.int32)
    with np.errstate(over="ignore"):
        return np.ldexp(places.astype(np.float64), power).astype(np.float32).astype(np.float64)


def _float32(array: Numbers) -> npt.NDArray[np.float32]:
    return np.asarray(array, np.float32)
