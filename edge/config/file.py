"""From a TOML file to a configuration: strict, and each refusal in one line."""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from edge.config.sections import SECTIONS, CameraConfig, EdgeConfig
from edge.errors import TrafficVisionError
from edge.redaction import redact

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_CONFIG_BYTES = 1_000_000

_Model = TypeVar("_Model", bound=BaseModel)


class ConfigError(TrafficVisionError):
    """The configuration cannot be used; the message names file, key, value and what is expected."""


class _CamerasAlone(BaseModel):
    """A configuration of which nothing else is looked at."""

    model_config = ConfigDict(strict=True)

    cameras: tuple[CameraConfig, ...]


def load_config(path: Path) -> EdgeConfig:
    """Read the configuration.

    Raises:
        ConfigError: the file cannot be read, is no TOML, or holds what cannot be used.
    """
    return _load(path, EdgeConfig)


def load_cameras(path: Path) -> tuple[CameraConfig, ...]:
    """Read the [[cameras]] of a configuration whose other sections may be of another machine.

    Raises:
        ConfigError: as `load_config`, but only for what concerns cameras.
    """
    return _load(path, _CamerasAlone).cameras


def _load(path: Path, kind: type[_Model]) -> _Model:
    # By way of JSON, whose strict rules are TOML's: an array may be a tuple, a string a path, nothing else.
    document = _read_toml(path)
    try:
        text = json.dumps(document, default=_no_dates)
        return kind.model_validate_json(text, context={"folder": path.absolute().parent})
    except ValidationError as error:
        raise ConfigError(f"{path}: {_in_one_line(error)}") from None
    except _DateError as error:
        raise ConfigError(f"{path}: {error}") from None
    except ValueError as error:  # a hexadecimal number of thousands of digits
        raise ConfigError(f"{path}: not a configuration: {error}") from None


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
    except ValueError:  # Python's own limit, which TOML has none of
        raise ConfigError(f"{path}: not a configuration: a number of thousands of digits") from None
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
            section = SECTIONS[part]
    near = difflib.get_close_matches(str(location[-1]), section.model_fields, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(section.model_fields)}"
