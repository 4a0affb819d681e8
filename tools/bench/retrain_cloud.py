"""A cloud with everything for its first retrain, and that retrain as a child process, for benchmarks."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomlkit

from cloud.config import CloudConfig, load_config
from cloud.fleet.enrolment import CONFIG_FILE, CloudChoices, init_cloud
from cloud.fleet.ingest import Ingest, Upload
from cloud.pipeline.baseline import Baseline, take_baseline
from cloud.pipeline.opening import opened
from cloud.run_report import RunReport, read_runs
from cloud.store import open_database
from cloud.store.models import Vehicle
from protos.traffic_vision.v1 import common_pb2, fleet_pb2
from tools.bench.rounds import BenchError

COMMAND = (sys.executable, "-c", "from tools.cli import main; main()")
_VEHICLE = "van-1"


def make_cloud(
    folder: Path, sections: dict[str, Any], baseline: Baseline, samples: Sequence[fleet_pb2.Sample]
) -> CloudConfig:
    """Make a cloud, ready for its first retrain.

    Args:
        folder: where; it must not be there.
        sections: of its cloud.toml, beside its address.
        baseline: its first champion.
        samples: that its one vehicle sent.

    Raises:
        BenchError: its samples were not taken.
        TrafficVisionError: it cannot be made.
    """
    folder.mkdir(parents=True)
    serve = {"listen": "127.0.0.1:0", "address": "127.0.0.1:1"}
    (folder / CONFIG_FILE).write_text(tomlkit.dumps({"serve": serve, **sections}))
    init_cloud(folder, CloudChoices())
    config = load_config(folder / CONFIG_FILE)
    with opened(config) as pipeline:
        take_baseline(pipeline, baseline)
        with pipeline.store.writing() as session:
            session.add(Vehicle(name=_VEHICLE))
        uploads = [Upload(_VEHICLE, sample) for sample in samples]
        answers = Ingest(pipeline.store, pipeline.objects, config.limits, config.quotas).commit(uploads)
    refused = [answer for answer in answers if answer.outcome != fleet_pb2.UPLOAD_OUTCOME_STORED]
    if refused:
        raise BenchError(f"{len(refused)} samples were not taken: {refused[0].detail}")
    return config


def drift_sample(
    identity: str, jpeg: bytes, width: int, height: int, source: fleet_pb2.SampleSource
) -> fleet_pb2.Sample:
    """A picture as a vehicle sends it that has drifted."""
    return fleet_pb2.Sample(
        id=identity,
        jpeg=jpeg,
        jpeg_sha256=hashlib.sha256(jpeg).hexdigest(),
        frame=common_pb2.FrameRef(camera="front", width_px=width, height_px=height),
        source=source,
        reasons=[fleet_pb2.SAMPLE_REASON_DRIFT],
        priority=0.5,
    )


def retrain_command(config: CloudConfig) -> list[str]:
    """The command that retrains once, now."""
    folder = config.folders.work.parent
    return [*COMMAND, "cloud", "run", "--now", "--config", str(folder / CONFIG_FILE)]


def newest_run(config: CloudConfig) -> RunReport:
    """What came of the newest retrain.

    Raises:
        BenchError: there was none.
    """
    store = open_database(config.store.database)
    try:
        found = read_runs(config, store, None, 1)
    finally:
        store.close()
    if not found:
        raise BenchError("no retrain began")
    return found[0]


def stages_s(report: RunReport) -> dict[str, float]:
    """Seconds of each stage that has ended."""
    return {
        stage.name: (stage.ended - stage.started).total_seconds() for stage in report.stages if stage.ended
    }
