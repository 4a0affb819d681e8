"""The vehicle's models in their slots, as the daemon asks for them, and what is remembered when one changes.

Which model runs is the frame loop's to say; which one shall run at the next start, the slots'. They differ
for a moment in each change, and for longer in two cases, both until the next start or the next release:
- the factory's model was put in by hand in place of a confirmed one;
- a confirmed model crashed again and again, and the one before it took over (`edge.updates.watch`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.errors import TrafficVisionError
from edge.messages import model_ref_of
from edge.perception.model_file import ModelFile, ModelFileError, parse_model_file, read_model_bytes
from edge.perception.model_reading import read_apart
from edge.updates import history
from edge.updates.errors import Refusal, RefusedError, SlotError
from edge.updates.report import model_ref, model_state
from edge.updates.slot_content import SlotContent
from edge.updates.slot_state import SlotName, SlotState
from edge.updates.slots import Slots
from protos.release_facts import ReleaseFacts
from protos.traffic_vision.v1 import common_pb2

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """What the updates do or did last, to be shown over how the slots stand.

    Attributes:
        phase: in place of the slots' own; None: theirs.
        release: that it is about, where it is known.
        received_bytes, total_bytes: of its file, while it is fetched.
        detail: for people; where the phase is the slots' own, theirs comes first.
    """

    phase: common_pb2.UpdatePhase | None = None
    release: ReleaseFacts | None = None
    received_bytes: int = 0
    total_bytes: int = 0
    detail: str = ""


class SlotModels:
    """A `ModelStore` over slots. From any thread, except where it says otherwise."""

    def __init__(self, slots: Slots) -> None:
        """Over open slots, which are closed with this."""
        self.slots = slots
        self._lock = threading.Lock()  # held where the state is read, judged and changed
        self._work = Work()
        self._factory: common_pb2.ModelRef | None = None
        self._changed: Callable[[], None] = lambda: None
        self._held_back: Callable[[SlotContent], str] = lambda content: ""
        self._stopping = threading.Event()

    def on_change(self, changed: Callable[[], None]) -> None:
        """Have it called after each change of the slots that is made here; it returns at once."""
        self._changed = changed

    def hold_back(self, why: Callable[[SlotContent], str]) -> None:
        """Have it asked why the candidate may not be put in by hand yet, for people; empty: it may.

        From any thread; it returns at once.
        """
        self._held_back = why

    @property
    def newest_counter(self) -> int:
        """No release up to it can be news."""
        state = self.slots.state
        release = state.release(state.active)
        return max(state.release_floor, release.release_counter if release else 0)

    def active(self) -> ModelFile:
        """The model to start with, and the reason logged where it is not the one that ran last.

        Call it once: each call counts as a start of the model that is on probation.

        Raises:
            TrafficVisionError: not even the factory's model can be used.
        """
        try:
            return self._boot()
        except OSError as error:
            raise SlotError(f"the slots' state cannot be written: {error.strerror or error}") from None

    def _boot(self) -> ModelFile:
        while True:
            boot = self.slots.boot()
            content = boot.model.content
            for trouble in boot.troubles:
                logger.error(
                    "another model was active before, this start uses that of slot %s: %s",
                    content.slot,
                    trouble,
                    extra={"event": "model_fallback", "slot": content.slot, "model": content.digest},
                )
            try:
                return parse_model_file(boot.model.data, _origin(content))  # no frame waits yet
            except ModelFileError as error:
                if content.slot == "factory":
                    raise
                # Signed, whole and not for this program, an older one perhaps. A probation ends with it, so
                # that the next round counts no start.
                self.slots.lose(content.slot, str(error))

    def read(self, slot: common_pb2.Slot) -> ModelFile | None:
        """The model in a slot, verified; None where it is empty. Unspecified: the staged candidate.

        Raises:
            TrafficVisionError: it does not check, failed here before, or is older than what was confirmed; or
                it is the candidate, and something comes before it may run.
        """
        name = _slot_name(slot, self.slots.state)
        if name is None:
            return None
        content = self.slots.content(name)
        _check_choice(content, self.slots.state)
        held_back = self._held_back(content) if name == self.slots.state.candidate else ""
        if held_back:
            raise SlotError(f"slot {name}: {held_back}")
        return self.load(name)

    def load(self, slot: SlotName) -> ModelFile:
        """The model in a slot, verified.

        Raises:
            UpdateError: it is not what was signed for this vehicle, or cannot be read.
            ModelFileError: it is, and is no model file that this program can use.
        """
        checked = self.slots.load(slot)
        # No path: the bytes that were checked are the bytes that run, whatever becomes of the file.
        return read_apart(checked.data, _origin(checked.content), stopping=self._stopping)

    def read_file(self, path: Path) -> ModelFile:
        """A model file from elsewhere, beside frames.

        Raises:
            ModelFileError: it is missing, unreadable or no model file.
        """
        return read_apart(read_model_bytes(path), str(path), path, stopping=self._stopping)

    def activated(self, slot: common_pb2.Slot, model: ModelFile) -> None:
        """Bring the slots in line with the model that runs now. To call it again changes nothing.

        - It is the candidate: it becomes the active one, and its probation begins.
        - Another one is on probation: whoever chose this one has rejected that one, so it reverts.
        - Else nothing: the slots' active model comes back at the next start.

        Raises:
            SlotError: it cannot be kept on disk.
        """

        def bring_in_line() -> None:
            candidate = self.slots.candidate()
            if candidate is not None and candidate.digest == model.digest:
                self._log("update_activated", self.slots.activate(), "runs, on probation")
            elif self.slots.state.on_probation and self.slots.active().digest != model.digest:
                self._revert("another model was chosen by hand", by="owner")

        self._change(bring_in_line)

    def confirm(self) -> None:
        """The probation is passed.

        Raises:
            SlotError: there is none, or it cannot be kept on disk.
        """
        self._change(lambda: self._log("update_confirmed", self.slots.confirm(), "passed its probation"))

    def revert(self, reason: str) -> None:
        """The probation failed, and another model runs.

        Raises:
            SlotError: there is none, or it cannot be kept on disk.
        """
        self._change(lambda: self._revert(reason))

    def withdraw(self, reason: str) -> None:
        """The model on probation is taken back by its owner, and another one runs. Nothing is called bad.

        Raises:
            SlotError: there is none, or it cannot be kept on disk.
        """
        self._change(lambda: self._withdraw(reason))

    def roll_back(self, reason: str, *, to_factory: bool, wish: str = "") -> None:
        """Somebody takes the active model back; what runs is the caller's to change.

        Args:
            reason: for people.
            to_factory: to the factory's model, whatever was good before.
            wish: the name of the inbox's wish that this grants.

        Raises:
            SlotError: the factory's model is active, or it cannot be kept on disk.
        """

        def taken_back() -> None:
            left = self.slots.active()
            self.slots.roll_back(reason, to_factory=to_factory, wish=wish)
            self._log("update_rolled_back", left, f"is taken back: {reason}", level=logging.WARNING)

        self._change(taken_back)

    def ran_well(self) -> None:
        """The active model is in no crash loop.

        Raises:
            SlotError: it cannot be kept on disk.
        """
        self._change(self.slots.ran_well)

    def excuse_start(self) -> None:
        """The start comes to nothing, and not by the model: it does not count against it."""
        try:
            self._change(self.slots.excuse_start)
        except SlotError as error:  # what keeps the daemon from starting is what must be told
            logger.warning("this start counts against the model all the same: %s", error)

    def pause(self, driven_s: int, driven_frames: int) -> None:
        """The daemon stops in order: a probation under way goes on at the next start.

        Raises:
            SlotError: it cannot be kept on disk.
        """
        self._change(lambda: self.slots.pause(driven_s, driven_frames))

    def mark_bad(self, content: SlotContent, reason: str) -> None:
        """The candidate failed its check here: it is never tried again.

        Raises:
            SlotError: it cannot be kept on disk.
        """
        self._change(lambda: self.slots.mark_bad(content.digest, reason))

    def lose(self, slot: SlotName, reason: str) -> None:
        """What a slot holds cannot be used any more, and may be fetched again.

        Raises:
            SlotError: it cannot be kept on disk.
        """
        self._change(lambda: self.slots.lose(slot, reason))

    def show(self, work: Work) -> None:
        """Show this over how the slots stand, until they change or something else is shown."""
        self._work = work

    def fill_state(self, state: common_pb2.ModelState) -> None:
        """How the slots stand, and the work on them; the state's active model is set."""
        filled = model_state(self.slots, state.active, self._factory_ref())
        work = self._work
        if work.phase is not None:
            filled.phase = work.phase
            filled.detail = work.detail
        else:
            filled.detail = filled.detail or work.detail
        if work.release is not None:
            filled.candidate.CopyFrom(model_ref(work.release))
        filled.received_bytes, filled.total_bytes = work.received_bytes, work.total_bytes
        state.CopyFrom(filled)

    def stop(self) -> None:
        """Wait for no reading any more. From any thread."""
        self._stopping.set()

    def close(self) -> None:
        """Give the folder back; from now on no change is kept. May be called twice."""
        self.stop()
        self.slots.close()

    def _change(self, change: Callable[[], None]) -> None:
        try:
            with self._lock:
                before = self.slots.state
                change()
                is_new = self.slots.state is not before
                if is_new:
                    self._work = Work()
        except OSError as error:
            raise SlotError(f"the slots' state cannot be written: {error.strerror or error}") from None
        if is_new:
            self._changed()

    def _revert(self, reason: str, by: history.Actor = "daemon") -> None:
        failed = self.slots.active()
        self.slots.revert(reason, by)
        self._log("update_reverted", failed, f"is given up: {reason}", level=logging.WARNING)

    def _withdraw(self, reason: str) -> None:
        withdrawn = self.slots.active()
        self.slots.lose(withdrawn.slot, reason)
        self._log("update_withdrawn", withdrawn, f"is withdrawn: {reason}", level=logging.WARNING)

    def _log(self, event: str, content: SlotContent, said: str, level: int = logging.INFO) -> None:
        log_release(event, content.release, content.digest, said, level)

    def _factory_ref(self) -> common_pb2.ModelRef:
        if self._factory is None:
            try:
                self._factory = model_ref_of(self.load("factory"))
            except TrafficVisionError:  # whoever comes to need it is told why it cannot be had
                self._factory = common_pb2.ModelRef()
        return self._factory


