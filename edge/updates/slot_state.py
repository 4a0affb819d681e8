"""Which slot holds what, and which may be used: a small state machine. No I/O; every change gives a new
state.

                 stage                activate                    confirm
    last good  --------->  candidate  --------->  on probation  ----------->  last good
                                                       |
                                                       |  revert (by hand, failed probation, too many starts)
                                                       v
                                           last good again, digest known as bad

A confirmed model whose daemon starts again and again without ever running for a while is given up too, and
has to pass a probation anew; the second time it is bad.

Slots a and b take turns; the factory's model is never written to and always there. The active model is
confirmed (then it is the last good one) or on probation (then the last good one waits in another slot).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from edge.updates import history
from edge.updates.errors import SlotError
from protos.release_facts import MAX_COUNTER, ReleaseFacts

MAX_STARTS = 8  # of a confirmed model in a row, none of which ran well; the next one falls back
MAX_BAD = 64  # digests; the oldest goes first
MAX_WISHES = 16  # that were granted; a disk that keeps its promises brings none of them back
MAX_WISH = 64  # characters of a name

SlotName = Literal["a", "b", "factory"]
WRITABLE: tuple[SlotName, ...] = ("a", "b")


@dataclass(frozen=True, slots=True)
class Bad:
    """A model that failed on this vehicle.

    Attributes:
        sha256: of its file.
        reason: for people.
    """

    sha256: str
    reason: str


@dataclass(frozen=True, slots=True)
class SlotState:
    """All that is remembered about the slots.

    Attributes:
        active: whose model runs, or shall run at the next start.
        last_good: whose model was the last to be confirmed.
        candidate: whose model is staged and was not active yet.
        probation_starts: starts of the daemon with the active model since it became active; None when
            confirmed.
        a: the release in slot a, None when it holds nothing that may be used.
        b: the same of slot b.
        bad: what failed here, the latest last.
        release_floor: the highest release counter that was confirmed.
        clock_floor_s: seconds of Unix time that are past for certain; 0: as the installation says.
        reverted: what the last model that was given up was given up for, until the next release is active.
        starts: starts of the daemon with the active model, confirmed and not the factory's, since it last ran
            well.
        fallen: confirmed models that were given up for their starts, the latest last.
        driven_s: of the probation under way, seconds driven in earlier runs that were stopped in order.
        driven_frames: the same of frames published.
        wishes: names of the wishes of the inbox that this state came of, the latest last: none is granted
            twice.
        history: what happened, the latest last; no rule goes by it.
    """

    active: SlotName = "factory"
    last_good: SlotName = "factory"
    candidate: SlotName | None = None
    probation_starts: int | None = None
    a: ReleaseFacts | None = None
    b: ReleaseFacts | None = None
    bad: tuple[Bad, ...] = ()
    release_floor: int = 0
    clock_floor_s: int = 0
    reverted: Bad | None = None
    starts: int = 0
    fallen: tuple[Bad, ...] = ()
    driven_s: int = 0
    driven_frames: int = 0
    wishes: tuple[str, ...] = ()
    history: tuple[history.Entry, ...] = ()

    def release(self, slot: SlotName) -> ReleaseFacts | None:
        """Return what slot a or b holds; None for an empty one, and for the factory's."""
        return self.a if slot == "a" else self.b if slot == "b" else None

    @property
    def on_probation(self) -> bool:
        """The active model is not confirmed yet."""
        return self.probation_starts is not None

    @property
    def bad_sha256(self) -> frozenset[str]:
        """The digests that failed here."""
        return frozenset(entry.sha256 for entry in self.bad)


def slot_to_stage(state: SlotState) -> SlotName:
    """Return the slot that a new release may be written to.

    Raises:
        SlotError: the active model is on probation: its outcome comes first.
    """
    if state.on_probation:
        raise SlotError(f"slot {state.active} is on probation: confirm or revert it before the next release")
    if state.candidate is not None:
        return state.candidate
    return "a" if state.active != "a" else "b"


def emptied(state: SlotState, slot: SlotName) -> SlotState:
    """Before the slot's files are written: nothing in it may be used."""
    if slot in (state.active, state.last_good, "factory"):
        raise SlotError(f"slot {slot} is in use")
    return _with_release(replace(state, candidate=_unless(state.candidate, slot)), slot, None)


