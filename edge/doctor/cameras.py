"""Every camera's source, opened and closed again."""

from __future__ import annotations

from edge.config import CameraConfig, EdgeConfig
from edge.doctor.finding import Finding, failure, ok
from edge.errors import TrafficVisionError
from edge.frames.camera import open_camera
from edge.frames.mailbox import Mailbox
from edge.redaction import redact


def cameras(config: EdgeConfig) -> list[Finding]:
    """Whether each opens."""
    return [_camera(section) for section in config.cameras]


def _camera(config: CameraConfig) -> Finding:
    subject = f"camera {config.name}"
    try:
        camera = open_camera(config, Mailbox())
    except TrafficVisionError as error:
        advice = "check the cable, the address, and the rights of the service's user"
        return failure(subject, redact(str(error)).removeprefix(f"camera {config.name!r}: "), advice)
    try:
        source = camera.capture.source
        rate = "unknown rate" if source.rate_hz is None else f"{source.rate_hz:g} frames/s"
        length = "" if source.frame_count is None else f", {source.frame_count} frames"
    finally:
        camera.capture.stop()
    limit = "" if config.rate_limit_hz is None else f", at most {config.rate_limit_hz:g} frames/s"
    pace = f"{config.pace:g} times its speed" if isinstance(config.pace, float) else config.pace
    if config.speed_limit is not None and config.pace == "lockstep":
        pace += f" up to {config.speed_limit:g} times its speed"
    return ok(
        subject,
        f"{redact(config.url)}: {rate}{length}, {pace}{limit}, stale after {config.stale_after_ms:g} ms",
    )
