"""The simulated demonstration: one drive from noon into the night, on the shipped baseline."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tools.demo.plan import Pace, Recipe, Scene
from tools.demo.tasks import Task

_MODELS = Path(__file__).resolve().parents[2] / "models"
SHIPPED, CHECKPOINT = _MODELS / "baseline.onnx", _MODELS / "baseline.pt"

_TRAINING = "training pictures"


@dataclass(frozen=True, slots=True)
class Drives:
    """Simulated drives to draw: the first seed, how many, pictures of each, pictures a second of drive."""

    seed: int
    drives: int
    frames: int
    rate_hz: float = 0.2  # one every 5 s: no two alike
    val_drives: int = 0


@dataclass(frozen=True, slots=True)
class Simulation:
    """The numbers of the simulated demonstration. No seed is of two kinds.

    Attributes:
        training: the very pictures of the shipped baseline (models/params.yaml).
        holdout_day, holdout_night: what the gate judges by.
        evaluation: drawn by noon and by night.
        seed: of the vehicle's drive.
        rate_hz: its frames per second.
        dusk_s, fade_s: when the light begins to fall, and how long it takes.
        recipe, pace, learn_s: see `tools.demo.plan`.
        baseline: the day model; its retrain goes on from the shipped checkpoint.
    """

    training: Drives = field(default_factory=lambda: baseline_drives())
    holdout_day: Drives = field(default_factory=lambda: Drives(30000, 100, 4))
    holdout_night: Drives = field(default_factory=lambda: Drives(31000, 60, 4))
    evaluation: Drives = field(default_factory=lambda: Drives(20000, 20, 20))
    seed: int = 42
    rate_hz: float = 5.0
    dusk_s: float = 480.0
    fade_s: float = 30.0
    recipe: Recipe = field(default_factory=Recipe)
    pace: Pace = field(default_factory=Pace)
    learn_s: float = 300.0
    baseline: Path = SHIPPED

    def scene(self, work: Path) -> Scene:
        """Lay the scene out in a folder; its tasks draw the pictures."""
        drawn = {
            "holdout by day": (self.holdout_day, "noon", work / "holdout-day"),
            "holdout by night": (self.holdout_night, "night", work / "holdout-night"),
            "evaluation by day": (self.evaluation, "noon", work / "evaluation-day"),
            "evaluation by night": (self.evaluation, "night", work / "evaluation-night"),
        }
        data = work / "training"
        camera = (
            f"sim:{self.seed}?light=noon-night&dusk={self.dusk_s:g}&fade={self.fade_s:g}"
            f"&seconds=0&rate={self.rate_hz:g}"
        )
        return Scene(
            mode="simulated",
            baseline=self.baseline.absolute(),
            checkpoint=CHECKPOINT,
            data=data,
            holdout=(work / "holdout-day", work / "holdout-night"),
            evaluation=(work / "evaluation-day", work / "evaluation-night"),
            camera={"url": camera},
            dusk_s=self.dusk_s,
            dark_s=self.dusk_s + self.fade_s,
            recipe=self.recipe,
            pace=self.pace,
            learn_s=self.learn_s,
            tasks=(
                _drawing(_TRAINING, self.training, "noon", data),
                *(_drawing(name, *what) for name, what in drawn.items()),
            ),
            for_baseline=(_TRAINING,),
            for_retrain=("holdout by day", "holdout by night"),
        )


def baseline_drives() -> Drives:
    """Read which drives the shipped baseline was trained on."""
    said = yaml.safe_load((_MODELS / "params.yaml").read_text())["simulate"]
    return Drives(said["seed"], said["drives"], said["frames"], said["rate_hz"], said["val_drives"])


def quick(baseline: Path | None = None, learning_rate: float | None = None) -> Simulation:
    """Give a demonstration for tests: the same in small, whose retrain learns next to nothing.

    Args:
        baseline: a day model that the shipped checkpoint is better than closes the loop all the same.
        learning_rate: of AdamW, in place of its own.
    """
    return Simulation(
        training=Drives(10000, 12, 4, val_drives=3),
        holdout_day=Drives(30000, 20, 1),
        holdout_night=Drives(31000, 20, 1),
        evaluation=Drives(20000, 3, 2),
        rate_hz=2.0,
        dusk_s=60.0,
        fade_s=10.0,
        recipe=Recipe(
            samples=12,
            old_per_new=1,
            epochs=1,
            learning_rate=learning_rate or 0.0001,
            rectangular=False,
            step_images=64,
            min_boxes=5,
            min_drives=2,
            drop_pictures=6,
        ),
        pace=Pace(judged_s=30.0),
        learn_s=30.0,
        baseline=baseline or SHIPPED,
    )


def _drawing(name: str, drives: Drives, light: str, folder: Path) -> Task:
    numbers = {
        "seed": drives.seed,
        "drives": drives.drives,
        "frames": drives.frames,
        "rate": drives.rate_hz,
        "val-drives": drives.val_drives,
    }
    options = [word for key, value in numbers.items() for word in (f"--{key}", str(value))]
    return Task(
        name,
        ("data", "simulate", *options, "--light", light, "-o", folder),
        pictures=(folder / "images", drives.drives * drives.frames),
    )
