"""Another model between two frames: frame N is answered by the old one, frame N+1 by the new one.

All that takes time happens beforehand and elsewhere (`prepare`); what is left for the thread that detects
is to take another reference. A model that cannot be prepared never comes to be requested.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.frames.frame import FrameKey
from edge.machine.priority import lowered
from edge.perception.child_limits import MEMORY_BYTES
from edge.perception.detector import Detections, Detector, DetectorOptions
from edge.perception.model_check import check_in_child
from edge.perception.model_file import ModelFile

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SwapReport:
    """How a swap went, told once the new model's first frame is published.

    Attributes:
        frame_before: the last frame that was published under the old model; None where there was none.
        frame_after: the first one under the new model.
        gap_ns: from the publication of the one to that of the other; None without a frame before.
        exchange_ns: how long the exchange itself held the loop up.
        old_digest, new_digest: SHA-256 of the model files.
    """

    frame_before: FrameKey | None
    frame_after: FrameKey
    gap_ns: int | None
    exchange_ns: int
    old_digest: str
    new_digest: str


class PendingSwap:
    """A swap that was asked for."""

    def __init__(self, detector: Detector) -> None:
        """Not applied yet."""
        self.detector = detector
        self.replaced: Detector | None = None  # set before it is said to be applied
        self._applied = threading.Event()

    def wait_applied(self, timeout_s: float) -> bool:
        """Wait for the exchange; False where it did not happen in time."""
        return self._applied.wait(timeout_s)

    def mark_applied(self) -> None:
        """Say that the exchange has happened. The thread that detects holds the replaced detector no more."""
        self._applied.set()

    def end_replaced(self) -> None:
        """End the replaced detector, on the calling thread, the one that asked for the swap.

        To destroy a session takes as long as an inference, and its memory can be given back once it is gone.
        That this object is still in the hands of the thread that detects must not put it off to there.
        """
        self.replaced = None


def prepare(
    model: ModelFile,
    options: DetectorOptions,
    *,
    timeout_s: float,
    stopping: threading.Event,
    memory_bytes: int = MEMORY_BYTES,
) -> Detector:
    """Check the model in a child process, then load and warm it here. Not for the thread that detects.

    Raises:
        ModelRefusedError: it failed its check.
        TrafficVisionError: it passed there and does not load here.
    """
    began = time.monotonic_ns()
    check_in_child(model, options, timeout_s=timeout_s, stopping=stopping, memory_bytes=memory_bytes)
    checked = time.monotonic_ns()
    with lowered():
        detector = Detector(model, options)
    check_ns, load_ns = checked - began, time.monotonic_ns() - checked
    logger.info(
        "model %s passed its check in %.1f s, and is loaded and warm after another %.1f s",
        model.digest[:12],
        check_ns / 1e9,
        load_ns / 1e9,
        extra={
            "event": "model_prepared",
            "model": model.digest,
            "check_ns": check_ns,
            "load_ns": load_ns,
        },
    )
    return detector


class SwappableDetector:
    """A detector whose model changes between two frames.

    `detect`, `between_frames`, `replace` and `published` are for the one thread that detects.
    """

    def __init__(self, detector: Detector, *, requested: Callable[[], None] = lambda: None) -> None:
        """Begin with a detector.

        Args:
            detector: loaded and warm.
            requested: called when a swap was asked for, to wake the thread that detects.
        """
        self._active = detector
        self._requested = requested
        self._lock = threading.Lock()
        self._pending: PendingSwap | None = None
        self._last: tuple[FrameKey, int] | None = None
        # What the report of an exchange still waits for: the new model's first publication.
        self._exchanged: tuple[str, tuple[FrameKey, int] | None, int] | None = None

    @property
    def active(self) -> Detector:
        """The detector that answers now."""
        return self._active

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """As `Detector.detect`."""
        return self._active.detect(image)

    def request(self, detector: Detector) -> PendingSwap:
        """Ask for an exchange between two frames. From any thread.

        Raises:
            RuntimeError: another one is pending, a defect: changes of model are made one at a time.
        """
        with self._lock:
            if self._pending is not None:
                raise RuntimeError("a swap was requested while another is pending")
            pending = self._pending = PendingSwap(detector)
        self._requested()
        return pending

    def withdraw(self, pending: PendingSwap) -> bool:
        """Take a request back; False where it is too late and the exchange has happened."""
        with self._lock:
            if self._pending is not pending:
                return False
            self._pending = None
            return True

    def between_frames(self) -> bool:
        """Exchange the detector if that was asked for; says whether it did."""
        if self._pending is None:  # read without the lock: this comes with every frame
            return False
        started = time.perf_counter_ns()
        with self._lock:
            pending, self._pending = self._pending, None
        if pending is None:
            return False
        # Two exchanges without a publication between them are one to whoever sees publications.
        old = self._exchanged[0] if self._exchanged else self._active.model.digest
        pending.replaced, self._active = self._active, pending.detector  # no name here keeps it
        self._exchanged = (old, self._last, time.perf_counter_ns() - started)
        pending.mark_applied()
        return True

    def replace(self, detector: Detector) -> None:
        """Put the same model's new session in the place of one that broke."""
        self._active = detector

    def published(self, frame: FrameKey, now_ns: int) -> SwapReport | None:
        """Note a publication; gives the report when it is the first one after an exchange."""
        exchanged, self._exchanged = self._exchanged, None
        self._last = (frame, now_ns)
        if exchanged is None:
            return None
        old, before, exchange_ns = exchanged
        return SwapReport(
            frame_before=before[0] if before else None,
            frame_after=frame,
            gap_ns=now_ns - before[1] if before else None,
            exchange_ns=exchange_ns,
            old_digest=old,
            new_digest=self._active.model.digest,
        )
