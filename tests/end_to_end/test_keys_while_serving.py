"""Keys change under a server that runs: real processes, real TLS, and a vehicle's own client."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cloud.config import CloudConfig
from cloud.release.keys import load_keys
from cloud.release.releasing import complete_release, propose_release
from cloud.release.role_files import (
    current_role,
    meta_of,
    moment,
    publish_online,
    read_timestamp,
    renew_snapshot,
    sign_role,
    write_role,
)
from edge.updates.client import UpdateClient, UpdateResult
from edge.updates.errors import Refusal
from edge.updates.slots import Slots
from protos.traffic_vision.v1 import common_pb2
from protos.traffic_vision.v1.fleet_pb2_grpc import FleetServiceStub
from tests.clouds import WAIT_S, command_line, connected, environment, make_cloud, serving
from tests.update_world import LIMITS, TERMS, VEHICLE, model

pytestmark = pytest.mark.services

CONFIRMED, STAGED = common_pb2.UPDATE_PHASE_CONFIRMED, common_pb2.UPDATE_PHASE_STAGED


def run(folder: Path, *arguments: str) -> str:
    told = command_line("cloud", *arguments, "--config", folder / "cloud.toml")
    done = subprocess.run(
        told, env=environment(), capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def release(config: CloudConfig, version: str) -> None:
    ring = load_keys(config.folders.keys)
    facts = propose_release(config.folders.repository, model(version), TERMS, ring.signer("trainer"))
    signers = (ring.signer(name) for name in ("gate", "snapshot", "timestamp"))
    complete_release(config.folders.repository, facts.model_sha256, *signers)


def takes(stub: FleetServiceStub, slots: Slots, version: str) -> None:
    result = check(stub, slots)
    assert result.phase == STAGED, result.detail
    slots.activate()
    slots.confirm()
    assert slots.load(slots.state.active).data == model(version)


def check(stub: FleetServiceStub, slots: Slots) -> UpdateResult:
    return UpdateClient(stub, slots, limits=LIMITS).check()


def test_every_key_is_rotated_and_a_stolen_one_revoked_while_the_server_runs(tmp_path: Path) -> None:
    folder = tmp_path / "cloud"
    config = make_cloud(folder, "car")
    (tmp_path / "factory.onnx").write_bytes(model("factory"))
    root = (folder / "vehicles" / "car" / "root.json").read_bytes()
    slots = Slots(tmp_path / "slots", tmp_path / "factory.onnx", root, VEHICLE)
    with slots, serving(folder) as server, connected(folder, server.address, "car") as stub:
        release(config, "1")
        takes(stub, slots, "1")
        for subject in ("root", "targets", "models", "snapshot", "timestamp"):
            assert "published" in run(folder, "keys", "rotate", subject)
            assert check(stub, slots).phase == CONFIRMED
        thief = load_keys(config.folders.keys)
        stolen = thief.signer("trainer")
        assert "published" in run(folder, "keys", "revoke", "trainer", "--reason", "laptop stolen")
        assert check(stub, slots).phase == CONFIRMED
        propose_release(config.folders.repository, model("evil"), TERMS, stolen)
        release(config, "2")
        takes(stub, slots, "2")
        _forge(config, stolen)
        refused = check(stub, slots)
        assert refused.refusal is Refusal.METADATA
        assert "models was signed by 1/2 keys" in refused.detail
    found: dict[str, Any] = json.loads(run(folder, "keys", "status", "--json"))
    assert len(found["retired"]) == 9
    told = [json.loads(line) for line in run(folder, "audit", "list", "--json").splitlines()]
    assert [entry["subject"] for entry in told if entry["action"] == "keys rotated"] == [
        "root",
        "targets",
        "models",
        "snapshot",
        "timestamp",
    ]
    head = run(folder, "audit", "verify", "--head").strip()
    assert "entries hold" in run(folder, "audit", "verify", "--since-head", head)


def _forge(config: CloudConfig, stolen: Any) -> None:
    """Somebody on the server, with its online keys, and the trainer's key of before."""
    folder, ring = config.folders.repository, load_keys(config.folders.keys)
    models = current_role(folder, "models")
    models.signed.version += 1
    sign_role(models, [stolen, ring.signer("gate")])
    write_role(folder, "models", models)
    snapshot, now = current_role(folder, "snapshot"), moment(None)
    snapshot.signed.meta["models.json"] = meta_of(folder, "models", models.signed.version)
    renew_snapshot(snapshot, now)
    online = ring.signer("snapshot"), ring.signer("timestamp")
    publish_online(folder, snapshot, read_timestamp(folder).version + 1, *online, now)
