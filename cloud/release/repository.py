"""The TUF repository in a folder: what vehicles may install, signed by role.

    folder/metadata/N.root.json, N.targets.json, N.models.json, N.snapshot.json, timestamp.json
    folder/metadata/N.models-FLEET.json     a fleet's releases
    folder/targets/models/SHA256.NAME       a release's file
    folder/targets/models/FLEET/SHA256.NAME
    folder/pending/                         a release on its way (releasing.py)
    folder/lock                             one writer at a time

Root, targets and the releases' role are signed by keys that can be elsewhere; snapshot and timestamp by
online keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    TOP_LEVEL_ROLE_NAMES,
    DelegatedRole,
    Delegations,
    Metadata,
    Root,
    Snapshot,
    Targets,
)

from cloud.release.errors import ReleaseError
from cloud.release.keys import RELEASE_KEYS, ROOT_THRESHOLD, KeyRing
from cloud.release.locking import locked
from cloud.release.role_files import (
    OFFLINE_VALIDITY,
    SNAPSHOT_VALIDITY,
    TIMESTAMP_VALIDITY,
    current_role,
    meta_of,
    moment,
    newest_root,
    publish_online,
    read_timestamp,
    renew_snapshot,
    role_path,
    sign_role,
    write_role,
)
from protos.release_facts import MODELS_PATH, MODELS_ROLE, ReleaseFacts, from_custom


@dataclass(frozen=True, slots=True)
class Release:
    """A release that vehicles can see.

    Attributes:
        facts: what is signed about it.
        length: of its file, bytes.
        file: the file itself.
    """

    facts: ReleaseFacts
    length: int
    file: Path


def create_repository(
    folder: Path, keys: KeyRing, now: datetime | None = None, root_threshold: int | None = None
) -> None:
    """Make an empty repository; one that is there is left as it is, one that was half made is finished.

    Args:
        folder: of the repository.
        keys: all of them at hand.
        now: the present time; None: by the clock.
        root_threshold: how many of root's keys sign a new root; None: two, or as one that is there has.

    Raises:
        ReleaseError: a private key is missing, or there are not so many of root's, or the root that is there
            has another threshold.
        OSError: the folder cannot be written.
    """
    with locked(folder):
        if role_path(folder, Root.type, 1).exists():  # someone may have it
            has = newest_root(folder).signed.roles[Root.type].threshold
            if root_threshold not in (None, has):
                raise ReleaseError(f"the root that is there has the threshold {has}, which stays")
        if (folder / "metadata" / "timestamp.json").exists():
            return
        now = moment(now)
        root = Metadata(_first_root(keys, now, ROOT_THRESHOLD if root_threshold is None else root_threshold))
        targets = Metadata(_first_targets(keys, now))
        models = Metadata(Targets(expires=now + OFFLINE_VALIDITY))
        sign_role(root, [keys.signer(name) for name in keys.root_names])
        sign_role(targets, [keys.signer("targets")])
        sign_role(models, [keys.signer(name) for name in RELEASE_KEYS])
        if not role_path(folder, Root.type, 1).exists():  # a root that someone may have is never exchanged
            write_role(folder, Root.type, root)
        write_role(folder, Targets.type, targets)
        write_role(folder, MODELS_ROLE, models)
        meta = {f"{role}.json": meta_of(folder, role, 1) for role in (Targets.type, MODELS_ROLE)}
        snapshot = Metadata(Snapshot(expires=now + SNAPSHOT_VALIDITY, meta=meta))
        publish_online(folder, snapshot, 1, keys.signer("snapshot"), keys.signer("timestamp"), now)


def refresh_timestamp(folder: Path, snapshot: Signer, timestamp: Signer, now: datetime | None = None) -> bool:
    """Sign the online roles anew where half of their time is over; say whether anything was written.

    Call it every few hours: vehicles take metadata for stale that is not renewed.

    Raises:
        ReleaseError: signing failed.
        OSError: the repository cannot be written.
    """
    with locked(folder):
        now = moment(now)
        current, stamp = current_role(folder, Snapshot.type), read_timestamp(folder)
        renew = current.signed.expires - now < SNAPSHOT_VALIDITY / 2
        if not renew and stamp.expires - now >= TIMESTAMP_VALIDITY / 2:
            return False
        if renew:
            renew_snapshot(current, now)
        publish_online(folder, current, stamp.version + 1, snapshot if renew else None, timestamp, now)
        return True


def list_releases(folder: Path) -> list[Release]:
    """Return what vehicles of all fleets can see, by rising counter.

    Raises:
        ReleaseError: there is no readable repository.
    """
    delegations = current_role(folder, Targets.type).signed.delegations
    found = [
        release for role in delegations.roles for release in releases_in(folder, current_role(folder, role))
    ]
    return sorted(found, key=lambda release: release.facts.release_counter)


def current_root(folder: Path) -> bytes:
    """Return the newest root metadata: what a vehicle that is enrolled now gets as its trust anchor.

    Raises:
        ReleaseError: there is no readable repository.
    """
    return role_path(folder, Root.type, newest_root(folder).signed.version).read_bytes()


def publish_root(folder: Path, root: Root, signers: Sequence[Signer], now: datetime | None = None) -> int:
    """Publish a changed root (other keys, another threshold) as the next version, which is returned.

    Args:
        folder: the repository.
        root: `current_root`, changed by `add_key` and `revoke_key`; version and expiry are set here.
        signers: enough of the old root's keys and of the new one's.
        now: the present time; None: by the clock.

    Raises:
        ReleaseError: old or new threshold is not met.
        OSError: the repository cannot be written.
    """
    with locked(folder):
        before = Metadata[Root].from_bytes(current_root(folder)).signed
        root.version = before.version + 1
        root.expires = moment(now) + OFFLINE_VALIDITY
        metadata = Metadata(root)
        sign_role(metadata, signers)
        try:
            for delegator in (before, root):
                delegator.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
        except RepositoryError as error:
            raise ReleaseError(f"root {root.version} is not signed by enough keys: {error}") from None
        write_role(folder, Root.type, metadata)
        return root.version


def _first_root(keys: KeyRing, now: datetime, threshold: int) -> Root:
    if not 1 <= threshold <= len(keys.root_names):
        raise ReleaseError(f"root has {len(keys.root_names)} keys: {threshold} of them cannot sign")
    root = Root(expires=now + OFFLINE_VALIDITY, consistent_snapshot=True)
    for role in TOP_LEVEL_ROLE_NAMES:
        for name in keys.root_names if role == Root.type else (role,):
            root.add_key(keys.public(name), role)
    root.roles[Root.type].threshold = threshold
    return root


def _first_targets(keys: KeyRing, now: datetime) -> Targets:
    role = DelegatedRole(MODELS_ROLE, [], len(RELEASE_KEYS), terminating=True, paths=[f"{MODELS_PATH}*"])
    targets = Targets(expires=now + OFFLINE_VALIDITY, delegations=Delegations({}, {MODELS_ROLE: role}))
    for name in RELEASE_KEYS:
        targets.add_key(keys.public(name), MODELS_ROLE)
    return targets


def releases_in(folder: Path, models: Metadata[Any]) -> list[Release]:
    """Return what the releases' role lists, by rising counter.

    Raises:
        FactsError: a target has no facts of a release.
    """
    found = []
    for target in models.signed.targets.values():
        facts = from_custom(target.custom)
        found.append(Release(facts, target.length, target_file(folder, facts)))
    return sorted(found, key=lambda release: release.facts.release_counter)


def target_file(folder: Path, facts: ReleaseFacts) -> Path:
    """Return where a release's file lies: its consistent snapshot, by digest."""
    directory, _, name = facts.target_path.rpartition("/")
    return folder / "targets" / directory / f"{facts.model_sha256}.{name}"
