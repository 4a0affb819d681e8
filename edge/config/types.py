"""The types of single values in the configuration: what they look like, and what is refused in words."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema

from protos.release_facts import role_of_fleet

DEFAULT_ADDRESS = "127.0.0.1:50061"  # of the perception service; `traffic-vision watch` looks there too

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:")
_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\]):(\d{1,5})")
_HOST_PORT = re.compile(r"([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})")
Point2: TypeAlias = tuple[float, float]
Point4: TypeAlias = tuple[float, float, float, float]

_PACES = ("realtime", "lockstep")


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("expected 1 to 63 letters, digits, - and _, a letter or digit first")
    return name


def _fleet(name: str) -> str:
    role_of_fleet(name)
    return name


def _absolute(path: Path, info: ValidationInfo) -> Path:
    folder: Path = (info.context or {}).get("folder", Path())
    return (folder / path).absolute()


def _existing_file(path: Path) -> Path:
    try:
        is_file = path.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise ValueError(f"expected a file, and it cannot be looked at: {error.strerror}") from None
    if not is_file:
        raise ValueError(f"expected a file, and {'that is a folder' if path.is_dir() else 'there is none'}")
    return path


def _source_url(url: str, info: ValidationInfo) -> str:
    """A path becomes absolute; a file that exists wins over a scheme, as in `edge.frames.sources`."""
    path = _absolute(Path(url), info)
    try:
        is_path = path.exists() or _SCHEME.match(url) is None
    except (OSError, ValueError):  # too long for a name, or with a NUL
        is_path = False
    return str(path) if is_path else url


def _not_empty(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise ValueError("expected one or more")
    return values


def _pace(value: object) -> float | str:
    """How a recording runs: a factor of its own time, or in lock-step with inference."""
    if value in _PACES:
        return str(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e6:
        return float(value)
    raise ValueError('expected "realtime", "lockstep" or a factor above 0 (2.0: twice as fast as it was)')


def _day(value: object) -> date:
    try:
        return date.fromisoformat(value if isinstance(value, str) and len(value) == 10 else "")
    except ValueError:
        raise ValueError('expected a day as text, "YYYY-MM-DD"') from None


def _port_in_range(port: str) -> bool:
    return int(port) <= 65535


def is_loopback(address: str) -> bool:
    """Whether only programs on this machine reach an address: a Unix socket, or a loopback HOST:PORT."""
    return address.startswith("unix:") or _LOOPBACK.fullmatch(address) is not None


def _serve_address(address: str, info: ValidationInfo) -> str:
    if address.startswith("unix:"):
        path = _absolute(Path(address.removeprefix("unix:")), info)
        if len(str(path).encode()) > 107:  # sun_path in unix(7)
            raise ValueError("expected a Unix socket's path of at most 107 bytes; name a shorter one")
        return f"unix:{path}"
    return _host_port(address, 'expected "unix:/a/path" or "HOST:PORT" (port 0: any free one)')


def _host_port(address: str, expected: str = 'expected "HOST:PORT"') -> str:
    found = _HOST_PORT.fullmatch(address)
    if found is None or not _port_in_range(found[2]):
        raise ValueError(expected)
    return address


def _shares(values: tuple[float, ...]) -> tuple[float, ...]:
    if not all(0 <= value <= 1 for value in values):
        raise ValueError("expected shares of the picture's width and height, from 0 to 1")
    return values


def _region(region: Point4) -> Point4:
    x, y, width, height = region
    if width <= 0 or height <= 0 or x + width > 1 or y + height > 1:
        raise ValueError(
            "expected x, y, width, height in shares of the picture, all of it inside the picture"
        )
    return region


Name: TypeAlias = Annotated[str, AfterValidator(_name)]
Fleet: TypeAlias = Annotated[str, AfterValidator(_fleet)]
AbsolutePath: TypeAlias = Annotated[Path, AfterValidator(_absolute)]
ExistingFile: TypeAlias = Annotated[Path, AfterValidator(_absolute), AfterValidator(_existing_file)]
SourceUrl: TypeAlias = Annotated[str, Field(min_length=1), AfterValidator(_source_url)]
Pace: TypeAlias = Annotated[
    Literal["realtime", "lockstep"] | float, BeforeValidator(_pace), WithJsonSchema({"type": "string"})
]
Day: TypeAlias = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]
Positive: TypeAlias = Annotated[float, Field(gt=0)]
NotEmpty: TypeAlias = Annotated[tuple[str, ...], AfterValidator(_not_empty)]
ServeAddress: TypeAlias = Annotated[str, AfterValidator(_serve_address)]
CloudAddress: TypeAlias = Annotated[str, AfterValidator(lambda address: _host_port(address))]
HttpAddress: TypeAlias = CloudAddress
# x, y, width, height of a part of the picture, in shares of its width and height.
Region: TypeAlias = Annotated[Point4, AfterValidator(_shares), AfterValidator(_region)]
# Corners x, y of a polygon, in shares of the picture's width and height.
Polygon: TypeAlias = Annotated[tuple[Annotated[Point2, AfterValidator(_shares)], ...], Field(min_length=3)]
