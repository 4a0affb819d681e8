"""Is something more frequent than was promised, or only by chance? Without assumptions on distributions.

A quantile is a share: that 99 of 100 inferences take 50 ms at most says that at most one in a hundred takes
longer, and how many do follows the binomial distribution whatever their durations are (Conover, Practical
Nonparametric Statistics, 3.2). Against another sample instead of a number, how many exceed its j-th largest
value follows the distribution of exceedances (Gumbel & von Schelling, 1950).

Frames beside each other are alike: a burst of slow ones is one event and not thirty. Counts are therefore
divided by a design effect (Kish, 1965), as if each came so many times. And whoever looks again and again will
see chance at work in the end: looks come at doubling sizes, the i-th with 1 / (i (i + 1)) of the chance that
is allowed, which adds up to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

# That a trial whose promise is kept only just is called broken; there are ten of them in a probation at most.
CHANCE = 5e-4
DESIGN_EFFECT = 30  # frames: one to three seconds of a camera
FIRST_LOOK = 4  # of effective size
_NEGLIGIBLE = 1e-18

Tail = Callable[[int, int], float]  # of (k, n): the chance that at least k of n are beyond


def binomial_tail(k: int, n: int, share: float) -> float:
    """Give the chance that at least k of n happen, each with the chance `share`."""
    if k <= 0:
        return 1.0
    return _summed(lambda i: _log_binomial(i, n, share), k, n)


def exceedance_tail(k: int, n: int, rank: int, before: int) -> float:
    """Give the chance that at least k of n values exceed the `rank`-th largest of `before` like ones.

    Args:
        k: values.
        n: values.
        rank: from 1, the largest, up to `before`.
        before: values in the other sample.
    """
    if k <= 0:
        return 1.0

    def term(i: int) -> float:
        return (
            _log_choose(i + rank - 1, i)
            + _log_choose(n - i + before - rank, n - i)
            - _log_choose(before + n, n)
        )

    return _summed(term, k, n)


class Trial:
    """Counts what is beyond its promise, and says once that is more than chance brings."""

    def __init__(
        self,
        tail: Tail,
        *,
        design_effect: int = 1,
        first_look: int = FIRST_LOOK,
        chance: float = CHANCE,
    ) -> None:
        """Nothing counted.

        Args:
            tail: of counts, after the design effect.
            design_effect: so many that come together say as much as one.
            first_look: at so many, after the design effect.
            chance: to be called broken with the promise kept only just.
        """
        self._tail = tail
        self._design_effect = design_effect
        self._chance = chance
        self._next_look = first_look
        self._looks = 0
        self.beyond = 0
        self.of = 0
        self.broken = False

    def add(self, beyond: int, of: int) -> None:
        """Take some, and look if it is time to."""
        self.beyond += beyond
        self.of += of
        if self.of // self._design_effect >= self._next_look:
            while self.of // self._design_effect >= self._next_look:
                self._next_look *= 2
            self._look()

    def last_look(self) -> None:
        """Look at what there is, at the end."""
        if self.of // self._design_effect > 0:
            self._look()

    def _look(self) -> None:
        self._looks += 1
        allowed = self._chance / (self._looks * (self._looks + 1))
        k, n = self.beyond // self._design_effect, self.of // self._design_effect
        self.broken = self.broken or self._tail(k, n) < allowed


def _summed(log_term: Callable[[int], float], k: int, n: int) -> float:
    """Add up the terms from k to n, which fall from the mode on."""
    total = largest = 0.0
    for i in range(k, n + 1):
        term = math.exp(log_term(i))
        total += term
        largest = max(largest, term)
        if largest > 0.0 and term < largest * _NEGLIGIBLE:
            break
    return min(1.0, total)


def _log_binomial(i: int, n: int, share: float) -> float:
    if share <= 0.0 or share >= 1.0:
        return 0.0 if i == (0 if share <= 0.0 else n) else -math.inf
    return _log_choose(n, i) + i * math.log(share) + (n - i) * math.log1p(-share)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
