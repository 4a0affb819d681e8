"""The model that the detector's benchmark runs, and the pictures that it runs on."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.frames.frame import Frame
from edge.frames.sources import open_source
from edge.perception.model_file import ModelFile, read_model_file
from tools.bench.rounds import BenchError

Picture = npt.NDArray[np.uint8]

FRAME_SIZE = (1280, 720)  # width, height
PICTURES = 24
DEFAULT_SIZE = 640  # pixels, of the square input that a checkpoint is exported at
MODELS = Path(__file__).resolve().parents[2] / "models"


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A model file and, where it is known, the raw export of the same weights."""

    model: ModelFile
    raw: Path | None


def default_model() -> Path:
    """The shipped checkpoint where it can be exported, at any size and for the peers; else its model file.

    Raises:
        BenchError: neither is there.
    """
    checkpoint, model_file = MODELS / "baseline.pt", MODELS / "baseline.onnx"
    if checkpoint.is_file() and _can_export():
        return checkpoint
    if model_file.is_file():
        return model_file
    raise BenchError(f"there is no model in {MODELS}; give one with --model")


def load_subject(
    model: Path, raw: Path | None, size: int | None, pictures: Sequence[Picture], folder: Path
) -> Subject:
    """Read the model; a checkpoint (`.pt`) is exported and made a model file first.

    Args:
        model: a model file, or an Ultralytics checkpoint.
        raw: the raw export of the same weights.
        size: side of the square input of a checkpoint's export, `DEFAULT_SIZE` unless given; of a model file,
            what its input must be.
        pictures: for the golden frames that a model file made here needs.
        folder: for what is made here.

    Raises:
        BenchError: the size is not the model file's, or a raw export was given beside a checkpoint.
        TrafficVisionError: the model is refused, or Ultralytics is not installed for a checkpoint.
    """
    if model.suffix == ".pt":
        if raw is not None:
            raise BenchError("--raw goes with a model file; a checkpoint is exported here")
        side = DEFAULT_SIZE if size is None else size
        return subject_from_checkpoint(model, (side, side), pictures, folder)
    read = read_model_file(model)
    if size is not None and read.input_hw != (size, size):
        height, width = read.input_hw
        raise BenchError(f"{model}: its input is {height}x{width}, not {size}x{size}; give its .pt instead")
    if raw is not None and not raw.is_file():
        raise BenchError(f"{raw}: no such file")
    return Subject(read, raw)


def load_pictures(source: str | None) -> list[Picture]:
    """Up to `PICTURES` pictures of 1280x720, from a source or rendered.

    Args:
        source: what `edge.frames.sources.open_source` takes; the simulated drives by day and night unless
            given.

    Raises:
        TrafficVisionError: the source cannot be used.
    """
    if source is None:
        return rendered_pictures()
    pictures: list[Picture] = []
    with open_source(source) as opened:
        step = max(1, (opened.frame_count or PICTURES) // PICTURES)
        for frame in opened:
            if isinstance(frame, Frame) and frame.sequence % step == 0:
                pictures.append(_sized(frame.image))
            if len(pictures) == PICTURES:
                break
    if not pictures:
        raise BenchError(f"{source}: no picture decodes")
    return pictures


def rendered_pictures() -> list[Picture]:
    """Moments of simulated drives, by noon, dusk and night in turn."""
    from tools.drives.light import light
    from tools.drives.render import render

    lights = [light(name) for name in ("noon", "dusk", "night")]
    moments = [(seed, 10.0 + 3 * seed, lights[seed % len(lights)]) for seed in range(PICTURES)]
    return [render(seed, t, chosen, FRAME_SIZE).image for seed, t, chosen in moments]


def subject_from_checkpoint(
    checkpoint: Path, input_hw: tuple[int, int], pictures: Sequence[Picture], folder: Path
) -> Subject:
    """Export a checkpoint at an input size and make a model file of it.

    Args:
        checkpoint: an Ultralytics checkpoint.
        input_hw: height and width of the input, pixels.
        pictures: for the golden frames.
        folder: for what is made here.

    Raises:
        TrafficVisionError: it cannot be exported, or the model is refused.
    """
    from cloud.release.assembly import assemble
    from cloud.release.checkpoint import export_checkpoint
    from tools.drives.golden import golden_pictures

    raw = export_checkpoint(checkpoint, folder, input_hw)
    golden = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures[:4]]
    return Subject(assemble(raw, [*golden, *golden_pictures()]).model, raw)


def _sized(image: Picture) -> Picture:
    width, height = FRAME_SIZE
    if image.shape[:2] == (height, width):
        return image
    return cv2.resize(image, FRAME_SIZE, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)


def _can_export() -> bool:
    return importlib.util.find_spec("ultralytics") is not None
