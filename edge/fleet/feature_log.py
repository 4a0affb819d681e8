"""The features of all frames, in series that are small enough to ship."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edge.fleet.assemble import new_id
from protos.traffic_vision.v1 import common_pb2, fleet_pb2


@dataclass(frozen=True, slots=True)
class SeriesHead:
    """What all rows of a series have in common.

    Attributes:
        camera: its name.
        source_id, drive_id: as in a sample's source.
        model: that the features of detections come from.
        context: in which the frames were judged; empty: none that is known.
    """

    camera: str
    source_id: str = ""
    drive_id: str = ""
    model: common_pb2.ModelRef = field(default_factory=common_pb2.ModelRef)
    context: str = ""


class FeatureLog:
    """Collects the rows of one camera and cuts them into series. For one thread.

    What is not cut yet is lost with a process that is killed: the latest `series_s` at most.
    """

    def __init__(
        self,
        names: Sequence[str],
        keep: Callable[[str, bytes, float], object],
        *,
        series_s: float = 300.0,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        """Start without rows.

        Args:
            names: of the features, in the order of a row's values.
            keep: takes a series, as `Spool.append` does: id, bytes, priority. Newer ones have the higher
                priority, so that a full spool forgets the oldest.
            series_s: of the frames' time in one series; the row that reaches it is its last.
            clock_s: what "newer" means.
        """
        self.names = tuple(names)
        self._keep = keep
        self._series_ns = series_s * 1e9
        self._clock_s = clock_s
        self._head: SeriesHead | None = None
        self._picture = ""
        self._started: common_pb2.Instant | None = None
        self._drive_ns: list[int] = []
        self._values: list[npt.NDArray[np.float32]] = []

    def add(
        self,
        head: SeriesHead,
        drive_ns: int,
        values: npt.NDArray[np.float32],
        *,
        picture: str = "",
        observed: common_pb2.Instant | None = None,
    ) -> None:
        """Take a row. The series ends before it where the head changes or time stands, after it when full.

        Args:
            head: what it shares with its neighbours.
            drive_ns: the frame's time since the drive's start.
            values: `float32[len(names)]`, NaN where not to be had.
            picture: the frame's name in its source.
            observed: the frame's moment.
        """
        if values.shape != (len(self.names),):
            raise ValueError(f"a row of shape {values.shape} for {len(self.names)} features")
        if self._drive_ns and (head != self._head or drive_ns <= self._drive_ns[-1]):
            self.cut()
        if not self._drive_ns:
            self._head, self._picture, self._started = head, picture, observed
        self._drive_ns.append(drive_ns)
        self._values.append(values.astype(np.float32))
        if drive_ns - self._drive_ns[0] >= self._series_ns:
            self.cut()

    def cut(self) -> None:
        """End the series that is collected, if there is one, and hand it over; called at the end, too."""
        if self._head is None or not self._drive_ns:
            return
        series = fleet_pb2.FeatureSeries(
            id=new_id("series"),
            camera=self._head.camera,
            source=fleet_pb2.SampleSource(
                id=self._head.source_id,
                drive_id=self._head.drive_id,
                picture=self._picture,
                drive_ns=self._drive_ns[0],
            ),
            names=self.names,
            drive_ns=self._drive_ns,
            values=np.concatenate(self._values).tolist(),
            model=self._head.model,
            started=self._started,
            context=self._head.context,
        )
        self._drive_ns, self._values = [], []
        self._keep(series.id, series.SerializeToString(), self._clock_s())
