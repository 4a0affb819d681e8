"""The metadata files of a TUF repository's roles, read and written one at a time.

The timestamp decides what is current. Whatever else lies in the folder (a version that a kill left behind, an
older one) is no part of the repository until a snapshot and a timestamp name it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Timestamp

from cloud.datasets.files import write_file
from cloud.release.errors import ReleaseError
from protos.release_facts import SIGNED_AT_FIELD

OFFLINE_VALIDITY = timedelta(days=365)  # root, targets and the releases' role
SNAPSHOT_VALIDITY = timedelta(days=7)
TIMESTAMP_VALIDITY = timedelta(days=1)


def current_role(folder: Path, role: str) -> Metadata[Any]:
    """Return a role's metadata as clients see it now: from the timestamp on, whatever else lies there.

    Raises:
        ReleaseError: a file is missing or damaged.
    """
    version = read_timestamp(folder).snapshot_meta.version
    snapshot = read_role(role_path(folder, Snapshot.type, version))
    if role == Snapshot.type:
        return snapshot
    meta = snapshot.signed.meta.get(f"{role}.json")
    if meta is None:
        raise ReleaseError(f"there is no role '{role}': `traffic-vision cloud keys delegate` makes a fleet's")
    return read_role(role_path(folder, role, meta.version))


def newest_root(folder: Path) -> Metadata[Root]:
    """Return the newest root metadata.

    Raises:
        ReleaseError: there is none, or it is damaged.
    """
    version = 1
    while role_path(folder, Root.type, version + 1).exists():
        version += 1
    return read_role(role_path(folder, Root.type, version))


def read_timestamp(folder: Path) -> Timestamp:
    """Return what clients begin with.

    Raises:
        ReleaseError: it is missing or damaged.
    """
    signed: Timestamp = read_role(folder / "metadata" / "timestamp.json").signed
    return signed


def read_role(path: Path) -> Metadata[Any]:
    """Read one metadata file; its signatures are not looked at.

    Raises:
        ReleaseError: it is missing or damaged.
    """
    try:
        return Metadata.from_bytes(path.read_bytes())
    except FileNotFoundError:
        raise ReleaseError(
            f"{path} is missing: is this a repository? `traffic-vision cloud init` makes one"
        ) from None
    except RepositoryError as error:
        raise ReleaseError(f"{path} is damaged: {error}") from None


def sign_role(metadata: Metadata[Any], signers: Sequence[Signer], append: bool = False) -> None:
    """Sign in place of the signatures that are there, or beside them.

    Raises:
        ReleaseError: a signer failed.
    """
    try:
        for signer in signers:
            metadata.sign(signer, append=append)
            append = True
    except RepositoryError as error:
        # A token's own error may have no words: PinIncorrect.
        why = str(error) if error.__cause__ is None else repr(error.__cause__)
        raise ReleaseError(f"signing the {metadata.signed.type} metadata failed: {why}") from error


def write_role(folder: Path, role: str, metadata: Metadata[Any]) -> None:
    """Write a role's file under its version; durable when this returns, so that what follows may name it."""
    write_durable(role_path(folder, role, metadata.signed.version), metadata.to_bytes())


def write_durable(path: Path, data: bytes) -> None:
    """Write a whole file, and its name in the folder, through to the disk."""
    write_file(path, data)
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def meta_of(folder: Path, role: str, version: int) -> MetaFile:
    """Return what the next role up says of a file: version, length and hash."""
    return MetaFile.from_data(version, role_path(folder, role, version).read_bytes(), ["sha256"])


def role_path(folder: Path, role: str, version: int) -> Path:
    """Return where a version of a role lies."""
    return folder / "metadata" / f"{version}.{role}.json"


def publish_online(
    folder: Path,
    snapshot: Metadata[Any],
    timestamp_version: int,
    snapshot_signer: Signer | None,
    timestamp_signer: Signer,
    now: datetime,
) -> None:
    """Sign and write the snapshot, then the timestamp that makes everything before it current.

    Args:
        folder: the repository.
        snapshot: with its version and expiry set.
        timestamp_version: of the new timestamp.
        snapshot_signer: None: the snapshot is the current one and only the timestamp is new.
        timestamp_signer: of the timestamp role's key.
        now: the present time.

    Raises:
        ReleaseError: these are not the keys that the newest root names; nothing was written.
    """
    root = newest_root(folder).signed
    for role, signer in ((Snapshot.type, snapshot_signer), (Timestamp.type, timestamp_signer)):
        if signer is not None and signer.public_key.keyid not in root.roles[role].keyids:
            raise ReleaseError(f"the key of the {role} role was exchanged: read the keys anew, and try again")
    write_online(
        folder,
        snapshot,
        timestamp_version,
        [] if snapshot_signer is None else [snapshot_signer],
        [timestamp_signer],
        now,
    )


def write_online(
    folder: Path,
    snapshot: Metadata[Any],
    timestamp_version: int,
    snapshot_signers: Sequence[Signer],
    timestamp_signers: Sequence[Signer],
    now: datetime,
) -> None:
    """Do what `publish_online` does with any number of keys, and without a look at the root.

    Args:
        folder: the repository.
        snapshot: with its version and expiry set.
        timestamp_version: of the new timestamp.
        snapshot_signers: none: the snapshot is the current one and only the timestamp is new.
        timestamp_signers: more than one where vehicles with the old root and with the new one shall read it.
        now: the present time.
    """
    if snapshot_signers:
        sign_role(snapshot, snapshot_signers)
        write_role(folder, Snapshot.type, snapshot)
    stamp = Timestamp(
        version=timestamp_version,
        expires=now + TIMESTAMP_VALIDITY,
        snapshot_meta=meta_of(folder, Snapshot.type, snapshot.signed.version),
        unrecognized_fields={SIGNED_AT_FIELD: int(now.timestamp())},
    )
    metadata = Metadata(stamp)
    sign_role(metadata, timestamp_signers)
    write_durable(folder / "metadata" / "timestamp.json", metadata.to_bytes())


def renew_snapshot(snapshot: Metadata[Any], now: datetime) -> None:
    """Make it the next version, valid from now."""
    snapshot.signed.version += 1
    snapshot.signed.expires = now + SNAPSHOT_VALIDITY


def moment(now: datetime | None) -> datetime:
    """Return the time to write: whole seconds, as TUF has them."""
    return (now or datetime.now(timezone.utc)).replace(microsecond=0)
