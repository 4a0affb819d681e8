"""When to look for a release next."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from edge.backoff import Backoff, BackoffOptions

RETRY = BackoffOptions(initial_s=1.0, limit_s=300.0)  # the cloud is away
LEAST_PAUSE_S = 1.0  # between two looks, however often the cloud nudges
_JITTER = 0.1  # of the interval, either way, so that a fleet does not march
_CHANCE = random.SystemRandom()


class LookSchedule:
    """The first look is due at once. `nudge` from any thread, the rest from one."""

    def __init__(
        self,
        interval_s: float,
        retry: BackoffOptions = RETRY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make ready.

        Args:
            interval_s: about, between two looks that found their cloud.
            retry: between tries.
            clock: counts seconds.
        """
        self._interval_s = interval_s
        self._retry = Backoff(retry)
        self._clock = clock
        self._nudged = threading.Event()
        self._was_nudged = False
        self._at_s = self._last_s = -LEAST_PAUSE_S

    def nudge(self) -> None:
        """Look soon."""
        self._nudged.set()

    def wait_s(self, not_before_s: float) -> float:
        """Seconds until a look is due, 0 at the least.

        Args:
            not_before_s: by the clock; a nudge does not wait for it.
        """
        due_s = max(self._at_s, not_before_s)
        if self._nudged.is_set():
            due_s = min(due_s, self._last_s + LEAST_PAUSE_S)
        return max(0.0, due_s - self._clock())

    def begins(self) -> None:
        """A look begins: what is nudged from now on is for the next."""
        self._was_nudged = self._nudged.is_set()
        self._nudged.clear()

    def ended(self, *, failed: bool) -> None:
        """A look ended; one that failed is tried again soon, and then more and more seldom."""
        self._last_s = self._clock()
        if failed:
            self.within(self._retry.next_s())
        else:
            self._retry.reset()
            self.within(self._interval_s * _CHANCE.uniform(1 - _JITTER, 1 + _JITTER))

    def put_off(self) -> None:
        """A look was left for what comes first: the next one is soon, and as wanted as this one was."""
        self._last_s = self._clock()
        self.within(LEAST_PAUSE_S)  # however often a cloud says something else
        if self._was_nudged:
            self._nudged.set()

    def within(self, seconds: float) -> None:
        """Look in so many seconds."""
        self._at_s = self._clock() + seconds
