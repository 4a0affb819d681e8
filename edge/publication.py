"""What leaves the frame loop for local programs: one frame's detections, without the picture."""

from __future__ import annotations

from dataclasses import dataclass

from edge.frames.frame import FrameKey
from edge.perception.detector import Detections
from edge.perception.metadata import ModelMetadata


@dataclass(frozen=True, slots=True, eq=False)
class Publication:
    """The detections of one frame, and what is known of both.

    It holds no picture, because slow clients hold publications.

    Attributes:
        key: which frame.
        captured_ns: the frame's own time, ns: of this machine's monotonic clock, or of the drive.
        is_live: which of the two.
        height, width: of the frame, pixels.
        detections: what the model found.
        model: the model's metadata; its digest is in `detections`.
        wait_ns: from the frame's arrival to the start of preprocessing.
        age_ns: from the frame's arrival to its publication.
        published_ns: monotonic time of its publication.
    """

    key: FrameKey
    captured_ns: int
    is_live: bool
    height: int
    width: int
    detections: Detections
    model: ModelMetadata
    wait_ns: int
    age_ns: int
    published_ns: int
