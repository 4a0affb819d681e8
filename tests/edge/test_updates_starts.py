"""A confirmed model whose daemon dies again and again, with real processes: it does not loop for ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.config import load_config
from edge.updates.hardware import hardware_ids
from edge.updates.models import open_slot_models
from edge.updates.slot_state import MAX_STARTS
from protos.traffic_vision.v1 import common_pb2
from tests.daemons import DaemonProcess, write_config
from tests.update_world import World, model, open_world

pytestmark = pytest.mark.services

UPDATES = {"root": "root.json", "probation_s": 0.001, "probation_frames": 3}


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """A vehicle that has confirmed model 2 and then model 3."""
    world = open_world(tmp_path / "cloud")
    try:
        yield confirmed(world, tmp_path / "vehicle")
    finally:
        world.close()


def confirmed(world: World, folder: Path) -> Path:
    folder.mkdir()
    (folder / "root.json").write_bytes(world.root)
    path = write_config(folder, {"url": "sim:7?seconds=0&rate=10&size=64x64"}, updates=UPDATES)
    loaded = load_config(path)
    loaded.state_folder.mkdir()
    models = open_slot_models(loaded)
    for version in ("2", "3"):  # the factory's is 1
        world.release(model(version), hardware_ids=hardware_ids(("cpu",)))
        assert world.client(models.slots).check().staged is not None
        models.slots.activate()
        models.slots.confirm()
    models.close()
    return path


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


def test_a_daemon_that_is_stopped_in_order_starts_as_often_as_one_likes(config: Path) -> None:
    for _ in range(MAX_STARTS + 1):
        with DaemonProcess(config) as daemon:
            assert daemon.client.status().status.model.active.version == "3"
            assert daemon.terminate() == 0
