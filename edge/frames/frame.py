"""The frame: what every source yields and everything on the fast path takes; and the one that broke."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float32]


class FrameKey(NamedTuple):
    """Which frame: unique within one run of the daemon."""

    camera: str
    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of one camera.

    Attributes:
        camera: the camera's name in the configuration.
        sequence: counts the frames of this camera from 0; a gap means frames were not captured.
        epoch: goes up by one at each reconnect; the picture's shape is constant within an epoch.
        captured_ns: monotonic time of capture, ns. For recordings, the drive's time from its start.
        image: `uint8[height, width, 3]`, BGR.
        name: the picture's name in its source (a file name), empty for streams.
        region: x1, y1, x2, y2 of the part that is to be looked at, pixels; None: all of it.
    """

    camera: str
    sequence: int
    epoch: int
    captured_ns: int
    image: Image
    name: str = ""
    region: tuple[int, int, int, int] | None = None

    @property
    def key(self) -> FrameKey:
        """Which frame it is."""
        return FrameKey(self.camera, self.epoch, self.sequence)

    @property
    def part(self) -> Image:
        """What is to be looked at of the image: a view into it."""
        if self.region is None:
            return self.image
        x1, y1, x2, y2 = self.region
        return self.image[y1:y2, x1:x2]

    def to_whole(self, boxes: Boxes) -> Boxes:
        """Boxes in pixels of `part`, `float32[N, >=4]` x1, y1, x2, y2, ..., in pixels of the image."""
        return boxes if self.region is None else _moved(boxes, self.region[0], self.region[1])

    def to_part(self, boxes: Boxes) -> Boxes:
        """The opposite of `to_whole`."""
        return boxes if self.region is None else _moved(boxes, -self.region[0], -self.region[1])


def _moved(boxes: Boxes, right: int, down: int) -> Boxes:
    moved = boxes.copy()
    moved[:, 0:4] += np.array([right, down, right, down], np.float32)
    return np.asarray(moved, np.float32)


@dataclass(frozen=True, slots=True)
class BrokenFrame:
    """A frame that was captured and cannot be decoded: it takes its place in the sequence, without a picture.

    Attributes:
        camera, sequence, epoch, captured_ns, name: as in `Frame`; the two share one sequence.
        reason: what was wrong with it, for people.
    """

    camera: str
    sequence: int
    epoch: int
    captured_ns: int
    reason: str
    name: str = ""
