"""A bundle's metadata, held against the same signatures, versions and floors as what comes by the network.

One rule differs. By the network, the timestamp's day and the snapshot's week say that nobody keeps newer
metadata away; a stick is carried for longer than that, and whoever carries it chooses what the vehicle gets
to see in any case. So of a bundle only what the owner's offline keys signed must not have ended (root,
targets, models), and it is the counters that keep older releases out: the release counter, and the versions
of targets and models that this vehicle has seen. python-tuf's Updater has no such mode, hence this reading of
its metadata by the same steps (TUF specification 1.0.34, section 5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

from edge.updates.bundle import Bundle, BundleError, NoSuchMetadataError
from edge.updates.errors import Refusal, RefusedError
from edge.updates.evidence import Evidence
from edge.updates.metadata import Catalogue, readable_releases
from protos.release_facts import SIGNED_AT_FIELD, path_of_fleet, role_of_fleet

MAX_ROOTS = 256  # rotations that are followed, as python-tuf does


@dataclass(frozen=True, slots=True)
class Offer:
    """What a bundle has on offer.

    Attributes:
        catalogue: its releases; expiries of the roles that must not have ended.
        evidence: what proves the release at a path; verified by whoever uses it.
    """

    catalogue: Catalogue
    evidence: Callable[[str], Evidence]


def read_offer(bundle: Bundle, cache: Path, shipped_root: bytes, fleet: str | None = None) -> Offer:
    """Verify a bundle's metadata from the shipped root down. Nothing of it is kept.

    Args:
        bundle: an open one.
        cache: python-tuf's folder of what came by the network: its newer roots count here too.
        shipped_root: the trust anchor.
        fleet: the vehicle's; None: it belongs to none.

    Raises:
        RefusedError: METADATA: it does not check, or is older than what this vehicle has seen.
    """
    try:
        return _read(bundle, cache, shipped_root, fleet)
    except (RepositoryError, BundleError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise RefusedError(Refusal.METADATA, f"the bundle's metadata does not check: {error}") from None


def _read(bundle: Bundle, cache: Path, shipped_root: bytes, fleet: str | None) -> Offer:
    role_name, within = role_of_fleet(fleet), path_of_fleet(fleet)
    root = _load(Root, shipped_root)
    root.signed.verify_delegate(Root.type, root.signed_bytes, root.signatures)
    roots: list[bytes] = []
    for _ in range(MAX_ROOTS):
        data = _root(bundle, cache, root.signed.version + 1)
        if data is None:
            break
        newer = _load(Root, data)
        if newer.signed.version != root.signed.version + 1:
            raise RepositoryError(f"expected root version {root.signed.version + 1}")
        for judge in (root, newer):
            judge.signed.verify_delegate(Root.type, newer.signed_bytes, newer.signatures)
        root = newer
        roots.append(data)
    stamp = _load(Timestamp, bundle.metadata(Timestamp.type, None))
    root.signed.verify_delegate(Timestamp.type, stamp.signed_bytes, stamp.signatures)
    snapshot, _ = _role(bundle, Snapshot, Snapshot.type, root.signed, stamp.signed.snapshot_meta)
    listed = snapshot.signed.meta
    targets, targets_data = _role(bundle, Targets, Targets.type, root.signed, listed["targets.json"])
    models, models_data = _role(bundle, Targets, role_name, targets.signed, listed[f"{role_name}.json"])
    for role, metadata in ((Targets.type, targets), (role_name, models)):
        _require_no_older(cache, role, metadata.signed.version)
    expiries = {"root": root, "targets": targets, role_name: models}
    # A path elsewhere is another role's to speak of, whoever lists it.
    listed_targets = models.signed.targets.items()
    own = [target for path, target in listed_targets if path.rpartition("/")[0] + "/" == within]
    catalogue = Catalogue(
        readable_releases(own),
        {role: metadata.signed.expires for role, metadata in expiries.items()},
        _signed_at(stamp.signed),
    )
    return Offer(catalogue, lambda path: Evidence(tuple(roots), targets_data, models_data, path))


def _root(bundle: Bundle, cache: Path, version: int) -> bytes | None:
    try:
        return bundle.metadata(Root.type, version)
    except NoSuchMetadataError:
        kept = cache / "root_history" / f"{version}.root.json"
        return kept.read_bytes() if kept.is_file() else None


def _role(
    bundle: Bundle, kind: type[Signed], name: str, judge: Any, meta: Any
) -> tuple[Metadata[Any], bytes]:
    data = bundle.metadata(name, meta.version)
    meta.verify_length_and_hashes(data)
    metadata = _load(kind, data)
    judge.verify_delegate(name, metadata.signed_bytes, metadata.signatures)
    if metadata.signed.version != meta.version:
        raise RepositoryError(f"{name} has version {metadata.signed.version}, expected {meta.version}")
    return metadata, data


def _load(kind: type[Signed], data: bytes) -> Metadata[Any]:
    metadata: Metadata[Any] = Metadata.from_bytes(data)
    if not isinstance(metadata.signed, kind):
        raise RepositoryError(f"expected {kind.type} metadata, found {metadata.signed.type}")
    return metadata


def _require_no_older(cache: Path, role: str, version: int) -> None:
    try:
        seen = Metadata[Targets].from_bytes((cache / f"{role}.json").read_bytes()).signed.version
    except (OSError, RepositoryError):  # nothing was seen, or nothing that can be read
        return
    if version < seen:
        raise RepositoryError(f"its {role} metadata has version {version}, this vehicle has seen {seen}")


def _signed_at(stamp: Timestamp) -> datetime | None:
    seconds = stamp.unrecognized_fields.get(SIGNED_AT_FIELD)
    if type(seconds) is not int or not 0 <= seconds < 2**35:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc)
