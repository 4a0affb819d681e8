"""When alarms begin in a long series: the monitor's own rule, a column at a time.

`edge.drift.scan` says the same and has each state beside it, which costs too much for months of driving.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

import edge.drift.scanning
from edge.drift import DriftMonitor, Reference

Onsets = npt.NDArray[np.int64]

_ORDINARY = 0.2


def alarm_onsets(reference: Reference, series: npt.NDArray[np.floating]) -> Onsets:
    """The frames at whose judgement an alarm begins, `int64[k]`.

    Args:
        reference: all of whose features are known.
        series: `float[frames, features]` at the reference's rate, without a gap and without NaN.

    Raises:
        DriftReferenceError: the series has other features.
    """
    scan_arrays = getattr(edge.drift.scanning, "scan_arrays", None)
    if scan_arrays is not None:
        scan = scan_arrays(reference, series, reference.rate_hz)
        frames = np.round(np.asarray(scan.time_ns)[np.asarray(scan.onsets())] * reference.rate_hz / 1e9)
        return np.asarray(frames, np.int64)
    return (_by_column if len(reference.contexts) == 1 else _by_monitor)(reference, series)


def _by_monitor(reference: Reference, series: npt.NDArray[np.floating]) -> Onsets:
    """The slow way, frame after frame: which context a frame belongs to depends on those before."""
    monitor, onsets, before = DriftMonitor(reference), [], False
    for number, vector in enumerate(series):
        state = monitor.observe(round(number * 1e9 / reference.rate_hz), vector)
        if state is not None:
            if state.alarm and not before:
                onsets.append(number)
            before = state.alarm
    return np.array(onsets, np.int64)


def _by_column(reference: Reference, series: npt.NDArray[np.floating]) -> Onsets:
    """Without the share of frames that fit no context: where nothing changes, it is far from its limit."""
    (context,) = reference.contexts
    features = context.features
    stride = max(1, round(reference.rate_hz))
    steps = len(series) // stride
    tests = sum(len(feature.tails) for feature in features)
    in_alarm = np.zeros(steps + 1, np.int32)
    for column, feature in enumerate(features):
        if not feature.tails:
            continue
        bins = np.searchsorted(feature.edges.astype(np.float32), series[:, column].astype(np.float32))
        lengths = [tail.frames for tail in feature.tails]
        found = _distances(bins.astype(np.uint8), lengths, stride, feature.lower, feature.upper)
        for tail, (first, distances) in zip(feature.tails, found, strict=True):
            # One in `target_hours` over all tests, per length of this window.
            promised = context.joint / (reference.target_hours * 3600) / tests
            rate = promised * tail.frames / reference.rate_hz
            unusual = distances >= tail.limit(rate)
            ordinary = ~unusual & (distances <= tail.limit(_ORDINARY))
            for begin, end in _spells(np.flatnonzero(unusual), np.flatnonzero(ordinary)):
                in_alarm[first + begin] += 1
                in_alarm[min(steps, first + end)] -= 1
    alarm = np.cumsum(in_alarm[:-1]) > 0
    begins = np.flatnonzero(alarm & ~np.concatenate([[False], alarm[:-1]]))
    return np.asarray((begins + 1) * stride - 1, np.int64)


def fill_frames(reference: Reference) -> int:
    """So many frames pass before every window is full; there can be no alarm of all before."""
    return max(
        (tail.frames for feature in reference.contexts[0].features for tail in feature.tails), default=0
    )


def _distances(
    bins: npt.NDArray[np.uint8],
    lengths: list[int],
    stride: int,
    lower: npt.NDArray[np.float64],
    upper: npt.NDArray[np.float64],
) -> list[tuple[int, npt.NDArray[np.float64]]]:
    """For each window its first full judgement and the distances from it on."""
    ends = [np.arange(-(-length // stride), len(bins) // stride + 1) * stride for length in lengths]
    largest = [np.zeros(len(each)) for each in ends]
    until = np.zeros(len(bins) + 1, np.int32)
    for rank, (least, most) in enumerate(zip(lower, upper, strict=True)):
        np.cumsum(bins <= rank, out=until[1:])
        for length, end, found in zip(lengths, ends, largest, strict=True):
            if len(end):
                last = slice(int(end[0]), int(end[-1]) + 1, stride)
                first = slice(int(end[0]) - length, int(end[-1]) + 1 - length, stride)
                shares = (until[last] - until[first]) / length
                np.maximum(found, shares - most, out=found)
                np.maximum(found, least - shares, out=found)
    return [(-(-length // stride) - 1, found) for length, found in zip(lengths, largest, strict=True)]


def _spells(unusual: npt.NDArray[np.intp], ordinary: npt.NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """From the first unusual distance to the next ordinary one, and so on; the last may have no end.

    None is both.
    """
    position = 0
    while position < len(unusual):
        begin = int(unusual[position])
        after = int(np.searchsorted(ordinary, begin))
        end = int(ordinary[after]) if after < len(ordinary) else np.iinfo(np.int32).max
        yield begin, end
        position = int(np.searchsorted(unusual, end))
