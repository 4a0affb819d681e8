"""Training behind one small function: Ultralytics, its callbacks and its folders stay in here."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cloud.datasets import canonical
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
        learning_rate: of AdamW, at its highest; None: Ultralytics' own choice, which is one for new networks.
        rectangular: pictures keep their shape, which must be the same for all, rather than be padded to a
            square: a 16:9 picture costs 60 % of it. There is no mosaic then.
        step_images: pictures that one step of the optimizer is made of, at least a batch.
        warmup_epochs: while the learning rate rises.
        keep: the checkpoint that is returned: the one that did best on the validation images, or the last.
            Of a short training on something new, of which those images have nothing, the best would be the
            one that learned least.
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
    learning_rate: float | None = None
    rectangular: bool = False
    step_images: int = 64
    warmup_epochs: float = 3.0
    keep: Literal["best", "last"] = "best"


@dataclass(frozen=True, slots=True)
class EpochReport:
    """How far a training is.

    Attributes:
        epoch, epochs: done, and asked for.
        loss: the sum of the training losses, mean over the epoch.
        map50: on the validation images, by Ultralytics' own count.
        remaining_s: at the pace of the last epoch.
    """

    epoch: int
    epochs: int
    loss: float
    map50: float
    remaining_s: float

    def to_text(self) -> str:
        """Return one line for people."""
        return (
            f"epoch {self.epoch}/{self.epochs}  loss {self.loss:.3f}  mAP50 {self.map50:.3f}"
            f"  about {self.remaining_s / 60:.0f} min left"
        )


def train(plan: TrainingPlan, progress: Callable[[EpochReport], None] = lambda _: None) -> Path:
    """Train, or go on with an interrupted run, and return the checkpoint's path.

    Augmentation is Ultralytics' default, with mosaic off for the last quarter of the epochs. A run of this
    name that ended is not trained again.

    Raises:
        TrainingError: the data is missing, pictures of several shapes are to keep them, or no checkpoint
            came out.
    """
    if not plan.data.is_file():
        raise TrainingError(f"{plan.data} is missing: make the training data first")
    os.environ["OMP_NUM_THREADS"] = str(plan.threads)
    # OpenMP reads it when torch is loaded. Threads that spin at a barrier are in the way of whoever they wait
    # for, wherever another process wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    ultralytics = import_ultralytics()
    import torch

    run = (plan.work / plan.name).resolve()
    last, best = run / "weights" / "last.pt", run / "weights" / "best.pt"
    kept = best if plan.keep == "best" else last
    if last.is_file() and best.is_file() and _is_finished(torch, last):
        return kept
    resume = last.is_file()
    if not resume:
        shutil.rmtree(run, ignore_errors=True)
    model = ultralytics.YOLO(str(last) if resume else plan.start)
    # Ultralytics carries a class over from a checkpoint by its name, and COCO's person is our pedestrian.
    model.model.names = {number: canonical(name) for number, name in model.names.items()}
    _watch(model, torch, plan, progress)
    pace: dict[str, object] = {}
    if plan.learning_rate is not None:
        # No warm-up of biases, as Ultralytics has it for an optimizer of its own choice.
        pace = {"optimizer": "AdamW", "lr0": plan.learning_rate, "warmup_bias_lr": 0.0}
    model.train(
        data=str(plan.data.resolve()),
        imgsz=plan.imgsz,
        epochs=plan.epochs,
        batch=plan.batch,
        nbs=plan.step_images,
        warmup_epochs=plan.warmup_epochs,
        rect=plan.rectangular,
        seed=plan.seed,
        deterministic=True,
        device=plan.device if plan.device is not None else ("0" if torch.cuda.is_available() else "cpu"),
        workers=0,
        project=str(run.parent),
        name=run.name,
        exist_ok=True,
        # False draws the weights anew even where the start is a checkpoint.
        pretrained=Path(plan.start).suffix == ".pt",
        resume=resume,
        cache="ram",
        plots=False,
        close_mosaic=plan.epochs // 4,
        amp=False,
        verbose=False,
        **pace,
    )
    if not kept.is_file():
        raise TrainingError(f"the training left no checkpoint at {kept}: see its log")
    return kept


def portable_checkpoint(checkpoint: Path) -> bytes:
    """Return a finished checkpoint without what ties it to the machine and the hour of its training.

    Ultralytics writes folders, the repository's state, the date and the time of each epoch into it; of paths
    the last part stays.

    Args:
        checkpoint: one that a training ended with; it is unpickled, so it must be one's own.
    """
    import_ultralytics()
    import torch

    contents = torch.load(checkpoint, map_location="cpu", weights_only=False)
    for key in ("date", "git"):
        contents.pop(key, None)
    (contents.get("train_results") or {}).pop("time", None)
    for arguments in (contents["train_args"], contents["model"].args):
        for key in ("data", "model", "project", "save_dir"):
            if arguments.get(key):
                arguments[key] = Path(str(arguments[key])).name
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    return buffer.getvalue()


def _watch(model: Any, torch: Any, plan: TrainingPlan, progress: Callable[[EpochReport], None]) -> None:
    began, in_epoch = time.monotonic(), False

    def check_shapes(trainer: Any) -> None:
        shapes = {tuple(shape) for shape in trainer.train_loader.dataset.batch_shapes.tolist()}
        if len(shapes) > 1:  # Ultralytics would go on, without shuffling
            raise TrainingError(
                f"{plan.data}: its pictures have {len(shapes)} shapes, and a rectangular training takes "
                "them one after the other, unshuffled: train on squares"
            )

    def set_threads(_: Any) -> None:
        nonlocal began, in_epoch
        # Ultralytics' device selection takes cpu_count - 1, one on a machine with two.
        torch.set_num_threads(plan.threads)
        began, in_epoch = time.monotonic(), True

    def tell(trainer: Any) -> None:
        nonlocal in_epoch
        if not in_epoch:  # the best checkpoint's last validation belongs to no epoch
            return
        in_epoch = False
        left = plan.epochs - trainer.epoch - 1
        map50 = float(trainer.metrics.get("metrics/mAP50(B)", 0.0))
        loss = float(sum(trainer.tloss.values()))
        progress(EpochReport(trainer.epoch + 1, plan.epochs, loss, map50, left * (time.monotonic() - began)))

    if plan.rectangular:
        model.add_callback("on_train_start", check_shapes)
    model.add_callback("on_train_epoch_start", set_threads)
    model.add_callback("on_fit_epoch_end", tell)


def _is_finished(torch: Any, checkpoint: Path) -> bool:
    # Ultralytics writes epoch -1 into a checkpoint when it strips the optimizer at the end.
    return bool(torch.load(checkpoint, map_location="cpu", weights_only=False).get("epoch", 0) == -1)
