"""A cloud with everything for one small retrain: simulated data, the shipped baseline, samples by night."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2

from cloud.config import CloudConfig
from cloud.pipeline.baseline import Baseline
from protos.traffic_vision.v1 import fleet_pb2
from tools.bench import retrain_cloud
from tools.drives.export import JPEG_QUALITY, SimulationPlan, write_frames

MODELS = Path(__file__).resolve().parents[3] / "models"
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
    sections = {
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
    baseline = Baseline(MODELS / "baseline.onnx", MODELS / "baseline.pt", data / "old")
    return retrain_cloud.make_cloud(folder, sections, baseline, _samples(work))


def _samples(work: Work) -> list[fleet_pb2.Sample]:
    drives = max(2, work.samples // 6)
    plan = SimulationPlan(40000, drives, -(-work.samples // drives), RATE_HZ, "night")
    found = []
    for number in range(work.samples):
        drive, frame = number % drives, number // drives
        image = plan.render(drive, frame).image
        jpeg = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1].tobytes()
        source = f"sim:{plan.seed + drive}?light=night&rate={RATE_HZ:g}"
        place = fleet_pb2.SampleSource(
            id=source, drive_id=f"sim{plan.seed + drive:08d}", drive_ns=round(frame / RATE_HZ * 1e9)
        )
        height, width = image.shape[:2]
        found.append(retrain_cloud.drift_sample(f"{drive}-{frame}", jpeg, width, height, place))
    return found
