"""From a checkpoint to the model file of a candidate, and the pictures that go with it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from cloud.datasets import read_dataset
from cloud.pipeline.manifest import Manifest
from cloud.pipeline.parity import Parity, check_parity
from cloud.release.assembly import AssemblyOptions, assemble
from cloud.release.checkpoint import export_checkpoint
from edge.perception.model_file import ModelFile


def assembled(
    checkpoint: Path,
    folder: Path,
    input_hw: tuple[int, int],
    pictures: Sequence[bytes],
    options: AssemblyOptions,
) -> tuple[ModelFile, Parity]:
    """Export a checkpoint, wrap it, and hold the file against PyTorch.

    Args:
        checkpoint: of a finished training.
        folder: to work in; what is there is removed.
        input_hw: of the file's input.
        pictures: for its golden frames.
        options: what the export does not say itself.

    Raises:
        ParityError: the file does not compute what the checkpoint does.
        TrafficVisionError: no sound model file can be made of it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = assemble(export_checkpoint(checkpoint, folder, input_hw), pictures, options).model
    return model, check_parity(checkpoint, model, [frame.jpeg for frame in model.metadata.golden])


def golden_pictures(champion: Sequence[bytes], data: Path, manifest: Manifest, count: int) -> list[bytes]:
    """Take the champion's golden pictures, and of each slice the picture with the most objects.

    Args:
        champion: its pictures that may be taken on.
        data: the dataset.
        manifest: the dataset's.
        count: at most so many.
    """
    used = {entry.name: entry for entry in manifest.entries if entry.used}
    busiest: dict[str, tuple[int, Path]] = {}
    for image in read_dataset(data).images:
        entry = used.get(image.name)
        if entry is None or image.path is None:
            continue
        if len(image.boxes) > busiest.get(entry.slice, (-1, None))[0]:
            busiest[entry.slice] = len(image.boxes), image.path
    own = [path.read_bytes() for _, (_, path) in sorted(busiest.items())][:count]
    return [*champion[: count - len(own)], *own]


def trained_on(data: Path, manifest: Manifest) -> tuple[Path, ...]:
    """Give the pictures that the model is trained on, in the order of their names."""
    used = {entry.name for entry in manifest.entries if entry.used and entry.side == "train"}
    images = sorted(read_dataset(data).images, key=lambda image: image.name)
    return tuple(image.path for image in images if image.path is not None and image.name in used)
