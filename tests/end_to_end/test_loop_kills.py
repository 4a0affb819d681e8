"""kill -9 of the vehicle's daemon and of its cloud, wherever it hurts: the loop closes all the same."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from cloud.config import CloudConfig, load_config
from cloud.pipeline.opening import opened
from cloud.pipeline.running import run_stage
from cloud.release.repository import list_releases
from cloud.store.models import Sample
from cloud.store.states import VerdictKind
from protos.traffic_vision.v1 import common_pb2
from tests.clouds import ROOT, ServerProcess, database, environment
from tests.daemons import DaemonProcess, write_config
from tests.models_factory import loaded, rectangles_model
from tests.retrains import VEHICLE, add_baseline, as_if_trained, as_if_validated, begin, make_retrain_cloud
from tests.waiting import eventually

pytestmark = pytest.mark.services

SIZE = "128x72"
DRIVE = {
    "name": "front",
    "url": f"sim:7?light=noon-night&dusk=30&fade=5&seconds=0&rate=10&size={SIZE}",
    "pace": "lockstep",
    "speed_limit": 30.0,
}
SETTINGS = """
[limits]
in_flight = 2
[dataset]
val_share = 0.0
test_share = 0.0
[purity]
max_refused_share = 1.0
[gate]
holdout = ["../holdout"]
"""
BASELINE, CANDIDATE = rectangles_model((96, 160), version="1"), rectangles_model((96, 160), version="2")
ITEM = re.compile(r"\d+-(.+)\.item")


class Loop:
    """A cloud and a vehicle that can be killed and started again where they were."""

    def __init__(self, folder: Path, reference: Path) -> None:
        self.folder = folder
        make_retrain_cloud(folder, SETTINGS)
        self.cloud = folder / "cloud"
        self.server = ServerProcess(self.cloud)
        toml = self.cloud / "cloud.toml"
        toml.write_text(toml.read_text().replace('"127.0.0.1:0"', json.dumps(self.server.address)))
        self.config: CloudConfig = load_config(toml)
        vehicle = self.cloud / "vehicles" / VEHICLE
        (vehicle / "factory.onnx").write_bytes(BASELINE)
        self.edge_toml = write_config(
            vehicle,
            DRIVE,
            drift={"reference": str(reference)},
            sampler={"drift_spacing_s": 2, "near_duplicate_bits": 0, "series_s": 20},
            cloud={
                "address": self.server.address,
                "ca": "ca.crt",
                "cert": "client.crt",
                "key": "client.key",
                "retry_limit_s": 0.5,
            },
            updates={"root": "root.json", "probation_s": 1.0, "probation_frames": 20},
        )
        self.spool = vehicle / "state" / "spool" / "samples"
        self.seen: set[str] = set()  # every sample that was ever on the vehicle's disk

    def spooled(self) -> set[str]:
        """The samples that are on the vehicle's disk now."""
        names = [path.name for path in self.spool.iterdir()] if self.spool.is_dir() else []
        found = {match[1] for name in names if (match := ITEM.fullmatch(name))}
        self.seen |= found
        return found

    def stored(self) -> list[str]:
        with database(self.config) as store, store.reading() as session:
            return list(session.scalars(select(Sample.external_id)))

    def until_uploading(self) -> None:
        """Wait for a moment in the middle of an upload: something has come, and something is still to go."""
        before = len(self.stored())
        eventually(lambda: bool(self.spooled()) and len(self.stored()) > before, "an upload under way")

    def start_server(self) -> None:
        self.server = ServerProcess(self.cloud)

    def close(self) -> None:
        if self.server.process.poll() is None:
            self.server.process.kill()
        self.server.close()


@pytest.fixture
def loop(tmp_path: Path, reference: Path) -> Iterator[Loop]:
    loop = Loop(tmp_path, reference)
    try:
        yield loop
    finally:
        loop.close()


def test_no_sample_is_missing_or_double_after_kills_in_uploads(loop: Loop) -> None:
    loop.server.stop()  # so that samples pile up on the vehicle
    with DaemonProcess(loop.edge_toml) as daemon:
        eventually(lambda: len(loop.spooled()) >= 20, "samples on the vehicle's disk")
        loop.start_server()
        loop.until_uploading()
        daemon.process.kill()
    with DaemonProcess(loop.edge_toml) as daemon:
        loop.until_uploading()
        loop.server.kill()
        eventually(lambda: len(loop.spooled()) >= 20, "more samples on the vehicle's disk")
        loop.start_server()
        loop.until_uploading()
        loop.server.kill()
        loop.start_server()
        loop.until_uploading()
        assert daemon.terminate() == 0
    kept, stored = loop.spooled(), Counter(loop.stored())
    assert set(stored.values()) == {1}
    assert loop.seen - kept <= stored.keys()


def test_a_release_arrives_whole_after_kills_around_the_swap(loop: Loop) -> None:
    old, new = loaded(BASELINE).digest, loaded(CANDIDATE).digest
    with DaemonProcess(loop.edge_toml) as daemon:
        eventually(lambda: len(loop.stored()) >= 10, "samples in the cloud")
        assert daemon.terminate() == 0
    _release(loop)
    models: set[str] = set()
    for event in ("update_staged", "model_swapped"):
        with DaemonProcess(loop.edge_toml) as daemon:
            daemon.event(event)
            daemon.process.kill()
            models.add(daemon.event("started")["model"])
    with DaemonProcess(loop.edge_toml) as daemon:  # the kill came before or after the slots were told
        eventually(lambda: daemon.client.status().status.model.active.sha256 == new, "the new model")
        daemon.process.kill()
        models.add(daemon.event("started")["model"])
    with DaemonProcess(loop.edge_toml) as daemon:
        eventually(
            lambda: daemon.client.status().status.model.phase == common_pb2.UPDATE_PHASE_CONFIRMED,
            "the new model confirmed",
        )
        status = daemon.client.status().status.model
        assert status.active.sha256 == new == next(daemon.client.detections()).detections.model.sha256
        assert status.last_good.sha256 == new and status.release_counter == 1
        assert daemon.terminate() == 0
    assert models <= {old, new}
    with DaemonProcess(loop.edge_toml) as daemon:  # and so it stays
        assert daemon.client.status().status.model.active.sha256 == new


def _release(loop: Loop) -> None:
    """Label, check and release, the release killed on its way; only training and judging are a test's own."""
    with opened(loop.config) as pipeline:
        add_baseline(pipeline, loop.folder, BASELINE)
        run_id = begin(pipeline)
        for stage in ("label", "purity", "dataset"):
            run_stage(pipeline, stage, run_id)
        digest = as_if_trained(pipeline, run_id, CANDIDATE)
        as_if_validated(pipeline, run_id, digest, VerdictKind.PASS)
        command = [
            sys.executable,
            "-m",
            "tests.cloud.retrain_kills",
            loop.cloud / "cloud.toml",
            "deploy",
            run_id,
        ]
        done = subprocess.run(
            [*map(str, command), "step=gate signs"], cwd=ROOT, env=environment(), timeout=120, check=False
        )
        assert done.returncode == -signal.SIGKILL
        assert run_stage(pipeline, "deploy", run_id)["released"]
    assert [release.facts.model_sha256 for release in list_releases(loop.config.folders.repository)] == [
        digest
    ]
