"""What a bundle's verified metadata leaves behind, so that later bundles and the network are held against it.

It lies where python-tuf's Updater keeps what came by the network, under the same names
(`root_history/N.root.json`, `ROLE.json`), so that neither way knows less than the other: the Updater follows
kept roots before it asks for newer ones, and holds each new snapshot against the versions in the kept one.
`root.json`, its link to the newest root, is left to it: it makes that anew at each start.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edge.files import atomic_write, sync_folder


def kept_root(cache: Path, version: int) -> bytes | None:
    """Return a root that was verified once; whoever uses it verifies it again. None: there is none.

    Raises:
        OSError: it is there and cannot be read.
    """
    return _read(_root_path(cache, version))


def keep_root(cache: Path, version: int, data: bytes) -> None:
    """Remember a verified root for good. The ones before it are remembered already.

    Raises:
        OSError: it cannot be written.
    """
    _write(_root_path(cache, version), data)
    sync_folder(cache)
    sync_folder(cache.parent)


def kept_role(cache: Path, role: str) -> bytes | None:
    """Return a role's metadata as it was last verified, as `kept_root` does.

    Raises:
        OSError: it is there and cannot be read.
    """
    return _read(cache / f"{role}.json")


def keep_roles(cache: Path, roles: Mapping[str, bytes]) -> None:
    """Remember verified metadata in place of older.

    Args:
        cache: the Updater's folder.
        roles: role -> its metadata, in the order of writing: what is listed before what lists it.

    Raises:
        OSError: one cannot be written; those before it are remembered.
    """
    for role, data in roles.items():
        if kept_role(cache, role) != data:
            _write(cache / f"{role}.json", data)
    sync_folder(cache.parent)


def _root_path(cache: Path, version: int) -> Path:
    return cache / "root_history" / f"{version}.root.json"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, data)
