"""The slots' state on disk, twice: `state.json`, and `state.json.old`, which is written after it.

The first one decides wherever it can be read and is a state of the machine; the second stands in for it, and
is at most one change behind. Both carry a checksum, since one flipped bit makes another floor of a floor and
leaves a document that reads well. A document without one is an older program's.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge.files import atomic_write
from edge.updates import slot_document, slot_state
from edge.updates.errors import SlotError
from edge.updates.slot_state import WRITABLE, SlotState

STATE, COPY = "state.json", "state.json.old"
CHECKSUM = "sha256"  # of the rest of the document
MAX_STATE_BYTES = 1 << 20

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """What the two files say together.

    Attributes:
        state: what they remember; None where neither does.
        is_twice: both say just that; else the state must be written anew.
        trouble: why it is not simply what `state.json` says; empty in the usual case.
    """

    state: SlotState | None
    is_twice: bool
    trouble: str


def to_bytes(state: SlotState) -> bytes:
    """Return the document of a state, with its checksum."""
    document = slot_document.to_document(state)
    return json.dumps({**document, CHECKSUM: checksum(document)}, indent=1).encode()


def from_bytes(data: bytes) -> SlotState:
    """Read what `to_bytes` wrote, or what was written before there were checksums.

    Raises:
        SlotError: it is neither, or no state that the slots can be in.
    """
    try:
        document = json.loads(data)
        if isinstance(document, dict):
            _check_sum(document)
        return slot_document.from_document(document)
    except (ValueError, OverflowError, RecursionError, AttributeError) as error:
        raise SlotError(f"the slots' state is damaged: {error!r}") from None


def read(folder: Path) -> Found:
    """Read both files. In the usual case they are alike, and one of them is parsed.

    Raises nothing: what cannot be read is one trouble more.
    """
    main, main_trouble = _bytes_of(folder / STATE)
    copy, copy_trouble = _bytes_of(folder / COPY)
    state, main_trouble = _parsed(folder / STATE, main, main_trouble)
    if state is not None and copy == main:
        return Found(state, True, "")
    copied, copy_trouble = _parsed(folder / COPY, copy, copy_trouble)
    if state is None:
        if main is None and not main_trouble and (copy is not None or copy_trouble):
            main_trouble = f"{folder / STATE} is missing"
        return Found(copied, False, "; ".join(filter(None, (main_trouble, copy_trouble))))
    if copied is None:  # an older program's, or the copy alone is damaged
        return Found(state, False, copy_trouble)
    merged = never_less_than(state, copied)
    told = f"{folder / STATE} forgot floors or bad models that {COPY} has" if merged != state else ""
    return Found(merged, False, told)


def write(folder: Path, document: bytes) -> bool:
    """Put a document into both files; the change is made when the first one is on disk.

    Returns:
        Whether it is in the second one too; if not, that is logged.

    Raises:
        OSError: the first one cannot be written; the second one is as before.
    """
    atomic_write(folder / STATE, document)
    try:
        atomic_write(folder / COPY, document)
    except OSError as error:
        _LOG.warning(
            "%s cannot be written, the next change writes it: %s",
            folder / COPY,
            error,
            extra={"event": "slots_state_copy_unwritten"},
        )
        return False
    return True


def set_aside(folder: Path) -> str:
    """Keep a damaged `state.json` for whoever looks into it; says where, or nothing."""
    aside = folder / "state.damaged"
    try:
        if _parsed(folder / STATE, *_bytes_of(folder / STATE))[0] is not None:
            return ""
        (folder / STATE).replace(aside)
    except OSError:  # there is none, or the disk takes no change
        return ""
    return f"; it is kept as {aside}"


def never_less_than(state: SlotState, other: SlotState) -> SlotState:
    """A state with floors as high as another's, and with all that is bad there; its slots are given up."""
    raised = slot_state.floors_raised(state, release=other.release_floor, clock_s=other.clock_floor_s)
    forgotten = tuple(entry for entry in other.bad if entry.sha256 not in state.bad_sha256)
    kept = (*forgotten, *state.bad)[-slot_state.MAX_BAD :]
    raised = replace(raised, bad=kept)
    for slot in WRITABLE:
        release = raised.release(slot)
        if release is not None and release.model_sha256 in {entry.sha256 for entry in forgotten}:
            raised = slot_state.lost(raised, slot)
    return raised


def checksum(document: Mapping[str, Any]) -> str:
    """SHA-256 of the content: it does not go by white space or by the order of keys."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _bytes_of(path: Path) -> tuple[bytes | None, str]:
    """A file's content, and what was wrong with it; neither where there is no file."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_STATE_BYTES), ""
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"{path} cannot be read: {error.strerror or error}"


def _parsed(path: Path, data: bytes | None, trouble: str) -> tuple[SlotState | None, str]:
    if data is None:
        return None, trouble
    try:
        return from_bytes(data), ""
    except SlotError as error:
        return None, f"{path}: {error}"


def _check_sum(document: dict[str, Any]) -> None:
    """Take the checksum out of a document and hold it against the rest."""
    noted = document.pop(CHECKSUM, None)
    if noted is not None and noted != checksum(document):
        raise SlotError("the slots' state is damaged: its checksum is another")
    unknown = document.keys() - slot_document.to_document(SlotState()).keys()
    if noted is None and unknown:  # one of them may have been the checksum
        raise SlotError(f"the slots' state is damaged: it has no checksum, and {sorted(unknown)}")
