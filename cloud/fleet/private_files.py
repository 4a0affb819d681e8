"""Files that others must not read, from their first byte on."""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path

_LOG = logging.getLogger(__name__)


def tell_if_open(path: Path) -> None:
    """Warn where everybody on this machine may read a private key."""
    if path.stat().st_mode & 0o007:
        _LOG.warning("%s: everybody may read this private key: chmod 600", path)


def write_private_file(path: Path, data: bytes, mode: int = 0o600, *, replace: bool = True) -> None:
    """Write a whole file, atomically and synced, with these permissions whatever the umask says.

    Args:
        path: in a folder that is there.
        data: all of it.
        mode: permissions.
        replace: False: a file that another process put there in the meantime is left as it is.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            with suppress(FileExistsError):
                path.hardlink_to(temporary)
            temporary.unlink()
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
