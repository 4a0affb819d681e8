"""The vehicle's state, as a part of the daemon: reports where there are any, the pictures' motion without."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from edge.config import VehicleStateConfig
from edge.frames.frame import Frame
from edge.publication import Publication
from edge.vehicle_state.drive_time import DriveTime
from edge.vehicle_state.listener import LineListener
from edge.vehicle_state.motion import PictureMotion
from edge.vehicle_state.standing import ReportedStanding, SeenStanding
from edge.vehicle_state.state import Report, Reports
from protos.traffic_vision.v1 import common_pb2
from protos.words import word

logger = logging.getLogger(__name__)


class VehicleWatch:
    """Tells parked from driving: the whole vehicle by its reports, and each camera by its pictures.

    The first observer of frames: those that follow ask it.
    """

    name = "vehicle state"

    def __init__(self, config: VehicleStateConfig, cameras: Sequence[str], reports: Reports) -> None:
        """Make ready; the socket is bound, and answered from `start` on.

        Args:
            config: the section [vehicle_state].
            cameras: their names.
            reports: what comes by the perception service; what comes by the socket goes in there too.

        Raises:
            SocketError: the socket cannot be bound.
        """
        self._reports = reports
        self._lock = threading.Lock()
        self._reported = ReportedStanding(
            moving_mps=config.moving_mps, parked_after_s=config.parked_after_s, valid_ms=reports.valid_ms
        )
        self._motions = {camera: PictureMotion() for camera in cameras}
        self._seen = {camera: SeenStanding(parked_after_s=config.parked_after_s) for camera in cameras}
        # Of each camera's latest look that could tell.
        self._looks_moving = dict.fromkeys(cameras, True)
        self._told: dict[str, common_pb2.Motion] = {}
        self._drive, self._driven_ns = DriveTime(), 0
        reports.listen(self._take)
        self._listener = None if config.socket is None else LineListener(config.socket, reports.report)

    def observe(self, frame: Frame, published: Publication) -> None:
        """Look whether the picture moves."""
        look = self._motions[frame.camera].look(frame.captured_ns, frame.part)
        if look is not None:
            self._seen[frame.camera].look(look.time_ns, look.moves)
            # Where it cannot be told, what it would hide is worth more than what it would add.
            self._looks_moving[frame.camera] = look.moves is not False
        self._tell(frame.camera)
        self._drive.add(frame.camera, frame.captured_ns, parked=self.parked(frame.camera))
        self._driven_ns = self._drive.ns

    def motion(self, camera: str) -> common_pb2.Motion:
        """Whether the vehicle drives, as far as a camera is concerned. From any thread."""
        seen = self._seen[camera].motion
        valid = self._reports.valid()
        with self._lock:
            moves = None if valid is None else self._reported.moves
            if moves is None:
                return seen
            # A report that it moves outweighs the picture; when it has just stopped, the picture may know
            # already that it has stood there for long.
            parked = not moves and (
                self._reported.parked(time.monotonic_ns()) or seen == common_pb2.MOTION_PARKED
            )
        return common_pb2.MOTION_PARKED if parked else common_pb2.MOTION_DRIVING

    def parked(self, camera: str) -> bool:
        """Whether the vehicle is parked. From any thread."""
        return self.motion(camera) == common_pb2.MOTION_PARKED

    def moves(self, camera: str) -> bool:
        """Whether it moves at this moment, as far as is known: at a light it does not, and is not parked.

        By the reports that hold, without them by a camera's latest picture. From any thread.
        """
        valid = self._reports.valid()
        with self._lock:
            moves = None if valid is None else self._reported.moves
        return self._looks_moving[camera] if moves is None else moves

    def state(self) -> common_pb2.VehicleState | None:
        """What the vehicle says of itself; None where nothing holds. To be read, not to be changed."""
        valid = self._reports.valid()
        return None if valid is None else valid.state

    def start(self) -> None:
        """Start the socket's thread, where there is a socket."""
        if self._listener is not None:
            self._listener.start()

    def stop(self) -> None:
        """Ask it to end."""
        if self._listener is not None:
            self._listener.stop()

    def join(self, timeout_s: float) -> bool:
        """Wait for it; False where it hangs."""
        return self._listener is None or self._listener.join(timeout_s)

    def fill_status(self, status: common_pb2.VehicleStatus) -> None:
        """Add the report that holds, each camera's motion, and for how long it drove."""
        status.driven_ns = self._driven_ns
        state = self.state()
        if state is not None:
            status.state.CopyFrom(state)
        for camera in status.cameras:
            camera.motion = self.motion(camera.camera)

    def _take(self, report: Report) -> None:
        with self._lock:
            self._reported.report(report.arrived_ns, report.state)

    def _tell(self, camera: str) -> None:
        now = self.motion(camera)
        before = self._told.get(camera, common_pb2.MOTION_UNSPECIFIED)
        if now == before:
            return
        self._told[camera] = now
        name = word(common_pb2.Motion, "MOTION_", now)
        logger.info(
            "camera %s: %s", camera, name, extra={"event": "motion", "camera": camera, "motion": name}
        )
