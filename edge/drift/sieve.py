"""Which frames a camera's own reference is made from: those that a while later still look well.

An alarm is raised some time after the change that it tells of, and a change of the context some seconds after
it. So frames wait, and what came before turns out to be of no use goes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.drift.own import UNSORTED

Vector = npt.NDArray[np.float32]

HOLD_S = 120.0  # frames wait so long for an alarm
BLUR_S = 20.0  # frames so shortly before a change of the context are of neither
# The prior is of other cameras, and may not fit this one: what has been in alarm for so long, of driving, is
# how this camera sees the world.
PATIENCE_S = 24 * 3600.0


@dataclass(frozen=True, slots=True, eq=False)
class Usual:
    """A frame that counts.

    Attributes:
        time_ns: the frames' time.
        vector: `float32[F]`.
        context: that it is of; UNSORTED: none that is known, for long.
    """

    time_ns: int
    vector: Vector
    context: str


class Sieve:
    """Holds the latest frames of one camera back, and lets through those that count. No threads, no clock."""

    def __init__(self, gap_s: float, alarmed_s: float = 0.0) -> None:
        """Begin.

        Args:
            gap_s: after so long without a frame, another stretch of driving begins.
            alarmed_s: how long the prior has been in alarm up to now.
        """
        self._gap_ns = gap_s * 1e9
        self.alarmed_s = alarmed_s
        self._held: deque[Usual] = deque()
        self._through: list[Usual] = []
        self._last_ns: int | None = None
        self._context = ""

    @property
    def has_patience(self) -> bool:
        """Whether what is in alarm by the prior is still left out."""
        return self.alarmed_s < PATIENCE_S

    def add(self, time_ns: int, vector: Vector, context: str, *, by_prior: bool, by_own: bool) -> None:
        """Take a frame that is judged.

        Args:
            time_ns: its time.
            vector: `float32[F]` its features.
            context: that the latest frames fit; empty: none that is known.
            by_prior: the picture is in alarm by the fleet's reference.
            by_own: it is by the camera's own, which counts always.
        """
        passed_ns = 0 if self._last_ns is None else time_ns - self._last_ns
        if not 0 <= passed_ns <= self._gap_ns:
            self.end()
            passed_ns = 0
        self._last_ns = time_ns
        # Somewhat more alarm than none counts, so that it need not stand without a break.
        self.alarmed_s = max(0.0, self.alarmed_s + (passed_ns if by_prior else -passed_ns) / 1e9)
        if by_own or (by_prior and self.has_patience):
            self._held.clear()
            return
        if not self.has_patience:
            context = context or UNSORTED
        if context != self._context:
            while self._held and self._held[-1].time_ns >= time_ns - BLUR_S * 1e9:
                self._held.pop()
            self._context = context
        if context:
            self._held.append(Usual(time_ns, vector, context))
        while self._held and self._held[0].time_ns <= time_ns - HOLD_S * 1e9:
            self._through.append(self._held.popleft())

    def end(self) -> None:
        """Here a stretch of driving ends: nothing more will be heard of the frames that wait."""
        self._through += self._held
        self._held.clear()
        self._last_ns, self._context = None, ""

    def take(self) -> list[Usual]:
        """What came through since the last time."""
        through, self._through = self._through, []
        return through

    def clear(self) -> None:
        """Forget all frames, and all alarm."""
        self._held.clear()
        self._through.clear()
        self.alarmed_s, self._last_ns, self._context = 0.0, None, ""
