"""Files that are either whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from edge.errors import TrafficVisionError

_TAIL_BYTES = len("..01234567.tmp")
_MAX_NAME_BYTES = 255


class FileError(TrafficVisionError, OSError):
    """A file cannot be written. An OSError too: whoever guards a disk asks for nothing else."""

    def __init__(self, path: Path, error: OSError) -> None:
        """For the file and what the operating system said."""
        super().__init__(error.errno, error.strerror or str(error), str(path))

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.filename}: cannot be written: {self.strerror}"


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that takes its place, synced to disk, when the block ends well.

    Raises:
        FileError: the file, or its folder, cannot be written.
    """
    start = os.fsdecode(os.fsencode(path.name)[: _MAX_NAME_BYTES - _TAIL_BYTES])
    temporary = path.parent / f".{start}.{secrets.token_hex(4)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise FileError(path, error) from None
        raise


def write_file(path: Path, data: bytes | str) -> None:
    """Write a whole file, atomically."""
    with atomic_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def link_or_copy(source: Path, target: Path) -> None:
    """Put `source` at `target` without a second copy where the file system can, by copying where not."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source.resolve(), target)
    except OSError:
        write_file(target, source.read_bytes())
