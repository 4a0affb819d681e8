"""What all parts of `bench drift` share: how much, and who is told how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PARTS = ("promise",)
TARGET_HOURS = 24.0  # the promise: hours of driving to one false alarm

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class DriftSettings:
    """How much is measured.

    Attributes:
        parts: which of PARTS, in this order.
        quick: a little of each, to see that it works; its figures say nothing.
        tuning: streams that constants may be tuned on, in place of those that are published.
        hours: of driving without a change, of all families together.
        replicates: references of each family.
    """

    parts: tuple[str, ...] = PARTS
    quick: bool = False
    tuning: bool = False
    hours: float = 2000.0
    replicates: int = 8
