"""Cameras named after their sources, and files after cameras."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tools.replay.errors import ReplayError

_LONGEST = 63
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")  # as `edge.config` has it


def camera_names(sources: Sequence[str], given: Sequence[str]) -> list[str]:
    """A name for each source: as given, or a file's stem (`sim:7?light=night` is `sim-7`), each different.

    Raises:
        ReplayError: another number of names than of sources, one twice, or one that is none.
    """
    if not given:
        names: list[str] = []
        for source in sources:
            names.append(_unused(_plain(source), names))
        return names
    if len(given) != len(sources):
        raise ReplayError(f"{len(given)} --camera-name for {len(sources)} sources: give each one, or none")
    for name in given:
        if not _NAME.fullmatch(name):
            raise ReplayError(
                f"--camera-name is {name!r}, expected 1 to {_LONGEST} letters, digits, - and _,"
                " a letter or digit first"
            )
        if given.count(name) > 1:
            raise ReplayError(f"--camera-name {name!r} is there twice")
    return list(given)


def video_paths(target: str | None, cameras: Sequence[str]) -> list[Path]:
    """The file of each camera's video: `target` itself for one camera, else NAME-CAMERA.mp4 beside it."""
    if target is None:
        return []
    path = Path(target)
    if len(cameras) == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{camera}{path.suffix}") for camera in cameras]


def _plain(source: str) -> str:
    path = Path(source)
    # A URL's query says how, not what; a folder may have a dot in its name.
    stem = path.name if path.is_dir() else path.stem if path.exists() else source.split("?")[0]
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")
    return plain[: _LONGEST - 4] or "camera"


def _unused(name: str, taken: Sequence[str]) -> str:
    number, wanted = 2, name
    while wanted in taken:
        wanted, number = f"{name}-{number}", number + 1
    return wanted
