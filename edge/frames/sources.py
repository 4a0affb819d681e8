"""Where frames come from: a recording, a folder of pictures, a camera, or a plug-in's URL scheme."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from edge.errors import TrafficVisionError
from edge.frames.frame import BrokenFrame, Frame
from edge.redaction import redact

if TYPE_CHECKING:
    from edge.config import CameraConfig

PLUGIN_GROUP = "traffic_vision.sources"
PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
CAMERA_SCHEMES = ("gst", "rtsp", "rtsps", "v4l2")
DEFAULT_STILL_RATE_HZ = 10.0
MAX_STILL_RATE_HZ = 1000.0  # more than a camera gives, and times stay apart

# Two letters at least: "C:" is a drive, not a scheme (RFC 3986, section 3.1, but for that).
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):")

# By number, or by where it is plugged in: the number changes when a camera is pulled out and put back.
_VIDEO_DEVICE = re.compile(r"/dev/(video\d|v4l/)")


class SourceError(TrafficVisionError):
    """A source that cannot be opened, or yields no frame at all."""


@runtime_checkable
class Source(Protocol):
    """Frames in the order of capture, once: a source is iterated a single time and then closed.

    A frame that was captured and cannot be decoded is yielded as a `BrokenFrame` in its place, so that
    whoever takes the frames can count every one; a source without such frames yields `Frame` alone. A picture
    belongs to whoever takes it, who may paint on it.

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


@runtime_checkable
class Interruptible(Protocol):
    """A source whose waiting read another thread can end, for good."""

    def interrupt(self) -> None:
        """Let the present and any later read end at once; from any thread."""


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What is asked of a camera; the keys of its section in the configuration.

    Attributes:
        give_up_s: without a frame for so long, it is lost.
        transport: of RTSP.
        size, rate_hz, fourcc: of V4L2: width and height, frames per second, pixel format; None: its own.
    """

    give_up_s: float = 4.0
    transport: Literal["tcp", "udp"] = "tcp"
    size: tuple[int, int] | None = None
    rate_hz: float | None = None
    fourcc: str | None = None


_DEFAULTS = LiveOptions()


def open_configured(config: CameraConfig) -> Source:
    """Open the source of a camera's section of the configuration.

    Raises:
        SourceError: as `open_source`.
    """
    options = LiveOptions(config.give_up_s, config.transport, config.size, config.rate_hz, config.fourcc)
    return open_source(config.url, still_rate_hz=config.still_rate_hz, live=options)


def open_source(
    url: str, *, still_rate_hz: float = DEFAULT_STILL_RATE_HZ, live: LiveOptions = _DEFAULTS
) -> Source:
    """Open a recording, a camera, or `SCHEME:...` of an installed plug-in.

    Recordings are a video file, a folder of pictures or one picture; cameras are rtsp://..., /dev/video0 (or
    v4l2:/dev/video0) and gst:ELEMENT ! ELEMENT... A file that exists wins over a scheme, whatever its name
    looks like.

    Args:
        url: a path or URL.
        still_rate_hz: frames per second given to pictures, which have no time of their own.
        live: what is asked of a camera.

    Raises:
        SourceError: nothing is there, it is no video or picture, no frame decodes, the scheme is unknown, or
            the camera can't be what is asked of it.
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
    camera = _open_camera(url, live)
    if camera is not None:
        return camera
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


def _open_camera(url: str, options: LiveOptions) -> Source | None:
    scheme = url.partition(":")[0].lower()
    if _VIDEO_DEVICE.match(url) or scheme == "v4l2":
        from edge.frames.v4l2 import V4l2Camera

        return V4l2Camera(url[5:] if scheme == "v4l2" else url, options)
    asked = [key for key in ("size", "rate_hz", "fourcc") if getattr(options, key) is not None]
    if asked:
        raise SourceError(f"{asked[0]!r} is for V4L2 devices, and {redact(url)!r} is none")
    if _exists(Path(url)):
        return None
    if scheme in ("rtsp", "rtsps"):
        from edge.frames.rtsp import RtspCamera

        return RtspCamera(url, options)
    if scheme == "gst":
        from edge.frames.gstreamer import GstreamerCamera

        return GstreamerCamera(url[4:], options)
    return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for the file system, or with a NUL
        return False


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=PLUGIN_GROUP)}


def _known() -> str:
    return ", ".join(["/dev/video0", *(f"{name}:..." for name in sorted({*CAMERA_SCHEMES, *_plugins()}))])


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
