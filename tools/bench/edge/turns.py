"""The daemon and plain loops in turns within one run: while one has its turn, the daemon is held by SIGSTOP.

So whatever else the machine does hits all of them alike, and none of them takes the other's processor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tools.bench.edge.clients import Client
from tools.bench.edge.daemon import BenchDaemon
from tools.bench.edge.machine import cpu_ns
from tools.bench.rounds import BenchError, Difference

TURN_TIMEOUT_S = 120.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one contender did in one turn.

    Attributes:
        frame_ms: time from frame to frame, of each.
        cpu_ms: processor time of its process per frame.
    """

    frame_ms: tuple[float, ...]
    cpu_ms: float

    @property
    def mean_ms(self) -> float:
        """Time of a frame, over the turn."""
        return float(np.mean(self.frame_ms))


# Takes so many frames.
Contender = Callable[[int], Turn]


def daemon_turns(daemon: BenchDaemon, client: Client) -> Contender:
    """The daemon as a contender. Between turns it stands still, wherever it was.

    The frame that the hold cut in two counts to no turn: a turn lasts from its first publication to its
    last, by the daemon's own stamps.
    """

    def turn(frames: int) -> Turn:
        before = len(client.receipts)
        daemon.go_on()
        try:
            client.wait_for(before + 1, TURN_TIMEOUT_S)
            cpu_before, first = cpu_ns(daemon.pid), len(client.receipts)
            client.wait_for(first + frames, TURN_TIMEOUT_S)
            cpu, last = cpu_ns(daemon.pid) - cpu_before, len(client.receipts)
        finally:
            daemon.hold()
        taken = client.receipts[first - 1 : last]
        if any(receipt.dropped for receipt in taken):
            raise BenchError("the bench's own client was too slow, and lost messages")
        times = [(after.published_ns - one.published_ns) / 1e6 for one, after in pairwise(taken)]
        return Turn(tuple(times), cpu / 1e6 / (last - first))

    daemon.hold()
    return turn


def loop_turns(step: Callable[[], object], *, period_s: float = 0.0) -> Contender:
    """A plain loop in this process as a contender.

    Args:
        step: one frame.
        period_s: time from the start of one frame to that of the next; 0: no wait.
    """

    def turn(frames: int) -> Turn:
        times = []
        cpu_before, due = time.process_time_ns(), time.monotonic()
        before = time.perf_counter_ns()
        for _ in range(frames):
            due += period_s
            if period_s:
                time.sleep(max(0.0, due - time.monotonic()))
            step()
            now = time.perf_counter_ns()
            times.append((now - before) / 1e6)
            before = now
        return Turn(tuple(times), (time.process_time_ns() - cpu_before) / 1e6 / frames)

    return turn


def in_turns(
    contenders: Mapping[str, Contender],
    rounds: int,
    frames: int,
    *,
    warm_up: int = 1,
    progress: Progress = lambda done, of: None,
) -> dict[str, list[Turn]]:
    """Give each contender a turn a round; who goes first moves on by one each round.

    Args:
        contenders: by name.
        rounds: how many.
        frames: of each turn.
        warm_up: rounds before, that are not counted.
        progress: told how many rounds are done, of how many.

    Raises:
        BenchError: fewer than one round or frame, or a contender failed.
    """
    if rounds < 1 or frames < 1:
        raise BenchError(f"rounds and frames must be 1 or more, not {rounds} and {frames}")
    names = list(contenders)
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    for number in range(-warm_up, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            turn = contenders[name](frames)
            if number >= 0:
                turns[name].append(turn)
        progress(max(number + 1, 0), rounds)
    return turns


def ratios(over: list[float], under: list[float]) -> Difference:
    """One figure over another of the same round: the median of the ratios and its 95 % interval."""
    log = Difference.between(np.log(over).tolist(), np.log(under).tolist())
    return Difference(float(np.exp(log.median)), float(np.exp(log.low)), float(np.exp(log.high)))


def verdict_note(name: str, ratio: Difference, target: float) -> list[str]:
    """A line where the interval holds the target, so that this run decides nothing."""
    if ratio.low <= target <= ratio.high and ratio.low < ratio.high:
        return [f"the verdict on {name} is open: {ratio.low:.3f} to {ratio.high:.3f} (95 %) holds the target"]
    return []
