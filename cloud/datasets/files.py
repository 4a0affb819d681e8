"""Files that are either whole or not there."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that takes its place, synced to disk, when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name[:100]}.{secrets.token_hex(4)}.tmp"
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def write_file(path: Path, data: bytes | str) -> None:
    """Write a whole file, atomically."""
    with atomic_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def link_or_copy(source: Path, target: Path) -> None:
    """Put `source` at `target` without a second copy where the file system can, by copying where not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        with source.open("rb") as reading, atomic_file(target) as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
