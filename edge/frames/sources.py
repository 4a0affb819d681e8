"""Where frames come from: a recording, a folder of pictures, or a plug-in's URL scheme."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

from edge.errors import TrafficVisionError
from edge.frames.frame import BrokenFrame, Frame

PLUGIN_GROUP = "traffic_vision.sources"
PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
DEFAULT_STILL_RATE_HZ = 10.0
MAX_STILL_RATE_HZ = 1000.0  # more than a camera gives, and times stay apart

# Two letters at least: "C:" is a drive, not a scheme (RFC 3986, section 3.1, but for that).
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):")


class SourceError(TrafficVisionError):
    """A source that cannot be opened, or yields no frame at all."""


@runtime_checkable
class Source(Protocol):
    """Frames in the order of capture, once: a source is iterated a single time and then closed.

    A frame that was captured and cannot be decoded is yielded as a `BrokenFrame` in its place, so that
    whoever takes the frames can count every one; a source without such frames yields `Frame` alone.

    Attributes:
        name: for people and records; never carries a password.
        rate_hz: nominal frames per second, None where unknown. Times are in the frames, not in this.
        frame_count: frames that the source says it holds, None where unknown or without end.
    """

    @property
    def name(self) -> str: ...

    @property
    def rate_hz(self) -> float | None: ...

    @property
    def frame_count(self) -> int | None: ...

    def __iter__(self) -> Iterator[Frame | BrokenFrame]: ...

    def close(self) -> None:
        """Give back files and devices. May be called twice."""

    def __enter__(self) -> Source: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


@runtime_checkable
class LiveSource(Source, Protocol):
    """A camera. Its frames' times are this machine's monotonic clock, and its end is a loss, never the end.

    It connects when it is iterated, not when it is opened: what `open_source` refuses is a mistake in the
    configuration, what fails later is tried again.

    Attributes:
        is_live: true; what tells it from a recording.
    """

    @property
    def is_live(self) -> bool: ...


def open_source(url: str, *, still_rate_hz: float = DEFAULT_STILL_RATE_HZ) -> Source:
    """Open a video file, a folder of pictures (or one picture), or `SCHEME:...` of an installed plug-in.

    A file that exists wins over a scheme, whatever its name looks like.

    Args:
        url: a path, or a URL whose scheme is an entry point in the group `traffic_vision.sources`.
        still_rate_hz: frames per second given to pictures, which have no time of their own.

    Raises:
        SourceError: nothing is there, it is no video or picture, no frame decodes, or the scheme is unknown.
    """
    if not 0 < still_rate_hz <= MAX_STILL_RATE_HZ:  # neither does a NaN pass
        raise SourceError(
            f"the rate for still pictures must be above 0 and at most {MAX_STILL_RATE_HZ:g} per second,"
            f" not {still_rate_hz:g}"
        )
    if not url:  # a path to the working directory, by pathlib
        raise SourceError(
            f"the source is empty: give a video file, a folder of pictures, or one of {_known()}"
        )
    path = Path(url)
    if _exists(path):
        # cv2 takes a fifth of a second to import; plug-ins and error messages need none of it.
        from edge.frames.picture_folder import PictureFolder
        from edge.frames.video_file import VideoFile

        if path.is_dir() or path.suffix.lower() in PICTURE_SUFFIXES:
            return PictureFolder(path, rate_hz=still_rate_hz)
        return VideoFile(path)
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise SourceError(
            f"source {url!r} not found: give a video file, a folder of pictures, or one of {_known()}"
        )
    return _open_plugin(scheme.group(1).lower(), url)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for the file system, or with a NUL
        return False


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=PLUGIN_GROUP)}


def _known() -> str:
    return ", ".join(f"{name}:..." for name in sorted(_plugins())) or "(no plug-in is installed)"


def _open_plugin(scheme: str, url: str) -> Source:
    point = _plugins().get(scheme)
    if point is None:
        # The rest of the URL stays out of the message: camera URLs carry passwords.
        raise SourceError(f"no such file, and {scheme + ':'!r} is no known kind of source; known: {_known()}")
    try:
        opener = point.load()
    except (ImportError, AttributeError) as error:
        raise SourceError(
            f"the plug-in {point.value!r} for {scheme + ':'!r} cannot be loaded: {error}"
        ) from error
    source = opener(url)
    if not isinstance(source, Source):
        raise SourceError(
            f"the plug-in {point.value!r} for {scheme + ':'!r} gave {type(source).__name__}, no source"
        )
    return source
