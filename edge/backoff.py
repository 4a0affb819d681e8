"""How long to wait before the next try: exponential, and with chance in it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

_CHANCE = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class BackoffOptions:
    """The shortest and the longest wait, seconds."""

    initial_s: float = 0.5
    limit_s: float = 60.0


class Backoff:
    """Waits that grow threefold at most from one to the next, drawn at random so that a fleet does not march.

    "Decorrelated jitter": Brooker 2015, "Exponential Backoff And Jitter", AWS Architecture Blog.
    """

    def __init__(
        self,
        options: BackoffOptions | None = None,
        *,
        uniform: Callable[[float, float], float] = _CHANCE.uniform,
    ) -> None:
        """Start at the shortest; `uniform(low, high)` is where chance comes from."""
        self.options = options or BackoffOptions()
        self._uniform = uniform
        self._last_s = self.options.initial_s

    def next_s(self) -> float:
        """The next wait, from `initial_s` to `limit_s`."""
        wait = self._uniform(self.options.initial_s, max(self.options.initial_s, self._last_s * 3))
        self._last_s = min(wait, self.options.limit_s)
        return self._last_s

    def reset(self) -> None:
        """Begin anew, after a success."""
        self._last_s = self.options.initial_s
