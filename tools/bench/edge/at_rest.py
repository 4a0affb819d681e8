"""Which looks at a process tell what it holds for good, and not what it holds for the work of a moment."""

from __future__ import annotations

from collections.abc import Sequence


def at_rest(at_s: Sequence[float], busy: Sequence[tuple[float, float]], settle_s: float) -> list[bool]:
    """Say of each look whether it lies outside of all stretches of work.

    Args:
        at_s: of the looks.
        busy: begin and end of each stretch, one after the other.
        settle_s: after an end, work may still be put away.
    """
    return [not any(begin <= at <= end + settle_s for begin, end in busy) for at in at_s]


def least_of_minutes(at_s: Sequence[float], values: Sequence[float]) -> list[float]:
    """The least value of each minute in which there is one, in their order.

    Args:
        at_s: when, in seconds, rising.
        values: as many.
    """
    least: dict[int, float] = {}
    for at, value in zip(at_s, values, strict=True):
        minute = int(at / 60)
        least[minute] = min(value, least.get(minute, value))
    return list(least.values())
