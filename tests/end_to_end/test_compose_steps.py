"""What compose's setup services do, done outside of containers: a cloud, a baseline, an enrolled vehicle."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cloud.config import load_config
from cloud.pipeline.champion import champion_of
from cloud.store import open_database
from edge.config import load_config as load_edge_config
from edge.perception.model_file import read_model_file
from tests.airflow_process import free_port
from tests.clouds import MAIN, ROOT, ServerProcess, environment

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]


def two_free_ports() -> int:
    """Give the first of two ports in a row that nobody listens at."""
    for _ in range(50):
        port = free_port()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
    raise AssertionError("no two free ports in a row")


def test_both_setups_leave_what_the_services_start_from(tmp_path: Path) -> None:
    command = tmp_path / "bin" / "traffic-vision"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\n{MAIN}\n")
    command.chmod(0o755)
    cloud, vehicle, tickets = tmp_path / "cloud", tmp_path / "van-1", tmp_path / "tickets"
    tickets.mkdir()
    address = f"127.0.0.1:{two_free_ports()}"
    settings = {
        "CLOUD": str(cloud),
        "VEHICLE": str(vehicle),
        "TICKETS": str(tickets),
        "MODELS": str(ROOT / "models"),
        "LISTEN": address,
        "ADDRESS": address,
        "DAY_DRIVES": "4",
        "JUDGED_DRIVES": "1",
        "TRAFFIC_VISION": str(command),
        "PATH": f"{command.parent}:{os.environ['PATH']}",
    }

    def run(script: str) -> None:
        done = subprocess.run(
            ["sh", ROOT / "docker" / "compose" / script],
            cwd=tmp_path,
            env={**environment(), **settings},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    run("cloud-setup.sh")
    config = load_config(cloud / "cloud.toml")
    assert config.orchestration.orchestrator == "airflow" and config.serve.address == address
    store = open_database(config.store.database)
    try:
        with store.reading() as session:
            assert champion_of(session).sha256 == read_model_file(ROOT / "models" / "baseline.onnx").digest
    finally:
        store.close()
    before = {path: path.stat().st_mtime_ns for path in (cloud / "cloud.toml", tickets / "van-1.ticket")}
    run("cloud-setup.sh")
    assert before == {path: path.stat().st_mtime_ns for path in before}
    settled = (cloud / "cloud.toml").read_text()
    (cloud / "cloud.toml").write_text(settled.partition("\n[orchestration]")[0])  # as a kill would leave it
    run("cloud-setup.sh")
    assert (cloud / "cloud.toml").read_text() == settled
    server = ServerProcess(cloud)
    try:
        run("edge-setup.sh")
        run("edge-setup.sh")
    finally:
        server.stop()
    edge = load_edge_config(vehicle / "edge.toml")
    assert edge.vehicle == "van-1" and edge.cameras[0].url.startswith("sim:42?light=noon-night")
    assert edge.cloud is not None and edge.updates is not None
    assert str(edge.cloud.address) == address
