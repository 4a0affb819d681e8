"""One thread per camera: it drains the source into the mailbox, and opens anew what was lost.

A source that is not drained keeps old frames in its own buffers, and the age of what is looked at grows in
silence; so the thread never waits for the frame loop, but for recordings in lock-step.
"""

from __future__ import annotations

import enum
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from edge.backoff import Backoff, BackoffOptions
from edge.config import CameraConfig
from edge.errors import TrafficVisionError
from edge.frames.frame import BrokenFrame, Frame
from edge.frames.mailbox import Mailbox, MailboxClosed
from edge.frames.outcomes import FrameCounts, Outcome
from edge.frames.pace import Schedule
from edge.frames.rate_limit import RateLimit
from edge.frames.recent import Recent
from edge.frames.sources import Interruptible, LiveSource, Source, open_configured
from edge.frames.view import View
from edge.logs import Repeated
from edge.redaction import redact

logger = logging.getLogger(__name__)

REOPEN = BackoffOptions(initial_s=0.1, limit_s=30.0)
# A connection that gave frames for so long worked: the next loss is answered at once again.
SETTLED_S = 5.0
_TRY_MARGIN_S = 2.0  # for child processes to start, and to be reaped
_LOCKSTEP_WAIT_S = 1.0  # per wait; it is taken up again until the daemon stops


class CaptureError(TrafficVisionError):
    """A camera's configuration that its source cannot honour."""


