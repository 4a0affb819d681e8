"""Simulated drives as files: labelled pictures, or films with labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2

from cloud.datasets.dataset import Box, DatasetError, LabeledImage
from cloud.datasets.writing import DatasetWriter, Written
from tools.drives.light import light as named_light
from tools.drives.render import CLASS_NAMES, SIZE, Rendering, render

JPEG_QUALITY = 90


def labeled(seed: int, number: int, light: str, drawn: Rendering) -> LabeledImage:
    """Return frame `number` of drive `seed` as a dataset's image; day and night of one seed are one drive."""
    height, width = drawn.image.shape[:2]
    boxes = tuple(
        Box(box.x1, box.y1, box.x2, box.y2, box.label, occluded=box.occluded, truncated=box.truncated)
        for box in drawn.boxes
    )
    name = f"sim{seed:08d}-{light}-{number:06d}.jpg"
    return LabeledImage(name, None, width, height, boxes, drawn.attributes, f"sim{seed:08d}")


def simulate(
    output: Path,
    *,
    seed: int,
    drives: int,
    frames: int,
    rate_hz: float,
    light: str = "noon",
    size: tuple[int, int] = SIZE,
    val_drives: int = 0,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Written:
    """Write `drives` drives of `frames` labelled pictures each, in BDD100K's and in YOLO's shape.

    Args:
        output: a new or empty folder.
        seed: of the first drive; the next has the next number.
        drives: how many.
        frames: pictures of each drive.
        rate_hz: pictures per second of drive; 0.2 gives one every 5 s, all different scenes.
        light: a name that `tools.drives.light.light` knows.
        size: width and height of the pictures, pixels.
        val_drives: this many of the last drives form the split `val`, the others `train`; 0 makes no split.
        progress: wraps the drives, to show how far it is.

    Raises:
        DatasetError: a number is out of its range, or the folder is not empty.
        LightError: the light is unknown.
    """
    sun = named_light(light)
    _check(drives, frames, rate_hz, val_drives)
    with DatasetWriter(output, CLASS_NAMES) as writer:
        for drive in progress(range(drives)):
            split = None if not val_drives else "val" if drive >= drives - val_drives else "train"
            for number in range(frames):
                drawn = render(seed + drive, number / rate_hz, sun, size)
                encoded = cv2.imencode(".jpg", drawn.image, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1]
                writer.add(labeled(seed + drive, number, light, drawn), encoded.tobytes(), split)
        return writer.close()


def _check(drives: int, frames: int, rate_hz: float, val_drives: int) -> None:
    if drives < 1 or frames < 1:
        raise DatasetError(f"at least one drive of one frame is needed, not {drives} drives of {frames}")
    if rate_hz <= 0:
        raise DatasetError(f"the rate must be more than 0 Hz, not {rate_hz:g}")
    if not 0 <= val_drives < drives:
        raise DatasetError(f"{val_drives} validation drives leave none to train on: there are {drives}")
