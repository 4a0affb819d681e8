"""How the vehicle is: gathered from the daemon's parts at the moment when somebody asks."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from edge import __version__
from edge.drift.device import device_drift
from edge.frames.camera import Camera
from edge.messages import Clock, camera_status, model_ref_of
from edge.parts import BackgroundPart, ModelStore
from edge.perception.hot_swap import SwappableDetector
from edge.perception.providers import resolve
from edge.serve.hub import Hub
from protos.traffic_vision.v1 import common_pb2, perception_pb2


class Status:
    """Gathers it. From any thread."""

    def __init__(
        self,
        *,
        clock: Clock,
        cameras: Sequence[Camera],
        detector: SwappableDetector,
        models: ModelStore,
        drift: Hub[common_pb2.DriftState],
    ) -> None:
        """From these; parts come by `add`."""
        self._clock = clock
        self._cameras = cameras
        self._detector = detector
        self._models = models
        self._drift = drift
        self._parts: tuple[BackgroundPart, ...] = ()
        self._started_ns = time.monotonic_ns()

    def add(self, parts: Sequence[BackgroundPart]) -> None:
        """Ask these too."""
        self._parts = tuple(parts)

    def vehicle(self) -> common_pb2.VehicleStatus:
        """The whole status."""
        now_ns = time.monotonic_ns()
        detector, drift = self._detector.active, self._drift.retained()
        status = common_pb2.VehicleStatus(
            observed=self._clock.machine(now_ns),
            uptime_ns=now_ns - self._started_ns,
            daemon_version=daemon_version(),
            cameras=[camera_status(camera, now_ns) for camera in self._cameras],
            model=common_pb2.ModelState(active=model_ref_of(detector.model)),
            drift=drift,
            device_drift=device_drift(drift),
            execution_providers=resolve(detector.options.providers),
            resident_bytes=resident_bytes(),
        )
        self._models.fill_state(status.model)
        for part in self._parts:
            part.fill_status(status)
        return status

    def response(self) -> perception_pb2.GetStatusResponse:
        """What a local client is told."""
        return perception_pb2.GetStatusResponse(
            status=self.vehicle(), class_names=self._detector.active.class_names
        )


def daemon_version() -> str:
    """The release that this code is of."""
    return __version__


def resident_bytes() -> int:
    """Memory that this process holds, bytes; 0 where the system doesn't tell (proc(5), statm)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
