"""What all parts of `bench drift` share: how much, and who is told how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PARTS = ("promise", "delay", "peers", "alternation", "cost", "simulated", "real")
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
        trials: of each shift.
        peer_hours: of each family's streams, that the peers and ours get in turns.
        peers: folder of the peers' environments, made where there are none; None: only those at hand.
        simulated_hours: of further day drives.
        drives: folder of real clips, 'night' in the names of some; None: there are none.
        model: model file that finds what is in the drives; the shipped baseline unless given.
        cache: folder that keeps the features of drives; None: they are made anew.
        workers: processes that share the drives.
    """

    parts: tuple[str, ...] = PARTS
    quick: bool = False
    tuning: bool = False
    hours: float = 2000.0
    replicates: int = 8
    trials: int = 200
    peer_hours: float = 2.0
    peers: Path | None = None
    simulated_hours: float = 20.0
    drives: Path | None = None
    model: Path | None = None
    cache: Path | None = None
    workers: int = 1