def log_release(
    event: str, release: ReleaseFacts | None, digest: str, said: str, level: int = logging.INFO
) -> None:
    """Log what became of a release, as an event of its own."""
    named = "the model" if release is None else f"release {release.release_counter}"
    logger.log(
        level,
        "%s (%s) %s",
        named,
        digest[:12],
        said,
        extra={"event": event, "model": digest, "release": release and release.release_counter},
    )


def _origin(content: SlotContent) -> str:
    release = content.release
    return f"slot {content.slot}" + ("" if release is None else f", release {release.release_counter}")


def _slot_name(slot: common_pb2.Slot, state: SlotState) -> SlotName | None:
    """Which slot is meant; None where that one is empty."""
    if slot == common_pb2.SLOT_UNSPECIFIED:
        return state.candidate
    if slot == common_pb2.SLOT_LAST_GOOD:
        return state.last_good
    if slot == common_pb2.SLOT_FACTORY:
        return "factory"
    named: dict[common_pb2.Slot, SlotName] = {common_pb2.SLOT_A: "a", common_pb2.SLOT_B: "b"}
    name = named.get(slot)  # a newer client may name one that is not known here
    return name if name is not None and state.release(name) is not None else None


def _check_choice(content: SlotContent, state: SlotState) -> None:
    """Hold a choice by hand against the rules that an update is held against."""
    release = content.release
    if release is None or content.slot in (state.active, state.last_good):
        return
    if content.digest in state.bad_sha256:
        raise RefusedError(Refusal.KNOWN_BAD, f"slot {content.slot}: its model failed on this vehicle before")
    if release.release_counter < state.release_floor:
        raise RefusedError(
            Refusal.ROLLBACK,
            f"slot {content.slot} holds release {release.release_counter}, and release {state.release_floor}"
            " was confirmed already",
        )
