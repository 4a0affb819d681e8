"""Fixtures that several files of the tests of the cloud share; a file may have others of these names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.config import CloudConfig
from tests.clouds import make_cloud, serving
from tests.identities import Running
from tests.rollout_fleet import Fleet, fleet_of


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """40 vehicles in a database, and release 1."""
    with fleet_of(tmp_path, 40) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the cloud of `config`."""
    return tmp_path / "cloud"


@pytest.fixture
def config(tmp_path: Path) -> CloudConfig:
    return make_cloud(tmp_path / "cloud")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of its own for each file."""
    folder = tmp_path_factory.mktemp("identities") / "cloud"
    config = make_cloud(folder, "one", "two")
    with serving(folder) as server:
        yield Running(config, server)
