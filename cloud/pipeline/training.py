"""Training behind one small function: Ultralytics, its callbacks and its folders stay in here."""

from __future__ import annotations

import gc
import io
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cloud.datasets import canonical
from cloud.pipeline.training_errors import TrainingError, says_out_of_memory
from cloud.pipeline.training_progress import BatchReduced, EpochReport, FileSink, Sink, Watch, read_by
from cloud.pipeline.ultralytics_boundary import import_ultralytics, trainer_that_tells

__all__ = [
    "BatchReduced",
    "EpochReport",
    "TrainingError",
    "TrainingPlan",
    "is_finished",
    "portable_checkpoint",
    "train",
]


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
        device: `cpu`, `0`, `0,1` for several GPUs (by Ultralytics' DistributedDataParallel; they share the
            batch), or None for a GPU if there is one.
        learning_rate: of AdamW, at its highest; None: Ultralytics' own choice, which is one for new networks.
        rectangular: pictures keep their shape, which must be the same for all, rather than be padded to a
            square: a 16:9 picture costs 60 % of it. There is no mosaic then.
        step_images: pictures that one step of the optimizer is made of, at least a batch.
        warmup_epochs: while the learning rate rises.
        keep: the checkpoint that is returned: the one that did best on the validation images, or the last.
            Of a short training on something new, of which those images have nothing, the best would be the
            one that learned least.
        patience: epochs without a better result on the validation images, after which the training ends.
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
    patience: int = 100


def train(
    plan: TrainingPlan,
    progress: Callable[[EpochReport], None] = lambda _: None,
    reduced: Callable[[BatchReduced], None] = lambda _: None,
) -> Path:
    """Train, or go on with an interrupted run, and return the checkpoint's path.

    Augmentation is Ultralytics' default, with mosaic off for the last quarter of the epochs. A run of this
    name that ended is not trained again. Where a GPU has too little memory the batch is halved, and the
    training goes on from its last epoch.

    Args:
        plan: what to train.
        progress: is told of each epoch; with several GPUs in another thread.
        reduced: is told of each batch that was made smaller.

    Raises:
        TrainingError: the data is missing, the device is not there, pictures of several shapes are to keep
            them, the smallest batch does not fit into memory, or no checkpoint came out.
    """
    if not plan.data.is_file():
        raise TrainingError(f"{plan.data} is missing: make the training data first")
    os.environ["OMP_NUM_THREADS"] = str(plan.threads)
    # OpenMP reads it when torch is loaded. Threads that spin at a barrier are in the way of whoever they wait
    # for, wherever another process wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import_ultralytics()
    import torch

    device = _device(torch, plan)
    run = (plan.work / plan.name).resolve()
    kept = run / "weights" / f"{plan.keep}.pt"
    told = _Told(progress, reduced, plan.batch)
    while not is_finished(run):
        told.ended = ""
        try:
            _train_once(plan, run, device, told)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            if not says_out_of_memory(told.ended or error):
                if isinstance(error, RuntimeError):
                    raise
                raise TrainingError(f"a process of device {device!r} failed: see its log") from error
            after = _half(plan, told.batch, len(device.split(",")), error)
            told(BatchReduced(told.batch, after, told.epoch + 1))
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        else:
            break
    if not kept.is_file():
        raise TrainingError(f"the training left no checkpoint at {kept}: see its log")
    return kept


class _Told:
    """What a training has told so far; a `Sink`."""

    def __init__(
        self,
        progress: Callable[[EpochReport], None],
        reduced: Callable[[BatchReduced], None],
        batch: int,
    ) -> None:
        self._progress, self._reduced = progress, reduced
        self.batch, self.epoch, self.ended = batch, 0, ""

    def __call__(self, report: EpochReport | BatchReduced | str) -> None:
        if isinstance(report, str):
            self.ended = report
        elif isinstance(report, BatchReduced):
            self.batch = report.after
            self._reduced(report)
        else:
            self.epoch = report.epoch
            self._progress(report)


