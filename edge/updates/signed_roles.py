"""Signed metadata read and verified by python-tuf's own classes, for what its Updater has no mode for.

The steps are those of the TUF specification 1.0.34, section 5. That something has ended is not judged here.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Timestamp

from protos.release_facts import SIGNED_AT_FIELD

# What reading and verifying raises where the bytes are not what they should be.
DAMAGED = (RepositoryError, ValueError, TypeError, KeyError, RecursionError)


def load(kind: type[Signed], data: bytes) -> Metadata[Any]:
    """Parse metadata, unverified.

    Raises:
        DAMAGED: it is none of that kind.
    """
    metadata: Metadata[Any] = Metadata.from_bytes(data)
    if not isinstance(metadata.signed, kind):
        raise RepositoryError(f"expected {kind.type} metadata, found {metadata.signed.type}")
    return metadata


def verify_by(delegator: Any, role: str, metadata: Metadata[Any]) -> None:
    """Check metadata's signatures by the keys and the threshold that root or targets metadata gives the role.

    Raises:
        DAMAGED: too few of them hold, or there is no such role.
    """
    delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)


def trusted_root(data: bytes) -> Metadata[Root]:
    """Parse root metadata that is trusted by where it lies; it must be signed by itself.

    Raises:
        DAMAGED: it is none.
    """
    root = load(Root, data)
    verify_by(root.signed, Root.type, root)
    return root


def successor(root: Metadata[Root], data: bytes) -> Metadata[Root]:
    """Verify the next root: signed by the keys of this one, and by its own (5.3.4, 5.3.5).

    Raises:
        DAMAGED: it does not follow.
    """
    newer = load(Root, data)
    if newer.signed.version != root.signed.version + 1:
        raise RepositoryError(f"root version {newer.signed.version}, expected {root.signed.version + 1}")
    for judge in (root, newer):
        verify_by(judge.signed, Root.type, newer)
    return newer


def newest_root(shipped_root: bytes, roots: Iterable[bytes]) -> Metadata[Root]:
    """Follow roots from the shipped one; those that are not newer than it are passed over.

    Raises:
        DAMAGED: one does not follow.
    """
    root = trusted_root(shipped_root)
    for data in roots:
        if load(Root, data).signed.version > root.signed.version:
            root = successor(root, data)
    return root


def signed_at(timestamp: Timestamp) -> datetime | None:
    """When timestamp metadata was signed; None: it does not say."""
    seconds = timestamp.unrecognized_fields.get(SIGNED_AT_FIELD)
    if type(seconds) is not int:
        return None
    try:
        return datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