class CapturePhase(enum.Enum):
    """What the capturing thread is at."""

    OPENING = "opening"
    RUNNING = "running"
    BACK_OFF = "back_off"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame and the monotonic time at which it was there, ns: what ages are measured from.

    A recording's `captured_ns` is the drive's time, which says nothing of how long the frame has waited.
    """

    frame: Frame
    arrived_ns: int


@dataclass(frozen=True, slots=True)
class CaptureStatus:
    """How a camera is.

    Attributes:
        phase: what the thread is at.
        epoch: of the last frame.
        last_arrival_ns: monotonic time of the last frame that decoded; None before the first.
        captured_hz: frames per second over the last seconds, broken ones included.
        losses: how often it was lost, or could not be opened again.
        back_off_until_ns: monotonic time by which the next try has come to something; None but in back-off.
        detail: the last trouble, for people; without credentials.
    """

    phase: CapturePhase
    epoch: int
    last_arrival_ns: int | None
    captured_hz: float
    losses: int
    back_off_until_ns: int | None
    detail: str


class Capture:
    """Owns a camera's source and its thread."""

    def __init__(
        self,
        config: CameraConfig,
        source: Source,
        mailbox: Mailbox[Arrival],
        counts: FrameCounts,
        *,
        reopen: Callable[[], Source] | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        """Make ready; `start` starts.

        Args:
            config: of this camera.
            source: opened; closed by the thread.
            mailbox: where the frames go.
            counts: of this camera.
            reopen: opens a lost source anew; by its URL unless given.
            backoff: between two tries.

        Raises:
            CaptureError: lock-step was asked of a camera, which waits for nobody.
        """
        self._config = config
        self._is_live = isinstance(source, LiveSource) and source.is_live
        self._lockstep = config.pace == "lockstep"
        self._speed = _speed(config)
        if self._is_live and config.pace != "realtime":
            raise CaptureError(
                f"camera {config.name!r}: pace {config.pace!r} is for recordings, and this is live"
            )
        self.source = source
        self._mailbox = mailbox
        self._counts = counts
        self._reopen = reopen or (lambda: open_configured(config))
        self._backoff = backoff or Backoff(REOPEN)
        self._rate_limit_hz = config.rate_limit_hz
        self._limit = RateLimit(config.rate_limit_hz)
        self._view = View(config.region, config.mask)
        self._captured = Recent()
        self._next_sequence = 0
        self._epoch = 0
        self._phase = CapturePhase.OPENING
        self._detail = ""
        self._first_arrival_ns: int | None = None  # of the present connection
        self._last_arrival_ns: int | None = None
        self._broken = Repeated(logger, logging.WARNING)
        self._lost = Repeated(logger, logging.WARNING)
        self._lost_by = ""
        self._back = Repeated(logger, logging.INFO)
        self._defects = Repeated(logger, logging.ERROR)
        self._losses = 0
        self._back_off_until_ns: int | None = None
        self._stopping = threading.Event()
        # Held where `source` changes, so that a stop reaches the present one.
        self._opening = threading.Lock()
        self._hurry = threading.Event()  # cuts a wait for a frame's moment short
        self._thread = threading.Thread(target=self._run, name=f"capture-{config.name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; a frame that nobody took leaves as stopped. May be called twice."""
        self._stopping.set()
        self._hurry.set()
        with self._opening:
            source = self.source
        if self._thread.ident is None:
            source.close()
        elif isinstance(source, Interruptible):
            source.interrupt()
        for _ in self._mailbox.close():
            self._counts.left(Outcome.STOPPED)

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; False where it hangs in its source."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def limit_speed(self, factor: float | None) -> None:
        """Let a recording in lock-step run at most `factor` times its own time; None: no limit."""
        if self._lockstep:
            self._speed = math.inf if factor is None else factor
            self._hurry.set()

    def limit_rate(self, rate_hz: float | None) -> None:
        """Let at most so many frames per second pass; None: all of them."""
        if rate_hz != self._rate_limit_hz:
            self._rate_limit_hz = rate_hz
            self._limit = RateLimit(rate_hz)

    @property
    def is_live(self) -> bool:
        """Whether it is a camera, not a recording."""
        return self._is_live

    def status(self) -> CaptureStatus:
        """How the camera is now."""
        return CaptureStatus(
            self._phase,
            self._epoch,
            self._last_arrival_ns,
            self._captured.rate_hz(),
            self._losses,
            self._back_off_until_ns if self._phase is CapturePhase.BACK_OFF else None,
            self._detail,
        )

    def _run(self) -> None:
        source: Source | None = self.source
        while not self._stopping.is_set():
            self._first_arrival_ns = None
            try:
                source = source or self._open_anew()
                with source:
                    self._drain(source)
                trouble = ""
            except TrafficVisionError as error:
                trouble = redact(str(error))
            except Exception as error:  # noqa: BLE001  # a source's own defect costs this camera alone
                trouble = redact(f"{type(error).__name__}: {error}")
                self._defects.log("camera %s: its source failed", self._config.name, exc_info=True)
            source = None
            if self._stopping.is_set():
                break
            if not self._is_live:
                self._end(trouble)
                return
            self._wait_after(trouble or "its source ended")
        self._phase = CapturePhase.ENDED

    def _open_anew(self) -> Source:
        source = self._reopen()
        with self._opening:
            self.source = source
        return source

    def _end(self, trouble: str) -> None:
        # The last trouble of a recording that came to its end stays what it was.
        self._detail = trouble or self._detail
        self._phase = CapturePhase.ENDED
        logger.info(
            "camera %s: the recording ended%s",
            self._config.name,
            f": {trouble}" if trouble else "",
            extra={"event": "camera_ended", "camera": self._config.name},
        )

    def _wait_after(self, trouble: str) -> None:
        first_ns, last_ns = self._first_arrival_ns, self._last_arrival_ns
        if first_ns is not None and last_ns is not None and last_ns - first_ns >= SETTLED_S * 1e9:
            self._backoff.reset()
        wait_s = self._backoff.next_s()
        # The try may take give_up_s to connect, and as long again for its first frame.
        try_s = 2 * self._config.give_up_s + _TRY_MARGIN_S
        self._back_off_until_ns = time.monotonic_ns() + round((wait_s + try_s) * 1e9)
        self._losses += 1
        self._phase, self._detail = CapturePhase.BACK_OFF, trouble
        if first_ns is not None:
            self._lost_by = trouble  # the tries that follow are of the same loss
        self._lost.log(
            "camera %s lost: %s; the next try in %.1f s",
            self._config.name,
            trouble,
            wait_s,
            extra={"event": "camera_lost", "camera": self._config.name},
            key=self._lost_by,
        )
        self._stopping.wait(wait_s)

    def _found_again(self) -> None:
        if self._losses:
            self._back.log(
                "camera %s is back",
                self._config.name,
                extra={"event": "camera_back", "camera": self._config.name, "losses": self._losses},
            )

    def _drain(self, source: Source) -> None:
        # Frames of a new connection follow on: one sequence and rising epochs, whatever the source counts.
        first_sequence = self._next_sequence
        scene: tuple[int, tuple[int, ...]] | None = None  # the source's epoch, and the pictures' shape
        schedule = None if self._is_live else Schedule(self._speed)
        for shot in source:
            if schedule is not None:
                self._wait_until_due(schedule, shot.captured_ns)
            shape = shot.image.shape if isinstance(shot, Frame) else scene[1] if scene else ()
            if scene is None:
                self._epoch += 1 if first_sequence else 0
            elif shot.epoch != scene[0] or (shape != scene[1] and scene[1]):
                self._epoch += 1
            scene = (shot.epoch, shape)
            renumbered = replace(
                shot, camera=self._config.name, sequence=first_sequence + shot.sequence, epoch=self._epoch
            )
            self._next_sequence = renumbered.sequence + 1
            self._take_in(renumbered)
            if self._stopping.is_set():
                return

    def _wait_until_due(self, schedule: Schedule, captured_ns: int) -> None:
        while True:
            self._hurry.clear()
            if self._stopping.is_set():
                return
            schedule.change(self._speed)
            due_ns = schedule.due_ns(captured_ns, time.monotonic_ns())
            if not self._hurry.wait(max(0.0, (due_ns - time.monotonic_ns()) / 1e9)):
                return

    def _take_in(self, shot: Frame | BrokenFrame) -> None:
        self._counts.captured()
        self._captured.add()
        self._phase = CapturePhase.RUNNING
        if isinstance(shot, BrokenFrame):
            self._counts.left(Outcome.DECODE_ERROR)
            self._detail = f"frame {shot.sequence}: {redact(shot.reason)}"
            self._broken.log("camera %s: %s", self._config.name, self._detail)
            return
        # A camera's frame was there at its own time: decoding it and bringing it here are part of its age.
        now_ns = time.monotonic_ns()
        arrived_ns = min(shot.captured_ns, now_ns) if self._is_live else now_ns
        self._last_arrival_ns = now_ns
        if self._first_arrival_ns is None:
            self._first_arrival_ns = now_ns
            self._found_again()
        if not self._limit.passes(shot.captured_ns):
            self._counts.left(Outcome.RATE_LIMITED)
            return
        shot = self._view.apply(shot)
        try:
            while self._lockstep and not self._mailbox.wait_empty(_LOCKSTEP_WAIT_S):
                pass
            if not self._is_live:
                arrived_ns = time.monotonic_ns()
            displaced = self._mailbox.put(Arrival(shot, arrived_ns))
        except MailboxClosed:
            self._counts.left(Outcome.STOPPED)
            return
        for _ in displaced:
            self._counts.left(Outcome.SUPERSEDED)


def _speed(config: CameraConfig) -> float:
    """How many seconds of a recording go by in one of ours, at most."""
    if config.pace == "lockstep":
        return math.inf if config.speed_limit is None else config.speed_limit
    return config.pace if isinstance(config.pace, float) else 1.0
