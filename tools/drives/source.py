"""A simulated drive as a source of frames: `sim:7?light=noon-night&seconds=90&rate=10`.

Besides its light, weather (`weather=rain&weather_at=60`) and faults of the camera (`lens=smear`, `turn=5`,
`exposure=-2`, each with a time as `lens_at=60`) may befall it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from types import TracebackType
from urllib.parse import parse_qsl, urlsplit

from edge.frames.frame import Frame
from edge.frames.sources import SourceError
from tools.drives.conditions import NOTHING, Conditions, ConditionsError
from tools.drives.light import Light, LightError, light
from tools.drives.render import SIZE, Rendering, render

_FORM = (
    "sim:SEED[?light=noon|dusk|night|noon-night&dusk=S&fade=S&start=S&seconds=S&rate=HZ&size=WxH"
    "&weather=clear|rain|fog&weather_at=S&lens=clean|smear&lens_at=S&turn=DEG&turn_at=S"
    "&exposure=STOPS&exposure_at=S]"
)
_WORDS = ("weather", "lens")
_SIGNED = ("turn", "exposure")
_CONDITIONS = tuple(field.name for field in fields(Conditions))


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
        conditions: what befalls the drive besides its light, by keys of the same names.
    """

    seed: int
    light: str = "noon"
    dusk: float = 60.0
    fade: float = 30.0
    start: float = 0.0
    seconds: float = 60.0
    rate: float = 10.0
    size: tuple[int, int] = SIZE
    conditions: Conditions = NOTHING

    @property
    def name(self) -> str:
        """The drive's name, with its light and what befalls it."""
        return f"sim{self.seed:08d}-{self.light}{self.conditions.suffix}"

    def falling_light(self) -> Light:
        """Return the light over the drive's time."""
        return light(self.light, dusk_s=self.dusk, fade_s=self.fade)

    def render(self, t: float) -> Rendering:
        """Draw the moment `t` seconds after the first frame."""
        return render(self.seed, self.start + t, self.falling_light(), self.size, self.conditions)


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
    conditions: dict[str, object] = {}
    for key, text in parse_qsl(parts.query, keep_blank_values=True):
        if key == "light":
            values[key] = text
        elif key == "size":
            values[key] = _size(url, text)
        elif key in ("dusk", "fade", "start", "seconds", "rate"):
            values[key] = _number(url, key, text)
        elif key in _CONDITIONS:
            least = -1e9 if key in _SIGNED else 0.0
            conditions[key] = text if key in _WORDS else _number(url, key, text, least)
        else:
            raise SourceError(f"{url!r}: unknown key {key!r}: {_FORM}")
    try:
        # Each key's value was made of its type just above.
        asked = DriveUrl(seed, **values, conditions=Conditions(**conditions))  # type: ignore[arg-type]
        asked.falling_light()
    except (ConditionsError, LightError) as error:
        raise SourceError(f"{url!r}: {error}") from None
    if asked.rate <= 0:
        raise SourceError(f"{url!r}: rate must be more than 0 frames per second, not {asked.rate:g}")
    if asked.seconds and asked.seconds * asked.rate < 0.5:
        raise SourceError(
            f"{url!r}: {asked.seconds:g} s at {asked.rate:g} frames per second hold no frame; "
            "seconds=0 goes on for ever"
        )
    return asked


def _number(url: str, key: str, text: str, least: float = 0.0) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value < 1e9:
        from_there = " from 0 up" if least == 0 else ""
        raise SourceError(f"{url!r}: {key} must be a number{from_there}, not {text!r}: {_FORM}")
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
        self.name = asked.name
        self.rate_hz: float | None = asked.rate
        self.frame_count: int | None = round(asked.seconds * asked.rate) if asked.seconds else None
        self._closed = False

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; `captured_ns` is the drive's time from the first of them."""
        number = 0
        while not self._closed and (self.frame_count is None or number < self.frame_count):
            t = number / self.asked.rate
            drawn = self.asked.render(t)
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
