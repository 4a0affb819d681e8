"""What the tests of attacks share: looking at a vehicle that was attacked, and what a thief can publish."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, TargetFile

from cloud.release.keys import KeyRing
from cloud.release.role_files import (
    current_role,
    meta_of,
    publish_online,
    read_timestamp,
    renew_snapshot,
    sign_role,
    write_role,
)
from edge.updates.errors import Refusal
from edge.updates.slots import Slots
from protos.release_facts import ReleaseFacts
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests.update_world import HARDWARE, World, activated, check, model

REFUSED = common.UPDATE_PHASE_REFUSED


def driving(world: World, folder: Any) -> Slots:
    """A vehicle that drives on release 1."""
    world.release(model("1"))
    slots = world.slots(folder)
    activated(world, slots)
    return slots


def refused(world: World, slots: Slots, refusal: Refusal, told: str = "") -> None:
    """The check refuses for this reason, and the vehicle is as it was."""
    before = slots.state
    result = check(world, slots)
    assert (result.phase, result.refusal) == (REFUSED, refusal), result.detail
    assert told in result.detail
    assert "\n" not in result.detail
    assert unharmed(before, slots)


def online_only(folder: Path, keys: KeyRing, models_version: int) -> None:
    """What the keys of snapshot and timestamp alone can publish: an older role, under newer versions."""
    snapshot = current_role(folder, "snapshot")
    snapshot.signed.meta["models.json"] = meta_of(folder, "models", models_version)
    now = datetime.now(timezone.utc).replace(microsecond=0)
    renew_snapshot(snapshot, now)
    online = keys.signer("snapshot"), keys.signer("timestamp")
    publish_online(folder, snapshot, read_timestamp(folder).version + 1, *online, now)


def kept_away(world: World, slots: Slots, told: str = "") -> None:
    """The check fails as a broken line does, and the vehicle is as it was."""
    before = slots.state
    result = check(world, slots)
    assert (result.refusal, result.retry) == (None, True), result.detail
    assert told in result.detail
    assert unharmed(before, slots)


def unharmed(before: Any, slots: Slots) -> bool:
    # What happened is written down in any case.
    after = dataclasses.replace(slots.state, clock_floor_s=before.clock_floor_s, history=before.history)
    return after == before and slots.load(slots.state.active).data is not None


def publish(world: World, models: Metadata[Any], signers: list[Signer]) -> None:
    """What somebody with the online keys and these signers can put before vehicles."""
    sign_role(models, signers)
    write_role(world.folder, "models", models)
    snapshot = current_role(world.folder, "snapshot")
    snapshot.signed.meta["models.json"] = meta_of(world.folder, "models", models.signed.version)
    now = datetime.now(timezone.utc).replace(microsecond=0)
    renew_snapshot(snapshot, now)
    online = world.keys.signer("snapshot"), world.keys.signer("timestamp")
    publish_online(world.folder, snapshot, read_timestamp(world.folder).version + 1, *online, now)


def with_release(world: World, data: bytes, counter: int, **fields: Any) -> Metadata[Any]:
    """The current role and one release more, unsigned; its file lies ready."""
    models = current_role(world.folder, "models")
    digest = hashlib.sha256(data).hexdigest()
    about = {"model_version": "x", "hardware_ids": (HARDWARE,), **fields}
    facts = ReleaseFacts(counter, "rectangles", model_sha256=digest, **about)
    target = TargetFile.from_data(facts.target_path, data, ["sha256"])
    target.unrecognized_fields["custom"] = facts.to_custom()
    file = world.folder / "targets" / "models" / f"{digest}.{facts.target_path.removeprefix('models/')}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    models.signed.targets[facts.target_path] = target
    models.signed.version += 1
    return models


def rewritten(role: str, change: Callable[[bytes], bytes], world: World) -> Callable[..., Iterator[Any]]:
    """A server that changes one role's files."""
    inner = world.server.metadata

    def serve(request: fleet.FetchMetadataRequest) -> Iterator[fleet.FetchMetadataResponse]:
        data = b"".join(chunk.data for chunk in inner(request))
        data = change(data) if request.role == role else data
        yield fleet.FetchMetadataResponse(data=data, offset_bytes=0, total_bytes=len(data))

    return serve
