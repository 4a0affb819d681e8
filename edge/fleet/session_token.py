"""The session token: what the cloud gave at the last connection, kept beside the identity, shown at the next.

By it the cloud tells this vehicle, back after a power cut, from a copy of its identity. What is shown is on
disk and stays there: the cloud forgets what it gave before.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

from edge.files import TEMPORARY_SUFFIX, atomic_write, sync_folder
from edge.fleet.identity import PRIVATE_MODE, give_to_owner_of
from edge.logs import Repeated
from edge.machine.disk_budget import DiskLane

LIMIT_BYTES = 64

_log = logging.getLogger(__name__)


class SessionToken:
    """One vehicle's. From any thread."""

    def __init__(self, key: Path, disk: DiskLane) -> None:
        """Nothing is read yet.

        Args:
            key: the file with the identity's private key; the token stands beside it.
            disk: counts what is written.
        """
        self._path = key.with_suffix(".session")
        self._disk = disk
        self._token = b""
        self._is_settled = False  # the file holds `_token`, and will after a power cut
        self._troubles = Repeated(_log, logging.WARNING)
        # A stream that was cut may still ask what to show while the next one is given another.
        self._lock = threading.Lock()

    def shown(self) -> bytes:
        """The newest that is on disk for good; empty: none is. A secret."""
        with self._lock:
            if not self._is_settled:
                try:
                    self._token, self._is_settled = self._settle(), True
                except OSError as error:
                    self._troubles.log("the session token %s cannot be read: %s", self._path, error.strerror)
            return self._token

    def keep(self, token: bytes) -> bytes:
        """Put another in its place; its SHA-256 once it is on disk for good, empty where it is not.

        A vehicle that can't keep it drives on and shows the one before, which the cloud takes from it.
        """
        if not 0 < len(token) <= LIMIT_BYTES:
            self._troubles.log("the cloud gave a session token of %d bytes, which is not kept", len(token))
            return b""
        with self._lock:
            return self._put(token)

    def _put(self, token: bytes) -> bytes:
        self._is_settled = False  # a failure may be that of the last step, with the new one in place
        try:
            atomic_write(self._path, token, mode=PRIVATE_MODE)
            give_to_owner_of(self._path.parent, self._path)
        except OSError as error:
            self._troubles.log(
                "the session token cannot be kept at %s (%s): the cloud may not notice a copy of this"
                " identity that connects while this vehicle is away",
                self._path,
                error.strerror,
            )
            return b""
        self._disk.wrote(len(token))
        self._token, self._is_settled = token, True
        return hashlib.sha256(token).digest()

    def _settle(self) -> bytes:
        """What the file holds, once a power cut can no longer bring back the one before."""
        for left in self._path.parent.glob(f".{self._path.name}.*{TEMPORARY_SUFFIX}"):
            with suppress(OSError):  # of a kill while one was written
                left.unlink()
        try:
            with self._path.open("rb") as file:
                token = file.read(LIMIT_BYTES + 1)
                os.fsync(file.fileno())
        except FileNotFoundError:
            return b""
        sync_folder(self._path.parent)
        if not 0 < len(token) <= LIMIT_BYTES:
            self._troubles.log("%s holds no session token", self._path)
            return b""
        return token
