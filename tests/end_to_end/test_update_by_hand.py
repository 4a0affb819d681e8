"""`edge update status`, `history` and `rollback` as people run them, with a daemon and without one."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.updates.hardware import hardware_ids
from protos.traffic_vision.v1 import common_pb2
from tests.bundles import write_bundle
from tests.daemons import DaemonProcess, write_config
from tests.replays import COMMAND
from tests.update_world import World, model, open_world
from tests.waiting import eventually

pytestmark = pytest.mark.services

UPDATES = {"root": "root.json", "probation_s": 0.001, "probation_frames": 3}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = open_world(tmp_path / "cloud")
    yield opened
    opened.close()


@pytest.fixture
def config(world: World, tmp_path: Path) -> Iterator[Path]:
    """A vehicle without a cloud, whose service is at a path short enough for a socket."""
    folder = tmp_path / "vehicle"
    folder.mkdir()
    (folder / "root.json").write_bytes(world.root)
    drive = {"url": "sim:7?seconds=0&rate=10&size=64x64"}
    with tempfile.TemporaryDirectory() as place:
        yield write_config(folder, drive, address=f"unix:{place}/daemon", updates=UPDATES)


def ask(config: Path, *words: str) -> tuple[int, str]:
    command = [*COMMAND, "edge", "update", *words, "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def document(config: Path, command: str) -> Any:
    code, said = ask(config, command, "--json")
    assert code == 0, said
    return json.loads(said)


def stick(world: World, folder: Path, version: str) -> Path:
    world.release(model(version), hardware_ids=hardware_ids(("cpu",)))
    return write_bundle(world, folder / f"stick-{version}")


def confirmed(config: Path, daemon: DaemonProcess, file: Path, version: str) -> None:
    code, said = ask(config, "install", str(file))
    assert code == 0, said

    def holds() -> bool:
        state = daemon.client.status().status.model
        return state.phase == common_pb2.UPDATE_PHASE_CONFIRMED and state.active.version == version

    eventually(holds, f"{version} confirmed")


def test_beside_a_running_daemon(world: World, config: Path, tmp_path: Path) -> None:
    with DaemonProcess(config) as daemon:
        second, third = (stick(world, tmp_path, version) for version in ("2", "3"))
        code, said = ask(config, "rollback")
        assert code == 1 and "nothing to go back from" in said
        confirmed(config, daemon, second, "2")
        confirmed(config, daemon, third, "3")
        before = document(config, "status")
        assert (before["source"], before["runs"]["model"], before["phase"]) == (
            "daemon",
            "rectangles 3",
            "confirmed",
        )
        assert before["slots"][before["active"]]["release"] == 2

        code, said = ask(config, "rollback")
        assert code == 0 and "rectangles 2" in said and "runs now" in said
        after = document(config, "status")
        assert (after["runs"]["model"], after["phase"]) == ("rectangles 2", "reverted")
        assert [bad["sha256"] for bad in after["bad"]] == [before["runs"]["sha256"]]
        code, said = ask(config, "install", str(third))
        assert code == 1 and "failed on this vehicle before" in said
        confirmed(config, daemon, stick(world, tmp_path, "4"), "4")
        told = [(entry["what"], entry["model"], entry["by"]) for entry in document(config, "history")]
        assert told == [
            *((what, f"rectangles {version}", by) for version in "23" for what, by in TAKEN),
            ("given_up", "rectangles 3", "owner"),
            ("returned_to", "rectangles 2", "owner"),
            *((what, "rectangles 4", by) for what, by in TAKEN),
        ]
        assert daemon.terminate() == 0
    assert document(config, "history")[-1]["what"] == "confirmed", "without a daemon too"


TAKEN = (("staged", "owner"), ("activated", "daemon"), ("confirmed", "daemon"))


def test_without_a_daemon(world: World, config: Path, tmp_path: Path) -> None:
    code, said = ask(config, "history")
    assert code == 0 and "nothing happened" in said
    with DaemonProcess(config) as daemon:
        confirmed(config, daemon, stick(world, tmp_path, "2"), "2")
        confirmed(config, daemon, stick(world, tmp_path, "3"), "3")
        assert daemon.terminate() == 0
    code, said = ask(config, "status")
    assert code == 0 and "of the state folder" in said and "no daemon answers" in said
    assert "release 2: rectangles 3" in said
    code, said = ask(config, "rollback", "--factory")
    assert code == 0 and "rectangles 1" in said and "next start" in said
    assert document(config, "status")["active"] == "factory"
    with DaemonProcess(config) as daemon:
        assert daemon.client.status().status.model.active.version == "1"
        assert daemon.terminate() == 0
    code, said = ask(config, "history")
    assert "given up" in said and "taken back by hand" in said and "by owner" in said


def test_what_nobody_signed_is_told_in_status_and_history(config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace("[updates]", "[updates]\nunsigned = true"))
    own = tmp_path / "own.onnx"
    own.write_bytes(model("own"))
    assert "signature  unsigned models are allowed" in ask(config, "status")[1]
    with DaemonProcess(config) as daemon:
        code, said = ask(config, "install", str(own), "--unsigned")
        assert code == 0, said

        def is_confirmed() -> bool:
            return daemon.client.status().status.model.phase == common_pb2.UPDATE_PHASE_CONFIRMED

        eventually(is_confirmed, "confirmed")
        beside = ask(config, "status")[1]
        assert "trial      probation" in beside and "passed" in beside
        assert daemon.terminate() == 0
    for said in (beside, ask(config, "status")[1]):
        assert "signature  UNSIGNED: nobody signed the model that runs" in said
        assert "slot a     UNSIGNED: rectangles own" in said and "release 1:" not in said
        assert "assigned   nothing: the newest release applies" in said
    held = document(config, "status")["slots"]["a"]
    assert held["is_unsigned"] and held["release"] == 0
    told = ask(config, "history")[1]
    assert told.count("UNSIGNED") == 3 and "release" not in told
    assert ask(config, "rollback")[0] == 0
    assert ask(config, "history")[1].count("UNSIGNED") == 4, "what was taken back too"
