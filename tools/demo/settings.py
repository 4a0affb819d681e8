"""The configurations of a demonstration's cloud and vehicle, written as TOML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

# TOML's strings, numbers, booleans and arrays of them are JSON's (https://toml.io/en/v1.0.0), but for DEL.
Section = Mapping[str, Any]


def toml(sections: Mapping[str, Section | Sequence[Section]], top: Section | None = None) -> str:
    """Write sections; a sequence of them is an array of tables. Keys whose value is None are left out.

    Args:
        sections: by name.
        top: keys before the first section.
    """
    lines = _keys(top or {})
    for name, section in sections.items():
        if isinstance(section, Mapping):
            lines += [f"[{name}]", *_keys(section)]
        else:
            for one in section:
                lines += [f"[[{name}]]", *_keys(one)]
    return "\n".join([*lines, ""])


def _keys(section: Section) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in section.items() if value is not None]


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")
