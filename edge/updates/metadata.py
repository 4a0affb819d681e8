"""The repository's metadata, verified by python-tuf's client: what is on offer, what proves it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tuf.api.exceptions import DownloadError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from edge.files import sync_folder
from edge.updates.errors import Refusal, RefusedError, TransferError
from edge.updates.evidence import Evidence, verify_timestamp
from edge.updates.fetcher import BASE_URL
from edge.updates.signed_roles import signed_at
from protos.release_facts import (
    FactsError,
    ReleaseFacts,
    from_custom,
    path_of_fleet,
    role_of_fleet,
)

_LOG = logging.getLogger(__name__)
_TOP_LEVEL = (Root.type, Timestamp.type, Snapshot.type, Targets.type)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What verified metadata says at this moment.

    Attributes:
        lengths: every readable release -> the length of its file, bytes.
        expiries: role -> end of its validity.
        signed_at: when the timestamp was signed; None where it does not say.
    """

    lengths: Mapping[ReleaseFacts, int]
    expiries: Mapping[str, datetime]
    signed_at: datetime | None


def refresh(
    folder: Path, shipped_root: bytes, fetcher: FetcherInterface, fleet: str | None = None
) -> Catalogue:
    """Bring the metadata up to date and verify it from the shipped root down.

    Args:
        folder: python-tuf's cache; what it verified before protects against rollback.
        shipped_root: the trust anchor; never the cached one, which whoever writes the cache could exchange.
        fetcher: the network.
        fleet: whose releases to look for; None: those for vehicles without one.

    Raises:
        PutOffError: by the fetcher: something else comes first.
        TransferError: the server is away, too slow, or answers nonsense.
        RefusedError: METADATA or EXPIRED: the metadata does not check.
        OSError: the cache cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        role, within = role_of_fleet(fleet), path_of_fleet(fleet)
        updater = _refreshed(folder, shipped_root, fetcher, fleet)
        # A path elsewhere is another role's to speak of, whoever lists it.
        listed = [
            path for path in _cached(folder, role).signed.targets if path.rpartition("/")[0] + "/" == within
        ]
        targets = [updater.get_targetinfo(path) for path in listed]
        expiries = {name: _cached(folder, name).signed.expires for name in (*_TOP_LEVEL, role)}
        stamped = signed_at(_cached(folder, Timestamp.type).signed)
    except DownloadError as error:
        raise TransferError(f"the update metadata could not be fetched: {error}") from None
    except ExpiredMetadataError as error:
        clock = datetime.now(timezone.utc)
        raise RefusedError(
            Refusal.EXPIRED,
            f"{error}; the clock says {clock:%Y-%m-%d %H:%M:%SZ}: stale metadata, or a wrong clock",
        ) from None
    except (RepositoryError, ValueError) as error:
        raise RefusedError(Refusal.METADATA, f"the update metadata does not check: {error}") from None
    return Catalogue(readable_releases(targets), expiries, stamped)


def cached_expiry(folder: Path, fleet: str | None = None) -> datetime | None:
    """When the metadata that is kept in the cache ends, for people: nothing is verified by it.

    Returns:
        None where no role, or not every role, is kept.
    """
    try:
        expiries: list[datetime] = [
            _cached(folder, role).signed.expires for role in (*_TOP_LEVEL, role_of_fleet(fleet))
        ]
    except (OSError, RepositoryError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return min(expiries)


def cached_signed_at(folder: Path, shipped_root: bytes) -> datetime | None:
    """When the timestamp that is kept in the cache was signed, verified from the shipped root down.

    Returns:
        None where there is none, it does not check, or does not say.
    """
    history = (folder / "root_history").glob("*.root.json")
    try:
        by_version = sorted(history, key=lambda path: int(path.name.partition(".")[0]))
        roots = [path.read_bytes() for path in by_version]
        timestamp = verify_timestamp(shipped_root, roots, (folder / "timestamp.json").read_bytes())
    except (OSError, ValueError, RefusedError, RecursionError):
        return None
    return signed_at(timestamp)


def evidence_for(folder: Path, shipped_root: bytes, path: str, fleet: str | None = None) -> Evidence:
    """Gather what proves a release from the refreshed cache. It is verified by whoever uses it.

    Raises:
        OSError: a file of the cache is missing.
    """
    shipped = Metadata[Root].from_bytes(shipped_root).signed.version
    newest = _cached(folder, Root.type).signed.version
    history = folder / "root_history"
    return Evidence(
        roots=tuple(
            (history / f"{version}.root.json").read_bytes() for version in range(shipped + 1, newest + 1)
        ),
        targets=(folder / "targets.json").read_bytes(),
        models=(folder / f"{role_of_fleet(fleet)}.json").read_bytes(),
        path=path,
    )


def _refreshed(folder: Path, shipped_root: bytes, fetcher: FetcherInterface, fleet: str | None) -> Updater:
    config = UpdaterConfig(snapshot_max_length=1 << 18, targets_max_length=1 << 22, max_delegations=8)
    updater = Updater(str(folder), BASE_URL, fetcher=fetcher, config=config, bootstrap=shipped_root)
    try:
        updater.refresh()
        # The Updater has no way to list targets. Asking for one that cannot be there loads the delegated
        # role; its cached file then names the paths, and each one's facts come from the Updater's verified
        # set.
        updater.get_targetinfo(f"{path_of_fleet(fleet)}-")
    finally:
        _sync(folder)
    delegations, role = _cached(folder, Targets.type).signed.delegations, role_of_fleet(fleet)
    if delegations is None or role not in (delegations.roles or {}):
        raise RepositoryError(f"nobody may sign for this vehicle: there is no role {role}")
    return updater


def _sync(folder: Path) -> None:
    """Make what the Updater wrote survive a power cut: it writes by rename, without fsync."""
    history = folder / "root_history"
    for path in [*folder.glob("*.json"), *history.glob("*.json")]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    sync_folder(history)
    sync_folder(folder)


def _cached(folder: Path, role: str) -> Metadata[Any]:
    return Metadata.from_bytes((folder / f"{role}.json").read_bytes())


def readable_releases(targets: Iterable[TargetFile | None]) -> dict[ReleaseFacts, int]:
    """The releases among verified targets, each with its file's length; what is none costs itself alone."""
    lengths = {}
    for target in targets:
        if target is None:
            continue
        try:
            facts = from_custom(target.custom)
            if target.path != facts.target_path or target.hashes.get("sha256") != facts.model_sha256:
                raise FactsError("its facts speak of another file")
        except FactsError as error:  # costs itself alone
            _LOG.warning("target %s is no release that this program can read: %s", target.path, error)
            continue
        lengths[facts] = target.length
    return lengths
