"""Where the daemon serves: free, or held by the daemon that runs."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from edge.config import EdgeConfig
from edge.doctor.finding import Finding, failure, ok
from edge.state_folder import LOCK_NAME

_TIMEOUT_S = 1.0


def addresses(config: EdgeConfig) -> list[Finding]:
    """Each address that is configured."""
    running = running_daemon(config.state_folder)
    wanted = [("serve", address) for address in (config.serve.address, *config.serve.more_addresses)]
    if config.http is not None:
        wanted.append(("http", config.http.address))
    return [judge(subject, address, trouble(address), running) for subject, address in wanted]


def judge(subject: str, address: str, error: str, running: int | None) -> Finding:
    """Judge why an address cannot be had, by which process has the state folder."""
    if not error:
        return ok(subject, f"{address} is free")
    if running is not None:
        return ok(subject, f"{address} is in use, and so is the state folder, by process {running}")
    return failure(subject, f"{address}: {error}", "stop what listens there, or change the address")


def trouble(address: str) -> str:
    """Why an address cannot be had; empty: it can."""
    if address.startswith("unix:"):
        return _unix_trouble(Path(address.removeprefix("unix:")))
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def running_daemon(state_folder: Path) -> int | None:
    """The process that holds the state folder's lock; None: none does."""
    import fcntl

    try:
        descriptor = os.open(state_folder / LOCK_NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).strip()
        return int(holder) if holder.isdigit() else 0
    finally:
        os.close(descriptor)
    return None


def _unix_trouble(path: Path) -> str:
    if not path.exists():
        return ""  # the daemon makes the folder, or systemd does
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_TIMEOUT_S)
            probe.connect(str(path))
    except ConnectionRefusedError:
        return ""  # left by a daemon that was killed; the next one takes it away
    except OSError as error:
        return error.strerror or str(error)
    return "another process listens there"
