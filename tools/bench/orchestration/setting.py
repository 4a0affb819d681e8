"""A cloud with everything for one small retrain: simulated data, the shipped baseline, samples by night."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import tomlkit

from cloud.config import CloudConfig, load_config
from cloud.fleet.enrolment import CONFIG_FILE, CloudChoices, init_cloud
from cloud.fleet.ingest import Ingest, Upload
from cloud.pipeline.baseline import Baseline, take_baseline
from cloud.pipeline.opening import opened
from cloud.store.models import Vehicle
from protos.traffic_vision.v1 import common_pb2, fleet_pb2
from tools.bench.rounds import BenchError
from tools.drives.export import JPEG_QUALITY, SimulationPlan, write_frames

MODELS = Path(__file__).resolve().parents[3] / "models"
VEHICLE = "van-1"
RATE_HZ = 1.0


@dataclass(frozen=True, slots=True)
class Work:
    """How much is to be done.

    Attributes:
        samples: that a vehicle sent, by night.
        day_drives, judged_drives: of the old data, and of what the gate judges by, each by day and by night.
        frames: pictures of each drive.
        epochs, imgsz: of the training.
    """

    samples: int = 24
    day_drives: int = 12
    judged_drives: int = 10
    frames: int = 4
    epochs: int = 3
    imgsz: int = 320


def draw(folder: Path, work: Work) -> None:
    """Draw the data that all clouds of a benchmark share."""
    write_frames(SimulationPlan(10000, work.day_drives, work.frames, RATE_HZ, val_drives=3), folder / "old")
    for light in ("noon", "night"):
        plan = SimulationPlan(30000, work.judged_drives, work.frames, RATE_HZ, light)
        write_frames(plan, folder / f"judged-{light}")


def make_cloud(folder: Path, data: Path, work: Work, orchestrator: str, url: str) -> CloudConfig:
    """Make a cloud, ready for its first retrain.

    Raises:
        BenchError: its samples were not taken.
        TrafficVisionError: it cannot be made.
    """
    folder.mkdir(parents=True)
    sections = {
        "serve": {"listen": "127.0.0.1:0", "address": "127.0.0.1:1"},
        "trigger": {"min_samples": work.samples, "cool_down_s": 0.0},
        "dataset": {"val_share": 0.0, "test_share": 0.0, "old_per_new": 1.0},
        "training": {"epochs": work.epochs, "imgsz": work.imgsz, "device": "cpu"},
        "gate": {
            "holdout": [str(data / "judged-noon"), str(data / "judged-night")],
            "min_boxes": 5,
            "min_drives": 2,
            "targets": ["night"],
        },
        "release": {"drop_pictures": 8},
        "orchestration": {"orchestrator": orchestrator, "url": url},
    }
    (folder / CONFIG_FILE).write_text(tomlkit.dumps(sections))
    init_cloud(folder, CloudChoices())
    config = load_config(folder / CONFIG_FILE)
    with opened(config) as pipeline:
        baseline = Baseline(MODELS / "baseline.onnx", MODELS / "baseline.pt", data / "old")
        take_baseline(pipeline, baseline)
        with pipeline.store.writing() as session:
            session.add(Vehicle(name=VEHICLE))
        uploads = [Upload(VEHICLE, sample) for sample in _samples(work)]
        answers = Ingest(pipeline.store, pipeline.objects, config.limits, config.quotas).commit(uploads)
    refused = [answer for answer in answers if answer.outcome != fleet_pb2.UPLOAD_OUTCOME_STORED]
    if refused:
        raise BenchError(f"{len(refused)} samples were not taken: {refused[0].detail}")
    return config


def _samples(work: Work) -> list[fleet_pb2.Sample]:
    drives = max(2, work.samples // 6)
    plan = SimulationPlan(40000, drives, -(-work.samples // drives), RATE_HZ, "night")
    found = []
    for number in range(work.samples):
        drive, frame = number % drives, number // drives
        image = plan.render(drive, frame).image
        jpeg = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1].tobytes()
        source = f"sim:{plan.seed + drive}?light=night&rate={RATE_HZ:g}"
        found.append(
            fleet_pb2.Sample(
                id=f"{drive}-{frame}",
                jpeg=jpeg,
                jpeg_sha256=hashlib.sha256(jpeg).hexdigest(),
                frame=common_pb2.FrameRef(camera="front", width_px=image.shape[1], height_px=image.shape[0]),
                source=fleet_pb2.SampleSource(
                    id=source, drive_id=f"sim{plan.seed + drive:08d}", drive_ns=round(frame / RATE_HZ * 1e9)
                ),
                reasons=[fleet_pb2.SAMPLE_REASON_DRIFT],
                priority=0.5,
            )
        )
    return found
