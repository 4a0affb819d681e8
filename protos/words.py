"""The contract's enums as the words that the database and people see."""

from __future__ import annotations

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper


def word(kind: EnumTypeWrapper, prefix: str, value: int) -> str:
    """Give `SAMPLE_REASON_DRIFT` less its prefix `SAMPLE_REASON_`: "drift"; a newer value as "unknown-9"."""
    if value not in kind.values():
        return f"unknown-{value}"
    return str(kind.Name(value)).removeprefix(prefix).lower()
