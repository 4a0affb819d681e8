"""A start that has gone well is noted, so that it does not count as one of a crash loop."""

from __future__ import annotations

import time
from collections.abc import Callable

from edge.updates.models import SlotModels

RUNS_WELL_S = 30.0  # after the start: a model that lets the daemon run so long is in no crash loop


class GoodStart:
    """`is_due` and `was_tried` from any thread, `note` from one."""

    def __init__(self, models: SlotModels, clock: Callable[[], float] = time.monotonic) -> None:
        """At the start, by a clock that counts seconds."""
        self.was_tried = False  # to note it; a full disk may be in the way
        self._models = models
        self._clock = clock
        self._from_s = clock() + RUNS_WELL_S

    @property
    def is_due(self) -> bool:
        """Whether starts are still counted that need not be."""
        return self._clock() >= self._from_s and bool(self._models.slots.state.starts)

    def note(self) -> None:
        """Count them no more.

        Raises:
            SlotError: it cannot be kept on disk.
        """
        self.was_tried = True
        self._models.ran_well()
