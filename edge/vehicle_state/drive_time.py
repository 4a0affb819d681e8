"""Time on the road, out of frames. Rules alone, no I/O."""

from __future__ import annotations

GAP_S = 5.0  # frames further apart say nothing of the time between them


class DriveTime:
    """How long the vehicle drove: the frames' time while it is not parked, by the camera that saw most."""

    def __init__(self) -> None:
        """None yet."""
        self._last: dict[str, tuple[int, bool]] = {}
        self._ns: dict[str, int] = {}

    @property
    def ns(self) -> int:
        """So far."""
        return max(self._ns.values(), default=0)

    @property
    def seconds(self) -> float:
        """So far."""
        return self.ns / 1e9

    def add(self, camera: str, time_ns: int, *, parked: bool) -> None:
        """Take a frame: the time since its camera's frame before counts if both were driving."""
        before = self._last.get(camera)
        self._last[camera] = time_ns, parked
        if before is None or before[1] or parked:
            return
        passed_ns = time_ns - before[0]
        if 0 < passed_ns <= GAP_S * 1e9:  # back in time: a recording began anew
            self._ns[camera] = self._ns.get(camera, 0) + passed_ns
