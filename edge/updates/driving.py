"""Time on the road, and stretches of it, out of frames. Rules alone, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edge.updates.frame_records import FrameRecord

GAP_S = 5.0  # frames further apart say nothing of the time between them
STRETCH_S = 10.0


class DriveTime:
    """How long the vehicle drove: the frames' time while it is not parked, by the camera that saw most."""

    def __init__(self) -> None:
        """None yet."""
        self._last: dict[str, tuple[int, bool]] = {}
        self._ns: dict[str, int] = {}

    @property
    def seconds(self) -> float:
        """So far."""
        return max(self._ns.values(), default=0) / 1e9

    def add(self, record: FrameRecord) -> None:
        """Take a frame: the time since its camera's frame before counts if both were driving."""
        before = self._last.get(record.camera)
        self._last[record.camera] = record.time_ns, record.parked
        if before is None or before[1] or record.parked:
            return
        passed_ns = record.time_ns - before[0]
        if 0 < passed_ns <= GAP_S * 1e9:  # back in time: a recording began anew
            self._ns[record.camera] = self._ns.get(record.camera, 0) + passed_ns


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some seconds of driving in one context.

    Attributes:
        context: of the world; empty: not known.
        detections: mean a frame.
    """

    context: str
    detections: float


@dataclass(slots=True)
class _Open:
    context: str
    drive: DriveTime
    frames: int = 0
    detections: int = 0


class Stretches:
    """Cuts each camera's frames into stretches; what is shorter is left out."""

    def __init__(self) -> None:
        """None is open."""
        self._open: dict[str, _Open] = {}

    def add(self, record: FrameRecord) -> Stretch | None:
        """Take a frame; gives the stretch that it completes."""
        if record.parked:
            self._open.pop(record.camera, None)
            return None
        stretch = self._open.get(record.camera)
        if stretch is None or stretch.context != record.context:
            stretch = self._open[record.camera] = _Open(record.context, DriveTime())
        stretch.drive.add(record)
        stretch.frames += 1
        stretch.detections += record.detections
        if stretch.drive.seconds < STRETCH_S:
            return None
        del self._open[record.camera]
        return Stretch(stretch.context, stretch.detections / stretch.frames)


def stretches_of(records: Iterable[FrameRecord]) -> list[Stretch]:
    """Cut all of these."""
    cut = Stretches()
    return [stretch for record in records if (stretch := cut.add(record)) is not None]
