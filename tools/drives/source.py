"""A simulated drive as a source of frames: `sim:7?light=noon-night&seconds=90&rate=10`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import parse_qsl, urlsplit

from edge.frames.frame import Frame
from edge.frames.sources import SourceError
from tools.drives.light import LightError, light
from tools.drives.render import SIZE, render

_FORM = "sim:SEED[?light=noon|dusk|night|noon-night&dusk=S&fade=S&start=S&seconds=S&rate=HZ&size=WxH]"


@dataclass(frozen=True, slots=True)
class DriveUrl:
    """What a `sim:` URL asks for. Times are seconds of drive.

    Attributes:
        seed: which drive.
        light: a name that `tools.drives.light.light` knows.
        dusk, fade: when a falling light starts to fall, and how long it takes.
        start: where in the drive the first frame is.
        seconds: length; 0 goes on for ever.
        rate: frames per second.
        size: width and height of the picture, pixels.
    """

    seed: int
    light: str = "noon"
    dusk: float = 60.0
    fade: float = 30.0
    start: float = 0.0
    seconds: float = 60.0
    rate: float = 10.0
    size: tuple[int, int] = SIZE


def parse_drive_url(url: str) -> DriveUrl:
    """Read a `sim:` URL.

    Raises:
        SourceError: the seed, a key or a value is not one; the message says which, and the form.
    """
    parts = urlsplit(url)
    try:
        seed = int(parts.path)
    except ValueError:
        raise SourceError(
            f"{url!r}: the drive's seed must be a whole number, not {parts.path!r}: {_FORM}"
        ) from None
    values: dict[str, object] = {}
    for key, text in parse_qsl(parts.query, keep_blank_values=True):
        if key == "light":
            values[key] = text
        elif key == "size":
            values[key] = _size(url, text)
        elif key in ("dusk", "fade", "start", "seconds", "rate"):
            values[key] = _number(url, key, text)
        else:
            raise SourceError(f"{url!r}: unknown key {key!r}: {_FORM}")
    asked = DriveUrl(seed, **values)  # type: ignore[arg-type]  # each key's value was made of its type just above
    if asked.rate <= 0:
        raise SourceError(f"{url!r}: rate must be more than 0 frames per second, not {asked.rate:g}")
    if asked.seconds and asked.seconds * asked.rate < 0.5:
        raise SourceError(
            f"{url!r}: {asked.seconds:g} s at {asked.rate:g} frames per second hold no frame; "
            "seconds=0 goes on for ever"
        )
    try:
        light(asked.light, dusk_s=asked.dusk, fade_s=asked.fade)
    except LightError as error:
        raise SourceError(f"{url!r}: {error}") from None
    return asked


def _number(url: str, key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise SourceError(f"{url!r}: {key} must be a number from 0 up, not {text!r}: {_FORM}")
    return value


def _size(url: str, text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if width.isdecimal() and height.isdecimal() and 64 <= int(width) <= 7680 and 64 <= int(height) <= 4320:
        return int(width), int(height)
    raise SourceError(f"{url!r}: size must be WIDTHxHEIGHT, 64x64 to 7680x4320, not {text!r}")


class SimulatedDrive:
    """The frames of one simulated drive; a `Source`. Frame k is the moment start + k / rate."""

    def __init__(self, asked: DriveUrl) -> None:
        """Make ready; nothing is drawn before it is asked for."""
        self.asked = asked
        self.name = f"sim{asked.seed:08d}-{asked.light}"
        self.rate_hz: float | None = asked.rate
        self.frame_count: int | None = round(asked.seconds * asked.rate) if asked.seconds else None
        self._light = light(asked.light, dusk_s=asked.dusk, fade_s=asked.fade)
        self._closed = False

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; `captured_ns` is the drive's time from the first of them."""
        number = 0
        while not self._closed and (self.frame_count is None or number < self.frame_count):
            t = number / self.asked.rate
            drawn = render(self.asked.seed, self.asked.start + t, self._light, self.asked.size)
            yield Frame(self.name, number, 0, round(t * 1e9), drawn.image, f"{self.name}-{number:06d}.jpg")
            number += 1

    def close(self) -> None:
        """End the drive; the iterator stops at its next step."""
        self._closed = True

    def __enter__(self) -> SimulatedDrive:
        """Return the drive itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        self.close()


def open_simulated_drive(url: str) -> SimulatedDrive:
    """Open `sim:SEED?...`; the entry point of the scheme `sim`.

    Raises:
        SourceError: the URL is not of the form.
    """
    return SimulatedDrive(parse_drive_url(url))
