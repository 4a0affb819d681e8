"""Waiting longer after each failure, and never in step with others."""

from __future__ import annotations

import random

FIRST_S = 0.1
LIMIT_S = 30.0


class BackOff:
    """Exponential back-off with full jitter over the upper half: a wait is 50 to 100 % of its step."""

    def __init__(
        self, first_s: float = FIRST_S, limit_s: float = LIMIT_S, *, chance: random.Random | None = None
    ) -> None:
        """The first step, and the longest."""
        self._first_s = first_s
        self._limit_s = limit_s
        self._step_s = first_s
        self._chance = chance or random.Random()  # noqa: S311 - jitter, no secret

    def next_s(self) -> float:
        """How long to wait now; the step after it is twice as long."""
        wait_s = self._step_s * self._chance.uniform(0.5, 1.0)
        self._step_s = min(self._limit_s, self._step_s * 2)
        return wait_s

    def reset(self) -> None:
        """Begin anew: it worked."""
        self._step_s = self._first_s
