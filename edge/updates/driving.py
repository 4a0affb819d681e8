"""Stretches of driving, out of frames. Rules alone, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edge.updates.frame_records import FrameRecord
from edge.vehicle_state.drive_time import DriveTime

STRETCH_S = 10.0


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
        stretch.drive.add(record.camera, record.time_ns, parked=record.parked)
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
