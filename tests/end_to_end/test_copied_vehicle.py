"""A vehicle and a copy of its whole disk, as daemons against a real cloud: who is served, what is found."""

from __future__ import annotations

import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.config import CloudConfig
from cloud.fleet.session_chain import Link
from cloud.fleet.vehicles import list_vehicles
from edge.files import atomic_write
from tests import clouds
from tests.clouds import ServerProcess, make_cloud, serving
from tests.daemons import DaemonProcess, write_config
from tests.waiting import eventually

pytestmark = pytest.mark.services

VEHICLE = "test-1"
DRIVE = {
    "name": "front",
    "url": "sim:7?seconds=0&rate=10&size=128x72",
    "pace": "lockstep",
    "speed_limit": 1.0,
}


@pytest.fixture
def config(tmp_path: Path) -> CloudConfig:
    return make_cloud(tmp_path / "cloud")


@pytest.fixture
def server(tmp_path: Path, config: CloudConfig) -> Iterator[ServerProcess]:
    with serving(tmp_path / "cloud") as server:
        yield server


@pytest.fixture
def own(config: CloudConfig, server: ServerProcess) -> Path:
    """The vehicle's folder."""
    folder, _ = clouds.enrol_vehicle(config, VEHICLE)
    (folder / "state").mkdir(mode=0o700)
    pair = (folder / "client.key").read_bytes() + (folder / "client.crt").read_bytes()
    atomic_write(folder / "state/client.pem", pair, mode=0o600)
    pem = "state/client.pem"
    where = {"address": server.address, "ca": "ca.crt", "cert": pem, "key": pem, "retry_limit_s": 0.5}
    write_config(folder, DRIVE, cloud=where)
    return folder


def run(folder: Path) -> DaemonProcess:
    return DaemonProcess(folder / "edge.toml")


def connected(daemon: DaemonProcess) -> bool:
    return daemon.client.status().status.connected_to_cloud


def reported(config: CloudConfig) -> str | None:
    """What was found; None: nothing was."""
    with clouds.database(config) as store:
        (line,) = list_vehicles(store)
    return None if line.used_twice is None else line.used_twice_how


def kept(folder: Path) -> bytes:
    return (folder / "state/client.session").read_bytes()


def until_kept(daemon: DaemonProcess, folder: Path, before: bytes = b"") -> None:
    eventually(lambda: connected(daemon), "the welcome")
    path = folder / "state/client.session"
    eventually(lambda: path.exists() and path.read_bytes() != before, "the token")


def copy_of(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_copy_that_drives_while_the_vehicle_is_away_is_found_when_it_is_back(
    own: Path, config: CloudConfig, tmp_path: Path
) -> None:
    tokens = []
    for _ in range(2):  # restarts are nobody's copies
        with run(own) as daemon:
            until_kept(daemon, own, tokens[-1] if tokens else b"")
            assert daemon.terminate() == 0
        tokens.append(kept(own))
    assert stat.S_IMODE((own / "state/client.session").stat().st_mode) == 0o600
    copy = copy_of(own, tmp_path)
    with run(copy) as clone:
        until_kept(clone, copy, tokens[-1])
        assert clone.terminate() == 0
    assert reported(config) is None, "until then it could be the vehicle"
    with run(own) as daemon:
        eventually(lambda: connected(daemon), "it is the only one that is there")
        assert daemon.terminate() == 0
        logged = repr(daemon.log) + repr(daemon.errors)
    assert reported(config) == Link.UNKNOWN.value
    texts = [logged, (tmp_path / "cloud/server.log").read_text()]
    for token in (*tokens, kept(own), kept(copy)):
        assert not any(form in text for text in texts for form in (token.hex(), repr(token)[2:-1]))


def test_a_vehicle_whose_power_was_cut_is_back_before_its_old_stream_is_given_up(
    own: Path, config: CloudConfig, tmp_path: Path
) -> None:
    with run(own) as before:
        until_kept(before, own)
        before.process.send_signal(signal.SIGSTOP)  # no word more, and its connection stands
        try:
            again = copy_of(own, tmp_path)  # the disk, as it was found after the cut
            with run(again) as daemon:
                until_kept(daemon, again, kept(own))
                assert daemon.terminate() == 0
        finally:
            before.process.kill()
    assert reported(config) is None


def test_a_copy_that_comes_beside_the_vehicle_gets_no_place_and_is_found(
    own: Path, config: CloudConfig, tmp_path: Path
) -> None:
    with run(own) as daemon:
        until_kept(daemon, own)
        copy = copy_of(own, tmp_path)
        with run(copy) as clone:
            eventually(lambda: reported(config) is not None, "the report")
            assert connected(daemon) and not connected(clone)
            assert clone.terminate() == 0
        assert kept(copy) == kept(own)
        assert daemon.terminate() == 0
