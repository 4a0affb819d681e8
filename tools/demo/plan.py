"""What a demonstration does, in numbers, and the scene that it is played on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tools.demo.tasks import Task

VEHICLE = "demo-1"
CAMERA = "front"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the retrain is done; `cloud.config` explains each.

    Attributes:
        samples: of drift, that begin it.
        targets: slices that must be better; empty: the one that most of the samples are of.
        val_share: of new drives, to choose the checkpoint by.
        drop_pictures: to tell by what a change costs the new model.
    """

    samples: int = 120
    old_per_new: float = 4.0
    epochs: int = 6
    batch: int = 16
    imgsz: int = 320
    learning_rate: float = 0.0002
    rectangular: bool = True
    step_images: int = 16
    warmup_epochs: float = 1.0
    keep: Literal["best", "last"] = "last"
    val_share: float = 0.1
    margin: float = 0.02
    min_boxes: int = 100
    min_drives: int = 10
    targets: tuple[str, ...] = ()
    drop_pictures: int = 40


@dataclass(frozen=True, slots=True)
class Pace:
    """Times of the drive, in seconds of it, unless the name says otherwise.

    Attributes:
        sample_spacing_s: least time between two samples of drift.
        fast: factor of the drive's own time that the vehicle keeps to otherwise; None: as fast as it can.
        slow: factor of the drive's own time that the vehicle keeps to while the training shares the machine.
        judged_s: of the night under the new model, once the monitor has learned what that sees.
        longest_learning_s: after the swap.
        longest_alarm_s: after dusk.
        series_s: how much of the drive's features goes to the cloud at a time.
    """

    sample_spacing_s: float = 1.0
    fast: float | None = None
    slow: float = 0.25
    judged_s: float = 150.0
    longest_learning_s: float = 900.0
    longest_alarm_s: float = 600.0
    series_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that a loop is closed on.

    Attributes:
        baseline, checkpoint: the day model, and what its retrain goes on from.
        data: that it was trained on.
        holdout: labelled data that the gate judges by.
        evaluation: labelled data of drives that no training saw, for the final figures.
        camera: keys of the vehicle's [[cameras]] section beside name and pace.
        dusk_s, dark_s: when the light begins to fall, and when it is night; seconds of drive.
        labels: labelled data whose pictures the vehicle replays.
        tasks: what makes the data, where it is not there.
        for_baseline, for_retrain: names of the tasks that must be done before the cloud takes the baseline
            in, and before it may retrain.
        first: command that makes the baseline, before anything else.
        learn_s: how long the monitor learns what a model sees, seconds of drive.
        threads: of the vehicle's inference.
    """

    mode: Literal["simulated", "real"]
    baseline: Path
    checkpoint: Path
    data: Path
    holdout: tuple[Path, ...]
    evaluation: tuple[Path, ...]
    camera: Mapping[str, Any]
    dusk_s: float
    dark_s: float
    recipe: Recipe = field(default_factory=Recipe)
    pace: Pace = field(default_factory=Pace)
    labels: tuple[Path, ...] = ()
    tasks: tuple[Task, ...] = ()
    for_baseline: tuple[str, ...] = ()
    for_retrain: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    learn_s: float = 300.0
    threads: int = 2

    def light(self, drive_s: float) -> str:
        """Name the light at a moment of the drive."""
        if drive_s < self.dusk_s:
            return "day"
        return "dusk" if drive_s < self.dark_s else "night"

    def cloud_sections(self) -> dict[str, dict[str, Any]]:
        """Give the sections of cloud.toml that say how this cloud retrains."""
        recipe = self.recipe
        return {
            "serve": {"listen": "127.0.0.1:0", "heartbeat_interval_s": 2.0, "release_poll_s": 0.5},
            "labels": {"datasets": list(self.labels)},
            "trigger": {"min_samples": recipe.samples, "min_drift_samples": recipe.samples, "poll_s": 0.5},
            "dataset": {
                "old_per_new": recipe.old_per_new,
                "val_share": recipe.val_share,
                "test_share": 0.0,
            },
            "training": {
                "epochs": recipe.epochs,
                "batch": recipe.batch,
                "imgsz": recipe.imgsz,
                "learning_rate": recipe.learning_rate,
                "rectangular": recipe.rectangular,
                "step_images": recipe.step_images,
                "warmup_epochs": recipe.warmup_epochs,
                "keep": recipe.keep,
            },
            "gate": {
                "holdout": list(self.holdout),
                "margin": recipe.margin,
                "min_boxes": recipe.min_boxes,
                "min_drives": recipe.min_drives,
                "targets": list(recipe.targets),
                # Of a few pictures, once: the custom's 97.5 % would leave many a good model undecided.
                "confidence": 0.95,
            },
            "release": {"drop_pictures": recipe.drop_pictures},
        }

    def edge_sections(self, address: str, speed_limit: float | None) -> dict[str, Any]:
        """Give the sections of the vehicle's edge.toml.

        Args:
            address: HOST:PORT of the cloud.
            speed_limit: factor of the drive's own time; None: as fast as inference goes.
        """
        camera = {"name": CAMERA, **self.camera, "pace": "lockstep", "speed_limit": speed_limit}
        return {
            "cameras": [camera],
            "model": {"factory": "factory.onnx", "threads": self.threads},
            "drift": {"learn_s": self.learn_s},
            "sampler": {"drift_spacing_s": self.pace.sample_spacing_s, "series_s": self.pace.series_s},
            "cloud": {
                "address": address,
                "ca": "ca.crt",
                "cert": "state/client.pem",
                "key": "state/client.pem",
                "retry_limit_s": 2.0,
            },
            "updates": {
                "root": "root.json",
                "check_interval_s": 30.0,
                "probation_s": 5.0,
                "probation_frames": 50,
            },
            "serve": {"address": "127.0.0.1:0"},
        }
