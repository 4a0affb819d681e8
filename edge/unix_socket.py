"""Unix sockets that are bound at a path: never over a living process's, and for user and group alone."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from edge.errors import TrafficVisionError

SOCKET_MODE = 0o660  # the daemon's user and group


class SocketError(TrafficVisionError):
    """A socket cannot be bound at a path; the message says why."""


def require_free_path(path: Path) -> None:
    """Find out whether a socket can be bound at a path; one that a killed process left behind can go.

    Raises:
        SocketError: a living process listens there, or it is another file.
        OSError: the folder cannot be used.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketError(f"cannot serve at unix:{path}: a file of that name is there, and it is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:  # left behind by a daemon that was killed
            return
    raise SocketError(f"cannot serve at unix:{path}: another process listens there")


def bind_unix_socket(path: Path, *, backlog: int) -> socket.socket:
    """Listen at a path, in place of what a killed process left there.

    Raises:
        SocketError: it is taken, or cannot be bound.
    """
    listening = socket.socket(socket.AF_UNIX)
    try:
        require_free_path(path)
        path.unlink(missing_ok=True)
        before = os.umask(0o777 & ~SOCKET_MODE)  # bound with other rights, it would be open for a moment
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        raise SocketError(f"cannot serve at unix:{path}: {error.strerror or error}") from None
    except SocketError:
        listening.close()
        raise
    return listening
