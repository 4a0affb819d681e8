"""What has happened so far: written by those who listen, read by the view and by the run, which waits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloud.pipeline.training import EpochReport
from tools.demo.errors import DemoError
from tools.demo.record import DriftPoint

_LOOK_EVERY_S = 0.25
_PUBLICATIONS = 4000
_GAPS_EACH_SIDE = 40  # publications before and after the swap that the record keeps


@dataclass(frozen=True, slots=True)
class Line:
    """Something worth telling, at so many seconds from the start."""

    at_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Publication:
    """One frame's detections as a local client got them.

    Attributes:
        sequence: of the frame.
        published_ns: by the machine's monotonic clock.
        drive_s: when the frame was, seconds of drive.
        model: SHA-256.
    """

    sequence: int
    published_ns: int
    drive_s: float
    model: str


@dataclass(frozen=True, slots=True)
class VehicleNow:
    """The daemon's last status.

    Attributes:
        fps: published frames per second.
        frames: `captured` and each way out.
        resident_mb: of its process, now.
        spooled: samples that wait for the cloud.
        model: name and version of what runs.
        phase: of the update.
        connected: to the cloud.
        ended: the drive is over.
    """

    fps: float = 0.0
    frames: Mapping[str, int] = field(default_factory=dict)
    resident_mb: float = 0.0
    spooled: int = 0
    model: str = ""
    phase: str = ""
    connected: bool = False
    ended: bool = False


class Story:
    """The demonstration's state; its lock is `changed`, which is notified of what somebody may wait for."""

    def __init__(self, tell: Callable[[Line], None] = lambda line: None) -> None:
        """At the start.

        Args:
            tell: told each line, in order, under the lock.
        """
        self.changed = threading.Condition()
        self.began = time.monotonic()
        self.phase_key, self.phase = "", "starting"
        self.phases: list[tuple[str, float]] = []  # key, seconds from the start
        self.tasks: dict[str, tuple[int, int]] = {}  # what is done in the background: done, of
        self.lines: list[Line] = []
        self.vehicle_log: dict[str, dict[str, Any]] = {}  # the last log line of each event
        self.vehicle = VehicleNow()
        self.drive_s = 0.0
        self.drift: list[DriftPoint] = []
        self.publications: deque[Publication] = deque(maxlen=_PUBLICATIONS)
        self.around_swap: tuple[Publication, ...] = ()
        self.held_until = -1  # the last frame that came later because the vehicle was told to be slow
        self.samples: dict[str, int] = {}
        self.stage = ""
        self.stage_facts: dict[str, Any] = {}  # its last progress
        self.stages: dict[str, dict[str, Any]] = {}  # the result of each that is done
        self.fine_tuning: list[EpochReport] = []  # of the baseline, where there was none
        self.training: list[EpochReport] = []
        self.retrain: dict[str, Any] | None = None  # how it ended
        self._tell = tell

    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def say(self, text: str) -> None:
        """Tell people."""
        with self.changed:
            line = Line(self.elapsed_s(), text)
            self.lines.append(line)
            self._tell(line)
            self.changed.notify_all()

    def enter(self, key: str, text: str) -> None:
        """Begin another phase: `key` for the timings, `text` for people."""
        with self.changed:
            self.phase_key, self.phase = key, text
            self.phases.append((key, self.elapsed_s()))
        self.say(text)

    def phase_seconds(self) -> dict[str, float]:
        """How long each phase took, by its key; the last one up to now."""
        ends = [start for _, start in self.phases[1:]] + [self.elapsed_s()]
        return {key: end - start for (key, start), end in zip(self.phases, ends, strict=True)}

    def wake(self) -> None:
        """Have whoever waits look again."""
        with self.changed:
            self.changed.notify_all()

    def wait(
        self, what: str, holds: Callable[[], bool], timeout_s: float, check: Callable[[], None] = lambda: None
    ) -> None:
        """Wait until it holds.

        Args:
            what: for the message, such as "the vehicle's first frame".
            holds: called under the lock.
            timeout_s: at most so long.
            check: called in between, without the lock; it raises where waiting has become useless.

        Raises:
            DemoError: it did not come to hold in time.
        """
        until = time.monotonic() + timeout_s
        while True:
            check()
            with self.changed:
                if holds():
                    return
                if time.monotonic() >= until:
                    raise DemoError(f"{what}: not within {timeout_s:.0f} s")
                self.changed.wait(_LOOK_EVERY_S)
                if holds():
                    return

    def published(self, publication: Publication) -> None:
        """Take in a publication; of those around the swap a number is kept."""
        with self.changed:
            self.drive_s = publication.drive_s
            self.publications.append(publication)
            swap = self.vehicle_log.get("model_swapped")
            after = swap["frame_after"][2] if swap else None
            if after is None or self.around_swap:
                return
            if publication.sequence >= after + _GAPS_EACH_SIDE:
                self.keep_around(after)

    def keep_around(self, after: int) -> None:
        """Keep the publications around the swap, as far as they have come. Under the lock."""
        self.around_swap = tuple(
            seen
            for seen in self.publications
            if after - _GAPS_EACH_SIDE <= seen.sequence <= after + _GAPS_EACH_SIDE
        )
