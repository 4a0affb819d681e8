"""What the edge's benchmarks run: weights at several input sizes, and a video that is worth decoding."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.perception.model_file import ModelFile, put_metadata
from tools.bench.rounds import BenchError
from tools.bench.subject import FRAME_SIZE, default_model, load_subject, rendered_pictures

RATE_HZ = 30.0
SIZES = ((384, 640), (640, 640))
_NOISE = 4  # levels: of a camera's sensor, so that a frame does not compress to nothing
_NOISES = 8
_STEP_PX = 4  # the picture moves by so much a frame
_MOVES = 24  # frames of one scene

Picture = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Sized:
    """The weights at one input size.

    Attributes:
        input_hw: height and width of the input, pixels.
        model: the model file.
        path: where it is.
        raw: the raw export of the same weights, where there is one.
    """

    input_hw: tuple[int, int]
    model: ModelFile
    path: Path
    raw: Path | None

    @property
    def title(self) -> str:
        """Its size, as people write it."""
        return f"{self.input_hw[0]}x{self.input_hw[1]}"


def parse_size(text: str) -> tuple[int, int]:
    """`384x640` to height and width.

    Raises:
        BenchError: it is no size.
    """
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if found is None:
        raise BenchError(f"the size is {text!r}, expected HEIGHTxWIDTH, such as 384x640")
    return int(found[1]), int(found[2])


def load_sized(weights: Path | None, sizes: tuple[tuple[int, int], ...], folder: Path) -> list[Sized]:
    """The weights at each size.

    Args:
        weights: a checkpoint, exported at each size; or a model file, which has one size of its own. The
            shipped baseline unless given.
        sizes: height and width of each, of a checkpoint; a model file is taken as it is.
        folder: for what is made here.

    Raises:
        TrafficVisionError: they cannot be used or exported.
    """
    from tools.bench.subject import subject_from_checkpoint

    weights = weights or default_model()
    if weights.suffix != ".pt":
        subject = load_subject(weights, None, None, [], folder)
        return [Sized(subject.model.input_hw, subject.model, weights.absolute(), None)]
    loaded = []
    pictures = rendered_pictures()[:4]
    for height, width in sizes:
        place = folder / f"model-{height}x{width}"
        place.mkdir(parents=True)
        subject = subject_from_checkpoint(weights, (height, width), pictures, place)
        path = place / "model.onnx"
        path.write_bytes(subject.model.data)
        loaded.append(Sized((height, width), subject.model, path, subject.raw))
    return loaded


def another_version(model: ModelFile, number: int) -> bytes:
    """The same weights under another version: another digest, and golden frames that hold for both."""
    import onnx

    other = onnx.load_from_string(model.data)
    put_metadata(other, replace(model.metadata, version=f"{model.metadata.version}-{number}"))
    return other.SerializeToString(deterministic=True)


def make_video(
    path: Path, frames: int, rate_hz: float = RATE_HZ, progress: Progress = lambda done, of: None
) -> Path:
    """Write a video of 1280x720: simulated drives with motion in the picture and noise as of a sensor.

    Args:
        path: ends in .mp4.
        frames: how many.
        rate_hz: frames per second that it says it has.
        progress: told how many frames are written.

    Raises:
        BenchError: this OpenCV cannot write one.
    """
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), rate_hz, FRAME_SIZE)
    if not writer.isOpened():
        raise BenchError("this OpenCV writes no mp4; give a video with --video")
    scenes = rendered_pictures()
    rng = np.random.default_rng(1)
    width, height = FRAME_SIZE
    noises = [rng.integers(0, 2 * _NOISE + 1, (height, width, 3), np.uint8) for _ in range(_NOISES)]
    try:
        for number in range(frames):
            scene = scenes[number // _MOVES % len(scenes)]
            moved = np.roll(scene, _STEP_PX * (number % _MOVES), axis=1)
            writer.write(cv2.add(moved, noises[number % _NOISES]))
            progress(number + 1, frames)
    finally:
        writer.release()
    return path


class Reel:
    """A video decoded frame by frame, from its start again at its end: what a plain loop reads."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            BenchError: it cannot be read.
        """
        self._path = str(path.resolve())
        self._capture = cv2.VideoCapture(self._path, cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise BenchError(f"{path}: no readable video")

    def read(self) -> Picture:
        """The next frame.

        Raises:
            BenchError: no frame decodes.
        """
        for _ in range(2):
            decoded, picture = self._capture.read()
            if decoded:
                return np.asarray(picture, np.uint8)
            self._capture.release()
            self._capture = cv2.VideoCapture(self._path, cv2.CAP_FFMPEG)
        raise BenchError(f"{self._path}: no frame decodes")

    def close(self) -> None:
        """Close it."""
        self._capture.release()
