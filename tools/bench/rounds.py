"""Contenders timed in turns within one run, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cloud.pipeline.intervals import Interval
from edge.errors import TrafficVisionError

# Takes the number of the round, which chooses the input; all contenders of a round get the same one.
Contender = Callable[[int], object]


class BenchError(TrafficVisionError):
    """A benchmark that cannot be run as asked."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Minimum and percentiles of some times."""

    min: float
    p50: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value at least; percentiles are interpolated linearly."""
        p50, p99 = np.percentile(values, [50, 99])
        return cls(float(min(values)), float(p50), float(p99))

    def to_json(self, unit: str, digits: int = 3) -> dict[str, float]:
        """`min_UNIT`, `p50_UNIT`, `p99_UNIT`, rounded."""
        return {
            f"min_{unit}": round(self.min, digits),
            f"p50_{unit}": round(self.p50, digits),
            f"p99_{unit}": round(self.p99, digits),
        }


def interleave(
    contenders: Mapping[str, Contender],
    rounds: int,
    *,
    warm_up: int = 3,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, list[float]]:
    """Time each contender once a round. Who goes first moves on by one each round.

    Args:
        contenders: what to time, by name.
        rounds: how often.
        warm_up: rounds before, that are not counted.
        progress: told after each round how many are done, of how many.

    Returns:
        Milliseconds of each round, by name; entries of one index belong to one round.

    Raises:
        BenchError: fewer than one round.
    """
    if rounds < 1:
        raise BenchError(f"rounds must be 1 or more, not {rounds}")
    names = list(contenders)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warm_up, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            run = contenders[name]
            started = time.perf_counter_ns()
            run(number)
            spent = time.perf_counter_ns() - started
            if number >= 0:
                times[name].append(spent / 1e6)
        progress(max(number + 1, 0), rounds)
    return times


@dataclass(frozen=True, slots=True)
class Difference:
    """How much longer one took than another in the same round: the median and its 95 % interval."""

    median: float
    low: float
    high: float

    @classmethod
    def between(cls, times: Sequence[float], floor: Sequence[float]) -> Difference:
        """Of one round at least. The interval is that of the sign test, and all there is for a few rounds."""
        found = Interval.of(np.subtract(times, floor).tolist())
        return cls(found.median, found.low, found.high)
