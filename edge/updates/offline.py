"""A bundle's metadata, held against the same signatures, versions and floors as what comes by the network.

One rule differs. By the network, the timestamp's day and the snapshot's week say that nobody keeps newer
metadata away; a stick is carried for longer than that, and whoever carries it chooses what the vehicle gets
to see in any case. So of a bundle only what the owner's offline keys signed must not have ended (root,
targets, models), and it is the counters that keep older releases out: the release counter, and the versions
of targets and models that this vehicle has seen. python-tuf's Updater has no such mode, hence this reading of
its metadata by the same steps (TUF specification 1.0.34, section 5).

What a bundle proves is remembered as what the network proves (`edge.updates.remembered`), whether or not its
release is taken: a root as soon as the one before it and itself vouch for it, the other roles when all of the
bundle verified and none has ended. So keys that were revoked stay so, on whatever way that became known here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

from edge.updates import remembered
from edge.updates.bundle import Bundle, BundleError, NoSuchMetadataError
from edge.updates.errors import Refusal, RefusedError
from edge.updates.evidence import Evidence
from edge.updates.metadata import Catalogue, readable_releases
from edge.updates.signed_roles import DAMAGED, load, signed_at, successor, trusted_root, verify_by
from protos.release_facts import path_of_fleet, role_of_fleet

MAX_ROOTS = 256  # rotations that are followed, as python-tuf does

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a bundle has on offer.

    Attributes:
        catalogue: its releases; expiries of the roles that must not have ended.
        evidence: what proves the release at a path; verified by whoever uses it.
        roles: role -> its metadata, for `remembered.keep_roles` once it is known that none has ended.
    """

    catalogue: Catalogue
    evidence: Callable[[str], Evidence]
    roles: Mapping[str, bytes]


def read_offer(bundle: Bundle, cache: Path, shipped_root: bytes, fleet: str | None = None) -> Offer:
    """Verify a bundle's metadata from the shipped root down. Newer roots are kept, the rest is not yet.

    Args:
        bundle: an open one.
        cache: python-tuf's folder, with what this vehicle has seen on either way.
        shipped_root: the trust anchor.
        fleet: the vehicle's; None: it belongs to none.

    Raises:
        RefusedError: METADATA: it does not check, or is older than what this vehicle has seen.
        OSError: the cache cannot be read or written.
    """
    try:
        return _read(bundle, cache, shipped_root, fleet)
    except (*DAMAGED, BundleError) as error:
        raise RefusedError(Refusal.METADATA, f"the bundle's metadata does not check: {error}") from None


def _read(bundle: Bundle, cache: Path, shipped_root: bytes, fleet: str | None) -> Offer:
    role_name, within = role_of_fleet(fleet), path_of_fleet(fleet)
    root, roots = _follow_roots(bundle, cache, shipped_root)
    stamp = load(Timestamp, bundle.metadata(Timestamp.type, None))
    verify_by(root.signed, Timestamp.type, stamp)
    snapshot, snapshot_data = _role(bundle, Snapshot, Snapshot.type, root.signed, stamp.signed.snapshot_meta)
    listed = snapshot.signed.meta
    targets, targets_data = _role(bundle, Targets, Targets.type, root.signed, listed["targets.json"])
    models, models_data = _role(bundle, Targets, role_name, targets.signed, listed[f"{role_name}.json"])
    _require_no_older(cache, Targets.type, targets, root)
    _require_no_older(cache, role_name, models, targets)
    expiries = {"root": root, "targets": targets, role_name: models}
    # A path elsewhere is another role's to speak of, whoever lists it.
    listed_targets = models.signed.targets.items()
    own = [target for path, target in listed_targets if path.rpartition("/")[0] + "/" == within]
    catalogue = Catalogue(
        readable_releases(own),
        {role: metadata.signed.expires for role, metadata in expiries.items()},
        signed_at(stamp.signed),
    )
    roles = {Targets.type: targets_data, role_name: models_data}
    if _moves_on(_held(cache, Snapshot, Snapshot.type, root), snapshot.signed):
        roles[Snapshot.type] = snapshot_data
    return Offer(catalogue, lambda path: Evidence(tuple(roots), targets_data, models_data, path), roles)


def _follow_roots(bundle: Bundle, cache: Path, shipped_root: bytes) -> tuple[Metadata[Root], list[bytes]]:
    """The newest root that follows from the shipped one, and all after that one, in order."""
    root = trusted_root(shipped_root)
    roots: list[bytes] = []
    for _ in range(MAX_ROOTS):
        version = root.signed.version + 1
        # What is kept comes first: whoever has revoked root keys can sign another root of that version.
        data = remembered.kept_root(cache, version)
        newer = None if data is None else _successor_or_none(root, data)
        if data is None or newer is None:
            try:
                data = bundle.metadata(Root.type, version)
            except NoSuchMetadataError:
                break
            newer = successor(root, data)
            remembered.keep_root(cache, version, data)
        root = newer
        roots.append(data)
    return root, roots


def _successor_or_none(root: Metadata[Root], data: bytes) -> Metadata[Root] | None:
    try:
        return successor(root, data)
    except DAMAGED as error:
        # Damaged, or of another cloud's: the Updater asks for it anew, too.
        _LOG.warning("the root kept after version %d does not follow it: %s", root.signed.version, error)
        return None


def _role(
    bundle: Bundle, kind: type[Signed], name: str, judge: Any, meta: Any
) -> tuple[Metadata[Any], bytes]:
    data = bundle.metadata(name, meta.version)
    meta.verify_length_and_hashes(data)
    metadata = load(kind, data)
    verify_by(judge, name, metadata)
    if metadata.signed.version != meta.version:
        raise RepositoryError(f"{name} has version {metadata.signed.version}, expected {meta.version}")
    return metadata, data


def _require_no_older(cache: Path, role: str, metadata: Metadata[Any], judge: Metadata[Any]) -> None:
    held = _held(cache, Targets, role, judge)
    if held is not None and metadata.signed.version < held.version:
        raise RepositoryError(
            f"its {role} metadata has version {metadata.signed.version}, this vehicle has seen {held.version}"
        )


def _held(cache: Path, kind: type[Signed], role: str, judge: Metadata[Any]) -> Any:
    """What was seen of a role, if those who signed it may sign it today; None: nothing.

    A revoked key's version numbers are forgotten, or a thief could raise them beyond reach for good (TUF
    specification 1.0.34, 5.3.11).
    """
    data = remembered.kept_role(cache, role)
    if data is None:
        return None
    try:
        metadata = load(kind, data)
        verify_by(judge.signed, role, metadata)
    except DAMAGED:
        return None
    return metadata.signed


def _moves_on(held: Snapshot | None, snapshot: Snapshot) -> bool:
    """Whether the Updater would let a snapshot follow the one that is held (5.5.5 and 5.5.6)."""
    if held is None:
        return True
    return snapshot.version > held.version and all(
        name in snapshot.meta and snapshot.meta[name].version >= entry.version
        for name, entry in held.meta.items()
    )
