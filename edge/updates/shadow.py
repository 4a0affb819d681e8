"""A candidate in shadow: shown every so-manieth frame beside the active model, judged, never published.

An observer of frames on the frame loop's side, where it only counts and leaves a frame for the child process
(`edge.perception.shadow_process`); begun, looked at and ended by the updates' thread. After a restart of the
daemon a shadow goes on from what is kept of it (`edge.updates.shadow_progress`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge.drift.features import NAMES
from edge.frames.frame import Frame
from edge.messages import model_ref_of
from edge.perception.detector import DetectorOptions
from edge.perception.model_file import ModelFile
from edge.perception.shadow_process import Offer, ShadowFrame, ShadowLimits, ShadowProcess
from edge.publication import Publication
from edge.updates.frame_records import FrameRecord
from edge.updates.own_reference import known_features
from edge.updates.probation import KnownFeatures, drift_failure
from edge.updates.shadow_answer import AnswerError, read_answer
from edge.updates.shadow_progress import Progress
from edge.updates.shadow_rules import ShadowTally, ShadowTerms, early_failure, failure, is_over
from edge.updates.shadow_turns import Turns
from edge.vehicle_state.drive_time import DriveTime
from protos.traffic_vision.v1 import common_pb2

logger = logging.getLogger(__name__)

_JOIN_S = 5.0
_MOST_CAMERAS = 64


class FeatureKeeper(Protocol):
    """Keeps what candidates find, for when they are put in. What it does may take as long as a disk does."""

    def begin(self, model: str) -> None:
        """A candidate, by its digest, is in shadow from now on."""

    def add(self, model: str, camera: str, time_ns: int, features: npt.NDArray[np.float32]) -> None:
        """It has looked at a frame of a moving vehicle: its drift features, NaN where not to be had."""

    def passed(self) -> None:
        """Its shadow has ended well."""

    def forget(self) -> None:
        """Neither this candidate nor the one that has passed will be put in."""


@dataclass(frozen=True, slots=True)
class ShadowVerdict:
    """How a shadow ended.

    Attributes:
        reason: why it failed, for people; empty: it passed.
        is_final: the candidate's own fault; False: something else was in the way.
    """

    reason: str
    is_final: bool = True


@dataclass(slots=True, eq=False)
class _Run:
    """One candidate's shadow, on top of what earlier runs came to. `lock` guards what changes."""

    model: ModelFile
    active: str
    driven_s: float
    known: KnownFeatures
    terms: ShadowTerms
    process: ShadowProcess
    lock: threading.Lock
    drive: DriveTime
    tally: ShadowTally
    turns: Turns

    @property
    def drive_s(self) -> float:
        """Driven so far, seconds."""
        return self.driven_s + self.drive.seconds


