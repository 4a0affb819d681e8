"""Fixtures of the tests of updates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.config import EdgeConfig
from edge.updates.slots import Slots
from tests.update_garage import Garage, configured, garage
from tests.update_world import World, open_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A cloud that signs releases, and its server."""
    opened = open_world(tmp_path / "cloud")
    yield opened
    opened.close()


@pytest.fixture
def slots(world: World, tmp_path: Path) -> Slots:
    """Of a vehicle of that cloud."""
    return world.slots(tmp_path / "vehicle")


@pytest.fixture
def config(world: World, tmp_path: Path) -> EdgeConfig:
    """Of a vehicle of that cloud."""
    return configured(tmp_path / "vehicle", world.root)


@pytest.fixture
def start(world: World, config: EdgeConfig) -> Iterator[Garage]:
    """Starts that vehicle."""
    with garage(world, config) as opened:
        yield opened
