"""What `watch` knows of a daemon at the moment; written by its streams, read by its screen."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from protos.traffic_vision.v1 import common_pb2, perception_pb2


@dataclass(slots=True)
class View:
    """The latest of everything.

    Attributes:
        frames: by camera, its latest detections.
        drift: by camera, its latest drift state.
        status: the vehicle's, None before the first.
        trouble: why there is no connection; empty while there is one.
        dropped: messages that this client was too slow for.
    """

    frames: dict[str, common_pb2.FrameDetections] = field(default_factory=dict)
    drift: dict[str, common_pb2.DriftState] = field(default_factory=dict)
    status: common_pb2.VehicleStatus | None = None
    trouble: str = "connecting"
    dropped: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def saw_frame(self, message: perception_pb2.StreamDetectionsResponse) -> None:
        """Take in a frame's detections."""
        with self.lock:
            self.frames[message.detections.frame.camera] = message.detections
            self.dropped += message.dropped_messages
            self.trouble = ""

    def saw_drift(self, message: perception_pb2.StreamDriftResponse) -> None:
        """Take in a drift state."""
        with self.lock:
            self.drift[message.state.camera] = message.state

    def saw_status(self, status: common_pb2.VehicleStatus) -> None:
        """Take in a status."""
        with self.lock:
            self.status = status
            self.trouble = ""

    def lost(self, reason: str) -> None:
        """Note that there is no connection."""
        with self.lock:
            self.trouble = reason
