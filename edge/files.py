"""Files on the vehicle: whole or not there, and still there after a power cut."""

from __future__ import annotations

import fcntl
import os
import secrets
from contextlib import suppress
from pathlib import Path

# Of a file that is being written. What a killed process left with it is safe to delete.
TEMPORARY_SUFFIX = ".tmp"


def atomic_write(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Put `data` at `path`, whole and on disk when this returns; before that the old file stands there.

    Args:
        path: in a folder that is there.
        data: all of it.
        mode: permissions from its first byte on, less the umask.

    Raises:
        OSError: the folder is missing, the disk is full or broken. No temporary file is left, and the
            old file stands, unless the last step alone failed: the folder's own sync.
    """
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def lock(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """Open a path and hold it alone (flock(2)), until the descriptor is closed or the process ends.

    Args:
        path: a file, made where it is missing, or what the flags say.
        flags: to open it with.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def sync_file(path: Path) -> None:
    """Put a file's bytes on disk; its name is `sync_folder`'s.

    Raises:
        OSError: it cannot be opened or the disk is broken.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on disk: a rename is durable only after it (fsync(2), notes).

    Raises:
        OSError: the folder cannot be opened or the disk is broken.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
