"""The whole loop around one of the trainings: samples that vehicles sent, to a release or its refusal.

By the command that people use, in a cloud of its own: what of its wall time is neither training nor
evaluation is what the pipeline costs.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from cloud.config import load_config
from cloud.datasets import LabeledImage
from cloud.fleet.enrolment import CONFIG_FILE, CloudChoices, init_cloud
from cloud.fleet.ingest import Ingest, Upload
from cloud.pipeline.baseline import Baseline, take_baseline
from cloud.pipeline.opening import opened
from cloud.run_report import read_runs
from cloud.store import open_database
from cloud.store.models import Vehicle
from protos.traffic_vision.v1 import common_pb2, fleet_pb2
from tools.bench.rounds import BenchError

TRAINING, EVALUATION = "train", "validate"
WITHIN_S = 4 * 3600.0
_VEHICLE = "van-1"
_COMMAND = (sys.executable, "-c", "from tools.cli import main; main()")


@dataclass(frozen=True, slots=True)
class Loop:
    """One retrain, from its command to its end.

    Attributes:
        wall_s: of all.
        stages_s: of each stage.
        state: how it ended.
        detail: why, for people.
    """

    wall_s: float
    stages_s: Mapping[str, float]
    state: str
    detail: str

    @property
    def other_share(self) -> float:
        """Share of the wall time that is neither training nor evaluation."""
        return 1.0 - sum(self.stages_s.get(name, 0.0) for name in (TRAINING, EVALUATION)) / self.wall_s


def run_loop(
    folder: Path, baseline: Baseline, data: Path, samples: Sequence[LabeledImage], sections: dict[str, Any]
) -> Loop:
    """Make a cloud, give it the samples, and have it retrain.

    Args:
        folder: of the cloud, made anew.
        baseline: its first champion.
        data: a labelled dataset that has the samples' pictures: what people would say of them.
        samples: what vehicles sent.
        sections: of its cloud.toml.

    Raises:
        BenchError: samples were not taken, or the retrain failed other than by its gate.
        TrafficVisionError: the cloud cannot be made.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = {
        "serve": {"listen": "127.0.0.1:0", "address": "127.0.0.1:1"},
        "labels": {"datasets": [str(data.absolute())]},
        "trigger": {"min_samples": 1, "cool_down_s": 0.0},
        **sections,
    }
    (folder / CONFIG_FILE).write_text(tomlkit.dumps(settings))
    init_cloud(folder, CloudChoices())
    config = load_config(folder / CONFIG_FILE)
    with opened(config) as pipeline:
        take_baseline(pipeline, baseline)
        with pipeline.store.writing() as session:
            session.add(Vehicle(name=_VEHICLE))
        uploads = [Upload(_VEHICLE, _sample(number, image)) for number, image in enumerate(samples)]
        answers = Ingest(pipeline.store, pipeline.objects, config.limits, config.quotas).commit(uploads)
    refused = [answer for answer in answers if answer.outcome != fleet_pb2.UPLOAD_OUTCOME_STORED]
    if refused:
        raise BenchError(f"{len(refused)} samples were not taken: {refused[0].detail}")
    log = folder / "run.log"
    with log.open("wb") as output:
        command = [*_COMMAND, "cloud", "run", "--now", "--config", str(folder / CONFIG_FILE)]
        began = time.monotonic()
        try:
            subprocess.run(command, stdout=output, stderr=output, timeout=WITHIN_S, check=False)
        except subprocess.TimeoutExpired:
            raise BenchError(f"the retrain did not end within {WITHIN_S:.0f} s: {log}") from None
        wall_s = time.monotonic() - began
    store = open_database(config.store.database)
    try:
        found = read_runs(config, store, None, 1)
    finally:
        store.close()
    if not found or found[0].state not in ("released", "rejected"):
        raise BenchError(f"the retrain failed: {log.read_text()[-1000:]}")
    (report,) = found
    stages = {
        stage.name: (stage.ended - stage.started).total_seconds() for stage in report.stages if stage.ended
    }
    return Loop(wall_s, stages, report.state, report.detail)


def _sample(number: int, image: LabeledImage) -> fleet_pb2.Sample:
    assert image.path is not None
    jpeg = image.path.read_bytes()
    return fleet_pb2.Sample(
        id=f"sample-{number}",
        jpeg=jpeg,
        jpeg_sha256=hashlib.sha256(jpeg).hexdigest(),
        frame=common_pb2.FrameRef(camera="front", width_px=image.width, height_px=image.height),
        source=fleet_pb2.SampleSource(
            id=str(image.path.parent), drive_id=image.drive, picture=Path(image.name).name
        ),
        reasons=[fleet_pb2.SAMPLE_REASON_DRIFT],
        priority=0.5,
    )