def staged(state: SlotState, slot: SlotName, release: ReleaseFacts) -> SlotState:
    """After the slot's files are on disk: its release is the candidate."""
    if state.on_probation or slot in (state.active, state.last_good, "factory"):
        raise SlotError(f"slot {slot} is in use")
    if state.candidate not in (None, slot):
        raise SlotError(f"slot {state.candidate} holds a candidate already")
    if release.model_sha256 in state.bad_sha256:
        raise SlotError(f"sha256 {release.model_sha256} failed on this vehicle before")
    return _with_release(replace(state, candidate=slot), slot, release)


def activated(state: SlotState) -> SlotState:
    """The candidate becomes the active model, on probation."""
    if state.candidate is None:
        raise SlotError("there is no staged release to activate")
    return replace(
        _off_probation(state), active=state.candidate, candidate=None, probation_starts=0, reverted=None
    )


def started(state: SlotState, most_starts: int, most_confirmed: int = MAX_STARTS) -> SlotState:
    """The daemon starts: one that never comes to the end of a probation reverts by itself.

    A confirmed model that never runs well any more makes place for the one before it.
    """
    if state.probation_starts is None:
        if state.active == "factory":  # there is nothing else
            return state
        if state.starts >= most_confirmed:
            return _fallen(
                state, f"the daemon started {state.starts} times in a row and never ran for a while"
            )
        return replace(state, starts=state.starts + 1)
    if state.probation_starts >= most_starts:
        return reverted(state, f"the daemon started {state.probation_starts} times without a confirmation")
    return replace(state, probation_starts=state.probation_starts + 1)


def ran_well(state: SlotState) -> SlotState:
    """The daemon has run for a while: the active model is in no crash loop."""
    return replace(state, starts=0)


def excused(state: SlotState) -> SlotState:
    """The last start came to nothing for a reason that is not the model's: it does not count."""
    if state.probation_starts is not None:
        return replace(state, probation_starts=max(0, state.probation_starts - 1))
    return replace(state, starts=max(0, state.starts - 1))


def paused(state: SlotState, driven_s: int, driven_frames: int) -> SlotState:
    """The daemon was stopped in order: short trips condemn nothing, and add up to one probation."""
    if not state.on_probation:
        return ran_well(state)
    return replace(
        excused(state),
        driven_s=min(state.driven_s + driven_s, MAX_COUNTER),
        driven_frames=min(state.driven_frames + driven_frames, MAX_COUNTER),
    )


def confirmed(state: SlotState) -> SlotState:
    """The active model passed its probation."""
    if not state.on_probation:
        raise SlotError(f"slot {state.active} is not on probation: nothing to confirm")
    release = state.release(state.active)
    counter = 0 if release is None else release.release_counter
    return replace(
        _off_probation(state),
        last_good=state.active,
        release_floor=max(state.release_floor, counter),
    )


def reverted(state: SlotState, reason: str) -> SlotState:
    """The active model failed its probation: the last good one is active again, the digest is bad."""
    release = state.release(state.active)
    if not state.on_probation or release is None:
        raise SlotError(f"slot {state.active} is not on probation: nothing to revert to")
    failed = Bad(release.model_sha256, reason)
    back = replace(
        _off_probation(state),
        active=state.last_good,
        bad=_remembered(state.bad, failed),
        reverted=failed,
    )
    return _with_release(back, state.active, None)


def rolled_back(state: SlotState, reason: str, *, to_factory: bool, wish: str = "") -> SlotState:
    """Somebody takes the active model back: its digest is bad, so that it is not fetched again.

    Back to the last good model, or, where the active one is that itself, to the one confirmed before it;
    where there is none, or on wish, to the factory's. A wish of the inbox is remembered by its name.
    """
    release = state.release(state.active)
    if release is None:
        raise SlotError("the factory's model is active: there is nothing to go back from")
    if state.on_probation:
        back = reverted(state, reason)
    else:
        failed = Bad(release.model_sha256, reason)
        back = replace(state, bad=_remembered(state.bad, failed), reverted=failed)
        back = lost(back, state.active)
    if wish:
        back = replace(back, wishes=(*state.wishes, wish[:MAX_WISH])[-MAX_WISHES:])
    return replace(back, active="factory", last_good="factory") if to_factory else back


