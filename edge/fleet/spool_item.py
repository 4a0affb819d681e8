"""An item's file in the spool: a line of JSON that says what it is, then the payload."""

from __future__ import annotations

import json
import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ID_FORM = re.compile(r"[A-Za-z0-9_-]{1,64}")
SUFFIX = ".item"
_HEADER_LIMIT = 512  # bytes


class DamagedItem(Exception):  # noqa: N818  # a finding; it never leaves the spool
    """A file that is not what was written; the message says in what."""


@dataclass(frozen=True, slots=True)
class Item:
    """What the index knows of an item. `size` is the whole file's, bytes."""

    id: str
    sequence: int
    priority: float
    size: int
    path: Path

    @property
    def rank(self) -> tuple[float, int, str]:
        """By falling rank items are sent, important first, then oldest; by rising rank they make room."""
        return self.priority, -self.sequence, self.id


@dataclass(frozen=True, slots=True)
class _Header:
    id: str
    priority: float
    bytes: int
    crc32: int


def item_name(sequence: int, item_id: str) -> str:
    """The file's name; by name, files are in the order in which they came."""
    return f"{sequence:012d}-{item_id}{SUFFIX}"


def encode_item(item_id: str, payload: bytes, priority: float) -> bytes:
    """The file's content. The checksum is against bad disks, not against people."""
    header = {"id": item_id, "priority": priority, "bytes": len(payload), "crc32": zlib.crc32(payload)}
    return json.dumps(header).encode() + b"\n" + payload


def read_item(path: Path) -> Item:
    """What a file is, by its name, first line and size; the payload is not read.

    Raises:
        DamagedItem: the three do not fit each other.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        header = _read_header(file)
        whole = file.tell() + header.bytes
        size = file.seek(0, 2)
    sequence, _, item_id = path.name.removesuffix(SUFFIX).partition("-")
    if header.id != item_id or not sequence.isdecimal():
        raise DamagedItem("its name is not the item's")
    if size != whole:
        raise DamagedItem(f"it has {size} bytes, expected {whole}")
    return Item(item_id, int(sequence), header.priority, size, path)


def read_payload(path: Path) -> bytes:
    """What was put in.

    Raises:
        DamagedItem: it is no longer that.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        header = _read_header(file)
        payload = file.read()
    if len(payload) != header.bytes or zlib.crc32(payload) != header.crc32:
        raise DamagedItem("the payload is not what was written")
    return payload


def _read_header(file: IO[bytes]) -> _Header:
    try:
        read = json.loads(file.readline(_HEADER_LIMIT))
        header = _Header(str(read["id"]), float(read["priority"]), int(read["bytes"]), int(read["crc32"]))
    except (ValueError, TypeError, KeyError, OverflowError):
        raise DamagedItem("its first line is no header") from None
    if not ID_FORM.fullmatch(header.id) or not math.isfinite(header.priority):
        raise DamagedItem("its header is out of bounds")
    return header
