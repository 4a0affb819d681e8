"""What a configuration that was read again changes, and what of it a running daemon takes over."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from edge.config import EdgeConfig

_TAKEN_OVER = re.compile(r"cameras\[\d+\]\.speed_limit|log\.level")


def changed_keys(old: EdgeConfig, new: EdgeConfig) -> list[str]:
    """Name the keys whose values differ, as in errors: `cameras[0].speed_limit`."""
    before, after = (_flat("", config.model_dump()) for config in (old, new))
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def is_taken_over(key: str) -> bool:
    """Whether a running daemon takes a change of this key over."""
    return _TAKEN_OVER.fullmatch(key) is not None


def _flat(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, Mapping):
        parts = [(f"{name}.{key}" if name else str(key), part) for key, part in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        parts = [(f"{name}[{number}]", part) for number, part in enumerate(value)]
    else:
        return {name: value}
    return {key: leaf for place, part in parts for key, leaf in _flat(place, part).items()}
