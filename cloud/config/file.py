"""From the file to the configuration, and from what is wrong with it to one line."""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cloud.config.sections import CloudConfig
from cloud.config.types import Section
from edge.errors import TrafficVisionError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_CONFIG_BYTES = 1_000_000
_MAY_HOLD_A_PASSWORD = ("store.database", "dataset.remote", "labels.label_studio.url", "orchestration.url")


class ConfigError(TrafficVisionError):
    """The configuration cannot be used; the message names file, key, value and what is expected."""


def load_config(path: Path) -> CloudConfig:
    """Read the configuration.

    Raises:
        ConfigError: the file cannot be read, is no TOML, or holds what cannot be used.
    """
    # By way of JSON, whose strict rules are TOML's: an array may be a tuple, a string a path, nothing else.
    # A section that is not there is an empty one: its paths, too, are relative to the file.
    document = {**{name: {} for name in CloudConfig.model_fields}, **_read_toml(path)}
    try:
        text = json.dumps(document, default=_no_dates)
        return CloudConfig.model_validate_json(text, context={"folder": path.absolute().parent})
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
    first, *others = error.errors(include_url=False)
    text = _explain(first)
    return f"{text} (and {len(others)} more)" if others else text


def _explain(error: ErrorDetails) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {key!r}; {_suggest(error['loc'])}"
    expected = error["msg"].removeprefix("Value error, ")
    expected = expected.replace("Input should be", "expected").replace("String should", "expected to")
    # In a URL, a password stands before an @, whatever key it is given for.
    hidden = key in _MAY_HOLD_A_PASSWORD or "@" in str(error["input"])
    shown = "***" if hidden else repr(error["input"])
    return f"{key} = {shown if len(shown) <= 120 else shown[:120] + '...'}: {expected}"


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _suggest(location: tuple[int | str, ...]) -> str:
    fields = CloudConfig.model_fields
    for part in location[:-1]:
        if isinstance(part, int):  # of a list of sections, which the part before stood for
            continue
        annotation = fields[part].annotation
        section = next(kind for kind in (annotation, *get_args(annotation)) if _is_section(kind))
        fields = section.model_fields
    near = difflib.get_close_matches(str(location[-1]), fields, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(fields)}"