class Shadow:
    """Runs one candidate at a time. A `FrameObserver`, behind the vehicle's."""

    name = "shadow"

    def __init__(
        self,
        options: DetectorOptions,
        parked: Callable[[str], bool] = lambda camera: False,
        *,
        moving: Callable[[str], bool] = lambda camera: True,
        keeper: FeatureKeeper | None = None,
        memory_bytes: int = 2_000_000_000,
        start_s: float = 900.0,
        hang_s: float = 120.0,
        hang_cpu_s: float = 30.0,
    ) -> None:
        """None runs.

        Args:
            options: how models run here.
            parked: whether the vehicle is, as far as a camera is concerned.
            moving: whether it moves just now, as far as a camera is concerned.
            keeper: keeps what candidates find; None: nobody does.
            memory_bytes: that a candidate may hold.
            start_s: that it may take to load.
            hang_s: that it may take for a frame.
            hang_cpu_s: that it may take for a frame, of CPU time.
        """
        self._options = options
        self._parked = parked
        self._moving = moving
        self._keeper = keeper
        self._limits = (memory_bytes, start_s, hang_s, hang_cpu_s)
        self._run: _Run | None = None
        self._report: common_pb2.ShadowReport | None = None

    @property
    def digest(self) -> str:
        """Of the candidate that runs; empty: none does."""
        run = self._run
        return "" if run is None else run.model.digest

    def observe(self, frame: Frame, published: Publication) -> None:
        """Show a frame to the candidate, if it is its turn and it can take it."""
        run = self._run
        if run is None:
            return
        parked = self._parked(frame.camera)
        digest = published.detections.model_digest
        record = FrameRecord(digest, frame.camera, frame.captured_ns, parked, "", 0.0, 0)
        with run.lock:
            run.drive.add(record.camera, record.time_ns, parked=record.parked)
            if parked:
                return
            if not run.turns.is_next(frame.camera):
                return
        boxes = frame.to_part(published.detections.boxes)
        moving, classes = self._moving(frame.camera), published.model.class_names
        offered = run.process.offer(
            ShadowFrame(frame.camera, frame.captured_ns, frame.part, boxes, classes, moving)
        )
        with run.lock:
            if offered is Offer.TAKEN:
                run.turns.shown(frame.camera)
            run.tally.over_budget += offered is Offer.OVER_BUDGET
            run.tally.busy += offered is Offer.BUSY

    def begin(self, model: ModelFile, terms: ShadowTerms, progress: Progress) -> None:
        """Start a candidate, which goes on from its progress. None runs."""
        limits = ShadowLimits(terms.cpu_share, *self._limits)
        lock, tally = threading.Lock(), progress.tally
        known = known_features(model) if terms.no_drift_alarm else frozenset()

        def answered(frame: ShadowFrame, answer: Mapping[str, Any]) -> None:
            with lock:
                features = _take(tally, answer, model.digest)
            if self._keeper is not None and features is not None and frame.moving:
                self._keeper.add(model.digest, frame.camera, frame.time_ns, features)

        if self._keeper is not None:
            self._keeper.begin(model.digest)
        process = ShadowProcess(model, self._options, limits, answered)
        turns, before = Turns(terms.every_frames), (progress.active, progress.drive_s)
        self._run = _Run(model, *before, known, terms, process, lock, DriveTime(), tally, turns)
        process.start()
        logger.info(
            "model %s runs in shadow: %.0f of %.0f s of driving, every %d frames, %.0f %% of a core",
            model.digest[:12],
            progress.drive_s,
            terms.seconds,
            terms.every_frames,
            100 * terms.cpu_share,
            extra={"event": "shadow_begun", "model": model.digest},
        )

    def is_over(self) -> bool:
        """Whether a look would find that it has ended. From any thread."""
        run = self._run
        if run is None:
            return False
        if run.process.end is not None:
            return True
        with run.lock:
            return is_over(run.terms, run.drive_s, run.tally) or bool(early_failure(run.tally))

    def look(self) -> ShadowVerdict | None:
        """How it ended, and then nothing runs any more; None: it goes on, or nothing runs."""
        run = self._run
        if run is None:
            return None
        end = run.process.end
        if end is not None:
            return self._ended(run, ShadowVerdict(end.reason, end.is_final))
        with run.lock:
            reason = early_failure(run.tally)
            over = is_over(run.terms, run.drive_s, run.tally)
            if over and not reason:
                reason = failure(run.terms, run.tally, run.model.digest, run.known)
        return self._ended(run, ShadowVerdict(reason)) if over or reason else None

    def end(self, outcome: common_pb2.TrialOutcome, detail: str = "") -> None:
        """End what runs, if something does."""
        run = self._run
        if run is None:
            return
        self._report = self._report_of(run, outcome, detail)
        self._run = None
        run.process.stop()
        if not run.process.join(_JOIN_S):
            logger.error("the shadow did not end in time", extra={"event": "hangs", "part": self.name})
        if self._keeper is not None and outcome == common_pb2.TRIAL_OUTCOME_PASSED:
            self._keeper.passed()
        else:
            self.forget()
        logger.info(
            "the shadow of model %s is over%s",
            run.model.digest[:12],
            f": {detail}" if detail else "",
            extra={"event": "shadow_ended", "model": run.model.digest, "outcome": outcome},
        )

    def progress(self) -> Progress | None:
        """What the shadow under way has come to, for a later run to go on from; None: none is."""
        run = self._run
        if run is None:
            return None
        with run.lock:
            tally = replace(run.tally, classes=dict(run.tally.classes), drift={})
            if run.terms.no_drift_alarm and not tally.drifted:
                tally.drifted = drift_failure(run.tally.drift.values(), run.model.digest, run.known)
            return Progress(run.model.digest, run.active, run.drive_s, tally)

    def forget(self) -> None:
        """No candidate that was in shadow will be put in."""
        if self._keeper is not None:
            self._keeper.forget()

    def report(self) -> common_pb2.ShadowReport | None:
        """How the shadow under way is doing, or how the last one ended; None before the first."""
        run = self._run
        if run is None:
            return self._report
        return self._report_of(run, common_pb2.TRIAL_OUTCOME_UNDER_WAY, "")

    def _ended(self, run: _Run, verdict: ShadowVerdict) -> ShadowVerdict:
        outcome = common_pb2.TRIAL_OUTCOME_PASSED
        if verdict.reason:
            outcome = (
                common_pb2.TRIAL_OUTCOME_FAILED if verdict.is_final else common_pb2.TRIAL_OUTCOME_BROKEN_OFF
            )
        self.end(outcome, verdict.reason)
        return verdict

    @staticmethod
    def _report_of(run: _Run, outcome: common_pb2.TrialOutcome, detail: str) -> common_pb2.ShadowReport:
        with run.lock:
            tally = run.tally
            report = common_pb2.ShadowReport(
                model=model_ref_of(run.model),
                outcome=outcome,
                drive_s=run.drive_s,
                needed_drive_s=run.terms.seconds,
                compared_frames=tally.compared,
                over_budget_frames=tally.over_budget,
                busy_frames=tally.busy,
                error_frames=tally.errors,
                cpu_share=run.process.cpu_share(),
                most_cpu_share=run.terms.cpu_share,
                drift=tally.drift.values(),
                inference_p99_ms=tally.latency_p99_ms(),
                resident_bytes=run.process.resident_bytes,
                detail=detail,
            )
            classes = [("", tally.total), *sorted(tally.classes.items())]
        for name, one in classes:
            report.agreement.add(
                class_name=name,
                active_detections=one.active,
                candidate_detections=one.candidate,
                matched_detections=one.matched,
                f1_share=one.f1,
                mean_difference_score=one.mean_score_difference,
            )
        return report


def _take(tally: ShadowTally, answer: Mapping[str, Any], digest: str) -> npt.NDArray[np.float32] | None:
    """Add what the child said of a frame, and give its features; what makes no sense is its error."""
    if "error" in answer:
        tally.error(str(answer["error"])[:500])
        return None
    try:
        said = read_answer(answer, len(NAMES))
    except AnswerError as error:
        tally.error(str(error)[:500])
        return None
    tally.add(said.classes, said.latency_ms)
    drift = said.drift
    if drift is not None and (drift.camera in tally.drift or len(tally.drift) < _MOST_CAMERAS):
        drift.model.sha256 = digest
        tally.drift[drift.camera] = drift
    return said.features
