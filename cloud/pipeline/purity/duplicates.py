"""Pictures that show the same: a hash finds who may be alike, a small copy tells who is. Rules alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

HASH_SIDE = 8
PRINT_SIZE = (32, 18)  # width, height
_BLOCK = 64  # rows of the comparison of all with all: bounds its memory

Print = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Twin:
    """A picture that shows what another one does.

    Attributes:
        later, earlier: places in the sequence that was searched, the later one's being higher.
        bits: that differ between their hashes.
        likeness: correlation of their small copies, -1 to 1.
    """

    later: int
    earlier: int
    bits: int
    likeness: float


@dataclass(frozen=True, slots=True)
class TwinRules:
    """What is the same picture; see `[purity]` of the configuration.

    Attributes:
        compare_bits: pictures whose hashes differ in no more are compared by their copies.
        same_bits: without copies, or with flat ones, pictures whose hashes differ in no more are the same.
        likeness: copies with this correlation are of the same picture.
    """

    compare_bits: int
    same_bits: int
    likeness: float


def difference_hash(grey: npt.NDArray[np.uint8]) -> int:
    """Hash what a picture shows: 64 bits, near for pictures that look alike.

    Each bit tells whether a cell of a 9 x 8 grid is brighter than its left neighbour. Source: N. Krawetz,
    Kind of Like That, 2013, https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html
    """
    small = Image.fromarray(grey).resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)
    cells = np.asarray(small, np.int16)
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big")


def small_copy(grey: npt.NDArray[np.uint8]) -> Print:
    """Make a picture's copy to compare with: levels and contrast taken out, `float32[18 * 32]` of norm 1.

    A picture of one level everywhere gives zeros, which are like nothing.
    """
    small = np.asarray(Image.fromarray(grey).resize(PRINT_SIZE, Image.Resampling.BOX), np.float32).ravel()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return small / length if length > 0 else small


def near_hashes(hashes: Sequence[int], known: Sequence[int], bits: int) -> Iterator[tuple[int, int, int]]:
    """Find pairs of hashes that differ in few bits: of the new ones with each other, and with known ones.

    Args:
        hashes: `N` new ones.
        known: hashes of what was there before.
        bits: so many may differ.

    Returns:
        Place of the later one among the new, place of the earlier one among known and new (in this order),
        bits that differ; each pair once, by rising place of the later one.
    """
    everything = np.array([*known, *hashes], np.uint64)
    for start in range(0, len(hashes), _BLOCK):
        rows = everything[len(known) + start : len(known) + start + _BLOCK]
        columns = everything[: len(known) + start + len(rows)]
        distance = np.bitwise_count(rows[:, np.newaxis] ^ columns[np.newaxis, :])
        for row, column in np.argwhere(distance <= bits).tolist():
            if column < len(known) + start + row:
                yield start + row, column, int(distance[row, column])


def find_twins(
    pictures: Sequence[tuple[int, Print | None]],
    groups: Sequence[str],
    known: Sequence[int],
    known_print: Callable[[int], Print | None],
    rules: TwinRules,
) -> list[Twin]:
    """Find the pictures that show what an earlier one does.

    A picture is held against those of its own group that are no twins themselves, against all of other
    groups, and against the known ones: of a slow sequence, what differs from what is kept is kept.

    Args:
        pictures: hash and small copy of each new one.
        groups: of each new one: its side of a split.
        known: hashes of pictures that were there before.
        known_print: gives the small copy of a known one, by its place; None: it is not to be had.
        rules: what is the same.

    Returns:
        For each new picture the most alike of each group, and of the known ones; `earlier` counts known ones
        first.
    """
    hashes = [value for value, _ in pictures]
    best: dict[tuple[int, str | None], Twin] = {}
    twins_of_own: set[int] = set()
    for later, earlier, bits in near_hashes(hashes, known, max(rules.compare_bits, rules.same_bits)):
        place = earlier - len(known)
        group = groups[place] if place >= 0 else None
        if group == groups[later] and place in twins_of_own:
            continue
        twin = _twin(
            later,
            earlier,
            bits,
            (pictures[later][1], pictures[place][1] if place >= 0 else known_print(earlier)),
            rules,
        )
        if twin is None:
            continue
        if group in (None, groups[later]):
            twins_of_own.add(later)
        former = best.get((later, group))
        if former is None or twin.likeness > former.likeness:
            best[later, group] = twin
    return sorted(best.values(), key=lambda twin: (twin.later, twin.earlier))


def _twin(
    later: int, earlier: int, bits: int, prints: tuple[Print | None, Print | None], rules: TwinRules
) -> Twin | None:
    mine, other = prints
    if mine is None or other is None or not mine.any() or not other.any():
        likeness = 1.0 - bits / HASH_SIDE**2
        return Twin(later, earlier, bits, likeness) if bits <= rules.same_bits else None
    likeness = float(mine @ other)
    same = bits <= rules.compare_bits and likeness >= rules.likeness
    return Twin(later, earlier, bits, likeness) if same else None