def marked_bad(state: SlotState, sha256: str, reason: str) -> SlotState:
    """A model failed: it is not staged again; on probation it reverts, as the candidate it is dropped."""
    release = state.release(state.active)
    if state.on_probation and release is not None and release.model_sha256 == sha256:
        return reverted(state, reason)
    good = state.release(state.last_good)
    if good is not None and good.model_sha256 == sha256:
        raise SlotError(f"sha256 {sha256} is the last good model: it cannot be bad")
    changed = replace(state, bad=_remembered(state.bad, Bad(sha256, reason)))
    candidate = None if state.candidate is None else state.release(state.candidate)
    if state.candidate is not None and candidate is not None and candidate.model_sha256 == sha256:
        changed = _with_release(replace(changed, candidate=None), state.candidate, None)
    return changed


def lost(state: SlotState, slot: SlotName) -> SlotState:
    """The slot's files do not check (a broken disk, not a bad model): what depended on it falls back.

    To the last good model, else to the one that was confirmed before it, else to the factory's. The digest is
    not bad: the same release may be fetched again.
    """
    if slot == "factory":
        raise SlotError("the factory's model is broken: install it again")
    changed = replace(state, candidate=_unless(state.candidate, slot))
    if changed.last_good == slot:
        changed = replace(changed, last_good=_good_before(state, slot))
    if changed.active == slot:
        changed = replace(_off_probation(changed), active=changed.last_good)
    return _with_release(changed, slot, None)


def floors_raised(state: SlotState, *, release: int | None = None, clock_s: int | None = None) -> SlotState:
    """Floors go up and never down."""
    return replace(
        state,
        release_floor=max(state.release_floor, release or 0),
        clock_floor_s=max(state.clock_floor_s, clock_s or 0),
    )


def violations(state: SlotState) -> list[str]:
    """Return what is wrong with a state; empty for every state that the changes above can lead to."""
    broken = [
        f"{role} names slot {slot}, which is empty"
        for role, slot in (
            ("active", state.active),
            ("last_good", state.last_good),
            ("candidate", state.candidate),
        )
        if slot in WRITABLE and state.release(slot) is None
    ]
    if state.candidate in (state.active, state.last_good, "factory"):
        broken.append(f"candidate names slot {state.candidate}, which is in use")
    if state.on_probation == (state.active == state.last_good):
        broken.append(f"active is {state.active} and last_good {state.last_good}, which does not go together")
    if state.on_probation and state.active == "factory":
        broken.append("the factory's model is on probation")
    if state.on_probation and state.candidate is not None:
        broken.append("there is a candidate beside a probation")
    if not state.on_probation and (state.driven_s or state.driven_frames):
        broken.append("there is driving of a probation, and none is under way")
    if len(state.bad) > MAX_BAD:
        broken.append(f"{len(state.bad)} bad digests, at most {MAX_BAD} are kept")
    return broken


def _fallen(state: SlotState, reason: str) -> SlotState:
    """The active model is confirmed, and the daemon does not come to run with it.

    Once, it may be a device's fault that every model would take: it may be fetched again, and then passes a
    probation or is bad by that. Twice is bad by itself, or it could go round for ever.
    """
    release = state.release(state.active)
    assert release is not None
    fell = Bad(release.model_sha256, reason)
    changed = replace(state, fallen=_remembered(state.fallen, fell), reverted=fell)
    if any(entry.sha256 == fell.sha256 for entry in state.fallen):
        changed = replace(changed, bad=_remembered(state.bad, fell))
    changed = lost(changed, state.active)
    return changed if changed.active == "factory" else replace(changed, starts=1)


def _off_probation(state: SlotState) -> SlotState:
    return replace(state, probation_starts=None, starts=0, driven_s=0, driven_frames=0)


def _with_release(state: SlotState, slot: SlotName, release: ReleaseFacts | None) -> SlotState:
    return replace(state, a=release) if slot == "a" else replace(state, b=release)


def _unless(candidate: SlotName | None, slot: SlotName) -> SlotName | None:
    return None if candidate == slot else candidate


def _remembered(bad: tuple[Bad, ...], failed: Bad) -> tuple[Bad, ...]:
    kept = [entry for entry in bad if entry.sha256 != failed.sha256]
    return (*kept, failed)[-MAX_BAD:]


def _good_before(state: SlotState, lost: SlotName) -> SlotName:
    """The other slot, where it holds what was confirmed before: what failed or was dropped is in no slot."""
    other: SlotName = "b" if lost == "a" else "a"
    release = state.release(other)
    if (
        release is None
        or release.model_sha256 in state.bad_sha256
        or other in (state.active, state.candidate)
    ):
        return "factory"
    return other
