"""The distance of windows, as histograms, from a band of distributions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Distances = npt.NDArray[np.float64]


def distance(counts: npt.NDArray[np.integer], lower: Distances, upper: Distances) -> Distances:
    """Kolmogorov-Smirnov distance of histograms from a band of distributions, 0 to 1.

    The largest difference, at any edge, by which the share of frames up to the edge lies outside of what the
    band allows there. With lower = upper it is the ordinary two-sample statistic, but for the binning.

    Args:
        counts: `[..., B]` frames in each bin; bin b holds what is above edge b - 1 and up to edge b.
        lower: `float64[..., B - 1]` the least share up to each edge that the band allows.
        upper: `float64[..., B - 1]` the largest.
    """
    sums = np.cumsum(counts, axis=-1)
    shares = sums[..., :-1] / np.maximum(sums[..., -1:], 1)
    return np.asarray(np.maximum(shares - upper, lower - shares).max(axis=-1, initial=0.0), np.float64)


def distances_over_time(
    bins: npt.NDArray[np.integer], windows: Sequence[int], stride: int, lower: Distances, upper: Distances
) -> list[Distances]:
    """The distance of each window that ends at a `stride`-th frame and is full: `float64[T]` a window.

    Args:
        bins: `int[N]` the bin of each frame.
        windows: lengths in frames, each rounded to a multiple of the stride.
        stride: frames between two judgements.
        lower: `float64[B - 1]` as in `distance`.
        upper: `float64[B - 1]` as in `distance`.
    """
    steps = len(bins) // stride
    lengths = [max(1, round(window / stride)) for window in windows]
    found = [np.zeros(max(0, steps - length + 1)) for length in lengths]
    until = np.zeros(steps * stride + 1, np.int32)
    at_steps = until[::stride]
    # Edge after edge: the vectors stay in the cache, a histogram for each moment would not.
    small = np.asarray(bins[: steps * stride], np.uint8)
    for edge, (least, most) in enumerate(zip(lower, upper, strict=True)):
        np.cumsum(small <= edge, out=until[1:])
        for length, largest in zip(lengths, found, strict=True):
            if len(largest):
                shares = (at_steps[length:] - at_steps[:-length]) / (length * stride)
                np.maximum(largest, shares - most, out=largest)
                np.maximum(largest, least - shares, out=largest)
    return found


def sliding_distances(
    bins: npt.NDArray[np.uint8],
    ends: npt.NDArray[np.int64],
    windows: Sequence[int],
    lower: Distances,
    upper: Distances,
) -> list[Distances]:
    """The distance of each window at given moments, of so many frames as there are where it is not full.

    Args:
        bins: `uint8[N]` the bin of each frame.
        ends: `int64[T]` rising: how many of the frames have been seen by then.
        windows: lengths, frames.
        lower: `float64[B - 1]` as in `distance`.
        upper: `float64[B - 1]` as in `distance`.

    Returns:
        `float64[T]` a window.
    """
    found = [np.zeros(len(ends)) for _ in windows]
    firsts = [int(np.searchsorted(ends, window)) for window in windows]
    places = [
        (_places(ends[first:]), _places(ends[first:] - window))
        for first, window in zip(firsts, windows, strict=True)
    ]
    until = np.zeros(len(bins) + 1, np.int32)
    shares = np.zeros(len(ends))
    for edge, (least, most) in enumerate(zip(lower, upper, strict=True)):
        np.cumsum(bins <= edge, out=until[1:])
        for first, window, largest, (last, before) in zip(firsts, windows, found, places, strict=True):
            few = ends[:first]
            np.divide(until[few], np.maximum(few, 1), out=shares[:first])
            np.divide(until[last] - until[before], window, out=shares[first:])
            np.maximum(largest, least - shares, out=largest)
            np.subtract(shares, most, out=shares)
            np.maximum(largest, shares, out=largest)
    return found


def _places(rising: npt.NDArray[np.int64]) -> slice | npt.NDArray[np.int64]:
    """Evenly spaced ones as a slice: that reads a view, where an array of places makes a copy."""
    if len(rising) < 2:
        return rising
    step = int(rising[1] - rising[0])
    regular = step > 0 and bool((np.diff(rising) == step).all())
    return slice(int(rising[0]), int(rising[-1]) + 1, step) if regular else rising
