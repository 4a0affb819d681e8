"""What a change of model was doing while frames were late or lost.

A change is one call of a client: the slot is read and verified, the model checked in a child process, its
session loaded and warmed, put between two frames, and the old session freed. The daemon's log has how long
check and loading took, the client when the new model's first frame was published. Seen from there, the wait
for the exchange, a frame or two, belongs to the loading, and what comes before is told that much too late;
the old session is mostly freed before that first frame is published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tools.bench.swap.blocks import Block

READ = "slot read and verified"
CHECK = "checked in a child process"
LOAD = "session loaded and warmed"
FREE = "exchanged, the old session freed"
BETWEEN = "between two changes"
PHASES = (READ, CHECK, LOAD, FREE, BETWEEN)


@dataclass(frozen=True, slots=True)
class Change:
    """One change of model. Times are this machine's monotonic clock, ns.

    Attributes:
        begin_ns, end_ns: of the client's call.
        swapped_ns: the first publication under the new model.
        check_ns, load_ns: how long these took, one after the other, the second one up to the exchange.
    """

    begin_ns: int
    end_ns: int
    swapped_ns: int
    check_ns: int
    load_ns: int

    def phase(self, at_ns: int) -> str | None:
        """What it was doing then; None: it was not under way."""
        if not self.begin_ns <= at_ns < self.end_ns:
            return None
        loading = min(self.swapped_ns, self.end_ns) - self.load_ns
        if at_ns >= self.swapped_ns:
            return FREE
        if at_ns >= loading:
            return LOAD
        return CHECK if at_ns >= loading - self.check_ns else READ


@dataclass(frozen=True, slots=True)
class InPhase:
    """The frames that were born in one phase.

    Attributes:
        frames: how many.
        lost: that nobody got detections of.
        p99_ms, p999_ms, max_ms: of the gaps that end with one of the answered ones; NaN where there is none.
    """

    frames: int
    lost: int
    p99_ms: float
    p999_ms: float
    max_ms: float


def by_phase(blocks: Sequence[Block], changes: Sequence[Change]) -> dict[str, InPhase]:
    """Sort the frames of blocks with changes by what the change was doing when they were born.

    Args:
        blocks: with changes.
        changes: all of these, in the order of time.
    """
    begins = [change.begin_ns for change in changes]
    frames = dict.fromkeys(PHASES, 0)
    lost = dict.fromkeys(PHASES, 0)
    gaps: dict[str, list[float]] = {phase: [] for phase in PHASES}
    for block in blocks:
        before: int | None = None
        for born in block.born_ns:
            place = int(np.searchsorted(begins, born, side="right")) - 1
            phase = (changes[place].phase(born) if place >= 0 else None) or BETWEEN
            frames[phase] += 1
            answered = block.answered_ns.get(born)
            if answered is None:
                lost[phase] += 1
                continue
            if before is not None:
                gaps[phase].append((answered - before) / 1e6)
            before = answered
    return {phase: InPhase(frames[phase], lost[phase], *_tail(gaps[phase])) for phase in PHASES}


def _tail(gaps_ms: Sequence[float]) -> tuple[float, float, float]:
    if not gaps_ms:
        return np.nan, np.nan, np.nan
    p99, p999, most = np.percentile(gaps_ms, [99, 99.9, 100])
    return float(p99), float(p999), float(most)
