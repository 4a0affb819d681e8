"""The model that runs is watched: a probation ends well or badly, and a model that fails makes place.

on probation, and passed    it is confirmed
on probation, and failed    the last good one is put in, then the probation reverts: this one is bad. What
                            failing is: `edge.updates.probation`
on probation, and withdrawn the last good one is put in, and the slot is given up: nothing is called bad
on probation, and hanging   no frame comes between which another one could be put in: the probation reverts,
                            and the daemon ends, to be started anew
confirmed, and crashing     another one is put in until the next start. It is not called bad: it has proved
                            itself, and a device that is gone would condemn one good model after the other
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edge.backoff import Backoff, BackoffOptions
from edge.errors import TrafficVisionError
from edge.parts import Links
from edge.perception.model_change import ChangeOutcome
from edge.perception.model_file import ModelFile, ModelFileError
from edge.updates.errors import UpdateError
from edge.updates.frame_records import FrameRecords
from edge.updates.hang import Hang
from edge.updates.models import SlotModels
from edge.updates.own_reference import known_features
from edge.updates.probation import KnownFeatures, Probation, ProbationRules, frame_totals, terms_of
from edge.updates.report import probation_report
from edge.updates.slot_content import SlotContent
from edge.updates.slot_state import SlotName
from protos.traffic_vision.v1 import common_pb2

logger = logging.getLogger(__name__)

PUT_IN = (ChangeOutcome.SWAPPED, ChangeOutcome.ALREADY_ACTIVE)
BUSY_S = 1.0  # until the next look whether another change of model has ended
LOOK_S = 1.0  # between two looks at a model on probation
STUCK = BackoffOptions(initial_s=2.0, limit_s=300.0)  # where no other model can be put in


@dataclass(frozen=True, slots=True)
class _Failure:
    """A model that must make place; one that is withdrawn has done nothing wrong."""

    digest: str
    reason: str
    is_withdrawn: bool = False


class Watch:
    """Watches what runs. `failed` and `has_work` are for any thread, the rest for one."""

    def __init__(
        self,
        models: SlotModels,
        rules: ProbationRules,
        links: Links,
        stopping: threading.Event,
        records: FrameRecords,
        give_up: Callable[[str], None],
    ) -> None:
        """Nothing is looked at before the first turn; while it stops, no change of model comes to an end.

        `give_up` ends the daemon, with the reason, as a defect of the frame loop does; it returns at once.
        """
        self.set_aside = ""  # why the model that is active in its slot does not run, for people
        self._models = models
        self._rules = rules
        self._links = links
        self._stopping = stopping
        self._records = records
        self._give_up, self._hang = give_up, Hang()
        self._lock = threading.Lock()
        self._failure: _Failure | None = None
        self._probation: Probation | None = None
        self._report: common_pb2.ProbationReport | None = None
        self._gave_up: set[str] = set()  # models that were taken out in this run of the daemon
        self._stuck = Backoff(STUCK)
        self._stuck_with, self._stuck_until_s = "", 0.0  # the digest that nothing could replace

    def failed(self, digest: str, reason: str) -> None:
        """The running model must make place. Returns at once.

        Not where nothing could take its place a moment ago: it is told again as it crashes on, and meanwhile
        the release that mends it is fetched.
        """
        with self._lock:
            if digest != self._stuck_with or time.monotonic() >= self._stuck_until_s:
                self._failure = _Failure(digest, reason)

    def withdrawn(self, digest: str, reason: str) -> None:
        """The model on probation is taken back by its owner. Returns at once; a failure comes first."""
        with self._lock:
            self._failure = self._failure or _Failure(digest, reason, is_withdrawn=True)

    def has_work(self) -> bool:
        """Whether a turn has something to watch or to act upon."""
        with self._lock:
            has_failed = self._failure is not None
        return has_failed or self._models.slots.state.on_probation

    def report(self) -> common_pb2.ProbationReport | None:
        """How the probation under way is doing, or how the last one ended; None before the first."""
        return self._report

    def turn(self) -> float | None:
        """Look once, and act on what is seen; seconds until the next look, None: there is nothing to watch.

        Raises:
            SlotError: what has happened cannot be kept on disk; the next turn tries again.
        """
        with self._lock:
            failure = self._failure
        if failure is None and self._models.slots.state.on_probation:
            failure = self._look()
            if failure is None and self._models.slots.state.on_probation:
                return LOOK_S
        if failure is None:
            was_on_probation, self._probation = self._probation is not None, None
            return 0.0 if was_on_probation else None
        return self._make_place(failure)

    def pause(self) -> None:
        """The daemon stops in order: what was driven on probation is kept, unless the model has failed.

        Raises:
            SlotError: it cannot be kept on disk.
        """
        with self._lock:
            has_failed = self._failure is not None
        if has_failed:
            return
        probation = self._probation
        self._models.pause(*((0, 0) if probation is None else probation.in_this_run))

    def _look(self) -> _Failure | None:
        """Look at the model on probation; its failure, if it has failed."""
        active = self._models.slots.active()
        status = self._links.status()
        if status.model.active.sha256 != active.digest:
            # Changed by hand in the moment between a swap and its note in the slots.
            self._ended(common_pb2.TRIAL_OUTCOME_BROKEN_OFF, "another model was chosen by hand")
            self._models.revert("another model was chosen by hand")
            return None
        hang = self._hang.look(self._links.loop_health(), time.monotonic())
        if hang:
            self._hangs(hang)
            return None
        probation = self._probation
        if probation is None or probation.digest != active.digest:
            probation = self._probation = self._begun(active, status)
        else:
            probation.observe(self._records.take())
        probation.count(frame_totals(status.cameras))
        probation.look_at_drift(status.drift)
        reason = probation.failure()
        over = not reason and probation.over()
        if over:
            reason = probation.failure()  # the last look may have found one
        self._report = probation_report(probation, status.model.active)
        if reason:
            self.failed(active.digest, reason)  # it stays failed until it has made place
        elif over:
            self._ended(common_pb2.TRIAL_OUTCOME_PASSED)
            self._models.confirm()
        with self._lock:
            return self._failure

    def _hangs(self, reason: str) -> None:
        """Revert on disk, for the next start, and have that come soon."""
        self._ended(common_pb2.TRIAL_OUTCOME_FAILED, reason)
        try:
            self._models.revert(reason)
        finally:  # what cannot be kept is a start that counts
            self._give_up(reason)

    def _begun(self, active: SlotContent, status: common_pb2.VehicleStatus) -> Probation:
        promise = active.release.promise if active.release is not None else None
        terms = terms_of(self._rules, promise)
        known = self._known_features(active.slot) if terms.promise.no_drift_alarm else frozenset()
        totals = frame_totals(status.cameras)
        state = self._models.slots.state
        driven = float(state.driven_s), state.driven_frames
        return Probation(active.digest, terms, totals, self._records.take(), known, driven)

    def _known_features(self, slot: SlotName) -> KnownFeatures:
        """The features of detections that the reference in the model's own file knows."""
        try:
            return known_features(self._models.load(slot))
        except (UpdateError, ModelFileError) as error:
            logger.warning("the drift of the model on probation is not judged: %s", error)
            return frozenset()

    def _ended(self, outcome: common_pb2.TrialOutcome, detail: str = "") -> None:
        """Say in the report how the probation under way has ended."""
        if self._report is None or self._report.outcome != common_pb2.TRIAL_OUTCOME_UNDER_WAY:
            return
        ended = common_pb2.ProbationReport()
        ended.CopyFrom(self._report)
        ended.outcome, ended.detail = outcome, detail
        self._report = ended

    def _make_place(self, failure: _Failure) -> float:
        """Put another model in the failed one's place, then note it.

        In this order, a kill in between leaves the failed model on probation, where starts are counted, and
        never an active slot whose model was not loaded.
        """
        with self._links.keep_frames():
            return self._replace(failure)

    def _replace(self, failure: _Failure) -> float:
        if self._links.status().model.active.sha256 == failure.digest:
            for model in self._others(failure.digest):
                result = self._links.change_model(model)
                if result.outcome in PUT_IN:
                    if not failure.is_withdrawn:
                        self._gave_up.add(failure.digest)
                    self._stuck.reset()
                    self._stuck_with = ""
                    break
                if result.outcome is ChangeOutcome.BUSY or self._stopping.is_set():
                    return BUSY_S
            else:
                self._done_with(failure)
                logger.error(
                    "model %s fails, and no other can take its place; it is tried on: %s",
                    failure.digest[:12],
                    failure.reason,
                    extra={"event": "model_stuck", "model": failure.digest},
                )
                return self._give_way(failure)
        self._note(failure)
        self._done_with(failure)
        return 0.0

    def _give_way(self, failure: _Failure) -> float:
        """Nothing can replace it: for a while the turns are free for the release that mends it; seconds."""
        pause_s = self._stuck.next_s()
        if self._models.slots.state.on_probation:
            return pause_s
        with self._lock:
            self._stuck_with, self._stuck_until_s = failure.digest, time.monotonic() + pause_s
        return 0.0

    def _note(self, failure: _Failure) -> None:
        if self._models.slots.active().digest != failure.digest:
            return  # the slots know nothing of its having run
        if self._models.slots.state.on_probation:
            if failure.is_withdrawn:
                self._ended(common_pb2.TRIAL_OUTCOME_BROKEN_OFF, failure.reason)
                self._models.withdraw(failure.reason)
            else:
                self._ended(common_pb2.TRIAL_OUTCOME_FAILED, failure.reason)
                self._models.revert(failure.reason)
            return
        if failure.is_withdrawn:
            return
        self.set_aside = f"model {failure.digest[:12]} is set aside until the next start: {failure.reason}"
        logger.error("%s", self.set_aside, extra={"event": "model_set_aside", "model": failure.digest})

    def _others(self, failed: str) -> Iterator[ModelFile]:
        """Models that may take the failed one's place, the best first; each is read when its turn comes."""
        state = self._models.slots.state
        order: tuple[SlotName, ...] = (state.active, state.last_good, "a", "b", "factory")
        for slot in dict.fromkeys(order):
            if slot != "factory" and (slot == state.candidate or state.release(slot) is None):
                continue
            try:
                digest = self._models.slots.content(slot).digest
                if digest == failed or digest in self._gave_up or digest in state.bad_sha256:
                    continue
                yield self._models.load(slot)
            except TrafficVisionError as error:
                logger.error(
                    "the model in slot %s cannot take over: %s",
                    slot,
                    error,
                    extra={"event": "updates_trouble"},
                )

    def _done_with(self, failure: _Failure) -> None:
        with self._lock:
            if self._failure is failure:
                self._failure = None
