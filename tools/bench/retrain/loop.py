"""The whole loop around one of the trainings: samples that vehicles sent, to a release or its refusal.

By the command that people use, in a cloud of its own: what of its wall time is neither training nor
evaluation is what the pipeline costs.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.datasets import LabeledImage
from cloud.pipeline.baseline import Baseline
from protos.traffic_vision.v1 import fleet_pb2
from tools.bench.retrain_cloud import drift_sample, make_cloud, newest_run, retrain_command, stages_s
from tools.bench.rounds import BenchError

TRAINING, EVALUATION = "train", "validate"
WITHIN_S = 4 * 3600.0


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
    settings = {
        "labels": {"datasets": [str(data.absolute())]},
        "trigger": {"min_samples": 1, "cool_down_s": 0.0},
        **sections,
    }
    sent = [_sample(number, image) for number, image in enumerate(samples)]
    config = make_cloud(folder, settings, baseline, sent)
    log = folder / "run.log"
    with log.open("wb") as output:
        began = time.monotonic()
        try:
            subprocess.run(
                retrain_command(config), stdout=output, stderr=output, timeout=WITHIN_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"the retrain did not end within {WITHIN_S:.0f} s: {log}") from None
        wall_s = time.monotonic() - began
    report = newest_run(config)
    if report.state not in ("released", "rejected"):
        raise BenchError(f"the retrain failed: {log.read_text()[-1000:]}")
    return Loop(wall_s, stages_s(report), report.state, report.detail)


def _sample(number: int, image: LabeledImage) -> fleet_pb2.Sample:
    assert image.path is not None and image.width is not None and image.height is not None
    source = fleet_pb2.SampleSource(
        id=str(image.path.parent), drive_id=image.drive, picture=Path(image.name).name
    )
    return drift_sample(f"sample-{number}", image.path.read_bytes(), image.width, image.height, source)
