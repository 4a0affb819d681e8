"""What a running daemon takes over of a configuration that was read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge.config.sections import EdgeConfig


def taken_over(running: EdgeConfig, wanted: EdgeConfig) -> EdgeConfig:
    """Give what runs from now on: the running configuration with those of the wanted values that can change.

    These are each camera's `speed_limit`, by the camera's name, and the log's level.
    """
    limits = {camera.name: camera.speed_limit for camera in wanted.cameras}
    cameras = tuple(
        camera.model_copy(update={"speed_limit": limits.get(camera.name, camera.speed_limit)})
        for camera in running.cameras
    )
    log = running.log.model_copy(update={"level": wanted.log.level})
    return running.model_copy(update={"cameras": cameras, "log": log})


def changed_keys(old: EdgeConfig, new: EdgeConfig) -> list[str]:
    """Name the keys whose values differ, as in errors: `cameras[0].speed_limit`."""
    before, after = (_flat("", config.model_dump()) for config in (old, new))
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def _flat(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, Mapping):
        parts = [(f"{name}.{key}" if name else str(key), part) for key, part in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        parts = [(f"{name}[{number}]", part) for number, part in enumerate(value)]
    else:
        return {name: value}
    return {key: leaf for place, part in parts for key, leaf in _flat(place, part).items()}
