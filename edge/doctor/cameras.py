"""Every camera, opened for real, watched, and closed again."""

from __future__ import annotations

from edge.config import CameraConfig, EdgeConfig
from edge.doctor.finding import Finding, failure, ok
from edge.errors import TrafficVisionError
from edge.frames.probe import probe_camera


def cameras(config: EdgeConfig) -> list[Finding]:
    """Whether each opens, and what it gives."""
    return [_camera(section) for section in config.cameras]


def _camera(config: CameraConfig) -> Finding:
    subject = f"camera {config.name}"
    try:
        return ok(subject, probe_camera(config))
    except TrafficVisionError as error:
        advice = "check the cable, the address, and the rights of the service's user"
        return failure(subject, str(error).removeprefix(f"camera {config.name!r}: "), advice)
