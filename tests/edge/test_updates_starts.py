"""Starts of the daemon that come to nothing, with real processes: no model loops for ever, and none is blamed
for what is not its fault."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.config import load_config
from edge.daemon import EXIT_FAILED
from edge.updates.hardware import hardware_ids
from edge.updates.opening import open_slot_models
from edge.updates.overview import read_state
from edge.updates.slot_state import MAX_STARTS
from edge.updates.slots import MAX_PROBATION_STARTS
from edge.updates.state_file import COPY, STATE
from protos.traffic_vision.v1 import common_pb2
from tests.daemons import LONG_S, DaemonProcess, write_config
from tests.plugins import TROUBLE, install_source
from tests.replays import COMMAND
from tests.update_world import World, model, open_world
from tests.waiting import eventually

pytestmark = pytest.mark.services

DRIVE = "sim:7?seconds=0&rate=10&size=64x64"
UPDATES = {"root": "root.json", "probation_s": 1000.0}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = open_world(tmp_path / "cloud")
    yield opened
    opened.close()


@pytest.fixture
def config(world: World, tmp_path: Path) -> Path:
    """A vehicle that has confirmed model 2 and then model 3."""
    folder = tmp_path / "vehicle"
    folder.mkdir()
    (folder / "root.json").write_bytes(world.root)
    path = write_config(folder, {"url": DRIVE}, updates=UPDATES)
    load_config(path).state_folder.mkdir()
    for version in ("2", "3"):  # the factory's is 1
        activate(world, path, version, confirm=True)
    return path


def activate(world: World, config: Path, version: str, *, confirm: bool = False) -> str:
    """Put a release in for the next start, on probation or past it; gives its digest."""
    models = open_slot_models(load_config(config))
    try:
        facts = world.release(model(version), hardware_ids=hardware_ids(("cpu",)))
        assert world.client(models.slots).check().staged is not None
        models.slots.activate()
        if confirm:
            models.slots.confirm()
        return facts.model_sha256
    finally:
        models.close()


def test_a_daemon_that_is_killed_at_each_start_comes_back_with_the_model_before(config: Path) -> None:
    for _ in range(MAX_STARTS):
        with DaemonProcess(config) as daemon:
            daemon.process.kill()
            daemon.wait()
    with DaemonProcess(config) as daemon:
        told = daemon.event("model_fallback")
        assert f"started {MAX_STARTS} times in a row" in told["message"]
        state = daemon.client.status().status.model
        assert (state.active.version, state.phase) == ("2", common_pb2.UPDATE_PHASE_REVERTED)
        assert daemon.terminate() == 0


def test_power_watchdog_and_crash_each_count_against_a_probation(world: World, config: Path) -> None:
    """A power cut leaves what SIGKILL leaves; systemd's watchdog sends SIGABRT; libraries crash.

    The watchdog's kill of a model that hangs comes after the revert, see below; here a camera may have hung.
    """
    digest = activate(world, config, "4")
    ends = (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV)
    assert len(ends) == MAX_PROBATION_STARTS
    for end in ends:
        with DaemonProcess(config) as daemon:
            assert daemon.client.status().status.model.active.version == "4"
            daemon.process.send_signal(end)
            assert daemon.wait() == -end
    with DaemonProcess(config) as daemon:
        state = daemon.client.status().status.model
        assert (state.active.version, state.phase) == ("3", common_pb2.UPDATE_PHASE_REVERTED)
        assert list(state.bad_sha256) == [digest]
        assert daemon.terminate() == 0


def test_one_hang_in_a_probation_puts_the_model_before_back(
    world: World, config: Path, tmp_path: Path
) -> None:
    """No frame comes between which the models could be exchanged; nobody watches the daemon here."""
    digest = activate(world, config, "4")
    healthy = config.read_text()
    config.write_text(healthy.replace(DRIVE, "trouble:hangs-inference"))
    assert "trouble:hangs-inference" in config.read_text()
    with DaemonProcess(config, environment=install_source(tmp_path, "trouble", TROUBLE)) as daemon:
        assert daemon.client.status().status.model.active.version == "4"
        assert daemon.wait() == EXIT_FAILED
        assert "inference hangs" in daemon.event("given_up")["message"]
    config.write_text(healthy)
    with DaemonProcess(config) as daemon:
        state = daemon.client.status().status.model
        assert (state.active.version, state.phase) == ("3", common_pb2.UPDATE_PHASE_REVERTED)
        assert list(state.bad_sha256) == [digest] and "inference hangs" in state.detail
        assert daemon.terminate() == 0


def test_a_daemon_that_is_stopped_in_order_starts_as_often_as_one_likes(config: Path) -> None:
    for _ in range(MAX_STARTS + 1):
        with DaemonProcess(config) as daemon:
            assert daemon.client.status().status.model.active.version == "3"
            assert daemon.terminate() == 0


def test_trips_shorter_than_the_probation_add_up(world: World, config: Path) -> None:
    digest = activate(world, config, "4")
    driven = 0
    for _ in range(MAX_PROBATION_STARTS + 1):
        with DaemonProcess(config) as daemon:
            client = daemon.client
            frames = driven + 5
            eventually(lambda c=client, n=frames: c.status().status.model.probation.frames >= n, "frames")
            assert client.status().status.model.active.sha256 == digest
            assert daemon.terminate() == 0
        state = read_state(load_config(config))
        assert state.probation_starts == 0 and state.driven_frames >= frames
        driven = state.driven_frames


@pytest.mark.parametrize("on_probation", [False, True])
def test_a_start_that_comes_to_nothing_for_another_reason_says_nothing_of_the_model(
    world: World, config: Path, on_probation: bool
) -> None:
    if on_probation:
        activate(world, config, "4")
    before = read_state(load_config(config))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        config.write_text(config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        for _ in range(MAX_PROBATION_STARTS + 1):
            done: subprocess.CompletedProcess[Any] = subprocess.run(
                [*COMMAND, "edge", "run", "--config", str(config)],
                capture_output=True,
                text=True,
                timeout=LONG_S,
                check=False,
            )
            assert done.returncode == 1 and "another process listens there" in done.stderr
            after = read_state(load_config(config))
            assert (after.starts, after.probation_starts) == (before.starts, before.probation_starts)
    assert (after.active, after.bad, after.fallen) == (before.active, (), ())


@pytest.mark.parametrize(
    ("broken", "event", "phase"),
    [
        ((STATE,), "slots_state_repaired", common_pb2.UPDATE_PHASE_CONFIRMED),
        ((STATE, COPY), "slots_state_rebuilt", common_pb2.UPDATE_PHASE_PROBATION),
    ],
)
def test_a_daemon_whose_slots_state_cannot_be_read_drives_on_with_the_same_model(
    config: Path, broken: tuple[str, ...], event: str, phase: common_pb2.UpdatePhase
) -> None:
    before = read_state(load_config(config))
    for name in broken:  # a folder in a file's place: reading it is an OSError
        path = load_config(config).state_folder / "slots" / name
        path.unlink()
        path.mkdir()
    with DaemonProcess(config) as daemon:
        assert "Is a directory" in daemon.event(event)["message"]
        state = daemon.client.status().status.model
        assert (state.active.version, state.phase) == ("3", phase)
        assert daemon.terminate() == 0
    after = read_state(load_config(config))
    assert (after.release_floor, after.clock_floor_s) == (before.release_floor, before.clock_floor_s)
    assert after.history[-1].what == event.removeprefix("slots_")
