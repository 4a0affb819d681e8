"""The slots' state as a JSON document. What is read is not believed: it may have been damaged, or edited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from edge.updates import history
from edge.updates.errors import SlotError
from edge.updates.slot_state import MAX_WISH, MAX_WISHES, WRITABLE, Bad, SlotName, SlotState, violations
from protos.release_facts import MAX_COUNTER, FactsError, from_custom

SCHEMA = 1
MAX_CLOCK_S = 253_402_300_799  # the last second of the year 9999, where datetime ends


def to_document(state: SlotState) -> dict[str, Any]:
    """Return a JSON document; `from_document` reads back the same."""
    document = {"schema": SCHEMA, **asdict(replace(state, history=()))}
    document["history"] = history.to_document(state.history)
    for slot in WRITABLE:
        release = state.release(slot)
        document[slot] = None if release is None else release.to_custom()
    return document


def from_document(document: object) -> SlotState:
    """Read a state and hold it against the machine's own rules.

    Raises:
        SlotError: it is no state that this machine can be in.
    """
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise SlotError(f"the slots' state is not of schema {SCHEMA}")
    try:
        state = SlotState(
            active=_slot(document["active"]),
            last_good=_slot(document["last_good"]),
            candidate=None if document["candidate"] is None else _slot(document["candidate"]),
            probation_starts=_count(document["probation_starts"], optional=True),
            a=None if document["a"] is None else from_custom(document["a"]),
            b=None if document["b"] is None else from_custom(document["b"]),
            bad=tuple(_bad(entry) for entry in document["bad"]),
            release_floor=_count(document["release_floor"]) or 0,
            clock_floor_s=_count(document["clock_floor_s"], most=MAX_CLOCK_S) or 0,
            reverted=None if document["reverted"] is None else _bad(document["reverted"]),
            starts=_count(document.get("starts", 0)) or 0,
            fallen=tuple(_bad(entry) for entry in document.get("fallen", ())),
            driven_s=_count(document.get("driven_s", 0)) or 0,
            driven_frames=_count(document.get("driven_frames", 0)) or 0,
            wishes=tuple(str(name)[:MAX_WISH] for name in document.get("wishes", ()))[-MAX_WISHES:],
            history=history.from_document(document.get("history", [])),
        )
    except (KeyError, TypeError, FactsError) as error:
        raise SlotError(f"the slots' state is damaged: {error!r}") from None
    broken = violations(state)
    if broken:
        raise SlotError(f"the slots' state is damaged: {'; '.join(broken)}")
    return state


def _slot(value: object) -> SlotName:
    if value not in ("a", "b", "factory"):
        raise SlotError(f"the slots' state is damaged: there is no slot {value!r}")
    return value


def _count(value: object, optional: bool = False, most: int = MAX_COUNTER) -> int | None:
    if value is None and optional:
        return None
    if type(value) is not int or not 0 <= value <= most:
        raise SlotError(f"the slots' state is damaged: {value!r} where a count belongs")
    return value


def _bad(value: Mapping[str, str]) -> Bad:
    return Bad(str(value["sha256"]), str(value["reason"]))
