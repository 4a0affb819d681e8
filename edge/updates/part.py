"""Updates as a part of the daemon: one thread that looks for releases, puts them in, and watches them.

    check -> staged -> (shadow) -> change of model -> probation -> confirmed
                 |         |                             |
                 +---------+-> refused                   +-> reverted: the last good model again

One thing at a time, so that nothing has to be undone in the middle: while a model is on probation (`watch`),
nothing is fetched. A transfer may take long, and the server has its length in hand: it is left as soon as a
turn has something else to do, and goes on after that from the bytes that are kept.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import grpc

from edge.backoff import BackoffOptions
from edge.config import UpdatesConfig
from edge.errors import TrafficVisionError
from edge.logs import Repeated
from edge.parts import Links
from edge.perception.model_file import ModelFile
from edge.updates.assigned import Assigned
from edge.updates.client import Progress, UpdateClient, UpdateResult, utc_now
from edge.updates.contact import CloudContact
from edge.updates.download import TransferLimits
from edge.updates.frame_records import FrameRecords
from edge.updates.good_start import GoodStart
from edge.updates.inbox import BUNDLE, ROLLBACK, Answer, Inbox
from edge.updates.look_schedule import RETRY, LookSchedule
from edge.updates.models import SlotModels, Work
from edge.updates.probation import ProbationRules
from edge.updates.putting_in import PuttingIn
from edge.updates.roll_back import grant
from edge.updates.shadow import Shadow
from edge.updates.shadow_stage import ShadowStage
from edge.updates.shown import Shown
from edge.updates.slot_content import SlotContent
from edge.updates.telling import Teller
from edge.updates.watch import Watch
from protos.traffic_vision.v1 import common_pb2, fleet_pb2
from protos.traffic_vision.v1.fleet_pb2_grpc import FleetServiceStub

logger = logging.getLogger(__name__)

CHANGE_RETRY = BackoffOptions(initial_s=5.0, limit_s=3600.0)  # of a model's change, whose check may be long
ALARM_LOOK_S = 60.0  # between two looks whether the metadata has ended
INBOX_LOOK_S = 0.5  # between two looks whether something is to be installed by hand
# A vehicle that was never assigned anything waits so long for a cloud that may, before it takes the newest.
HOLD_S = 60.0


class Updates:
    """The daemon's `UpdatesPart`."""

    def __init__(
        self,
        models: SlotModels,
        config: UpdatesConfig,
        channel: grpc.Channel | None,
        links: Links,
        *,
        records: FrameRecords,
        shadow: Shadow,
        inbox: Inbox | None = None,
        limits: TransferLimits | None = None,
        retry: BackoffOptions = RETRY,
        change_retry: BackoffOptions = CHANGE_RETRY,
        clock: Callable[[], datetime] = utc_now,
        hold_s: float = 0.0,
        good_start: GoodStart | None = None,
    ) -> None:
        """Make ready; nothing is asked before `start`.

        Args:
            models: where releases go; closed when the thread ends.
            config: how often to look, and how long a probation is.
            channel: to the fleet's service; its owner closes it. None: there is no cloud, and what comes
                comes by the inbox.
            links: to the daemon.
            records: of published frames; it is among the observers.
            shadow: where candidates run beside the active model; among the observers too.
            inbox: what is to be installed by hand; None: nothing is.
            limits: how long the server may take.
            retry: between tries to look.
            change_retry: between tries to put a model in, where it is not the model that was in the way.
            clock: the present time, UTC.
            hold_s: how long to wait, after the start, for the cloud's first word about assignments.
            good_start: says when the start has gone well.
        """
        self._models = models
        self._config = config
        self._links = links
        self._has_cloud, self._inbox = channel is not None, inbox
        stub = None if channel is None else FleetServiceStub(channel)
        self._client = UpdateClient(
            stub,
            models.slots,
            limits=limits,
            on_progress=self._progress,
            clock=clock,
            assigned=lambda: self._assigned.counter,
            interrupted=self._comes_first,
            read_model=models.read_file,
        )
        self._stopping = threading.Event()
        self._has_failed = False
        rules = ProbationRules(
            config.probation_s,
            config.probation_frames,
            config.probation_limit_s,
            config.probation_latency_ms,
            config.probation_latency_ratio,
        )
        self._shadow = shadow
        self._watch = Watch(models, rules, links, self._stopping, records, self._give_up)
        self._wake = threading.Event()
        self._schedule = LookSchedule(config.check_interval_s, retry)
        models.on_change(self._wake.set)
        self._assigned = Assigned(models.slots, hold_s if self._has_cloud else 0.0)
        self._shadow_stage = ShadowStage(shadow, models, config, self._assigned.allows)
        models.hold_back(self._why_held_back)
        self._contact = CloudContact(self._has_cloud, clock, self._client.clock_floor)
        self._shown, self._teller = Shown(models), Teller()
        self._good_start = good_start or GoodStart(models)
        # The rest is the thread's own.
        self._putting_in = PuttingIn(
            models, links, self._shadow_stage, self._watch, self._schedule, self._shown, change_retry
        )
        self._troubles, self._defects = Repeated(logger, logging.WARNING), Repeated(logger, logging.ERROR)
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    @property
    def name(self) -> str:
        """For the log."""
        return "updates"

    def start(self) -> None:
        """Start the thread; it looks for a release at once."""
        if self._inbox is not None:
            self._inbox.sweep()
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end. Returns at once; may be called twice.

        A transfer is left soon, a change of model ends with the daemon's `ModelChanger`: whoever owns that
        one stops it before this part is joined.
        """
        self._stopping.set()
        self._models.stop()
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
        if not self._assigned.is_news(release_counter):
            return
        self._schedule.nudge()
        self._wake.set()

    def assign(self, message: fleet_pb2.Assignment | None) -> None:
        """The cloud says which release to have; None: none. From any thread, returns at once."""
        self._assigned.say(message)
        self._wake.set()

    def listen(self, listener: Callable[[common_pb2.ModelState], None]) -> None:
        """Have it told each change of the model's state, and now and then its progress.

        On the updates' thread.
        """
        self._teller.listen(listener)

    def compare_clocks(self, cloud_ahead: Callable[[], timedelta | None]) -> None:
        """Have it asked how far the cloud's clock is ahead of this vehicle's. Before `start`."""
        self._contact.compare_clocks(cloud_ahead)

    def model_failed(self, model: ModelFile, reason: str) -> None:
        """The running model crashed three times within a minute. Returns at once."""
        self._watch.failed(model.digest, f"it crashed three times within a minute: {reason}")
        self._wake.set()

    def loop_failed(self) -> None:
        """The frame loop ended by a defect: what comes is no orderly stop. Returns at once."""
        self._has_failed = True

    def _give_up(self, reason: str) -> None:
        self.loop_failed()
        self._links.give_up(reason)

    def fill_status(self, status: common_pb2.VehicleStatus) -> None:
        """Until when the metadata holds, what is wrong with it or the clock; what is assigned; the trials.

        The rest of the model's state is `SlotModels.fill_state`'s.
        """
        counter = self._assigned.counter
        if counter is not None:
            status.model.assigned_release_counter = counter
        self._contact.fill(status)
        shadow, probation = self._shadow.report(), self._watch.report()
        if shadow is not None:
            status.model.shadow.CopyFrom(shadow)
        if probation is not None:
            status.model.probation.CopyFrom(probation)

    def _run(self) -> None:
        from edge.updates.metadata import cached_expiry  # imports python-tuf

        try:
            slots = self._models.slots
            self._contact.begin(cached_expiry(slots.metadata, slots.vehicle.fleet))
            while True:
                self._wake.clear()  # before the look at `_stopping`, which `stop` sets first
                if self._stopping.is_set():
                    return
                pause_s = self._guarded_turn()
                self._contact.log()
                if self._good_start.is_due:
                    self._note(self._good_start.note)
                self._pause(min(pause_s, ALARM_LOOK_S))
        finally:
            self._shadow_stage.stop()
            if self._stopping.is_set() and not self._has_failed:  # in order
                self._note(self._watch.pause)
            self._models.close()

    def _comes_first(self) -> bool:
        """Whether there is something to do that a transfer must not hold up. From any thread.

        Only what the next turn ends, or waits for without fetching: else no transfer came to an end.
        """
        return (
            self._stopping.is_set()
            or self._watch.has_work()
            or self._assigned.changes()
            or self._shadow.is_over()
            or (self._good_start.is_due and not self._good_start.was_tried)
            or self._given() is not None
        )

    def _note(self, noted: Callable[[], None]) -> None:
        try:
            noted()
        except TrafficVisionError as error:
            self._troubles.log("updates: %s; tried again", error, extra={"event": "updates_trouble"})

    def _pause(self, seconds: float) -> None:
        """Until there is something to do."""
        end = time.monotonic() + seconds
        while (left_s := end - time.monotonic()) > 0 and not self._given():
            if self._wake.wait(left_s if self._inbox is None else min(left_s, INBOX_LOOK_S)):
                return

    def _given(self) -> Path | None:
        return None if self._inbox is None else self._inbox.next()

    def _guarded_turn(self) -> float:
        try:
            return self._turn()
        except (TrafficVisionError, OSError) as error:
            self._troubles.log("updates: %s; tried again", error, extra={"event": "updates_trouble"})
        except Exception:  # noqa: BLE001  # the thread's top: updates must not end for good
            extra = {"event": "updates_failed"}
            self._defects.log("updates: a defect; they go on after a pause", extra=extra, exc_info=True)
        return self._putting_in.try_again()

    def _turn(self) -> float:
        """Do the one thing that comes first; seconds until there may be another."""
        self._take_assignment()
        self._tell()
        shadow_s = self._look_at_shadow()
        given = self._given()
        if given is not None:
            self._install(given)
            return 0.0
        pause_s = self._watch.turn()
        if pause_s is not None:
            self._schedule.within(0.0)  # what is offered meanwhile has waited
            return pause_s
        wait_s = self._schedule.wait_s(self._assigned.hold_until_s)
        if wait_s > 0:
            return min(wait_s, shadow_s)
        if self._has_cloud:
            self._look()
            return 0.0
        self._schedule.within(self._config.check_interval_s)
        candidate = self._models.slots.candidate()
        if candidate is not None:  # staged while no daemon ran
            self._putting_in.put_in(candidate)
        return 0.0

    def _install(self, given: Path) -> None:
        """Install what was given by hand, and say what came of it."""
        assert self._inbox is not None
        answer = Answer(False, "a defect, which is logged")
        try:
            if given.suffix == ROLLBACK:
                with self._links.keep_frames():
                    answer = grant(given, self._models, self._links.change_model)
                return
            by_hand = self._client.install if given.suffix == BUNDLE else self._client.install_unsigned
            result = by_hand(given)
            self._shown.result(result, self._watch.set_aside)
            self._tell()
            if result.staged is None:
                answer = Answer(result.runs_already, result.detail)
            else:
                self._assigned.by_hand = result.staged.digest
                self._putting_in.put_in(result.staged)
                runs = self._models.slots.active().digest == result.staged.digest
                answer = Answer(runs, f"{result.detail}; {self._came_of_it(runs)}")
        finally:
            self._inbox.answer(given, answer)

    def _why_held_back(self, candidate: SlotContent) -> str:
        """Why nobody may put in the candidate by hand, for people; empty: he may. From any thread."""
        release = candidate.release
        named = "the candidate" if release is None else f"release {release.release_counter}"
        if not self._assigned.allows(candidate):
            return f"the cloud does not assign {named}"
        return f"{named} has to be in shadow first" if self._shadow_stage.is_owed(candidate) else ""

    def _came_of_it(self, runs: bool) -> str:
        return "it runs now, on probation" if runs else self._links.status().model.detail or "it waits"

    def _take_assignment(self) -> None:
        """Take over what the cloud has said since the last turn, and end a probation that it takes back."""
        if self._assigned.take():
            self._schedule.nudge()  # something else may be wanted now
        taken_back = self._assigned.taken_back()
        if taken_back is not None:
            self._watch.withdrawn(*taken_back)

    def _look(self) -> None:
        """Look for a release, and put in what is staged."""
        self._schedule.begins()
        result = self._client.check()
        if result.put_off:
            self._put_off(result)
            return
        self._schedule.ended(failed=result.retry)
        self._contact.note(result)
        self._shown.result(result, self._watch.set_aside)
        self._tell()
        content = result.staged
        if content is None and result.retry and result.refusal is None:
            # A cloud that is away does not hold up what was staged before: it is verified without one.
            content = self._models.slots.candidate()
        self._take_assignment()  # it may have come during the download
        if content is not None and self._assigned.allows(content) and not self._stopping.is_set():
            self._putting_in.put_in(content)

    def _put_off(self, result: UpdateResult) -> None:
        """What came first is done now; the next look is soon after."""
        self._schedule.put_off()
        if result.metadata_expires is not None:
            self._contact.note(result)
        self._shown.result(result, self._watch.set_aside)

    def _look_at_shadow(self) -> float:
        """Look how the candidate in shadow does; seconds until the next look."""
        if not self._putting_in.look_at_shadow():
            return self._shadow_stage.pause_s
        self._tell()
        return 0.0

    def _progress(self, progress: Progress) -> None:
        self._models.show(
            Work(progress.phase, progress.release, progress.received_bytes, progress.total_bytes)
        )
        if self._teller.is_news(progress.phase):
            self._tell()

    def _tell(self) -> None:
        self._teller.tell(self._links.status().model)
