"""The configurations of a demonstration's cloud and vehicle, written as TOML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit

Section = Mapping[str, Any]


def toml(sections: Mapping[str, Section | Sequence[Section]], top: Section | None = None) -> str:
    """Write sections; a sequence of them is an array of tables. Keys whose value is None are left out.

    Args:
        sections: by name.
        top: keys before the first section.
    """
    return tomlkit.dumps(_plain({**(top or {}), **sections}))


def _plain(value: Any) -> Any:
    """TOML knows no None and no path."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items() if part is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value
