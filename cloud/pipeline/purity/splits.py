"""Which drives are on which side of a split: rules alone."""

from __future__ import annotations

from collections.abc import Iterable


def drives_on_both_sides(sides: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Find the drives that are on more than one side of a split, from pairs of drive and side."""
    by_drive: dict[str, set[str]] = {}
    for drive, side in sides:
        by_drive.setdefault(drive, set()).add(side)
    return {drive: names for drive, names in by_drive.items() if len(names) > 1}
