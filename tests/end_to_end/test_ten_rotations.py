"""A vehicle that was away for ten roots, while every key changed: real server, real daemon, mutual TLS."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from cloud.config import CloudConfig
from cloud.release.keys import KeyRing, load_keys
from cloud.release.role_files import (
    current_role,
    meta_of,
    moment,
    newest_root,
    publish_online,
    read_timestamp,
    renew_snapshot,
    sign_role,
    write_online,
    write_role,
)
from edge.updates.hardware import hardware_ids
from protos.traffic_vision.v1.common_pb2 import UPDATE_PHASE_CONFIRMED, UPDATE_PHASE_REFUSED, ModelState
from tests.clouds import WAIT_S, command_line, environment, make_cloud, serving
from tests.daemons import DaemonProcess, write_config
from tests.models_factory import loaded, rectangles_model
from tests.rollout_fleet import publish
from tests.waiting import eventually

pytestmark = pytest.mark.services

VEHICLE = "test-1"
OF_ROOT = ("root", "targets", "snapshot", "timestamp", "root-1")  # a change of one of these is a new root
CHANGES = [
    *(("rotate", subject) for subject in ("root", "targets", "models", "snapshot", "timestamp")),
    *(("revoke", subject) for subject in ("root-1", "targets", "trainer", "timestamp")),
    *(("rotate", subject) for subject in ("root", "snapshot", "timestamp")),
]
CLOUD = {"ca": "ca.crt", "cert": "client.crt", "key": "client.key", "retry_limit_s": 0.5}
UPDATES = {"root": "root.json", "probation_s": 0.1, "probation_frames": 5, "check_interval_s": 1.0}
DRIVE = {"name": "front", "url": "sim:7?seconds=3600&rate=10&size=96x64"}


def changes_keys(folder: Path, what: str, subject: str) -> None:
    more = ("--reason", "stolen") if what == "revoke" else ()
    told = command_line("cloud", "keys", what, subject, *more, "--config", folder / "cloud.toml")
    done = subprocess.run(
        told, env=environment(), capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "published" in done.stdout


def model(version: str) -> bytes:
    return rectangles_model(version=version)


class Driving:
    """What a daemon that runs says of its models."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.daemon = daemon

    def model(self) -> ModelState:
        return self.daemon.client.status().status.model

    def reaches(self, counter: int) -> None:
        """It drives on the release, confirmed."""

        def holds() -> bool:
            found = self.model()
            return found.release_counter == counter and found.phase == UPDATE_PHASE_CONFIRMED

        self._until(holds, f"release {counter}")
        assert self.model().active.sha256 == loaded(model(str(counter))).digest

    def refuses(self, told: str) -> None:
        """It looks by itself, says why it takes nothing, and drives on with what it had."""
        before = self.model().active.sha256

        def holds() -> bool:
            found = self.model()
            return found.phase == UPDATE_PHASE_REFUSED and told in found.detail

        self._until(holds, told)
        for message in islice(self.daemon.client.detections(), 3):
            assert message.detections.model.sha256 == before

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        try:
            eventually(holds, what)
        except AssertionError as error:
            lines = [line["message"] for line in self.daemon.log[-5:]]
            raise AssertionError(f"{error}; it says {self.model()}, it logs {lines}") from None


def test_a_vehicle_that_was_away_for_ten_rotations(tmp_path: Path) -> None:
    config = make_cloud(tmp_path, VEHICLE)
    hardware = hardware_ids(("cpu",))
    with serving(tmp_path) as server:
        vehicle = tmp_path / "vehicles" / VEHICLE
        (vehicle / "factory.onnx").write_bytes(model("factory"))
        edge = write_config(vehicle, DRIVE, cloud={"address": server.address, **CLOUD}, updates=UPDATES)
        publish(config, model("1"), "1", hardware)
        with DaemonProcess(edge) as daemon:
            Driving(daemon).reaches(1)
            assert daemon.terminate() == 0
        shipped = (vehicle / "root.json").read_bytes()
        old = copied_keys(config, tmp_path / "thief")
        for what, subject in CHANGES:
            changes_keys(tmp_path, what, subject)
        roots = sum(subject in OF_ROOT for _, subject in CHANGES)
        assert newest_root(config.folders.repository).signed.version == 1 + roots == 11
        publish(config, model("2"), "2", hardware)
        with DaemonProcess(edge) as daemon:
            driving = Driving(daemon)
            driving.reaches(2)
            assert (vehicle / "root.json").read_bytes() == shipped, "it followed from the root of its start"
            old_keys_are_good_for_nothing(config, old, driving)
            assert daemon.terminate() == 0
        with DaemonProcess(edge) as daemon:  # from its slot, whatever the server shows
            assert daemon.client.status().status.model.active.version == "3"
            assert daemon.terminate() == 0
        assert server.stop() == 0


def copied_keys(config: CloudConfig, folder: Path) -> KeyRing:
    """All private keys as they are now, in other hands."""
    shutil.copytree(config.folders.keys, folder)
    return dataclasses.replace(load_keys(config.folders.keys), folder=folder)


def old_keys_are_good_for_nothing(config: CloudConfig, old: KeyRing, driving: Driving) -> None:
    """Who has the server, and every key of before: root's, the online ones, those of releases."""
    folder, now = config.folders.repository, moment(None)
    root = newest_root(folder)
    root.signed.version += 1
    sign_role(root, [old.signer(name) for name in ("root-1", "root-2", "root-3")])
    write_role(folder, "root", root)
    driving.refuses("root was signed by 0/2 keys")
    (folder / "metadata" / f"{root.signed.version}.root.json").unlink()

    kept = shutil.copytree(folder / "metadata", folder.parent / "kept")
    snapshot, stamp = current_role(folder, "snapshot"), read_timestamp(folder).version + 1
    renew_snapshot(snapshot, now)
    write_online(folder, snapshot, stamp, [old.signer("snapshot")], [old.signer("timestamp")], now)
    driving.refuses("timestamp was signed by 0/1 keys")
    shutil.rmtree(folder / "metadata")
    kept.rename(folder / "metadata")
    publish(config, model("3"), "3", hardware_ids(("cpu",)))
    driving.reaches(3)

    models, ring = current_role(folder, "models"), load_keys(config.folders.keys)
    models.signed.version += 1
    sign_role(models, [old.signer("trainer"), old.signer("gate")])
    write_role(folder, "models", models)
    snapshot = current_role(folder, "snapshot")
    snapshot.signed.meta["models.json"] = meta_of(folder, "models", models.signed.version)
    renew_snapshot(snapshot, now)
    online = ring.signer("snapshot"), ring.signer("timestamp")
    publish_online(folder, snapshot, read_timestamp(folder).version + 1, *online, now)
    driving.refuses("models was signed by 0/2 keys")
