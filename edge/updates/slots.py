"""The two slots on disk, their state file, and the check of what is in them before it is loaded.

    folder/state.json          which slot is what (slot_state.py); the only file whose change decides anything
    folder/state.json.old      the same, for when that one is damaged (state_file.py)
    folder/a/model.onnx        the release's file, as fetched
    folder/a/evidence.json     the signed metadata that vouches for it (evidence.py)
    folder/b/...               the same
    folder/staging/            what is being fetched; never used from there
    folder/shadow.json         how far the candidate's shadow is (shadow_progress.py)
    folder/metadata/           python-tuf's cache of the repository's metadata
    folder/lock                held by the one daemon that owns the folder

A slot's files change only while the state says that the slot is empty, so a kill at any moment leaves the old
state or the new one, whole. The bytes that a check has seen are the bytes that it returns: nothing reads the
file again.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import gettempprefix
from typing import TYPE_CHECKING

from edge.files import TEMPORARY_SUFFIX, atomic_write, lock, sync_file, sync_folder
from edge.machine.disk_budget import DiskBudget, DiskLane
from edge.updates import history, slot_files, slot_state, state_file, state_rebuild
from edge.updates.errors import RefusedError, SlotError
from edge.updates.slot_content import Boot, CheckedModel, SlotContent
from edge.updates.slot_state import SlotName, SlotState
from edge.updates.trust import Vehicle, check_suits

if TYPE_CHECKING:
    from edge.updates.evidence import Evidence

MAX_PROBATION_STARTS = 3  # starts of the daemon in one probation; the next one reverts
_STAGED_BYTES = "model.onnx"  # what is staged from memory, until it is moved into its slot

_LOG = logging.getLogger(__name__)


class Slots:
    """The slots of one vehicle. One process owns the folder; its threads may share the object.

    Args:
        folder: made where it is missing.
        factory_model: the model file that came with the installation.
        shipped_root: the root metadata that came with it: what everything else is checked against.
        vehicle: whom a release must suit.
        disk: where what is written is counted; None: nowhere.
        clock: the present time, seconds of Unix time, for the history.

    Raises:
        SlotError: another process holds the folder.
        OSError: the folder cannot be made or read.
    """

    def __init__(
        self,
        folder: Path,
        factory_model: Path,
        shipped_root: bytes,
        vehicle: Vehicle,
        *,
        disk: DiskLane | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self.disk = disk or DiskBudget().lane("slots")
        self._factory_model = factory_model
        self._clock = clock
        self.shipped_root = shipped_root
        self.vehicle = vehicle
        self._lock = threading.Lock()
        self._factory_digest: str | None = None
        (folder / "staging").mkdir(parents=True, exist_ok=True)
        for slot in slot_state.WRITABLE:
            (folder / slot).mkdir(exist_ok=True)
        sync_folder(folder)
        sync_folder(folder.parent)  # whose entry this folder is: with it all floors would be gone
        self._lock_file = _hold(folder / "lock")
        self._is_unsure = False  # whether the state on disk may be another than the one here
        try:
            left = itertools.chain(
                folder.rglob(f".*{TEMPORARY_SUFFIX}"),
                (folder / "metadata").glob(f"{gettempprefix()}*"),  # within python-tuf's writing
                self.staging.glob(_STAGED_BYTES),
            )
            for path in left:  # by a kill
                path.unlink()
            self._state = self._read_state()
        except BaseException:
            os.close(self._lock_file)
            raise

    def close(self) -> None:
        """Give the folder back. May be called twice."""
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1

    def __enter__(self) -> Slots:
        """Return the slots; they are closed at the block's end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @property
    def state(self) -> SlotState:
        """What is remembered now; it does not change under its reader."""
        return self._state

    @property
    def staging(self) -> Path:
        """The folder for what is being fetched; on the slots' own file system."""
        return self._folder / "staging"

    @property
    def metadata(self) -> Path:
        """The folder for the repository's metadata as it was last verified."""
        return self._folder / "metadata"

    def active(self) -> SlotContent:
        """Return what runs, or shall run at the next start.

        Raises:
            SlotError: it is the factory's model, and that cannot be read.
        """
        return self.content(self._state.active)

    def candidate(self) -> SlotContent | None:
        """Return what is staged and was not active yet."""
        slot = self._state.candidate
        return None if slot is None else self.content(slot)

    def content(self, slot: SlotName) -> SlotContent:
        """Return what a slot holds.

        Raises:
            SlotError: it is empty, or the factory's model cannot be read.
        """
        if slot == "factory":
            return SlotContent("factory", self._factory_model, self._digest_of_factory(), None)
        release = self._state.release(slot)
        if release is None:
            raise SlotError(f"slot {slot} is empty")
        return SlotContent(slot, self._folder / slot / "model.onnx", release.model_sha256, release)

    def load(self, slot: SlotName) -> CheckedModel:
        """Read a slot's model and check it: signatures from the shipped root down, hash, suitability.

        The factory's model is as trustworthy as the root that lies beside it: whoever can write one can write
        the other. It is only read.

        Raises:
            SlotError: it is empty or its files cannot be read.
            RefusedError: it is not what was signed for this vehicle.
        """
        content = self.content(slot)
        try:
            if slot == "factory":
                data = content.model_path.read_bytes()
                self._factory_digest = hashlib.sha256(data).hexdigest()
                return CheckedModel(replace(content, digest=self._factory_digest), data)
            checked = slot_files.read_checked(self._folder / slot, self.shipped_root, self.vehicle)
        except OSError as error:
            raise SlotError(f"slot {slot} cannot be read: {error}") from None
        if checked.facts != content.release:
            found = checked.facts.release_counter
            raise SlotError(f"slot {slot} holds release {found}, which is not what was staged there")
        return CheckedModel(content, checked.data)

    def boot(self, most_starts: int = MAX_PROBATION_STARTS) -> Boot:
        """Choose and check what this start drives on, without a network.

        The active model, or what the state falls back to, down to the factory's.

        A start during a probation counts against it, and is on disk before the model is loaded: a model that
        takes the daemon down with it comes back only `most_starts` times.

        A disk that takes nothing keeps no vehicle from starting. But on it the starts of a probation cannot
        be counted, so nothing would end a crash loop: such a start drives on the last good model.

        Raises:
            SlotError: not even the factory's model can be read.
        """
        troubles = self._count_start(most_starts)
        while True:
            slot = self._state.active
            try:
                return Boot(self.load(slot), tuple(troubles))
            except (SlotError, RefusedError) as error:
                if slot == "factory":
                    raise
                troubles.append(str(error))
                self._lose(slot, str(error), must_be_kept=False)

    def _count_start(self, most_starts: int) -> list[str]:
        before = self._state
        try:
            started = partial(slot_state.started, most_starts=most_starts)
            self._change(started, must_be_kept=before.on_probation)
        except OSError as error:
            trouble = f"the starts of the probation cannot be counted: {error}"
            self._lose(before.active, trouble, must_be_kept=False)
            return [trouble]
        reverted = self._state.reverted
        return [reverted.reason] if reverted is not None and reverted != before.reverted else []

    def stage(self, model: bytes | Path, evidence: Evidence, by: history.Actor = "cloud") -> SlotContent:
        """Put a release into the slot that is free; it is the candidate when this returns.

        Args:
            model: the file's bytes, or a file in `staging`, which is moved.
            evidence: the signed metadata that vouches for it.
            by: where it came from.

        Raises:
            SlotError: a probation is under way, or the digest failed here before.
            RefusedError: the bytes are not what was signed for this vehicle.
            OSError: it cannot be written; the state is the old one, less an older candidate.
        """
        path = model if isinstance(model, Path) else self.staging / _STAGED_BYTES
        if isinstance(model, bytes):
            atomic_write(path, model)
            self.disk.wrote(len(model))
        facts = slot_files.verified(self.shipped_root, evidence, path.read_bytes(), self.vehicle)
        check_suits(facts, self.vehicle)
        slot = slot_state.slot_to_stage(self._state)
        slot_state.staged(self._state, slot, facts)  # refuses early what it would refuse below
        self._is_unsure = True  # from here on a state lies beside the slots, or its absence is damage
        self._change(lambda state: slot_state.emptied(state, slot))
        room = self._folder / slot
        with suppress(FileNotFoundError):
            (room / "evidence.json").unlink()
        sync_file(path)
        path.replace(room / "model.onnx")
        proof = evidence.to_bytes()
        atomic_write(room / "evidence.json", proof)
        self.disk.wrote(len(proof))
        self._change(lambda state: slot_state.staged(state, slot, facts), by=by)
        return self.content(slot)

    def activate(self) -> SlotContent:
        """Make the candidate the active model, on probation. Call it when the frame loop takes it over."""
        self._change(slot_state.activated)
        return self.active()

    def confirm(self) -> SlotContent:
        """The active model passed its probation: it is the last good one now."""
        self._change(slot_state.confirmed)
        return self.active()

    def revert(self, reason: str, by: history.Actor = "daemon") -> SlotContent:
        """The active model failed its probation: back to the last good one; the digest is bad."""
        self._change(lambda state: slot_state.reverted(state, reason), by=by)
        return self.active()

    def roll_back(self, reason: str, *, to_factory: bool = False, wish: str = "") -> SlotContent:
        """Somebody takes the active model back, in probation or after it; the digest is bad.

        The name of the inbox's wish that this grants is remembered in the same write.

        Raises:
            SlotError: the factory's model is active.
        """
        back = partial(slot_state.rolled_back, reason=reason, to_factory=to_factory, wish=wish)
        self._change(back, by="owner")
        return self.active()

    def ran_well(self) -> None:
        """The active model is in no crash loop: its starts are counted anew."""
        self._change(slot_state.ran_well)

    def excuse_start(self) -> None:
        """This start comes to nothing, and not by the active model: it does not count against it."""
        self._change(slot_state.excused)

    def pause(self, driven_s: int, driven_frames: int) -> None:
        """The daemon stops in order, and has driven so far in this run: a probation goes on from there."""
        self._change(lambda state: slot_state.paused(state, driven_s, driven_frames))

    def mark_bad(self, sha256: str, reason: str) -> None:
        """Never try this model again. As the candidate it is dropped; on probation it reverts."""
        self._change(lambda state: slot_state.marked_bad(state, sha256, reason))

    def lose(self, slot: SlotName, reason: str) -> None:
        """What the slot holds cannot be used, though the model did nothing wrong: its content is given up.

        Where it was active, the state falls back as at a start. The same release may be fetched again.
        """
        self._lose(slot, reason, must_be_kept=True)

    def _lose(self, slot: SlotName, reason: str, *, must_be_kept: bool) -> None:
        _LOG.error("the model in slot %s cannot be used, it is given up: %s", slot, reason)
        self._change(partial(slot_state.lost, slot=slot), must_be_kept=must_be_kept, reason=reason)

    def raise_floors(self, *, release: int | None = None, clock_s: int | None = None) -> None:
        """Remember that no older release and no earlier time is possible."""
        self._change(lambda state: slot_state.floors_raised(state, release=release, clock_s=clock_s))

    def is_unsigned(self, slot: SlotName) -> bool:
        """Whether nobody signed what a slot holds: the owner put it in by hand."""
        return self._state.release(slot) is not None and slot_files.is_unsigned(self._folder / slot)

    def _change(
        self,
        change: Callable[[SlotState], SlotState],
        *,
        must_be_kept: bool = True,
        by: history.Actor = "daemon",
        reason: str = "",
    ) -> None:
        with self._lock:
            if self._lock_file < 0:
                raise SlotError(f"{self._folder}: the slots are closed")
            changed = change(self._state)
            if changed == self._state and not self._is_unsure:
                return
            happened = history.what_happened(self._state, changed, int(self._clock()), by, reason)
            if happened:
                happened = history.marked(happened, self._unsigned((self._state, changed)))
            changed = replace(changed, history=(*changed.history, *happened)[-history.MAX_ENTRIES :])
            document = state_file.to_bytes(changed)
            self._is_unsure = True  # a write that fails in its last step has put the new state there
            try:
                self._is_unsure = not state_file.write(self._folder, document)
                self._drop_emptied(changed)
            except OSError as error:
                if must_be_kept:
                    raise
                _LOG.error("%s cannot be written, this start goes on without it: %s", self._folder, error)
            self.disk.wrote(2 * len(document))
            self._state = changed

    def _unsigned(self, states: Iterable[SlotState]) -> frozenset[str]:
        """Digests of what nobody signed, of all that these states name and that lies in the slots now."""
        held = ((slot, state.release(slot)) for state in states for slot in slot_state.WRITABLE)
        return frozenset(
            release.model_sha256
            for slot, release in held
            if release is not None and slot_files.is_unsigned(self._folder / slot)
        )

    def _drop_emptied(self, changed: SlotState) -> None:
        """What was given up does not come back, should the state be made again from what lies here."""
        for slot in slot_state.WRITABLE:
            if self._state.release(slot) is not None and changed.release(slot) is None:
                with suppress(OSError):
                    (self._folder / slot / slot_files.EVIDENCE).unlink()

    def _read_state(self) -> SlotState:
        found = state_file.read(self._folder)
        state, trouble = found.state, found.trouble
        self._is_unsure = not found.is_twice and (state is not None or bool(trouble))
        if state is None:
            if not trouble and not state_rebuild.anything_lies_in(self._folder):
                return SlotState()  # a new vehicle
            self._is_unsure = True
            trouble = trouble or f"{self._folder / state_file.STATE} is missing"
            state = state_rebuild.rebuild(self._folder, self.shipped_root, self.vehicle, self._clock())
            what, how = "state_rebuilt", "it was made again from what lies in the slots"
        elif trouble:
            what, how = "state_repaired", "the other copy of it is used"
        else:
            return state
        aside = state_file.set_aside(self._folder)
        _LOG.error(
            "the slots' state is damaged, %s; active is slot %s, the release floor %d: %s%s",
            *(how, state.active, state.release_floor, trouble, aside),
            extra={"event": f"slots_{what}", "slot": state.active},
        )
        return history.noted(state, what, int(self._clock()), trouble)

    def _digest_of_factory(self) -> str:
        if self._factory_digest is None:
            try:
                self._factory_digest = hashlib.sha256(self._factory_model.read_bytes()).hexdigest()
            except OSError as error:
                raise SlotError(f"the factory's model cannot be read: {error}") from None
        return self._factory_digest


def _hold(path: Path) -> int:
    try:
        return lock(path)
    except BlockingIOError:
        raise SlotError(f"{path.parent}: another daemon uses these slots; stop it first") from None
