"""What a killed training left: usable, or to be thrown away.

Ultralytics writes its checkpoints in place, so that a kill can leave half a file, which no resume can read.
"""

from __future__ import annotations

import logging
import pickle
import shutil
import zipfile
from pathlib import Path

_LOG = logging.getLogger(__name__)


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
