"""Contexts that nobody named, found in drives: where the pictures fall into groups far apart.

Only when a reference is made: a monitor's contexts never change on the way, or they would swallow the very
drift that it watches for. For the same reason a group that is seldom seen becomes no context; its frames are
left out, and a monitor finds that they are unknown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from edge.drift.contexts import Fits
from edge.drift.reference import ContextReference, DriftReferenceError
from edge.drift.state import Origin

Rows = npt.NDArray[np.floating]
Labels = npt.NDArray[np.int64]

UNKNOWN = -1

_BLOCK_S = 20.0  # long against the noise of frames, short against a context
# Standard deviations between the means of two groups, along the line between them. Two Gaussians that far
# apart share nothing; the halves of one uniform distribution have 3.2, of one Gaussian 2.7.
_APART = 5.0
_GAUSSIAN_SPAN = 2.563  # of the middle eight tenths, in standard deviations
_LEAST_SHARE = 0.05  # of all blocks; a group with fewer is no context
_SEVERAL_DRIVES = 4  # of so many, one alone is no context: it differs as drives do
_STARTS = 10
_ROUNDS = 100
_SPARE_GROUPS = 2  # beyond the contexts asked for, for what is left out


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Contexts found in drives.

    Attributes:
        names: of the contexts, the one with the most frames first.
        labels: `int64[n]` for each drive, the number of each frame's context, or UNKNOWN.
    """

    names: tuple[str, ...]
    labels: tuple[Labels, ...]


