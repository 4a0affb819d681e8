"""The one loop from frames to detections, and the thread that runs it.

The newest frame of each camera in turn: too old, or looked at, published, and shown to the observers. Every
frame that is taken leaves under one count. Nothing in here waits for a disk, a network or a client.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from edge.frames.camera import Camera
from edge.frames.capture import Arrival
from edge.frames.frame import Frame, Image
from edge.frames.mailbox import MailboxRow
from edge.frames.outcomes import Outcome
from edge.health import LoopHealth
from edge.logs import Repeated
from edge.perception.crashes import CrashRules
from edge.perception.detector import Detections, Detector, InferenceError, SessionError
from edge.perception.hot_swap import SwappableDetector, SwapReport
from edge.perception.on_demand import Answer, OnDemand, UnavailableError
from edge.publication import Publication

logger = logging.getLogger(__name__)

_TAKE_TIMEOUT_S = 0.5


class FrameObserver(Protocol):
    """Sees every published frame, on the loop's thread, after its publication: what it takes, frames wait.

    An error that it raises is logged and costs the observer that frame alone.
    """

    @property
    def name(self) -> str:
        """For the log."""

    def observe(self, frame: Frame, published: Publication) -> None:
        """Look at a frame and what was published of it. The image is to be read, not to be changed."""


class FrameLoop:
    """Takes frames from the cameras' mailboxes, one after the other, for as long as it is not stopped."""

    def __init__(
        self,
        cameras: Sequence[Camera],
        row: MailboxRow[Arrival],
        detector: SwappableDetector,
        publish: Callable[[Publication], None],
        *,
        observers: Sequence[FrameObserver] = (),
        fallback: Callable[[str], None] = lambda reason: None,
        on_demand: OnDemand | None = None,
        crash_rules: CrashRules | None = None,
    ) -> None:
        """Make ready; `start` starts.

        Args:
            cameras: all of them.
            row: their mailboxes.
            detector: its swaps are applied here.
            publish: takes each frame's detections, without waiting.
            observers: in the order in which they see a frame.
            fallback: told, with the reason, when inference crashed three times within a minute; returns at
                once, and has another model requested of the detector.
            on_demand: single pictures that are looked at between two frames.
            crash_rules: how crashes are answered.
        """
        self._cameras = {camera.config.name: camera for camera in cameras}
        self._row = row
        self._detector = detector
        self._publish = publish
        self._observers = observers
        self._fallback = fallback
        self._on_demand = on_demand or OnDemand()
        self._crash_rules = crash_rules or CrashRules()
        self._restart_at: float | None = None  # monotonic seconds; set while inference is down
        self._restarts = 0
        self._stepped_ns = time.monotonic_ns()
        self._fruitless_since_ns: int | None = None
        self._taken_ns: int | None = None
        self._down_since_ns: int | None = None
        self._inference_errors = Repeated(logger, logging.WARNING)
        self._downs, self._ups = Repeated(logger, logging.ERROR), Repeated(logger, logging.INFO)
        self._defects = Repeated(logger, logging.ERROR)
        self._observer_errors = {observer.name: Repeated(logger, logging.ERROR) for observer in observers}
        self._stopping = threading.Event()
        self._failed: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="frame-loop", daemon=True)

    def start(self, *, failed: Callable[[], None]) -> None:
        """Start the thread; `failed` is called should it end by a defect."""
        self._failed = failed
        self._thread.start()

    def stop(self) -> None:
        """End after the frame in hand."""
        self._stopping.set()
        self._row.wake()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; False where it hangs."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def health(self) -> LoopHealth:
        """How it is now. From any thread."""
        return LoopHealth(
            is_running=self._thread.is_alive() and not self._stopping.is_set(),
            stepped_ns=self._stepped_ns,
            fruitless_since_ns=self._fruitless_since_ns,
            taken_ns=self._taken_ns,
            down_since_ns=self._down_since_ns,
            restarts=self._restarts,
        )

    def step(self, timeout_s: float) -> None:
        """Apply a swap that was asked for, answer one frame if one comes in time, then one single picture."""
        self._stepped_ns = time.monotonic_ns()
        self._exchange()
        if self._restart_at is not None and not self._restart(timeout_s):
            self._refuse_on_demand()
            return
        taken = self._row.take(timeout_s)
        if taken is None:
            # Who wants another model, or asks about a picture, cuts the wait short. The exchange comes first,
            # and then a frame that came meanwhile: asking without pause must not cost it its turn.
            self._exchange()
            taken = self._row.take(0)
        if taken is not None:
            name, arrival = taken
            self._answer(self._cameras[name], arrival)
        if self._restart_at is None:
            self._answer_on_demand()

    def _exchange(self) -> None:
        if self._detector.between_frames():
            self._crash_rules.another_model()
            self._up_again()
            for told in (self._downs, self._ups, self._defects):
                told.reset()  # of another model

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self.step(_TAKE_TIMEOUT_S)
        except Exception:  # the thread's top
            logger.exception("the frame loop failed", extra={"event": "frame_loop_failed"})
            self._failed()

    def _answer(self, camera: Camera, arrival: Arrival) -> None:
        started_ns = self._taken_ns = time.monotonic_ns()
        if self._fruitless_since_ns is None:
            self._fruitless_since_ns = started_ns
        limit_ns = camera.stale_after_ns
        if limit_ns is not None and started_ns - arrival.arrived_ns > limit_ns:
            camera.counts.left(Outcome.STALE)
            return
        found = self._detect(arrival.frame)
        if found is None:
            camera.counts.left(Outcome.INFERENCE_ERROR)
            return
        self._fruitless_since_ns = None
        published = self._pass_on(camera, arrival, found, started_ns)
        camera.counts.left(Outcome.PUBLISHED)
        for observer in self._observers:
            self._show(observer, arrival.frame, published)

    def _answer_on_demand(self) -> None:
        question = self._on_demand.take()
        if question is None:
            return
        try:
            found = self._infer(question.image)
        except InferenceError as error:
            question.refused(error)
            return
        if found is None:
            question.refused(UnavailableError("inference broke down"))
        else:
            question.answered(Answer(found, self._detector.active.model))

    def _refuse_on_demand(self) -> None:
        question = self._on_demand.take()
        if question is not None:
            question.refused(UnavailableError("inference is down, and is started again by itself"))

    def _detect(self, frame: Frame) -> Detections | None:
        try:
            found = self._infer(frame.part)
        except InferenceError as error:
            self._inference_errors.log("camera %s, frame %d: %s", frame.camera, frame.sequence, error)
            return None
        return None if found is None else replace(found, boxes=frame.to_whole(found.boxes))

    def _infer(self, image: Image) -> Detections | None:
        """Look at a picture; None where inference broke down over it, and is to be started again.

        Raises:
            InferenceError: the picture's fault, or an output that makes no sense.
        """
        try:
            return self._detector.detect(image)
        except SessionError as error:
            self._crashed(str(error))
        except InferenceError:
            raise
        except Exception as error:  # noqa: BLE001  # inference's boundary: whatever it throws costs this picture
            self._defects.log("inference crashed", extra={"event": "inference_crashed"}, exc_info=True)
            self._crashed(f"{type(error).__name__}: {error}")
        return None

    def _pass_on(self, camera: Camera, arrival: Arrival, found: Detections, started_ns: int) -> Publication:
        frame = arrival.frame
        now_ns = time.monotonic_ns()
        age_ns = now_ns - arrival.arrived_ns
        publication = Publication(
            key=frame.key,
            captured_ns=frame.captured_ns,
            is_live=camera.capture.is_live,
            height=frame.image.shape[0],
            width=frame.image.shape[1],
            detections=found,
            model=self._detector.active.model.metadata,
            wait_ns=started_ns - arrival.arrived_ns,
            age_ns=age_ns,
            published_ns=now_ns,
        )
        self._publish(publication)
        camera.ages.add(age_ns, now_ns=now_ns)
        report = self._detector.published(frame.key, now_ns)
        if report is not None:
            _log_swap(report)
        return publication

    def _show(self, observer: FrameObserver, frame: Frame, published: Publication) -> None:
        try:
            observer.observe(frame, published)
        except Exception as error:  # each observer's boundary
            logger.debug("observer %s failed", observer.name, exc_info=True)
            self._observer_errors[observer.name].log(
                "observer %s failed on camera %s, frame %d: %s: %s",
                observer.name,
                frame.camera,
                frame.sequence,
                type(error).__name__,
                error,
            )

    def _crashed(self, reason: str) -> None:
        wait_s, too_many = self._crash_rules.crashed(time.monotonic())
        self._restart_at = time.monotonic() + wait_s
        if self._down_since_ns is None:
            self._down_since_ns = time.monotonic_ns()
        self._downs.log(
            "inference is down, to be started again in %.1f s: %s",
            wait_s,
            reason,
            extra={"event": "inference_down"},
        )
        if too_many:
            self._fallback(reason)

    def _restart(self, timeout_s: float) -> bool:
        """Start inference again once it is time; frames wait in their mailboxes meanwhile."""
        assert self._restart_at is not None
        left_s = self._restart_at - time.monotonic()
        if left_s > 0:
            self._row.pause(min(left_s, timeout_s))
            return False
        broken = self._detector.active
        try:
            self._detector.replace(Detector(broken.model, broken.options))
        except Exception as error:  # noqa: BLE001  # inference's boundary, as above
            extra = {"event": "inference_crashed"}
            self._defects.log("inference could not be started", extra=extra, exc_info=True)
            self._crashed(f"{type(error).__name__}: {error}")
            return False
        self._up_again()
        self._restarts += 1
        self._ups.log("inference is up again", extra={"event": "inference_up"})
        return True

    def _up_again(self) -> None:
        self._restart_at = self._down_since_ns = self._fruitless_since_ns = None


def _log_swap(report: SwapReport) -> None:
    logger.info(
        "model %s answers from camera %s, frame %d on",
        report.new_digest[:12],
        report.frame_after.camera,
        report.frame_after.sequence,
        extra={
            "event": "model_swapped",
            "old": report.old_digest,
            "new": report.new_digest,
            "frame_before": report.frame_before,
            "frame_after": report.frame_after,
            "gap_ns": report.gap_ns,
            "exchange_ns": report.exchange_ns,
        },
    )
