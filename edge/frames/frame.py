"""The frame: what every source yields and everything on the fast path takes; and the one that broke."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


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
    """

    camera: str
    sequence: int
    epoch: int
    captured_ns: int
    image: Image
    name: str = ""

    @property
    def key(self) -> FrameKey:
        """Which frame it is."""
        return FrameKey(self.camera, self.epoch, self.sequence)


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
