"""What somebody with some of the owner's private keys can publish, and what a vehicle says to it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root

from cloud.release.keys import KeyRing
from cloud.release.role_files import (
    current_role,
    newest_root,
    read_timestamp,
    renew_snapshot,
    sign_role,
    write_online,
    write_role,
)
from tests.update_attack import publish, with_release
from tests.update_world import World, model

HUGE = 2**31  # a version that no honest one follows

Forgery = Callable[[World, KeyRing], None]


def stolen(world: World, folder: Path) -> KeyRing:
    """A copy of the whole ring's private keys; which of them the thief has, a test says by what it uses."""
    shutil.copytree(world.keys.folder, folder)
    return dataclasses.replace(world.keys, folder=folder)


def signers(ring: KeyRing, *names: str) -> list[Signer]:
    return [ring.signer(name) for name in names]


def _root(world: World, version: int = 2) -> Metadata[Root]:
    found = newest_root(world.folder)
    found.signed.version = version
    return found


def _put(world: World, root: Metadata[Root], by: Sequence[Signer]) -> None:
    sign_role(root, by)
    write_role(world.folder, "root", root)


def _by_one_key(world: World, thief: KeyRing) -> None:
    _put(world, _root(world), signers(thief, "root-1"))


def _by_the_same_key_twice(world: World, thief: KeyRing) -> None:
    root = _root(world)
    sign_role(root, signers(thief, "root-1"))
    document = root.to_dict()
    document["signatures"] *= 2
    (world.folder / "metadata" / "2.root.json").write_text(json.dumps(document))


def _by_new_keys_alone(world: World, thief: KeyRing) -> None:
    world.exchange("root")
    _put(world, _root(world), signers(world.keys, "root-1", "root-2", "root-3"))


def _by_old_keys_alone(world: World, thief: KeyRing) -> None:
    world.exchange("root")
    _put(world, _root(world), signers(thief, "root-1", "root-2"))


def _of_a_skipped_version(world: World, thief: KeyRing) -> None:
    root = _root(world, 3)
    sign_role(root, signers(thief, "root-1", "root-2"))
    (world.folder / "metadata" / "2.root.json").write_bytes(root.to_bytes())


# What a root must not be, and what a vehicle says to it.
FORGED_ROOTS: dict[str, tuple[Forgery, str]] = {
    "one key": (_by_one_key, "root was signed by 1/2 keys"),
    "the same key twice": (_by_the_same_key_twice, "Failed to deserialize JSON"),
    "only new keys": (_by_new_keys_alone, "root was signed by 0/2 keys"),
    "only old keys": (_by_old_keys_alone, "root was signed by 0/2 keys"),
    "a version that is skipped": (_of_a_skipped_version, "Expected root version 2"),
}


def publish_online(world: World, thief: KeyRing, now: datetime | None = None, **versions: int) -> None:
    """The online roles, signed by a thief; versions, also of what the snapshot names, may be set."""
    snapshot = current_role(world.folder, "snapshot")
    moment = (now or datetime.now(timezone.utc)).replace(microsecond=0)
    renew_snapshot(snapshot, moment)
    snapshot.signed.version = versions.pop("snapshot", snapshot.signed.version)
    stamp = versions.pop("timestamp", read_timestamp(world.folder).version + 1)
    for role, version in versions.items():
        snapshot.signed.meta[f"{role}.json"].version = version
    write_online(
        world.folder, snapshot, stamp, signers(thief, "snapshot"), signers(thief, "timestamp"), moment
    )


def _by_a_revoked_trainer(world: World, thief: KeyRing) -> None:
    """With the gate's key of today, and at the server, too."""
    forged = with_release(world, model("evil"), 2)
    publish(world, forged, [*signers(thief, "trainer"), *signers(world.keys, "gate")])


def _by_a_revoked_targets_key(world: World, thief: KeyRing) -> None:
    """It could delegate to anybody."""
    forged = current_role(world.folder, "targets")
    forged.signed.version += 1
    sign_role(forged, signers(thief, "targets"))
    write_role(world.folder, "targets", forged)
    snapshot = current_role(world.folder, "snapshot")
    about = snapshot.signed.meta["targets.json"]
    about.version, about.hashes, about.length = forged.signed.version, None, None
    now = datetime.now(timezone.utc).replace(microsecond=0)
    renew_snapshot(snapshot, now)
    online = signers(world.keys, "snapshot"), signers(world.keys, "timestamp")
    write_online(world.folder, snapshot, read_timestamp(world.folder).version + 1, *online, now)


# Which key was stolen and then revoked, what it is used for after that, and what a vehicle says to it.
BY_REVOKED_KEYS: dict[str, tuple[Forgery, str]] = {
    "snapshot": (publish_online, "timestamp was signed by 0/1 keys"),  # its companion goes with it
    "trainer": (_by_a_revoked_trainer, "models was signed by 1/2 keys"),
    "targets": (_by_a_revoked_targets_key, "targets was signed by 0/1 keys"),
}
