"""The slots' state, made again from what lies in the slots, where both files of it are gone or damaged.

What was confirmed, what failed and what was never tried cannot be told apart any more. So the newest release
that checks becomes the active one, on probation: it runs, and has to prove itself anew, with the other one to
fall back to. The floors are those that signatures vouch for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from edge.updates.errors import UpdateError
from edge.updates.slot_files import read_checked
from edge.updates.slot_state import WRITABLE, SlotName, SlotState
from edge.updates.trust import Vehicle, raised_clock_floor
from protos.release_facts import ReleaseFacts


@dataclass(frozen=True, slots=True)
class Usable:
    """What a slot was found to hold.

    Attributes:
        slot: its name.
        facts: what is said about it.
        is_signed: by the owner's keys; else it was put in by hand.
    """

    slot: SlotName
    facts: ReleaseFacts
    is_signed: bool


def anything_lies_in(folder: Path) -> bool:
    """Whether a slot was ever filled: then a state belongs beside it."""
    return any((folder / slot / "evidence.json").exists() for slot in WRITABLE)


def rebuild(folder: Path, shipped_root: bytes, vehicle: Vehicle, clock_s: float) -> SlotState:
    """Check both slots and the cached metadata, and make of them what can be known.

    Args:
        folder: the slots'.
        shipped_root: the trust anchor.
        vehicle: whom a release must suit.
        clock_s: the present time as the vehicle has it, seconds of Unix time.

    Raises nothing of its own: what does not check counts as empty.
    """
    found = []
    for slot in WRITABLE:
        try:
            checked = read_checked(folder / slot, shipped_root, vehicle)
        except (UpdateError, OSError):
            continue
        found.append(Usable(slot, checked.facts, checked.is_signed))
    state = chosen(found)
    signed_at = _signed_at(folder / "metadata", shipped_root)
    if signed_at is None:
        return state
    clock = datetime.fromtimestamp(max(clock_s, 0.0), timezone.utc)
    floor = raised_clock_floor(vehicle.clock_floor, signed_at, clock)
    return replace(state, clock_floor_s=int(floor.timestamp()))


def chosen(found: list[Usable]) -> SlotState:
    """The state of slots that hold this and of which nothing else is known. No I/O."""
    if not found:
        return SlotState()
    best_first = sorted(found, key=lambda one: (one.is_signed, one.facts.release_counter), reverse=True)
    releases = {one.slot: one.facts for one in found}
    return SlotState(
        active=best_first[0].slot,
        last_good=best_first[1].slot if len(best_first) > 1 else "factory",
        probation_starts=0,
        a=releases.get("a"),
        b=releases.get("b"),
        release_floor=max((one.facts.release_counter for one in found if one.is_signed), default=0),
    )


def _signed_at(metadata: Path, shipped_root: bytes) -> datetime | None:
    if not (metadata / "timestamp.json").exists():
        return None
    from edge.updates.metadata import cached_signed_at  # imports python-tuf

    return cached_signed_at(metadata, shipped_root)
