"""Puts a change of keys that has all its signatures before vehicles.

Files appear in an order that leaves vehicles a whole repository at each moment: the roles, then snapshot and
timestamp, signed by the old keys and by the new ones, then root. Where an old key is gone, root has to come
first, and until the next file is there vehicles refuse what they see and keep what they have. A kill anywhere
is mended by the same call again; the server makes it every few minutes.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from cloud.release.change_file import KeyChange, load, pending_path
from cloud.release.errors import ReleaseError
from cloud.release.key_changes import Document
from cloud.release.keys import KeyRing, check_private, load_keys, save_keys, signer_at
from cloud.release.locking import locked
from cloud.release.role_files import (
    current_role,
    meta_of,
    moment,
    newest_root,
    read_role,
    read_timestamp,
    renew_snapshot,
    role_path,
    write_online,
    write_role,
)


@dataclass(frozen=True, slots=True)
class _Online:
    """The keys of the online roles that are to be signed.

    Attributes:
        signers: role -> signers, of the new root's keys first, then of the old one's that are at hand.
        has_old: every old key is among them.
    """

    signers: dict[str, list[Signer]]
    has_old: bool


def publish(folder: Path, keys: Path, now: datetime | None = None) -> KeyChange | None:
    """Publish the change under way; may be repeated.

    It stays under way until `finish`, so that whoever keeps the audit trail can write it down first.

    Args:
        folder: the repository.
        keys: the folder of the keys.
        now: the present time; None: by the clock.

    Returns:
        The change; None where none is under way.

    Raises:
        ReleaseError: signatures are missing, a new online key is not at hand, or a release came between.
        OSError: the folders cannot be written.
    """
    with locked(folder):
        if not pending_path(folder).exists():
            return None
        change = load(pending_path(folder), keys)
        if change.missing():
            raise ReleaseError(f"the change of keys is not signed by all: {'; '.join(change.missing())}")
        _refuse_stale(folder, change)
        ring = load_keys(keys)
        _put(folder, change, _online_keys(folder, ring, change), moment(now))
        if ring != change.ring:
            save_keys(change.ring)
        for key in change.ring.retired:
            path = change.ring.file_of(key)
            if key.keyid in change.facts.retired and path is not None and path.parent == keys:
                path.unlink(missing_ok=True)
        return change


def resume(folder: Path, keys: Path) -> None:
    """Publish the rest of a change where a kill left vehicles between the old keys and the new ones.

    Raises:
        ReleaseError: a key is not at hand.
        OSError: the folders cannot be written.
    """
    path = pending_path(folder)
    if path.exists() and begun(folder, load(path, keys)):
        publish(folder, keys)


def finish(folder: Path) -> None:
    """Forget the change that was published: it was written down.

    Raises:
        OSError: the repository cannot be written.
    """
    with locked(folder):
        pending_path(folder).unlink(missing_ok=True)


def begun(folder: Path, change: KeyChange) -> bool:
    """Say whether anything of a change may have been seen by vehicles."""
    return any(_is_there(folder, document) for document in change.documents)


def signers_at_hand(ring: KeyRing, change: KeyChange, wanted: Collection[str]) -> dict[str, Signer]:
    """Reach for private keys, as they are before the change and after it; leave out what is not here.

    Args:
        ring: before the change.
        change: it.
        wanted: ids of keys; no other is touched, as a token would ask for its PIN.
    """
    found = {}
    for keys in (ring, change.ring):
        for name, key in keys.keys.items():
            if key.public.keyid in wanted:
                with suppress(ReleaseError):
                    found[key.public.keyid] = signer_at(key, keys.folder, name)
    return found


def _refuse_stale(folder: Path, change: KeyChange) -> None:
    for document in change.documents:
        before = 0 if document.before is None else document.before.signed.version
        if _version(folder, document.role) != before and not _is_there(folder, document):
            raise ReleaseError(
                f"{document.role} was changed since this change of keys began (by a release, perhaps):"
                " `keys abandon`, and begin again"
            )


def _is_there(folder: Path, document: Document) -> bool:
    """This very version was published: it, or a later one, is what vehicles see."""
    path = role_path(folder, document.role, document.after.signed.version)
    return (
        path.exists()
        and _version(folder, document.role) >= document.after.signed.version
        and read_role(path).signed == document.after.signed
    )


def _version(folder: Path, role: str) -> int:
    """The version of a role that vehicles see; 0 for one that they don't."""
    if role == Root.type:
        return newest_root(folder).signed.version
    meta = current_role(folder, Snapshot.type).signed.meta.get(f"{role}.json")
    return 0 if meta is None else int(meta.version)


def _due(folder: Path, change: KeyChange) -> list[str]:
    """Say which online roles don't name what is new, or are not signed by the root's keys."""
    snapshot = current_role(folder, Snapshot.type)
    others = [document for document in change.documents if document.role != Root.type]
    if not all(_is_there(folder, document) for document in others):
        return [Snapshot.type, Timestamp.type]
    if not _signed(change.root, Snapshot.type, snapshot):
        return [Snapshot.type, Timestamp.type]
    stamp = read_role(folder / "metadata" / "timestamp.json")
    return [] if _signed(change.root, Timestamp.type, stamp) else [Timestamp.type]


def _online_keys(folder: Path, ring: KeyRing, change: KeyChange) -> _Online:
    """Reach for the keys of the online roles that are to be signed.

    Raises:
        ReleaseError: a new one is not at hand, or does not sign.
    """
    old, new, due = newest_root(folder).signed, change.root, _due(folder, change)
    wanted = {keyid for role in due for root in (old, new) for keyid in root.roles[role].keyids}
    at_hand = signers_at_hand(ring, change, wanted)
    signers: dict[str, list[Signer]] = {}
    has_old = True
    for role in due:
        for keyid in new.roles[role].keyids:
            name = change.ring.name_of(keyid)
            change.ring.public(name)  # a key of somebody else is refused by its name
            check_private(change.ring.keys[name], change.ring.folder, name)
        gone = [keyid for keyid in old.roles[role].keyids if keyid not in new.roles[role].keyids]
        has_old = has_old and all(keyid in at_hand for keyid in gone)
        signers[role] = [at_hand[keyid] for keyid in (*new.roles[role].keyids, *gone) if keyid in at_hand]
    return _Online(signers, has_old)


def _put(folder: Path, change: KeyChange, online: _Online, now: datetime) -> None:
    root, old = change.after(Root.type), newest_root(folder).signed
    behind = [entry for entry in change.documents if entry.role != Root.type and not _is_there(folder, entry)]
    for document in behind:
        write_role(folder, document.role, document.after)
    targets = change.after(Targets.type)
    readable_by_old = online.has_old and (targets is None or _signed(old, Targets.type, targets))
    if root is not None and not readable_by_old:
        write_role(folder, Root.type, root)
    if online.signers:
        _put_online(folder, behind, online, now)
    if root is not None and readable_by_old and old.version < root.signed.version:
        write_role(folder, Root.type, root)


def _put_online(folder: Path, behind: list[Document], online: _Online, now: datetime) -> None:
    snapshot = current_role(folder, Snapshot.type)
    for entry in behind:
        version = entry.after.signed.version
        snapshot.signed.meta[f"{entry.role}.json"] = meta_of(folder, entry.role, version)
    by = online.signers.get(Snapshot.type, [])
    if by:
        renew_snapshot(snapshot, now)
    stamp = read_timestamp(folder).version + 1
    write_online(folder, snapshot, stamp, by, online.signers[Timestamp.type], now)


def _signed(delegator: Any, role: str, metadata: Metadata[Any]) -> bool:
    result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    return bool(result)
