"""Updates as a part of the daemon: one thread that looks for releases, puts them in, and watches them.

    check -> staged -> (shadow) -> change of model -> probation -> confirmed
                 |         |                             |
                 +---------+-> refused                   +-> reverted: the last good model again

One thing at a time, so that nothing has to be undone in the middle: while a model is on probation (`watch`),
nothing is fetched.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from datetime import datetime

import grpc

from edge.backoff import Backoff, BackoffOptions
from edge.config import UpdatesConfig
from edge.errors import TrafficVisionError
from edge.parts import Links
from edge.perception.model_change import ChangeOutcome
from edge.perception.model_file import ModelFile, ModelFileError
from edge.updates.client import Progress, UpdateClient, UpdateResult
from edge.updates.download import TransferLimits
from edge.updates.errors import Refusal
from edge.updates.frame_records import FrameRecords
from edge.updates.models import SlotModels, Work, log_release
from edge.updates.probation import ProbationRules
from edge.updates.shadow import Shadow
from edge.updates.shadow_rules import shadow_terms
from edge.updates.slots import SlotContent
from edge.updates.watch import BUSY_S, LOOK_S, PUT_IN, Watch
from protos.release_facts import ReleaseFacts
from protos.traffic_vision.v1 import common_pb2
from protos.traffic_vision.v1.fleet_pb2_grpc import FleetServiceStub

logger = logging.getLogger(__name__)

RETRY = BackoffOptions(initial_s=1.0, limit_s=300.0)  # of a check: the cloud is away
CHANGE_RETRY = BackoffOptions(
    initial_s=5.0, limit_s=3600.0
)  # of a change of model, whose check may take long
_JITTER = 0.1  # of the interval, either way, so that a fleet does not march
_SHADOW_TRIES = 3  # of a shadow that something from outside ends: in the end it is the candidate's fault
_PROGRESS_S = 30.0  # between two reports of a trial that goes on
_LEAST_PAUSE_S = 1.0  # between two checks, however often the cloud nudges
_CHANCE = random.SystemRandom()


class Updates:
    """The daemon's `UpdatesPart`."""

    def __init__(
        self,
        models: SlotModels,
        config: UpdatesConfig,
        channel: grpc.Channel,
        links: Links,
        *,
        records: FrameRecords,
        shadow: Shadow,
        limits: TransferLimits | None = None,
        retry: BackoffOptions = RETRY,
        change_retry: BackoffOptions = CHANGE_RETRY,
    ) -> None:
        """Make ready; nothing is asked before `start`.

        Args:
            models: where releases go; closed when the thread ends.
            config: how often to look, and how long a probation is.
            channel: to the fleet's service. Its owner closes it, which ends an RPC that hangs.
            links: to the daemon.
            records: of published frames; it is among the observers.
            shadow: where candidates run beside the active model; among the observers too.
            limits: how long the server may take.
            retry: between tries to look.
            change_retry: between tries to put a model in, where it is not the model that was in the way.
        """
        self._models = models
        self._config = config
        self._links = links
        self._client = UpdateClient(
            FleetServiceStub(channel), models.slots, limits=limits, on_progress=self._progress
        )
        self._stopping = threading.Event()
        rules = ProbationRules(
            config.probation_s,
            config.probation_frames,
            config.probation_limit_s,
            config.probation_latency_ms,
            config.probation_latency_ratio,
        )
        self._shadow = shadow
        self._shadow_passed = ""  # the digest of the candidate that may be put in
        self._watch = Watch(models, rules, links, self._stopping, records)
        self._wake = threading.Event()
        self._nudged = threading.Event()
        models.on_change(self._wake.set)
        self._lock = threading.Lock()  # guards the next two
        self._listeners: list[Callable[[common_pb2.ModelState], None]] = []
        self._expires: datetime | None = None
        # The rest is the thread's own.
        self._retry = Backoff(retry)
        self._change_retry = Backoff(change_retry)
        self._check_at_s = self._last_check_s = 0.0  # monotonic; the first check is due at once
        self._shadow_troubles = 0  # of the candidate in shadow, that were not called its fault
        self._staged = self._refused = ""  # the digest and the reason that were logged last
        self._told: common_pb2.ModelState | None = None
        self._told_whole = b""
        self._tell_progress_s = 0.0  # monotonic
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    @property
    def name(self) -> str:
        """For the log."""
        return "updates"

    def start(self) -> None:
        """Start the thread; it looks for a release at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end. Returns at once; may be called twice.

        An RPC ends with its channel, a change of model with the daemon's `ModelChanger`: whoever owns these
        stops them before this part is joined.
        """
        self._stopping.set()
        self._wake.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread, which closes the slots as it ends; False where it hangs."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def nudge(self, release_counter: int) -> None:
        """Look soon: there may be this release, or, at 0, any. From any thread, returns at once."""
        if release_counter and release_counter <= self._models.newest_counter:
            return
        self._nudged.set()
        self._wake.set()

    def listen(self, listener: Callable[[common_pb2.ModelState], None]) -> None:
        """Have it told each change of the model's state, and now and then its progress.

        On the updates' thread.
        """
        with self._lock:
            self._listeners.append(listener)

    def model_failed(self, model: ModelFile, reason: str) -> None:
        """The running model crashed three times within a minute. Returns at once."""
        self._watch.failed(model.digest, f"it crashed three times within a minute: {reason}")
        self._wake.set()

    def fill_status(self, status: common_pb2.VehicleStatus) -> None:
        """Until when the metadata holds, and the trials; the rest of the model `SlotModels` fills."""
        with self._lock:
            expires = self._expires
        if expires is not None:
            status.metadata_expires_wall_ns = int(expires.timestamp()) * 10**9
        shadow = self._shadow.report()
        if shadow is not None:
            status.model.shadow.CopyFrom(shadow)
        probation = self._watch.report()
        if probation is not None:
            status.model.probation.CopyFrom(probation)

    def _run(self) -> None:
        try:
            while True:
                self._wake.clear()  # before the look at `_stopping`, which `stop` sets first
                if self._stopping.is_set():
                    return
                self._wake.wait(self._guarded_turn())
        finally:
            self._shadow.end(common_pb2.TRIAL_OUTCOME_BROKEN_OFF, "the daemon stops")
            self._models.close()

    def _guarded_turn(self) -> float:
        try:
            return self._turn()
        except (TrafficVisionError, OSError) as error:
            logger.warning("updates: %s; tried again", error, extra={"event": "updates_trouble"})
        except Exception:  # the thread's top: a defect must not end the vehicle's updates for good
            logger.exception("updates: a defect; they go on after a pause", extra={"event": "updates_failed"})
        pause_s = self._change_retry.next_s()
        self._check_in(pause_s)
        return pause_s

    def _turn(self) -> float:
        """Do the one thing that comes first; seconds until there may be another."""
        self._tell()
        shadow_s = self._look_at_shadow()
        pause_s = self._watch.turn()
        if pause_s is not None:
            self._check_in(0.0)  # what is offered meanwhile has waited
            return pause_s
        now_s, due_s = time.monotonic(), self._check_at_s
        if self._nudged.is_set():
            due_s = min(due_s, self._last_check_s + _LEAST_PAUSE_S)
        if now_s < due_s:
            return min(due_s - now_s, shadow_s)
        self._look()
        return 0.0

    def _look(self) -> None:
        """Look for a release, and put in what is staged."""
        self._nudged.clear()
        result = self._client.check()
        self._last_check_s = time.monotonic()
        if result.retry:
            self._check_in(self._retry.next_s())
        else:
            self._retry.reset()
            self._check_in(self._config.check_interval_s * _CHANCE.uniform(1 - _JITTER, 1 + _JITTER))
        if result.metadata_expires is not None:
            with self._lock:
                self._expires = result.metadata_expires
        self._show(result)
        self._tell()
        content = result.staged
        if content is None and result.retry and result.refusal is None:
            # A cloud that is away does not hold up what was staged before: it is verified without one.
            content = self._models.slots.candidate()
        if content is not None and not self._stopping.is_set():
            self._put_in(content)

    def _put_in(self, content: SlotContent) -> None:
        if content.digest != self._staged:
            self._staged = content.digest
            self._change_retry.reset()
            log_release("update_staged", content.release, content.digest, f"is in slot {content.slot}")
        try:
            model = self._models.load(content.slot)
        except ModelFileError as error:  # signed, and no use here
            self._refuse(content, str(error))
            return
        except TrafficVisionError as error:  # damaged since it was staged
            self._models.lose(content.slot, str(error))
            self._check_in(self._change_retry.next_s())  # which fetches it anew
            return
        if not self._shadowed(content, model):
            return
        result = self._links.change_model(model)
        if result.outcome in PUT_IN:
            self._models.activated(common_pb2.SLOT_UNSPECIFIED, model)
            self._watch.set_aside = ""
            self._change_retry.reset()
        elif result.outcome is ChangeOutcome.BUSY:
            self._check_in(BUSY_S)
        elif result.is_final:
            self._refuse(content, result.detail)
        else:  # nothing is said of the model
            self._models.show(Work(detail=result.detail))
            self._check_in(self._change_retry.next_s())

    def _shadowed(self, content: SlotContent, model: ModelFile) -> bool:
        """Whether a candidate has been in shadow as its release asks; else it is, from now on."""
        release = content.release
        if self._shadow.digest != content.digest:
            self._shadow.end(common_pb2.TRIAL_OUTCOME_BROKEN_OFF, "it is no longer the candidate")
        if release is None or release.shadow is None or content.digest == self._shadow_passed:
            return True
        if not self._shadow.digest:
            terms = shadow_terms(
                release.shadow,
                release.promise,
                most_seconds=self._config.probation_limit_s,
                most_cpu_share=self._config.shadow_cpu_share,
            )
            self._shadow.begin(model, terms)
        self._models.show(Work(common_pb2.UPDATE_PHASE_SHADOW, release))
        return False

    def _look_at_shadow(self) -> float:
        """Look how the candidate in shadow does, and act on it; seconds until the next look."""
        digest = self._shadow.digest
        if not digest:
            return math.inf
        content = self._models.slots.candidate()
        if content is None or content.digest != digest:
            self._shadow.end(common_pb2.TRIAL_OUTCOME_BROKEN_OFF, "it is no longer the candidate")
            return math.inf
        verdict = self._shadow.look()
        if verdict is None:
            return LOOK_S
        if not verdict.reason:
            self._shadow_passed = digest
            self._shadow_troubles = 0
            self._put_in(content)
        elif verdict.is_final or self._shadow_troubles >= _SHADOW_TRIES:
            self._refuse(content, verdict.reason)
        else:  # nothing is said of the model; the next check begins anew
            self._shadow_troubles += 1
            self._models.show(Work(detail=verdict.reason))
            self._check_in(self._change_retry.next_s())
        self._tell()
        return 0.0

    def _refuse(self, content: SlotContent, reason: str) -> None:
        self._models.mark_bad(content, reason)
        self._show_refusal(content.release, reason)

    def _show(self, result: UpdateResult) -> None:
        """Show how a check ended. What failed here before is shown with what it failed by."""
        state, offered = self._models.slots.state, result.release
        known = {entry.sha256: entry for entry in state.bad}
        failed = known.get(offered.model_sha256) if offered is not None else None
        if result.refusal is None or (failed is not None and failed == state.reverted):
            self._models.show(Work(detail=result.detail if result.retry else self._watch.set_aside))
        elif result.refusal is Refusal.KNOWN_BAD and failed is not None:
            self._show_refusal(offered, failed.reason)
        else:
            self._show_refusal(offered, result.detail)

    def _show_refusal(self, release: ReleaseFacts | None, reason: str) -> None:
        self._models.show(Work(common_pb2.UPDATE_PHASE_REFUSED, release, detail=reason))
        if reason != self._refused:  # not at each check that finds the same
            self._refused = reason
            digest = release.model_sha256 if release else ""
            log_release("update_refused", release, digest, f"is refused: {reason}", logging.WARNING)

    def _progress(self, progress: Progress) -> None:
        self._models.show(
            Work(progress.phase, progress.release, progress.received_bytes, progress.total_bytes)
        )
        if self._told is None or self._told.phase != progress.phase:
            self._tell()

    def _check_in(self, seconds: float) -> None:
        self._check_at_s = time.monotonic() + seconds

    def _tell(self) -> None:
        """Tell the listeners how the model's state is, if that is new; a trial's progress, now and then."""
        state = self._links.status().model
        shown = _lasting(state)
        now_s = time.monotonic()
        whole = state.SerializeToString(deterministic=True)  # in bytes, a NaN equals itself
        if shown == self._told and (whole == self._told_whole or now_s < self._tell_progress_s):
            return
        self._told, self._told_whole, self._tell_progress_s = shown, whole, now_s + _PROGRESS_S
        with self._lock:
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener(state)


def _lasting(state: common_pb2.ModelState) -> common_pb2.ModelState:
    """The state without what changes with every frame or chunk."""
    shown = common_pb2.ModelState()
    shown.CopyFrom(state)
    shown.ClearField("received_bytes")
    shown.ClearField("total_bytes")
    if state.HasField("shadow"):
        run = state.shadow
        shown.shadow.CopyFrom(
            common_pb2.ShadowReport(model=run.model, outcome=run.outcome, detail=run.detail)
        )
    if state.HasField("probation"):
        trial = state.probation
        shown.probation.CopyFrom(
            common_pb2.ProbationReport(model=trial.model, outcome=trial.outcome, detail=trial.detail)
        )
    return shown
