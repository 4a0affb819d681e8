"""What a model found on pictures, as a file: a second judgement need not look again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cloud.datasets.files import atomic_file

Predictions = list[npt.NDArray[np.float32]]


def save_predictions(path: Path, predictions: Sequence[npt.NDArray[np.float32]]) -> None:
    """Write the boxes of each picture, `float32[N, 6]`, to an `.npz` file.

    Raises:
        FileError: it cannot be written.
    """
    boxes = np.concatenate([np.zeros((0, 6), np.float32), *predictions])
    lengths = np.array([len(rows) for rows in predictions], np.int64)
    with atomic_file(path) as file:
        np.savez(file, boxes=boxes, lengths=lengths)


def load_predictions(path: Path) -> Predictions:
    """Read what `save_predictions` wrote."""
    with np.load(path) as kept:
        return np.split(kept["boxes"], np.cumsum(kept["lengths"])[:-1])
