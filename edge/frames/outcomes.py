"""The ways in which a captured frame leaves the pipeline, and the count that must add up."""

from __future__ import annotations

import enum
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


class Outcome(enum.Enum):
    """How a captured frame left: in exactly one way. The values are the names in files and metrics."""

    PUBLISHED = "published"
    SUPERSEDED = "superseded"
    STALE = "stale"
    RATE_LIMITED = "rate_limited"
    DECODE_ERROR = "decode_error"
    INFERENCE_ERROR = "inference_error"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class FrameTally:
    """A consistent reading of `FrameCounts`: `captured == sum(left.values()) + in_flight`."""

    captured: int
    left: Mapping[Outcome, int]

    @property
    def in_flight(self) -> int:
        """Frames that were captured and have not left yet."""
        return self.captured - sum(self.left.values())

    def as_dict(self) -> dict[str, int]:
        """`captured` and each outcome by its name, zeros included."""
        return {"captured": self.captured, **{outcome.value: self.left[outcome] for outcome in Outcome}}


class FrameCounts:
    """Counts frames in and out. Safe to use from the capturing and the inferring thread at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._captured = 0
        self._left = dict.fromkeys(Outcome, 0)

    def captured(self) -> None:
        """Count a frame that came in."""
        with self._lock:
            self._captured += 1

    def left(self, outcome: Outcome) -> None:
        """Count the way out of a frame that came in.

        Raises:
            RuntimeError: more frames left than came in, a defect: some frame left in two ways.
        """
        with self._lock:
            if sum(self._left.values()) >= self._captured:
                raise RuntimeError(f"a frame left as {outcome.value} that never came in or had already left")
            self._left[outcome] += 1

    def tally(self) -> FrameTally:
        """The counts at one instant."""
        with self._lock:
            return FrameTally(self._captured, MappingProxyType(dict(self._left)))
