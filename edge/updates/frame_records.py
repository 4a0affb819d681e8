"""What a probation looks at of each published frame: taken on the frame loop's thread, judged elsewhere."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from edge.frames.frame import Frame
from edge.publication import Publication

KEPT = 8192  # frames; of these the model before is known when a probation begins


class FrameRecord(NamedTuple):
    """One published frame.

    Attributes:
        digest: of the model that answered.
        camera: whose frame.
        time_ns: the frame's own time.
        parked: whether the vehicle was.
        context: of the world, as the drift monitor sees it; empty: not known.
        latency_ms: of the inference.
        detections: that were found.
    """

    digest: str
    camera: str
    time_ns: int
    parked: bool
    context: str
    latency_ms: float
    detections: int


class FrameRecords:
    """Keeps the latest records until they are taken; an observer behind the vehicle's and the drift's."""

    name = "frame records"

    def __init__(
        self,
        parked: Callable[[str], bool] = lambda camera: False,
        context: Callable[[str], str] = lambda camera: "",
    ) -> None:
        """None yet.

        Args:
            parked: whether the vehicle is, as far as a camera is concerned.
            context: what a camera shows at the moment.
        """
        self._parked = parked
        self._context = context
        self._lock = threading.Lock()
        self._records: deque[FrameRecord] = deque(maxlen=KEPT)

    def observe(self, frame: Frame, published: Publication) -> None:
        """Keep a frame's."""
        found = published.detections
        record = FrameRecord(
            found.model_digest,
            frame.camera,
            frame.captured_ns,
            self._parked(frame.camera),
            self._context(frame.camera),
            found.stage_ns.inference / 1e6,
            len(found.boxes),
        )
        self.add(record)

    def add(self, record: FrameRecord) -> None:
        """Keep a record; the oldest goes where there are too many."""
        with self._lock:
            self._records.append(record)

    def take(self) -> list[FrameRecord]:
        """Give what has come since the last time, in order. From any thread."""
        with self._lock:
            taken = list(self._records)
            self._records.clear()
        return taken
