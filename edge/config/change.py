"""What a running daemon takes over of a configuration that was read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge.config.sections import EdgeConfig, Section

# The rest waits for a restart: it opens files, ports and devices, or is laid out at the start.
OF_A_CAMERA = ("speed_limit", "rate_limit_hz", "stale_after_ms")
OF_A_SECTION = {
    "disk": ("bytes_per_day",),
    "log": ("level",),
    "sampler": (
        "drift_spacing_s",
        "uncertainty_spacing_s",
        "baseline_spacing_s",
        "uncertain_share",
        "near_duplicate_bits",
        "bytes_per_day",
    ),
    "serve": ("queue_limit",),
    "spool": ("bytes_per_day",),
}


def taken_over(running: EdgeConfig, wanted: EdgeConfig) -> EdgeConfig:
    """Give what runs from now on: the running configuration with those of the wanted values that can change.

    These are the keys of `OF_A_CAMERA`, by the camera's name, and of `OF_A_SECTION`. A section that comes or
    goes waits for a restart.
    """
    cameras = {camera.name: camera for camera in wanted.cameras}
    taken: dict[str, object] = {
        "cameras": tuple(
            _with(camera, cameras.get(camera.name, camera), OF_A_CAMERA) for camera in running.cameras
        )
    }
    for name, keys in OF_A_SECTION.items():
        before, after = getattr(running, name), getattr(wanted, name)
        if before is not None and after is not None:
            taken[name] = _with(before, after, keys)
    return running.model_copy(update=taken)


def changed_keys(old: EdgeConfig, new: EdgeConfig) -> list[str]:
    """Name the keys whose values differ, as in errors: `cameras[0].speed_limit`."""
    before, after = (_flat("", config.model_dump()) for config in (old, new))
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def _with(running: Section, wanted: Section, keys: Sequence[str]) -> Section:
    return running.model_copy(update={key: getattr(wanted, key) for key in keys})


def _flat(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, Mapping):
        parts = [(f"{name}.{key}" if name else str(key), part) for key, part in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        parts = [(f"{name}[{number}]", part) for number, part in enumerate(value)]
    else:
        return {name: value}
    return {key: leaf for place, part in parts for key, leaf in _flat(place, part).items()}
