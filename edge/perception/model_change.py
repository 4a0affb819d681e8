"""A change of the running model, from its bytes to its first frame: one at a time, refused with a reason."""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from edge.errors import TrafficVisionError
from edge.logs import Repeated
from edge.machine.memory import give_back
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.hot_swap import SwappableDetector, prepare
from edge.perception.model_child import ModelRefusedError
from edge.perception.model_file import ModelFile

logger = logging.getLogger(__name__)

# Between two frames there is at most one inference; a loop that does not come round in that time is stuck.
EXCHANGE_TIMEOUT_S = 30.0
_POLL_S = 0.2


class ChangeOutcome(enum.Enum):
    """What came of a wish for another model."""

    SWAPPED = "swapped"
    ALREADY_ACTIVE = "already_active"
    REFUSED = "refused"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """What came of it, and why.

    Attributes:
        outcome: what.
        active: the model that runs after it.
        detail: why, for people; empty where the outcome says all.
        is_final: of a refusal: the model itself failed its check, and would fail again. False: something else
            was in the way (the daemon stops, inference hangs, a time-out), and nothing is said of the model.
    """

    outcome: ChangeOutcome
    active: ModelFile
    detail: str = ""
    is_final: bool = False


class Prepare(Protocol):
    """How a model is made ready; `edge.perception.hot_swap.prepare`."""

    def __call__(
        self, model: ModelFile, options: DetectorOptions, /, *, timeout_s: float, stopping: threading.Event
    ) -> Detector: ...


class ModelChanger:
    """Makes changes of the model, for whoever wants one: a local client, an update, a fall-back."""

    def __init__(
        self,
        detector: SwappableDetector,
        options: DetectorOptions,
        *,
        check_timeout_s: float,
        prepare: Prepare = prepare,
        keep_frames: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """For the detector of one frame loop.

        Args:
            detector: whose model changes.
            options: how every model runs here.
            check_timeout_s: of the check in a child process.
            prepare: makes a model ready.
            keep_frames: has frames wait rather than be superseded meanwhile.
        """
        self.keep_frames = keep_frames  # for who reads a model first
        self._refusals = Repeated(logger, logging.WARNING)
        self._detector = detector
        self._options = options
        self._check_timeout_s = check_timeout_s
        self._prepare = prepare
        self._one_at_a_time = threading.Lock()
        self._stopping = threading.Event()

    @property
    def active(self) -> ModelFile:
        """The model that runs now."""
        return self._detector.active.model

    def change(self, model: ModelFile) -> ChangeResult:
        """Check the model, load it, and put it between two frames. Returns when it is there, or refused.

        Takes seconds, with some providers minutes; the old model runs meanwhile. Not for the thread that
        detects.
        """
        if not self._one_at_a_time.acquire(blocking=False):
            return self._result(ChangeOutcome.BUSY, "another change of model is under way")
        try:
            with self.keep_frames():
                return self._change(model)
        finally:
            give_back()
            self._one_at_a_time.release()

    def stop(self) -> None:
        """Refuse what is under way and whatever comes."""
        self._stopping.set()

    def _change(self, model: ModelFile) -> ChangeResult:
        if model.digest == self.active.digest:
            return self._result(ChangeOutcome.ALREADY_ACTIVE)
        try:
            detector = self._prepare(
                model, self._options, timeout_s=self._check_timeout_s, stopping=self._stopping
            )
        except ModelRefusedError as error:
            return self._refused(model, str(error), is_final=error.is_final)
        except TrafficVisionError as error:  # it passed its check: what is missing is room for two
            return self._refused(model, str(error))
        reason = self._exchange(detector)
        return self._refused(model, reason) if reason else self._result(ChangeOutcome.SWAPPED)

    def _exchange(self, detector: Detector) -> str:
        """Put it between two frames; says why it could not be, or nothing."""
        pending = self._detector.request(detector)
        deadline = time.monotonic() + EXCHANGE_TIMEOUT_S
        reason = ""
        while not reason and not pending.wait_applied(_POLL_S):
            if self._stopping.is_set():
                reason = "the daemon stops"
            elif time.monotonic() > deadline:
                reason = f"no frame was finished in {EXCHANGE_TIMEOUT_S:g} s: inference hangs"
        if reason and self._detector.withdraw(pending):
            return reason
        # Taken back too late, it has happened, or does at this moment.
        if not reason or pending.wait_applied(EXCHANGE_TIMEOUT_S):
            pending.end_replaced()
        return ""

    def _refused(self, model: ModelFile, reason: str, *, is_final: bool = False) -> ChangeResult:
        self._refusals.log(
            "model %s refused, the old one goes on: %s",
            model.digest[:12],
            reason,
            extra={"event": "model_refused", "model": model.digest},
            key=model.digest,
        )
        return self._result(ChangeOutcome.REFUSED, reason, is_final=is_final)

    def _result(self, outcome: ChangeOutcome, detail: str = "", *, is_final: bool = False) -> ChangeResult:
        return ChangeResult(outcome, self.active, detail, is_final)
