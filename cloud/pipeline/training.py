"""Training behind one small function: Ultralytics, its callbacks and its folders stay in here."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.pipeline.ultralytics_boundary import import_ultralytics
from edge.errors import TrafficVisionError


class TrainingError(TrafficVisionError):
    """A training cannot start or did not end with a checkpoint."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What to train.

    Attributes:
        start: an Ultralytics architecture (`yolov8n.yaml`, from scratch) or a checkpoint to go on from.
        data: Ultralytics' data.yaml.
        work: folder for runs; an unfinished run of the same name there is resumed.
        name: of the run.
        imgsz: side of the square training image, pixels.
        epochs, batch, seed: as the words say.
        threads: CPU threads; Ultralytics alone would take one fewer than there are cores.
        device: `cpu`, `0`, or None for a GPU if there is one.
    """

    start: str
    data: Path
    work: Path
    name: str
    imgsz: int = 320
    epochs: int = 40
    batch: int = 16
    seed: int = 0
    threads: int = 2
    device: str | None = None


def train(plan: TrainingPlan) -> Path:
    """Train, or resume an interrupted run, and return the best checkpoint's path.

    Augmentation is Ultralytics' default, with mosaic off for the last quarter of the epochs.

    Raises:
        TrainingError: the data is missing or no checkpoint came out.
    """
    if not plan.data.is_file():
        raise TrainingError(f"{plan.data} is missing: make the training data first")
    os.environ["OMP_NUM_THREADS"] = str(plan.threads)
    ultralytics = import_ultralytics()
    import torch

    def set_threads(_: Any) -> None:
        # Ultralytics' device selection takes cpu_count - 1, one on a machine with two.
        torch.set_num_threads(plan.threads)

    run = (plan.work / plan.name).resolve()
    last = run / "weights" / "last.pt"
    model = ultralytics.YOLO(str(last) if last.is_file() else plan.start)
    model.add_callback("on_pretrain_routine_end", set_threads)
    model.add_callback("on_train_epoch_start", set_threads)
    finished = last.is_file() and _is_finished(torch, last)
    if not finished:
        if not last.is_file():
            shutil.rmtree(run, ignore_errors=True)
        model.train(
            data=str(plan.data.resolve()),
            imgsz=plan.imgsz,
            epochs=plan.epochs,
            batch=plan.batch,
            seed=plan.seed,
            deterministic=True,
            device=plan.device if plan.device is not None else ("0" if torch.cuda.is_available() else "cpu"),
            workers=0,
            project=str(run.parent),
            name=run.name,
            exist_ok=True,
            pretrained=False,
            resume=last.is_file(),
            cache="ram",
            plots=False,
            close_mosaic=plan.epochs // 4,
            amp=False,
            verbose=False,
        )
    best = run / "weights" / "best.pt"
    if not best.is_file():
        raise TrainingError(f"the training left no checkpoint at {best}: see its log")
    return best


def _is_finished(torch: Any, checkpoint: Path) -> bool:
    # Ultralytics writes epoch -1 into a checkpoint when it strips the optimizer at the end.
    return bool(torch.load(checkpoint, map_location="cpu", weights_only=False).get("epoch", 0) == -1)
