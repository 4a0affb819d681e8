"""Writes a bundle (protos/release_bundle.py): releases and what proves them, for a vehicle without a network.

A stick may be carried for weeks, so a vehicle takes a bundle until the first of its offline roles ends (root,
targets, the releases' role). The timestamp and the snapshot in it are the published ones, and that they last
a day and a week does not count there: the release counter, and the roots and versions that the vehicle has
seen, keep older bundles out (edge/updates/offline.py).
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets

from cloud.datasets.files import atomic_file
from cloud.release.errors import ReleaseError
from cloud.release.locking import locked
from cloud.release.repository import Release, list_releases
from cloud.release.role_files import current_role, newest_root, read_role, role_path
from protos.release_bundle import (
    MARK,
    MAX_FILES,
    MAX_METADATA_BYTES,
    MAX_TARGET_BYTES,
    SCHEMA,
    TIMESTAMP_NAME,
    metadata_name,
    target_name,
)
from protos.release_facts import ReleaseFacts, role_of_fleet


@dataclass(frozen=True, slots=True)
class BundleContent:
    """What a bundle holds.

    Attributes:
        releases: whose files are in it.
        roots: versions of the first and the last root.
        until: when the first of the roles that are signed offline ends, ISO 8601; a vehicle does not take it
            later.
        size_bytes: of the file.
    """

    releases: tuple[ReleaseFacts, ...]
    roots: tuple[int, int]
    until: str
    size_bytes: int


def write_bundle(
    folder: Path,
    out: Path,
    counter: int | None = None,
    fleet: str | None = None,
    first_root: int = 1,
) -> BundleContent:
    """Write a bundle with the newest release, or one that is asked for.

    The metadata is all of the fleet's, as it is now, since no part of it would verify alone. A vehicle takes
    the newest release for it, by that metadata: an older one's file is of use to vehicles of other hardware.

    Args:
        folder: the repository.
        out: the file; it appears whole.
        counter: of the release; None: the newest one for each hardware id.
        fleet: whose; None: that of vehicles without one.
        first_root: that is in it. A vehicle needs all that come after its own.

    Raises:
        ReleaseError: there is no such release, fleet or root, a file is damaged, or it is more than a bundle
            takes.
        OSError: `out` cannot be written.
    """
    with locked(folder):
        role = role_of_fleet(fleet)
        releases = _chosen([item for item in list_releases(folder) if item.facts.fleet == fleet], counter)
        newest = newest_root(folder).signed.version
        if not 1 <= first_root <= newest:
            raise ReleaseError(f"there is no root {first_root}; there are 1 to {newest}")
        listed = current_role(folder, role).signed.targets
        metadata = _metadata(folder, role, range(first_root, newest + 1))
        metadata |= {name: entry.to_bytes() for name, entry in _online(folder).items()}
        if len(metadata) + len(releases) + 1 > MAX_FILES:
            raise ReleaseError(f"{len(metadata)} files of metadata: begin at a later root than {first_root}")
        with (
            atomic_file(out) as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            _add(tar, MARK, io.BytesIO(f"{SCHEMA}\n".encode()), 16)
            for name, data in metadata.items():
                _add(tar, name, io.BytesIO(data), MAX_METADATA_BYTES)
            for release in releases:
                _check(release, listed[release.facts.target_path])
                with release.file.open("rb") as content:
                    _add(tar, target_name(release.facts.model_sha256), content, MAX_TARGET_BYTES)
        offline = [newest_root(folder), current_role(folder, Targets.type), current_role(folder, role)]
        ends = [entry.signed.expires for entry in offline]
    facts = tuple(release.facts for release in releases)
    return BundleContent(facts, (first_root, newest), min(ends).isoformat(), out.stat().st_size)


def _chosen(releases: list[Release], counter: int | None) -> list[Release]:
    """Each release's file once: two releases of the same model share it."""
    if counter is None:
        newest = {name: release for release in releases for name in release.facts.hardware_ids}
        chosen = list(newest.values())
    else:
        chosen = [release for release in releases if release.facts.release_counter == counter]
    if not chosen:
        counters = ", ".join(str(release.facts.release_counter) for release in releases) or "none"
        raise ReleaseError(f"there is no release {counter or 'yet'} for this fleet; there are: {counters}")
    return list({release.facts.model_sha256: release for release in chosen}.values())


def _metadata(folder: Path, role: str, roots: range) -> dict[str, bytes]:
    """The roles that are signed offline: each by its name in the bundle."""
    versions = [(Root.type, version) for version in roots]
    versions += [(name, current_role(folder, name).signed.version) for name in (Targets.type, role)]
    return {metadata_name(*entry): role_path(folder, *entry).read_bytes() for entry in versions}


def _online(folder: Path) -> dict[str, Metadata[Any]]:
    snapshot, stamp = current_role(folder, Snapshot.type), read_role(folder / "metadata" / "timestamp.json")
    return {metadata_name(Snapshot.type, snapshot.signed.version): snapshot, TIMESTAMP_NAME: stamp}


def _check(release: Release, target: TargetFile) -> None:
    try:
        with release.file.open("rb") as file:
            target.verify_length_and_hashes(file)
    except (OSError, RepositoryError) as error:
        raise ReleaseError(f"{release.file} is not what was released: {error}") from None


def _add(tar: tarfile.TarFile, name: str, content: IO[bytes], limit: int) -> None:
    entry = tarfile.TarInfo(name)  # no owner, no time: the same content is the same file
    entry.size = content.seek(0, io.SEEK_END)
    content.seek(0)
    if entry.size > limit:
        raise ReleaseError(f"{name} has {entry.size} bytes, a bundle takes up to {limit}")
    tar.addfile(entry, content)
