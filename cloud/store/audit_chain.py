"""The audit trail's hash chain: each entry's hash covers its own content and the hash of the one before.

What it shows: an entry that was changed, taken out, put in between, or moved. What it cannot show by itself
is that its newest entries were cut off, or that somebody rewrote it all from some entry on: whoever can write
the database can compute hashes too. Note the newest hash elsewhere now and then (`audit verify --head`); a
chain that holds it still is the same up to there.

Method: a linear hash chain as in Schneier and Kelsey, "Secure Audit Logs to Support Computer Forensics", ACM
TISSEC 2(2), 1999, without its keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from edge.errors import TrafficVisionError

FIRST = "0" * 64  # what the first entry has for the hash of the one before


class AuditError(TrafficVisionError):
    """The trail is not what was written, from the entry on that the message names."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry, as it is in the database. See `audit_entry.AuditEntry`."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    previous_sha256: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Verified:
    """A chain that holds.

    Attributes:
        count: of its entries.
        head: hash of the newest one; `FIRST` without any.
    """

    count: int
    head: str


def entry_sha256(
    id: int,
    at: datetime,
    actor: str,
    action: str,
    subject: str,
    detail: Mapping[str, Any],
    previous_sha256: str,
) -> str:
    """Return an entry's hash: SHA-256 of its fields as canonical JSON.

    That is: keys sorted, no spaces, ASCII, times in UTC with microseconds; a number with no fraction is
    written as a whole one, since PostgreSQL keeps no difference.

    Raises:
        ValueError: `detail` holds a number that is none, or keys that are no text.
    """
    document = {
        "id": id,
        "at": at.astimezone(timezone.utc).isoformat(timespec="microseconds"),
        "actor": actor,
        "action": action,
        "subject": subject,
        "detail": _plain(detail),
        "previous_sha256": previous_sha256,
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def verify_chain(entries: Iterable[Entry], since_head: str | None = None) -> Verified:
    """Check every entry against the one before.

    Args:
        entries: all of them, by rising id.
        since_head: a hash that was the newest once; it must be in the chain still.

    Raises:
        AuditError: names the first entry that does not hold.
    """
    head, count, last_id, seen = FIRST, 0, 0, since_head in (None, FIRST)
    for entry in entries:
        if entry.previous_sha256 != head:
            raise AuditError(
                f"audit entry {entry.id} does not follow the one before it ({last_id}): it says"
                f" {entry.previous_sha256[:16]}, that one is {head[:16]}: something between was taken out or"
                " put in"
            )
        found = entry_sha256(
            entry.id,
            entry.at,
            entry.actor,
            entry.action,
            entry.subject,
            entry.detail,
            entry.previous_sha256,
        )
        if found != entry.sha256:
            raise AuditError(
                f"audit entry {entry.id} ({entry.action} {entry.subject}) was changed after it was written"
            )
        head, count, last_id = entry.sha256, count + 1, entry.id
        seen = seen or head == since_head
    if not seen:
        raise AuditError(
            f"the entry with the hash {since_head} is not there: the newest entries were cut off, or written"
            f" anew (the chain has {count}, the last is {last_id})"
        )
    return Verified(count, head)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ValueError(f"keys of an audit entry's detail are texts, not {list(value)!r}")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
