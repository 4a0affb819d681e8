"""Which camera's region and mask a recording is looked at with."""

from __future__ import annotations

from pathlib import Path

from edge.config import CameraConfig, load_cameras
from edge.errors import TrafficVisionError


class CameraChoiceError(TrafficVisionError):
    """The configuration has no such camera, or several and none was named."""


def camera_of(config: Path | None, name: str | None) -> CameraConfig | None:
    """A camera's section of a daemon's configuration; None where no configuration is given.

    Args:
        config: the configuration's file.
        name: the camera's; None: the only one's.

    Raises:
        CameraChoiceError: there is no such camera, or it takes a name to choose.
        ConfigError: the file cannot be used.
    """
    if config is None:
        if name is not None:
            raise CameraChoiceError(f"--camera {name} needs --camera-config: the file that it stands in")
        return None
    cameras = {camera.name: camera for camera in load_cameras(config)}
    known = ", ".join(cameras) or "none"
    if name is None:
        if len(cameras) == 1:
            return next(iter(cameras.values()))
        raise CameraChoiceError(f"{config}: choose one of its cameras by --camera: {known}")
    if name not in cameras:
        raise CameraChoiceError(f"{config}: there is no camera {name!r}, only {known}")
    return cameras[name]
