"""What a training tells on its way: Ultralytics' callbacks, in this process or in those of several GPUs.

With several GPUs Ultralytics trains in processes of its own, which it hands its callbacks to by pickle: there
they write lines to a file, and this process reads them.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cloud.pipeline.training_errors import TrainingError, says_out_of_memory

POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class EpochReport:
    """How far a training is.

    Attributes:
        epoch, epochs: done, and asked for.
        loss: the sum of the training losses, mean over the epoch.
        map50: on the validation images, by Ultralytics' own count.
        remaining_s: at the pace of the last epoch.
        batch: pictures at a time, now.
        metrics: each loss, each figure of the validation, the learning rate and the epoch's seconds.
    """

    epoch: int
    epochs: int
    loss: float
    map50: float
    remaining_s: float
    batch: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)

    def to_text(self) -> str:
        """Return one line for people."""
        return (
            f"epoch {self.epoch}/{self.epochs}  loss {self.loss:.3f}  mAP50 {self.map50:.3f}"
            f"  about {self.remaining_s / 60:.0f} min left"
        )


@dataclass(frozen=True, slots=True)
class BatchReduced:
    """The GPU had too little memory for a batch.

    Attributes:
        before, after: pictures at a time.
        epoch: that goes on, or begins anew, with it; from 1 on.
    """

    before: int
    after: int
    epoch: int

    def to_text(self) -> str:
        """Return one line for people."""
        return f"out of memory with a batch of {self.before}: {self.after} from epoch {self.epoch} on"


class Sink(Protocol):
    """Where reports go."""

    def __call__(self, report: EpochReport | BatchReduced | str) -> None:
        """Take a report; a text is why the training ended."""


class Watch:
    """The callbacks of one training, as bound methods. Can be pickled where its sink can."""

    def __init__(
        self, data: str, epochs: int, threads: int, batch: int, rectangular: bool, sink: Sink
    ) -> None:
        """Take the plan's numbers (see `TrainingPlan`) and who is told."""
        self._data, self._epochs, self._threads = data, epochs, threads
        self._rectangular, self._sink = rectangular, sink
        self.batch = batch
        self._began, self._in_epoch = 0.0, False

    def callbacks(self) -> dict[str, Callable[[Any], None]]:
        """Give the callbacks by Ultralytics' names of the events."""
        return {
            "on_train_start": self.check_shapes,
            "on_train_epoch_start": self.begin_epoch,
            "on_fit_epoch_end": self.end_epoch,
        }

    def check_shapes(self, trainer: Any) -> None:
        """Refuse what Ultralytics would go on with, without shuffling."""
        if not self._rectangular:
            return
        shapes = {tuple(shape) for shape in trainer.train_loader.dataset.batch_shapes.tolist()}
        if len(shapes) > 1:
            raise TrainingError(
                f"{self._data}: its pictures have {len(shapes)} shapes, and a rectangular training takes "
                "them one after the other, unshuffled: train on squares"
            )

    def begin_epoch(self, trainer: Any) -> None:
        """Set what Ultralytics sets otherwise, and tell a batch that it has made smaller by itself."""
        import torch

        # Ultralytics' device selection takes cpu_count - 1, one on a machine with two.
        torch.set_num_threads(self._threads)
        self._began, self._in_epoch = time.monotonic(), True
        batch = int(trainer.batch_size)
        if batch < self.batch and _is_first():
            self._sink(BatchReduced(self.batch, batch, trainer.epoch + 1))
        self.batch = batch

    def end_epoch(self, trainer: Any) -> None:
        """Tell how the epoch went."""
        if not self._in_epoch or not _is_first():  # the best checkpoint's validation belongs to no epoch
            return
        self._in_epoch = False
        seconds = time.monotonic() - self._began
        losses = {name: float(value) for name, value in trainer.tloss.items()}
        figures = {_plain(name): float(value) for name, value in trainer.metrics.items()}
        metrics = {
            **{f"train.{name}": value for name, value in losses.items()},
            **{f"val.{name}": value for name, value in figures.items()},
            "learning_rate": max(float(rate) for rate in trainer.lr.values()),
            "epoch_s": seconds,
        }
        self._sink(
            EpochReport(
                epoch=trainer.epoch + 1,
                epochs=self._epochs,
                loss=float(sum(trainer.tloss.values())),
                map50=figures.get("map50", 0.0),
                remaining_s=(self._epochs - trainer.epoch - 1) * seconds,
                batch=self.batch,
                metrics=metrics,
            )
        )

    def fail(self, error: BaseException) -> None:
        """Tell why the training ends, as far as it is known here."""
        if says_out_of_memory(error):
            self._sink(str(error))


class FileSink:
    """Writes reports to a file, a line each. Can be pickled."""

    def __init__(self, path: Path) -> None:
        """Add to the file at `path`."""
        self._path = str(path)

    def __call__(self, report: EpochReport | BatchReduced | str) -> None:
        """See `Sink`."""
        kind = type(report).__name__
        values = {"text": report} if isinstance(report, str) else asdict(report)
        with Path(self._path).open("a") as file:
            file.write(json.dumps({"kind": kind, **values}) + "\n")


@contextmanager
def read_by(sink: Sink, path: Path) -> Iterator[None]:
    """Hand what other processes write to a file on to a sink, in a thread, for the block and to its end.

    Args:
        sink: called in that thread. What it raises is raised at the block's end, whatever the block raised.
        path: what was in it before is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    stop = threading.Event()
    with ThreadPoolExecutor(1, "training-progress") as pool:
        reading = pool.submit(_hand_on, sink, path, stop)
        try:
            yield
        finally:
            stop.set()
            reading.result()


def _hand_on(sink: Sink, path: Path, stop: threading.Event) -> None:
    """Read whole lines as they come, until told to stop and the file is at its end."""
    with path.open("rb") as file:
        last, rest = False, b""
        while not last:
            last = stop.wait(POLL_S)
            *lines, rest = (rest + file.read()).split(b"\n")
            for line in lines:
                sink(_report_of(json.loads(line)))


def _report_of(line: dict[str, Any]) -> EpochReport | BatchReduced | str:
    kind = line.pop("kind")
    if kind == EpochReport.__name__:
        return EpochReport(**line)
    return BatchReduced(**line) if kind == BatchReduced.__name__ else str(line["text"])


def _is_first() -> bool:
    """Whether this is the process that speaks for all."""
    return os.environ.get("RANK", "-1") in ("-1", "0")


def _plain(name: str) -> str:
    """Ultralytics' `metrics/mAP50-95(B)` is map50_95, its `val/box_loss` box_loss."""
    return name.split("/")[-1].removesuffix("(B)").lower().replace("-", "_")
