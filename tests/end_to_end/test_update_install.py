"""`edge update install` as people run it: beside a running daemon and without one, signed and unsigned."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.updates.hardware import hardware_ids
from protos.traffic_vision.v1 import common_pb2
from tests import evil_models
from tests.bundles import write_bundle
from tests.daemons import DaemonProcess, write_config
from tests.models_factory import loaded
from tests.replays import COMMAND
from tests.update_world import World, model, open_world
from tests.waiting import eventually
from tools.watch.words import status_line

pytestmark = pytest.mark.services

DRIVE = {"url": "sim:7?seconds=0&rate=10&size=64x64"}
UPDATES = {"root": "root.json", "probation_s": 0.001, "probation_frames": 3}
TERMS = {"hardware_ids": hardware_ids(("cpu",))}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = open_world(tmp_path / "cloud")
    yield opened
    opened.close()


@pytest.fixture
def config(world: World, tmp_path: Path) -> Path:
    """A vehicle without a cloud."""
    return configured(world, tmp_path / "vehicle")


def configured(world: World, folder: Path, **updates: object) -> Path:
    folder.mkdir()
    (folder / "root.json").write_bytes(world.root)
    sections = {"updates": {**UPDATES, **updates}, "http": {"address": "127.0.0.1:0"}}
    return write_config(folder, DRIVE, **sections)


def install(config: Path, file: Path, *options: str) -> tuple[int, str]:
    command = [*COMMAND, "edge", "update", "install", str(file), "--config", str(config), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def running(daemon: DaemonProcess) -> common_pb2.ModelState:
    return daemon.client.status().status.model


def confirmed(daemon: DaemonProcess, version: str) -> None:
    def holds() -> bool:
        state = running(daemon)
        return state.phase == common_pb2.UPDATE_PHASE_CONFIRMED and state.active.version == version

    eventually(holds, f"{version} confirmed: {running(daemon)}")


def test_a_bundle_into_a_running_daemon(world: World, config: Path, tmp_path: Path) -> None:
    world.release(model("1"), **TERMS)
    old = write_bundle(world, tmp_path / "old")
    world.release(model("2"), **TERMS)
    stick = write_bundle(world, tmp_path / "stick")
    with DaemonProcess(config) as daemon:
        code, said = install(config, stick)
        assert code == 0 and "release 2 (rectangles 2) is staged; it runs now, on probation" in said
        confirmed(daemon, "2")
        code, said = install(config, old)
        assert code == 1 and "this vehicle has seen 3" in said
        stick.write_bytes(stick.read_bytes().replace(b'"version"', b'"versiom"'))
        code, said = install(config, stick)
        assert code == 1 and "does not check" in said
        assert running(daemon).active.version == "2"
        assert daemon.terminate() == 0


def test_a_bundle_while_no_daemon_runs_waits_for_its_start(
    world: World, config: Path, tmp_path: Path
) -> None:
    world.release(model("7"), **TERMS)
    code, said = install(config, write_bundle(world, tmp_path / "stick"))
    assert code == 0 and "the daemon's next start tries it" in said
    with DaemonProcess(config) as daemon:
        confirmed(daemon, "7")
        assert not daemon.client.status().status.metadata_alarm  # there is no cloud to be away
        assert daemon.terminate() == 0


def test_a_malicious_model_by_hand(world: World, tmp_path: Path) -> None:
    """Nobody signed it, and the owner allowed that: the checks are what is left, and they hold."""
    config = configured(world, tmp_path / "vehicle", unsigned=True)
    with DaemonProcess(config) as daemon:
        before = running(daemon).active.sha256
        for change, told in (
            evil_models.REFUSED_BY_RULE["custom operator"],
            (evil_models.expanded, "memory"),
        ):
            (tmp_path / "evil.onnx").write_bytes(evil_models.changed(change))
            code, said = install(config, tmp_path / "evil.onnx", "--unsigned")
            assert code == 1 and told in said
        assert running(daemon).active.sha256 == before
        assert daemon.terminate() == 0


def test_a_model_that_nobody_signed(world: World, config: Path, tmp_path: Path) -> None:
    (tmp_path / "own.onnx").write_bytes(model("own"))
    with DaemonProcess(config) as daemon:
        code, said = install(config, tmp_path / "own.onnx", "--unsigned")
        assert code == 1 and "need `unsigned = true`" in said
        assert not running(daemon).unsigned_allowed
        assert daemon.terminate() == 0
    allowed = configured(world, tmp_path / "allowed", unsigned=True)
    with DaemonProcess(allowed) as daemon:
        assert daemon.event("unsigned_allowed")["level"] == "warning"
        assert "unsigned models are allowed" in status_line(daemon.client.status())
        code, said = install(allowed, tmp_path / "own.onnx", "--unsigned")
        assert code == 0 and "nobody signed" in said
        confirmed(daemon, "own")
        state = running(daemon)
        assert state.unsigned_allowed and state.active_is_unsigned and state.release_counter <= 1
        assert state.active.sha256 == loaded(model("own")).digest
        assert "UNSIGNED: nobody signed" in status_line(daemon.client.status())
        assert "traffic_vision_model_is_unsigned 1.0" in metrics(daemon)
        assert daemon.terminate() == 0


def metrics(daemon: DaemonProcess) -> str:
    address = next(line["address"] for line in daemon.log if line.get("event") == "http_started")
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
        return text
