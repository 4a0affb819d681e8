"""Simulated drives as files: labelled pictures, or films with labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2

from cloud.datasets.dataset import Box, DatasetError, LabeledImage
from cloud.datasets.files import atomic_file, write_file
from cloud.datasets.writing import LABELS_FILE, DatasetWriter, scalabel_record, yolo_labels
from tools.drives.conditions import NOTHING, Conditions
from tools.drives.light import LightError
from tools.drives.light import light as named_light
from tools.drives.render import CLASS_NAMES, SIZE, Rendering, render
from tools.replay.video import VideoOutput

JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    """What to draw.

    Attributes:
        seed: of the first drive; the next has the next number.
        drives: how many.
        frames: pictures of each drive.
        rate_hz: pictures per second of drive; 0.2 gives one every 5 s, all different scenes.
        light: a name that `tools.drives.light.light` knows.
        size: width and height of the pictures, pixels.
        val_drives: this many of the last drives form the split `val`, the others `train`; 0 makes no split.
        conditions: what befalls each of the drives besides its light.
    """

    seed: int
    drives: int
    frames: int
    rate_hz: float
    light: str = "noon"
    size: tuple[int, int] = SIZE
    val_drives: int = 0
    conditions: Conditions = NOTHING

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn.

        Raises:
            DatasetError: a number is out of its range, or the light is unknown.
        """
        if self.drives < 1 or self.frames < 1:
            raise DatasetError(f"at least one drive of one frame, not {self.drives} drives of {self.frames}")
        if not 0 <= self.seed < 10**8 - self.drives:
            raise DatasetError(f"the seed must be a number of at most eight digits, not {self.seed}")
        if not 0 < self.rate_hz <= 1000:
            raise DatasetError(f"the rate must lie between 0 and 1000 Hz, not {self.rate_hz:g}")
        if not all(64 <= side <= 7680 for side in self.size):
            raise DatasetError(
                f"the size must be 64 to 7680 pixels each way, not {self.size[0]}x{self.size[1]}"
            )
        if not 0 <= self.val_drives < self.drives:
            raise DatasetError(f"{self.val_drives} validation drives of {self.drives} leave none to train on")
        try:
            named_light(self.light)
        except LightError as error:
            raise DatasetError(str(error)) from None

    def render(self, drive: int, number: int) -> Rendering:
        """Draw frame `number` of drive `drive`, both counted from 0."""
        t = number / self.rate_hz
        return render(self.seed + drive, t, named_light(self.light), self.size, self.conditions)

    def name(self, drive: int) -> str:
        """Return the name of a drive under this light and these conditions."""
        return f"sim{self.seed + drive:08d}-{self.light}{self.conditions.suffix}"

    def labeled(self, drive: int, number: int, drawn: Rendering) -> LabeledImage:
        """Return a frame as a dataset's image; day and night of one seed are one drive."""
        height, width = drawn.image.shape[:2]
        boxes = tuple(
            Box(box.x1, box.y1, box.x2, box.y2, box.label, occluded=box.occluded, truncated=box.truncated)
            for box in drawn.boxes
        )
        name = f"{self.name(drive)}-{number:06d}.jpg"
        video = f"sim{self.seed + drive:08d}"
        return LabeledImage(name, None, width, height, boxes, drawn.attributes, video)


def write_frames(
    plan: SimulationPlan, output: Path, progress: Callable[[Iterable[int]], Iterable[int]] = iter
) -> tuple[int, int]:
    """Write the drives as labelled pictures (BDD100K's and YOLO's shape); return images and boxes written.

    Args:
        plan: what to draw.
        output: a new or empty folder.
        progress: wraps the drives, to show how far it is.

    Raises:
        DatasetError: the folder is not empty.
    """
    with DatasetWriter(output, CLASS_NAMES) as writer:
        for drive in progress(range(plan.drives)):
            split = None
            if plan.val_drives:
                split = "val" if drive >= plan.drives - plan.val_drives else "train"
            for number in range(plan.frames):
                drawn = plan.render(drive, number)
                encoded = cv2.imencode(".jpg", drawn.image, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1]
                writer.add(plan.labeled(drive, number, drawn), encoded.tobytes(), split)
        written = writer.close()
    return written.images, written.boxes


def write_films(
    plan: SimulationPlan, output: Path, progress: Callable[[Iterable[int]], Iterable[int]] = iter
) -> tuple[int, int]:
    """Write each drive as an mp4 with its labels; return frames and boxes written.

    `output` gets DRIVE.mp4, labels/DRIVE-NUMBER.txt (YOLO, with classes.txt) and det_20.json, whose records
    carry `frameIndex`, `timestamp` (ms) and, as label ids, the objects' tracks.

    Args:
        plan: what to draw.
        output: a new or empty folder.
        progress: wraps the drives, to show how far it is.

    Raises:
        DatasetError: the folder is not empty, or a side of the picture is odd, which H.264 cannot have.
        FileError: it cannot be written to.
    """
    if any(side % 2 for side in plan.size):
        raise DatasetError(f"a film's sides must be even, not {plan.size[0]}x{plan.size[1]}")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise DatasetError(f"{output} exists and is not an empty folder: give another, or remove it")
    class_ids = {name: number for number, name in enumerate(CLASS_NAMES)}
    write_file(output / "classes.txt", "".join(f"{name}\n" for name in CLASS_NAMES))
    boxes = 0
    with atomic_file(output / LABELS_FILE) as labels:
        labels.write(b"[")
        for drive in progress(range(plan.drives)):
            with VideoOutput(str(output / f"{plan.name(drive)}.mp4"), plan.rate_hz) as film:
                for number in range(plan.frames):
                    drawn = plan.render(drive, number)
                    film.write(drawn.image)
                    image = plan.labeled(drive, number, drawn)
                    text, _ = yolo_labels(image.boxes, *plan.size, class_ids)
                    write_file(output / "labels" / f"{Path(image.name).stem}.txt", text)
                    record = scalabel_record(image) | {
                        "frameIndex": number,
                        "timestamp": round(1000 * number / plan.rate_hz),
                    }
                    for label, box in zip(record["labels"], drawn.boxes, strict=True):
                        label["id"] = str(box.track)
                    labels.write(b",\n" if drive or number else b"\n")
                    labels.write(json.dumps(record, separators=(",", ":"), allow_nan=False).encode())
                    boxes += len(image.boxes)
        labels.write(b"\n]\n")
    return plan.drives * plan.frames, boxes
