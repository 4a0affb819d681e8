"""The daemon's configuration: one TOML file, read strictly.

A key that nobody knows, a value of the wrong type and a file that is not there are refused at start, in one
line. Paths in the file are relative to the folder that the file is in. Units stand in the names.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import ErrorDetails

from edge.errors import TrafficVisionError
from edge.redaction import redact

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_ADDRESS = "127.0.0.1:50061"  # of the perception service; `traffic-vision watch` looks there too
MAX_CONFIG_BYTES = 1_000_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:")
_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\]):(\d{1,5})")
_HOST_PORT = re.compile(r"([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})")
_PACES = ("realtime", "lockstep")


class ConfigError(TrafficVisionError):
    """The configuration cannot be used; the message names file, key, value and what is expected."""


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("expected 1 to 63 letters, digits, - and _, a letter or digit first")
    return name


def _absolute(path: Path, info: ValidationInfo) -> Path:
    folder: Path = (info.context or {}).get("folder", Path())
    return (folder / path).absolute()


def _existing_file(path: Path) -> Path:
    if not path.is_file():
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


def _port_in_range(port: str) -> bool:
    return int(port) <= 65535


def _serve_address(address: str, info: ValidationInfo) -> str:
    if address.startswith("unix:"):
        path = _absolute(Path(address.removeprefix("unix:")), info)
        if len(str(path).encode()) > 107:  # sun_path in unix(7)
            raise ValueError("expected a Unix socket's path of at most 107 bytes; name a shorter one")
        return f"unix:{path}"
    found = _LOOPBACK.fullmatch(address)
    if found is None or not _port_in_range(found[2]):
        raise ValueError('expected "unix:/a/path" or "127.0.0.1:PORT" (port 0: any free one)')
    return address


def _cloud_address(address: str) -> str:
    found = _HOST_PORT.fullmatch(address)
    if found is None or not _port_in_range(found[2]):
        raise ValueError('expected "HOST:PORT"')
    return address


Name: TypeAlias = Annotated[str, AfterValidator(_name)]
AbsolutePath: TypeAlias = Annotated[Path, AfterValidator(_absolute)]
ExistingFile: TypeAlias = Annotated[Path, AfterValidator(_absolute), AfterValidator(_existing_file)]
SourceUrl: TypeAlias = Annotated[str, Field(min_length=1), AfterValidator(_source_url)]
Pace: TypeAlias = Annotated[
    Literal["realtime", "lockstep"] | float, BeforeValidator(_pace), WithJsonSchema({"type": "string"})
]
Positive: TypeAlias = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """What every section is: strict, closed and unchangeable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class CameraConfig(Section):
    """One camera, or a recording in its place."""

    name: Name
    # A video file, a folder of pictures, or SCHEME:... of an installed source.
    url: SourceUrl
    # Frames beyond it leave as rate-limited, by the frames' own time. Unset: none do.
    rate_limit_hz: Positive | None = None
    # A frame older than this is not looked at; a camera without a younger one is stale.
    stale_after_ms: Positive = 1000.0
    # Of recordings: "realtime", a factor of it, or "lockstep": at the speed of inference, every frame seen.
    pace: Pace = "realtime"
    # Of lock-step: at most so many times the recording's own time. Taken over by SIGHUP.
    speed_limit: Positive | None = None
    # Frames per second given to pictures, which have no time of their own.
    still_rate_hz: Positive = 10.0


class ModelConfig(Section):
    """The model, and what it runs on."""

    # The model file that came with the installation.
    factory: ExistingFile
    # Execution providers by preference; each must be there.
    providers: Annotated[tuple[str, ...], AfterValidator(_not_empty)] = ("cpu",)
    # Of one inference on a CPU; 0: one per core.
    threads: Annotated[int, Field(ge=0, le=256)] = 2
    # How long the check of a new model may take: some providers build engines for minutes.
    check_timeout_s: Positive = 900.0


class DriftConfig(Section):
    """The drift monitor."""

    # What the world looked like when the model was right; unset: as the model file says, else learnt.
    reference: ExistingFile | None = None
    # Frames per second of the frames' time that are judged; a reference brings its own.
    rate_hz: Positive = 2.0
    # Hours of driving to one false alarm.
    target_hours: Positive = 24.0
    # How long a feature without a reference is watched before it is judged, in the frames' time.
    learn_s: Positive = 300.0


class SamplerConfig(Section):
    """Which frames are kept for the cloud. Times are the frames' own."""

    # Least time between two samples of the same reason.
    drift_spacing_s: Positive = 5.0
    uncertainty_spacing_s: Positive = 20.0
    baseline_spacing_s: Positive = 120.0
    # A frame is uncertain where it is among this share of the most uncertain lately.
    uncertain_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    # A picture whose 64-bit hash differs by so few bits or fewer from a sample's is no news.
    near_duplicate_bits: Annotated[int, Field(ge=0, le=64)] = 2
    # Of samples, in any 24 hours.
    bytes_per_day: Annotated[int, Field(gt=0)] = 500_000_000
    # The drift features of all frames are shipped in pieces of so much time.
    series_s: Positive = 300.0


