"""Bundles of a repository, as a person carries them on a stick: written here by the format's description.

And what a vehicle does with one: it is installed, or refused.
"""

from __future__ import annotations

import dataclasses
import io
import tarfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from cloud.release.repository import list_releases
from edge.updates.client import UpdateClient
from edge.updates.errors import Refusal
from edge.updates.slots import Slots
from protos.release_bundle import MARK, target_name
from tests.update_world import World


def files_of_bundle(world: World) -> dict[str, bytes]:
    """What belongs in a bundle of the repository as it is."""
    metadata = {f"metadata/{path.name}": path.read_bytes() for path in (world.folder / "metadata").iterdir()}
    targets = {
        target_name(release.facts.model_sha256): release.file.read_bytes()
        for release in list_releases(world.folder)
    }
    return {MARK: b"1\n", **metadata, **targets}


def write_bundle(
    world: World,
    path: Path,
    change: Callable[[str, bytes], bytes | None] = lambda name, data: data,
) -> Path:
    """A bundle of the repository; `change` takes a file's name and bytes, and gives None to leave it out."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files_of_bundle(world).items():
            changed = change(name, data)
            if changed is not None:
                entry = tarfile.TarInfo(name)
                entry.size = len(changed)
                tar.addfile(entry, io.BytesIO(changed))
    return path


def install(slots: Slots, bundle: Path, clock: Callable[[], datetime] | None = None) -> Any:
    options = {} if clock is None else {"clock": clock}
    return UpdateClient(None, slots, **options).install(bundle)


def refused(slots: Slots, bundle: Path, refusal: Refusal | None, told: str, **options: Any) -> None:
    """It is not installed for this reason, and the vehicle is as it was."""
    before = dataclasses.replace(slots.state, clock_floor_s=0)
    result = install(slots, bundle, **options)
    assert result.refusal is refusal and told in result.detail, result
    assert result.staged is None and "\n" not in result.detail
    assert dataclasses.replace(slots.state, clock_floor_s=0) == before