def _train_once(plan: TrainingPlan, run: Path, device: str, told: _Told) -> None:
    """Train to the end, from the last epoch that was kept."""
    ultralytics = import_ultralytics()
    last = run / "weights" / "last.pt"
    resume = last.is_file()
    if not resume:
        shutil.rmtree(run, ignore_errors=True)
    model = ultralytics.YOLO(str(last) if resume else plan.start)
    # Ultralytics carries a class over from a checkpoint by its name, and COCO's person is our pedestrian.
    model.model.names = {number: canonical(name) for number, name in model.names.items()}
    several = "," in device
    file = plan.work / f"{plan.name}-progress.jsonl"
    sink: Sink = FileSink(file) if several else told
    watch = Watch(str(plan.data), plan.epochs, plan.threads, told.batch, plan.rectangular, sink)
    for event, callback in watch.callbacks().items():
        model.add_callback(event, callback)
    pace: dict[str, object] = {}
    if plan.learning_rate is not None:
        # No warm-up of biases, as Ultralytics has it for an optimizer of its own choice.
        pace = {"optimizer": "AdamW", "lr0": plan.learning_rate, "warmup_bias_lr": 0.0}
    with read_by(told, file) if several else nullcontext():
        model.train(
            # Processes of their own can raise nothing here.
            trainer=trainer_that_tells(watch.fail) if several else None,
            data=str(plan.data.resolve()),
            imgsz=plan.imgsz,
            epochs=plan.epochs,
            batch=told.batch,
            nbs=plan.step_images,
            warmup_epochs=plan.warmup_epochs,
            patience=plan.patience,
            rect=plan.rectangular,
            seed=plan.seed,
            deterministic=True,
            device=device,
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


def _device(torch: Any, plan: TrainingPlan) -> str:
    """Give the device, which is there and takes the plan: Ultralytics would change the plan in silence."""
    wanted = plan.device
    if wanted is None:
        return "0" if torch.cuda.is_available() else "cpu"
    numbers = [int(part) for part in wanted.split(",") if part.isdigit()]
    there = torch.cuda.device_count()
    if numbers and max(numbers) >= there:
        has = f"{there} GPUs, from 0 on" if there else "no GPU that torch can use, the device is cpu"
        raise TrainingError(f"device {wanted!r}: this machine has {has}")
    if len(numbers) > 1 and plan.rectangular:
        raise TrainingError(f"device {wanted!r}: several GPUs train on squares alone, not rectangular")
    if numbers and plan.batch % len(numbers):
        raise TrainingError(
            f"device {wanted!r}: a batch of {plan.batch} cannot be shared out among {len(numbers)} GPUs"
        )
    return wanted


def _half(plan: TrainingPlan, batch: int, devices: int, error: Exception) -> int:
    after = batch // 2 // devices * devices
    if not after:
        raise TrainingError(
            f"the GPU's memory is too small for a batch of {batch} pictures of {plan.imgsz} pixels on "
            f"{devices} device(s): take smaller pictures or a smaller model"
        ) from error
    return after


def is_finished(run: Path) -> bool:
    """Tell whether the training in this folder came to its end; nothing that it left may be half a file."""
    last, best = run / "weights" / "last.pt", run / "weights" / "best.pt"
    if not (last.is_file() and best.is_file()):
        return False
    import_ultralytics()
    import torch

    # Ultralytics writes epoch -1 into a checkpoint when it strips the optimizer at the end.
    return bool(torch.load(last, map_location="cpu", weights_only=False).get("epoch", 0) == -1)


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
        for key in ("data", "model", "project", "save_dir", "resume"):
            if arguments.get(key):
                arguments[key] = Path(str(arguments[key])).name
    if getattr(contents["model"], "pt_path", None):  # of the start
        contents["model"].pt_path = Path(str(contents["model"].pt_path)).name
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    return buffer.getvalue()