class SpoolConfig(Section):
    """Where samples wait for the cloud, on disk."""

    limit_bytes: Annotated[int, Field(gt=0)] = 2_000_000_000
    # Flash wears out: at most so much is written a day.
    bytes_per_day: Annotated[int, Field(gt=0)] = 1_000_000_000


class CloudConfig(Section):
    """The cloud, by gRPC with mutual TLS. Files are PEM."""

    address: Annotated[str, AfterValidator(_cloud_address)]
    ca: ExistingFile
    cert: ExistingFile
    key: ExistingFile
    # Longest pause between two tries to reach it.
    retry_limit_s: Positive = 60.0


class UpdatesConfig(Section):
    """Signed models from the cloud."""

    # The TUF root that came with the vehicle.
    root: ExistingFile
    check_interval_s: Positive = 3600.0
    # A new model is confirmed once it has run so long, and published so many frames.
    probation_s: Positive = 300.0
    probation_frames: Annotated[int, Field(gt=0)] = 500


class ServeConfig(Section):
    """The perception service for local programs."""

    address: Annotated[str, AfterValidator(_serve_address)] = DEFAULT_ADDRESS
    # Streams at a time; one more is refused.
    max_streams: Annotated[int, Field(gt=0, le=256)] = 16
    # Messages that may wait for a slow client.
    queue_limit: Annotated[int, Field(gt=0, le=10_000)] = 64


class LogConfig(Section):
    """What is logged, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    # "json": one object a line; "text": for people.
    format: Literal["json", "text"] = "json"


class EdgeConfig(Section):
    """The whole file."""

    vehicle: Name
    # What the daemon keeps: lock, slots, spool. Made where it is missing.
    state_folder: AbsolutePath
    cameras: tuple[CameraConfig, ...]
    model: ModelConfig
    drift: DriftConfig | None = None
    sampler: SamplerConfig | None = None
    spool: SpoolConfig = SpoolConfig()
    # Without it, the daemon runs alone.
    cloud: CloudConfig | None = None
    # Needs [cloud].
    updates: UpdatesConfig | None = None
    serve: ServeConfig = ServeConfig()
    log: LogConfig = LogConfig()

    @field_validator("cameras")
    @classmethod
    def _are_told_apart(cls, cameras: tuple[CameraConfig, ...]) -> tuple[CameraConfig, ...]:
        if not cameras:
            raise ValueError("expected one [[cameras]] section or more")
        names = [camera.name for camera in cameras]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"expected a name of its own for each camera, and {twice[0]!r} is there twice")
        return cameras

    @field_validator("updates")
    @classmethod
    def _has_a_cloud(cls, updates: UpdatesConfig | None, info: ValidationInfo) -> UpdatesConfig | None:
        if updates is not None and info.data.get("cloud", "broken") is None:
            raise ValueError("expected a section [cloud] too: updates come from there")
        return updates


def load_config(path: Path) -> EdgeConfig:
    """Read the configuration.

    Raises:
        ConfigError: the file cannot be read, is no TOML, or holds what cannot be used.
    """
    # By way of JSON, whose strict rules are TOML's: an array may be a tuple, a string a path, nothing else.
    document = _read_toml(path)
    try:
        text = json.dumps(document, default=_no_dates)
        return EdgeConfig.model_validate_json(text, context={"folder": path.absolute().parent})
    except ValidationError as error:
        raise ConfigError(f"{path}: {_in_one_line(error)}") from None
    except _DateError as error:
        raise ConfigError(f"{path}: {error}") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"configuration {str(path)!r} cannot be read: {error.strerror}") from None
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: {len(data)} bytes, a configuration has at most {MAX_CONFIG_BYTES}")
    try:
        document: dict[str, Any] = tomllib.loads(data.decode())
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8, as TOML must be") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not a configuration: nested too deeply") from None
    return document


class _DateError(ValueError):
    pass


def _no_dates(value: object) -> object:
    raise _DateError(f"{value} is a date or time, and no key takes one; for text put it in quotes")


def _in_one_line(error: ValidationError) -> str:
    # A key that is written wrong is two errors, and the unknown one says more than the missing one.
    found = sorted(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
    first, *others = found
    text = _explain(first)
    return f"{text} (and {len(others)} more)" if others else text


def _explain(error: ErrorDetails) -> str:
    key = _key(error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {key!r}; {_suggest(error['loc'])}"
    if error["type"] == "missing":
        return f"key {key!r} is missing"
    expected = error["msg"].removeprefix("Value error, ")
    expected = expected.replace("Input should be", "expected").replace("String should", "expected to")
    shown = redact(repr(error["input"]))
    return f"{key} = {shown if len(shown) <= 120 else shown[:120] + '...'}: {expected}"


def _key(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _suggest(location: tuple[int | str, ...]) -> str:
    section: type[BaseModel] = EdgeConfig
    for part in location[:-1]:
        if isinstance(part, str):
            section = _SECTIONS[part]
    near = difflib.get_close_matches(str(location[-1]), section.model_fields, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(section.model_fields)}"


_SECTIONS: dict[str, type[Section]] = {
    "cameras": CameraConfig,
    "model": ModelConfig,
    "drift": DriftConfig,
    "sampler": SamplerConfig,
    "spool": SpoolConfig,
    "cloud": CloudConfig,
    "updates": UpdatesConfig,
    "serve": ServeConfig,
    "log": LogConfig,
}