def find(
    drives: Sequence[Rows],
    rate_hz: float,
    columns: Sequence[int],
    *,
    most: int = 4,
    known: Sequence[ContextReference] = (),
    alone: bool = False,
    seed: int = 0,
) -> Found:
    """Find the contexts of drives by the features of the picture.

    K-means (Lloyd, 1982, begun by k-means++: Arthur & Vassilvitskii, 2007) on means over 20 s, for as many
    groups as are all clearly apart (Ashman's D: Ashman, Bird & Zepf, 1994). Of four drives and more, what one
    alone shows is no group, but part of what the others show: so far do drives differ. Next to a change of
    the context, 20 s on either side belong to none.

    Args:
        drives: `float[frames, features]` each, consecutive frames.
        rate_hz: frames per second.
        columns: which features tell contexts apart; those of the picture.
        most: contexts at most.
        known: contexts whose names are taken over where a group's mean fits them, with the same features.
        alone: it is one nevertheless; the caller judges whether it was seen often enough.
        seed: of where the search begins; the same arguments give the same contexts.

    Raises:
        DriftReferenceError: there is no frame with those features, or no context that lasts.
    """
    size = max(1, round(_BLOCK_S * rate_hz))
    used = [np.asarray(drive, np.float64)[:, list(columns)] for drive in drives]
    means = [_block_means(drive, size) for drive in used]
    together = np.concatenate(means)
    there = np.isfinite(together).all(axis=1)
    if not there.any():
        raise DriftReferenceError("there is no frame whose picture could tell its context")
    spread = together[there].std(axis=0)
    points = (together[there] - together[there].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    drive_of = np.repeat(np.arange(len(means)), [len(blocks) for blocks in means])
    of_blocks = np.full(len(together), UNKNOWN, np.int64)
    several = not alone and len(np.unique(drive_of[there])) >= _SEVERAL_DRIVES
    groups = _groups(points, drive_of[there], most, np.random.default_rng(seed), several=several)
    of_blocks[there] = _by_size(groups, most)
    own = [_without_borders(of_blocks[drive_of == number]) for number in range(len(drives))]
    kept = [number for number in range(most) if any((blocks == number).any() for blocks in own)]
    if not kept:
        raise DriftReferenceError(f"no context lasts for longer than {_BLOCK_S:g} s")
    to = np.full(most + 1, UNKNOWN, np.int64)  # the last is UNKNOWN itself
    to[kept] = np.arange(len(kept))
    labels = tuple(
        np.repeat(to[blocks], size)[: len(drive)] for blocks, drive in zip(own, drives, strict=True)
    )
    return Found(_names(drives, labels, known), labels)


def stretches(drives: Sequence[Rows], labels: Sequence[Labels], context: int) -> list[Rows]:
    """The unbroken stretches of one context, in order: to `edge.drift.fit` each is a drive of its own."""
    found = []
    for drive, own in zip(drives, labels, strict=True):
        inside = np.concatenate([[False], own == context, [False]])
        edges = np.flatnonzero(np.diff(inside.astype(np.int8)))
        found += [drive[begin:end] for begin, end in edges.reshape(-1, 2)]
    return found


def _block_means(drive: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """`float64[blocks, columns]`, NaN where a block has no value; the last block may be shorter."""
    starts = np.arange(0, len(drive), size)
    finite = np.isfinite(drive)
    if not len(starts):
        return np.zeros((0, drive.shape[1]))
    sums = np.add.reduceat(np.where(finite, drive, 0.0), starts, axis=0)
    counts = np.add.reduceat(finite.astype(np.int64), starts, axis=0)
    return np.asarray(np.divide(sums, counts, out=np.full(sums.shape, math.nan), where=counts > 0))


def _groups(
    points: npt.NDArray[np.float64],
    drive_of: Labels,
    most: int,
    rng: np.random.Generator,
    *,
    several: bool,
) -> Labels:
    """The finest division into groups that are all apart, and none of them a single drive of several."""
    best = np.zeros(len(points), np.int64)
    for count in range(2, min(most + _SPARE_GROUPS, len(points)) + 1):
        groups = _k_means(points, count, rng)
        single = several and any(
            _is_large(groups == number) and len(np.unique(drive_of[groups == number])) < 2
            for number in range(count)
        )
        apart = all(_apart(points, groups, one, other) for one, other in combinations(range(count), 2))
        if apart and not single:
            best = groups
    return best


def _is_large(inside: npt.NDArray[np.bool_]) -> bool:
    return bool(inside.mean() >= _LEAST_SHARE)


def _k_means(points: npt.NDArray[np.float64], count: int, rng: np.random.Generator) -> Labels:
    best, least = np.zeros(len(points), np.int64), math.inf
    for _ in range(_STARTS):
        centres = points[rng.integers(len(points))][None]
        while len(centres) < count:
            squares = _squares(points, centres).min(axis=1)
            total = float(squares.sum())
            chances = squares / total if total > 0 else None
            centres = np.concatenate([centres, points[rng.choice(len(points), p=chances)][None]])
        groups = np.full(len(points), UNKNOWN, np.int64)
        for _ in range(_ROUNDS):
            nearest = _squares(points, centres).argmin(axis=1)
            if (nearest == groups).all():
                break
            groups = nearest
            for number in range(count):
                if (groups == number).any():
                    centres[number] = points[groups == number].mean(axis=0)
        off = float(_squares(points, centres).min(axis=1).sum())
        if off < least:
            best, least = groups, off
    return best


def _squares(points: npt.NDArray[np.float64], centres: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.square(points[:, None] - centres[None]).sum(axis=-1))


def _apart(points: npt.NDArray[np.float64], groups: Labels, one: int, other: int) -> bool:
    first, second = points[groups == one], points[groups == other]
    if not len(first) or not len(second):
        return False
    line = second.mean(axis=0) - first.mean(axis=0)
    length = float(np.linalg.norm(line))
    if length == 0.0:
        return False
    # What lies across a change of the context is of neither group: a tenth at either end does not count.
    spans = [float(np.ptp(np.percentile(group @ (line / length), (10, 90)))) for group in (first, second)]
    return length >= _APART * math.hypot(*spans) / math.sqrt(2) / _GAUSSIAN_SPAN


def _by_size(groups: Labels, most: int) -> Labels:
    """Number the groups by their size; those that are seldom seen, or too many, are UNKNOWN."""
    numbers, counts = np.unique(groups, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    to = np.full(int(numbers.max()) + 1, UNKNOWN, np.int64)
    for rank, number in enumerate(order[:most]):
        if _is_large(groups == numbers[number]):
            to[numbers[number]] = rank
    return to[groups]


def _without_borders(blocks: Labels) -> Labels:
    changes = np.flatnonzero(np.diff(blocks))
    found: Labels = blocks.copy()
    found[changes] = UNKNOWN
    found[changes + 1] = UNKNOWN
    return found


def _names(
    drives: Sequence[Rows], labels: Sequence[Labels], known: Sequence[ContextReference]
) -> tuple[str, ...]:
    count = max(int(own.max(initial=UNKNOWN)) for own in labels) + 1
    free = {context.name: context for context in known}
    found: list[str] = []
    for number in range(count):
        rows = np.concatenate(stretches(drives, labels, number))
        mean = np.array(
            [
                column[np.isfinite(column)].mean() if np.isfinite(column).any() else math.nan
                for column in np.asarray(rows, np.float64).T
            ]
        )
        name = _fitting(mean, list(free.values()))
        free.pop(name, None)
        found.append(name or f"found-{number + 1}")
    return tuple(found)


def _fitting(mean: npt.NDArray[np.floating], known: Sequence[ContextReference]) -> str:
    if not known:
        return ""
    distances = Fits(known).distances(mean)
    best = int(distances.argmin())
    return known[best].name if distances[best] <= known[best].misfit else ""


def by_context(
    drives: Sequence[Rows],
    contexts: str | Sequence[Sequence[str]],
    rate_hz: float,
    origins: Sequence[Origin],
    only: str,
    prior: ContextReference | None,
    seed: int,
) -> list[tuple[str, list[Rows]]]:
    """The stretches of each context, by name; see `edge.drift.fit`, whose arguments these are.

    Args:
        drives: `float[frames, features]` each.
        contexts: "found", or for each drive its frames' contexts.
        rate_hz: frames per second.
        origins: of the features.
        only: name of a context that is found alone, and fits no known one.
        prior: a known context.
        seed: of the search.

    Raises:
        DriftReferenceError: frames and names do not fit each other, or no context is found.
    """
    if contexts == "found":
        columns = [column for column, origin in enumerate(origins) if origin is Origin.PICTURE]
        found = find(drives, rate_hz, columns, known=[] if prior is None else [prior], seed=seed)
        names = (only,) if found.names == ("found-1",) else found.names
        labels: Sequence[Labels] = found.labels
    else:
        names, labels = _given(drives, contexts)
    return [(name, stretches(drives, labels, number)) for number, name in enumerate(names)]


def _given(
    drives: Sequence[Rows], contexts: str | Sequence[Sequence[str]]
) -> tuple[tuple[str, ...], list[Labels]]:
    lengths = [len(names) for names in contexts] if not isinstance(contexts, str) else []
    if lengths != [len(drive) for drive in drives]:
        what = repr(contexts) if isinstance(contexts, str) else f"{lengths} names"
        frames = [len(drive) for drive in drives]
        raise DriftReferenceError(
            f"contexts are 'found' or a name for each frame: {what} for {frames} frames"
        )
    names = tuple(dict.fromkeys(name for own in contexts for name in own if name))
    if not names:
        raise DriftReferenceError("no frame has a context")
    number = {name: place for place, name in enumerate(names)} | {"": UNKNOWN}
    return names, [np.array([number[name] for name in own], np.int64) for own in contexts]
