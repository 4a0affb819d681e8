"""How old and new pictures are mixed: rules alone.

A side belongs to a whole drive, and stays with it. New pictures of the side `train` are all trained on, and
with them a part of the old ones that is spread evenly over slices and over drives, so that what the model
could do is not forgotten and the retrain stays short.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence

from cloud.datasets.splitting import split_of_drive
from cloud.pipeline.manifest import Entry


def assign_sides(
    new: Mapping[str, int], known: Mapping[str, str], val_share: float, test_share: float
) -> dict[str, str]:
    """Give each new drive its side.

    A drive that is known stays where it is; others go by their names. If nothing new were trained on, the
    drive with the most pictures that is not known goes to `train`: the samples of a single drive must not
    all be kept aside.

    Args:
        new: drive to its number of new pictures.
        known: drive to its side in earlier versions.
        val_share: of all drives, to choose the checkpoint by.
        test_share: of all drives, for the gate.
    """
    shares = {"train": 1 - val_share - test_share, "val": val_share, "test": test_share}
    sides = {drive: known.get(drive) or split_of_drive(drive, shares) for drive in new}
    free = [drive for drive in sorted(new) if drive not in known]
    if "train" not in sides.values() and free:
        sides[max(free, key=lambda drive: new[drive])] = "train"
    return sides


def pick_old(old: Sequence[Entry], count: int, seed: int) -> set[str]:
    """Choose old pictures to train on again; the same for the same arguments.

    Args:
        old: entries of the side `train`.
        count: at most so many.
        seed: another one chooses others.

    Returns:
        Their names.
    """
    by_slice: dict[str, deque[Entry]] = {
        value: deque(_by_turns([entry for entry in old if entry.slice == value], seed))
        for value in sorted({entry.slice for entry in old})
    }
    picked: set[str] = set()
    while len(picked) < count and any(by_slice.values()):
        for entries in by_slice.values():
            if entries and len(picked) < count:
                picked.add(entries.popleft().name)
    return picked


def _by_turns(entries: Sequence[Entry], seed: int) -> list[Entry]:
    """Order pictures so that each drive has its turn before one has its second."""
    by_drive: dict[str, list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: _chance(entry.name, seed)):
        by_drive[entry.drive].append(entry)
    place = {entry.name: turn for turns in by_drive.values() for turn, entry in enumerate(turns)}
    return sorted(entries, key=lambda entry: (place[entry.name], _chance(entry.drive, seed)))


def _chance(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}\0{name}".encode()).hexdigest()
