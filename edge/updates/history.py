"""What happened to the models of one vehicle, read off two states of its slots. No I/O.

The list is kept in the slots' own state file, so an entry is on disk exactly when what it tells of is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from protos.release_facts import ReleaseFacts

if TYPE_CHECKING:
    from edge.updates.slot_state import SlotState

MAX_ENTRIES = 64  # the oldest go first
MAX_DETAIL = 300  # characters

Actor = Literal["cloud", "owner", "daemon"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened.

    Attributes:
        wall_s: when, by the vehicle's clock, seconds of Unix time.
        what: staged, activated, confirmed, reverted, given_up, returned_to, bad, state_repaired,
            state_rebuilt.
        by: whose doing it was: a release from the cloud, somebody by hand, or the daemon's own judgement.
        sha256: of the model; empty: the factory's.
        release: its counter; 0: of none.
        model: name and version; empty where only the digest is known.
        detail: for people.
        is_unsigned: nobody signed the model; its counter is none of a release then.
    """

    wall_s: int
    what: str
    by: str
    sha256: str = ""
    release: int = 0
    model: str = ""
    detail: str = ""
    is_unsigned: bool = False


def what_happened(
    before: SlotState, after: SlotState, wall_s: int, by: Actor, reason: str = ""
) -> tuple[Entry, ...]:
    """Tell two states apart.

    Args:
        before: as it was.
        after: as one change left it.
        wall_s: when, seconds of Unix time.
        by: whose doing the change was.
        reason: where the state does not say it.
    """

    def entry(what: str, release: ReleaseFacts | None, detail: str = "") -> Entry:
        if release is None:
            return Entry(wall_s, what, by, model="the factory's", detail=detail)
        named = f"{release.model_name} {release.model_version}"
        return Entry(wall_s, what, by, release.model_sha256, release.release_counter, named, detail)

    entries: list[Entry] = []
    runs, ran = after.release(after.active), before.release(before.active)
    waits = None if after.candidate is None else after.release(after.candidate)
    waited = None if before.candidate is None else before.release(before.candidate)
    told = reason
    if after.reverted is not None and after.reverted != before.reverted:
        told = after.reverted.reason
    left = None
    if waits is not None and waits != waited:
        entries.append(entry("staged", waits))
    if after.active != before.active and after.active == before.candidate:
        entries.append(entry("activated", runs))
    elif after.active != before.active:
        left = ran
        entries.append(entry("reverted" if before.on_probation else "given_up", ran, _cut(told)))
        entries.append(entry("returned_to", runs))
    elif before.on_probation and not after.on_probation:
        entries.append(entry("confirmed", runs))
    for bad in after.bad:
        if bad not in before.bad and (left is None or bad.sha256 != left.model_sha256):
            known = waited if waited is not None and waited.model_sha256 == bad.sha256 else None
            one = entry("bad", known, _cut(bad.reason))
            entries.append(one if known else Entry(wall_s, "bad", by, bad.sha256, detail=_cut(bad.reason)))
    return tuple(entries)


def marked(entries: tuple[Entry, ...], unsigned: Collection[str]) -> tuple[Entry, ...]:
    """Entries that tell which of their models nobody signed, given the digests of such."""
    return tuple(
        replace(entry, is_unsigned=True, release=0) if entry.sha256 in unsigned else entry
        for entry in entries
    )


def noted(state: SlotState, what: str, wall_s: int, detail: str) -> SlotState:
    """A state with one more entry: of what happened to the state itself, about the model that is active."""
    release = state.release(state.active)
    named = "the factory's" if release is None else f"{release.model_name} {release.model_version}"
    digest, counter = ("", 0) if release is None else (release.model_sha256, release.release_counter)
    entry = Entry(wall_s, what, "daemon", digest, counter, named, _cut(detail))
    return replace(state, history=(*state.history, entry)[-MAX_ENTRIES:])


def to_document(entries: tuple[Entry, ...]) -> list[dict[str, Any]]:
    """Return JSON objects; `from_document` reads them back."""
    return [asdict(entry) for entry in entries]


def from_document(document: object) -> tuple[Entry, ...]:
    """Read what can be read: a damaged entry is no reason to lose the rest, or the state that it lies in."""
    found = []
    for item in document if isinstance(document, list) else []:
        try:
            texts = [str(item[name])[:MAX_DETAIL] for name in ("what", "by", "sha256", "model", "detail")]
            wall_s, release = int(item["wall_s"]), int(item["release"])
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        what, by, sha256, model, detail = texts
        is_unsigned = item.get("is_unsigned") is True
        found.append(Entry(wall_s, what, by, sha256, release, model, detail, is_unsigned))
    return tuple(found[-MAX_ENTRIES:])


def _cut(text: str) -> str:
    return text if len(text) <= MAX_DETAIL else f"{text[: MAX_DETAIL - 1]}…"
