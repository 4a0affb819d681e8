"""A training in a folder of its own, which goes on where it was killed.

The names in there are in the checkpoint too, so that a model can be made again bit for bit by the same ones.
Ultralytics writes its checkpoints in place, so that a kill can leave half a file, which no resume can read.
"""

from __future__ import annotations

import logging
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from cloud.config import TrainingConfig
from cloud.pipeline.job import Pipeline
from cloud.pipeline.training import BatchReduced, EpochReport, is_finished, train
from cloud.pipeline.training_record import plan_of

TRAINING = "training"  # name of Ultralytics' run in the folder
_START = "start.pt"

_LOG = logging.getLogger(__name__)


def train_in(
    work: Path,
    pipeline: Pipeline,
    config: TrainingConfig,
    start_key: str,
    data: Path,
    progress: Callable[[EpochReport], None],
    reduced: Callable[[BatchReduced], None],
    goes_on: Callable[[], None],
) -> Path:
    """Train, or go on, and return the checkpoint's path; see `cloud.pipeline.training.train`.

    Args:
        work: the folder.
        pipeline: what all stages share.
        config: how to train.
        start_key: of the checkpoint to begin from, in the object store.
        data: the dataset's folder.
        progress: is told of each epoch.
        reduced: is told of each batch that was made smaller.
        goes_on: is told, before it does, that a killed training goes on.

    Raises:
        TrainingError: no checkpoint came out.
    """
    start, run = work / _START, work / TRAINING
    shutil.copyfile(pipeline.objects.path(start_key), start)
    discard_broken_training(run)
    if (run / "weights" / "last.pt").exists() and not is_finished(run):
        goes_on()
    return train(plan_of(config, start, data, work, TRAINING), progress, reduced)


def discard_broken_training(run: Path) -> None:
    """Remove a training's folder where one of its checkpoints cannot be read; it begins anew then.

    Args:
        run: the folder that `cloud.pipeline.training.train` works in.
    """
    for checkpoint in (run / "weights" / "last.pt", run / "weights" / "best.pt"):
        if checkpoint.is_file() and not _readable(checkpoint):
            _LOG.warning("%s is cut short: the training begins anew", checkpoint)
            shutil.rmtree(run)
            return


def _readable(checkpoint: Path) -> bool:
    from cloud.pipeline.ultralytics_boundary import import_ultralytics

    import_ultralytics()  # what is pickled are its classes
    import torch

    try:
        torch.load(checkpoint, map_location="cpu", weights_only=False)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile):
        return False
    return True
