"""Stretches of paced frames, with changes of model in them and without, and the tests between the two.

Blocks come in pairs, one with changes and one without, as long as each other and next to each other in time.
The gaps of a busy machine come in bursts, so that neighbouring frames are no independent witnesses: Fisher's
exact test, which takes them for that, is told, and the verdict is that of a permutation test which exchanges
the two blocks of a pair (Good 2005, "Permutation, Parametric and Bootstrap Tests", section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import fisher_exact

P_LEAST = 0.01  # a difference that chance makes less often than that is one
_FLIPS = 2000
_NEAR_PERIODS = 2.5  # frames so close to a change could have been lost to it

_NONE = (np.nan,) * 5

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Block:
    """What became of the frames of one stretch. Times are this machine's monotonic clock, ns.

    Attributes:
        born_ns: when each of the camera's frames was born.
        answered_ns: when the detections of each were there, by its birth; those that are missing were lost.
        swapped_ns: when each change of model was done.
        failed: frames that were refused with an error, in words; they are lost too.
    """

    born_ns: Sequence[int]
    answered_ns: dict[int, int]
    swapped_ns: Sequence[int] = ()
    failed: Sequence[str] = ()

    @property
    def gaps_ms(self) -> FloatArray:
        """From the detections of one answered frame to those of the next."""
        times = [self.answered_ns[born] for born in self.born_ns if born in self.answered_ns]
        return np.diff(np.asarray(times, np.float64)) / 1e6

    @property
    def lost_ns(self) -> list[int]:
        """The births of the frames without an answer."""
        return [born for born in self.born_ns if born not in self.answered_ns]

    def lost_near_swap(self, period_ms: float) -> int:
        """Of those without an answer, the ones that were born within some periods of a change."""
        reach = _NEAR_PERIODS * period_ms * 1e6
        return sum(any(abs(born - at) <= reach for at in self.swapped_ns) for born in self.lost_ns)


@dataclass(frozen=True, slots=True)
class Pair:
    """A block with changes of model, and its neighbour without."""

    swaps: Block
    calm: Block


@dataclass(frozen=True, slots=True)
class Side:
    """The blocks of one kind together.

    Attributes:
        frames: that were born.
        lost: that nobody got detections of.
        failed: of these, the ones that were refused with an error.
        min_ms, p50_ms, p99_ms, p999_ms, max_ms: of the gaps.
        gaps: how many.
        over: of these, the ones over two periods.
    """

    frames: int
    lost: int
    failed: int
    min_ms: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    gaps: int
    over: int

    @property
    def spread_ms(self) -> tuple[float, float, float, float, float]:
        """Minimum, p50, p99, p99.9 and maximum of the gaps."""
        return self.min_ms, self.p50_ms, self.p99_ms, self.p999_ms, self.max_ms

    @classmethod
    def of(cls, blocks: Sequence[Block], period_ms: float) -> Side:
        """Put them together; NaN where there is no gap."""
        gaps = np.concatenate([block.gaps_ms for block in blocks])
        least, p50, p99, p999, most = np.percentile(gaps, [0, 50, 99, 99.9, 100]) if len(gaps) else _NONE
        return cls(
            frames=sum(len(block.born_ns) for block in blocks),
            lost=sum(len(block.lost_ns) for block in blocks),
            failed=sum(len(block.failed) for block in blocks),
            min_ms=float(least),
            p50_ms=float(p50),
            p99_ms=float(p99),
            p999_ms=float(p999),
            max_ms=float(most),
            gaps=len(gaps),
            over=_over(gaps, period_ms),
        )


@dataclass(frozen=True, slots=True)
class Compared:
    """Blocks with changes of model beside those without.

    Attributes:
        swaps, calm: each kind.
        pairs: how many.
        swapped: how many changes there were.
        lost_near_swap: frames lost around a change.
        p_over: of a one-sided permutation test: how often chance alone makes gaps over two periods so much
            more frequent with changes.
        p_over_fisher: the same of Fisher's exact test over all gaps.
        p_p999: how often chance alone makes the p99.9 so much greater with changes, by permutation.
    """

    swaps: Side
    calm: Side
    pairs: int
    swapped: int
    lost_near_swap: int
    p_over: float
    p_over_fisher: float
    p_p999: float

    @classmethod
    def of(cls, pairs: Sequence[Pair], rate_hz: float) -> Compared:
        """Compare them. One pair at least.

        Args:
            pairs: the blocks.
            rate_hz: frames per second of the camera.
        """
        period_ms = 1e3 / rate_hz
        with_swaps = [pair.swaps for pair in pairs]
        swaps = Side.of(with_swaps, period_ms)
        calm = Side.of([pair.calm for pair in pairs], period_ms)
        gaps = [(pair.swaps.gaps_ms, pair.calm.gaps_ms) for pair in pairs]
        table = [[swaps.over, swaps.gaps - swaps.over], [calm.over, calm.gaps - calm.over]]
        return cls(
            swaps,
            calm,
            len(pairs),
            sum(len(block.swapped_ns) for block in with_swaps),
            sum(block.lost_near_swap(period_ms) for block in with_swaps),
            permuted(gaps, lambda values: _over(values, period_ms) / max(1, len(values))),
            float(fisher_exact(table, alternative="greater").pvalue),
            permuted(gaps, lambda values: float(np.percentile(values, 99.9)) if len(values) else 0.0),
        )


def permuted(
    pairs: Sequence[tuple[FloatArray, FloatArray]], statistic: Callable[[FloatArray], float]
) -> float:
    """How often exchanging the members of pairs at random gives a difference as great as the one seen.

    Args:
        pairs: the values of each.
        statistic: of the values of one kind, all pairs together.

    Returns:
        The one-sided p-value of `statistic(firsts) - statistic(seconds)`, the arrangement seen among them.
    """
    rng = np.random.default_rng(1)
    count = len(pairs)
    if 2**count <= _FLIPS:  # all arrangements, the one seen among them
        flips = np.array([[number >> bit & 1 for bit in range(count)] for number in range(2**count)], bool)
    else:
        flips = rng.random((_FLIPS, count)) < 0.5
        flips[0] = False
    seen = _difference(pairs, flips[0], statistic)
    # Sums of the same numbers in another order differ in their last bits.
    least = seen - 1e-9 * max(1.0, abs(seen))
    as_great = sum(_difference(pairs, flip, statistic) >= least for flip in flips)
    return as_great / len(flips)


def _difference(
    pairs: Sequence[tuple[FloatArray, FloatArray]],
    flip: npt.NDArray[np.bool_],
    statistic: Callable[[FloatArray], float],
) -> float:
    first = [pair[exchanged] for pair, exchanged in zip(pairs, flip.astype(int), strict=True)]
    second = [pair[1 - exchanged] for pair, exchanged in zip(pairs, flip.astype(int), strict=True)]
    return statistic(np.concatenate(first)) - statistic(np.concatenate(second))


def _over(gaps_ms: FloatArray, period_ms: float) -> int:
    """A gap of two periods to the nanosecond is not over them: the half percent is for the clock."""
    return int(np.count_nonzero(gaps_ms > 2 * period_ms * 1.005))
