"""The wish that a camera be commissioned anew: a file, which a running daemon or the next start finds."""

from __future__ import annotations

import os
from pathlib import Path

from edge.config import EdgeConfig
from edge.errors import TrafficVisionError
from edge.files import atomic_write

WISH = "recommission"


class RecommissionError(TrafficVisionError):
    """A camera that cannot be commissioned anew; the message says why."""


def wish_anew(config: EdgeConfig, camera: str) -> None:
    """Wish that a camera be commissioned anew.

    Raises:
        RecommissionError: there is no such camera, cameras are not commissioned, or the state folder cannot
            be written to.
    """
    known = [one.name for one in config.cameras]
    if camera not in known:
        raise RecommissionError(f"there is no camera {camera!r}, only {', '.join(known)}")
    if config.drift is None or not config.drift.commission_hours:
        raise RecommissionError(
            "cameras are not commissioned here: it takes a section [drift], and commission_hours above 0"
        )
    folder = config.state_folder / "drift" / camera
    try:
        owner = config.state_folder.stat()
        for place in (folder.parent, folder):
            if not place.exists():
                place.mkdir()
                _give(place, owner)
        atomic_write(folder / WISH, b"")
        _give(folder / WISH, owner)
    except OSError as error:
        raise RecommissionError(
            f"the wish cannot be left in {str(folder)!r}: {error.strerror};"
            " run it as the daemon's user, or as root, after the daemon's first start"
        ) from None


def _give(path: Path, owner: os.stat_result) -> None:
    """What root makes is the daemon's."""
    if os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid)
