"""Bytes under their own SHA-256: a folder here; a bucket has the same four operations."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from cloud.datasets.files import write_file
from edge.errors import TrafficVisionError

# An fsync waits for the disk, and a file system's journal takes those that wait together.
_WRITERS = 8
_KEY = re.compile(r"[0-9a-f]{64}")


class MissingObjectError(TrafficVisionError):
    """There is no such object."""


class ObjectStore(Protocol):
    """Write-once bytes. A key is the content's SHA-256, so a put can be repeated, and a get be checked."""

    def put(self, data: bytes) -> str:
        """Keep `data` and give its key; it is on disk when this returns.

        Raises:
            OSError: it could not be kept.
        """

    def put_all(self, contents: Sequence[bytes]) -> list[str]:
        """Keep many at the price of few waits for the disk; all are on disk when this returns."""

    def get(self, key: str) -> bytes:
        """Give the bytes back.

        Raises:
            MissingObjectError: there is none under this key, or its bytes have changed.
        """

    def exists(self, key: str) -> bool:
        """Tell whether there is an object under this key."""

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""

    def free_bytes(self) -> int | None:
        """Tell how much more it can take, None where there is no such limit."""


class FolderObjects:
    """An object store in a folder: `FOLDER/ab/abcdef...`, for any number of threads and processes."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which must be there.

        Raises:
            TrafficVisionError: it is not.
        """
        if not folder.is_dir():
            raise TrafficVisionError(f"{folder}: there is no such folder for objects; `cloud init` makes it")
        self._folder = folder
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="objects")

    def put(self, data: bytes) -> str:
        """See `ObjectStore.put`."""
        return self.put_all([data])[0]

    def put_all(self, contents: Sequence[bytes]) -> list[str]:
        """See `ObjectStore.put_all`. After an error some may be there, whole; a second put is harmless."""
        keys = [hashlib.sha256(data).hexdigest() for data in contents]
        new = {key: data for key, data in zip(keys, contents, strict=True) if not self._path(key).exists()}
        list(self._writers.map(self._write, new, new.values()))
        # The names, too, must survive a power cut. One that was there already may be another thread's, on
        # its way: so for all keys, not the new ones alone.
        list(self._writers.map(_sync_folder, {self._folder, *(self._path(key).parent for key in keys)}))
        return keys

    def get(self, key: str) -> bytes:
        """See `ObjectStore.get`."""
        try:
            data = self._path(key).read_bytes()
        except FileNotFoundError as error:
            raise MissingObjectError(f"{self._folder}: there is no object {key}") from error
        if hashlib.sha256(data).hexdigest() != key:
            raise MissingObjectError(f"{self._path(key)}: the bytes are no longer those that were stored")
        return data

    def exists(self, key: str) -> bool:
        """See `ObjectStore.exists`."""
        return self._path(key).is_file()

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        with suppress(FileNotFoundError):
            self._path(key).unlink()

    def free_bytes(self) -> int | None:
        """See `ObjectStore.free_bytes`."""
        return shutil.disk_usage(self._folder).free

    def path(self, key: str) -> Path:
        """Give the object's file, to be read only: this store's own; a bucket has none."""
        if not self.exists(key):
            raise MissingObjectError(f"{self._folder}: there is no object {key}")
        return self._path(key)

    def close(self) -> None:
        """End the writing threads."""
        self._writers.shutdown()

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise MissingObjectError(f"{key!r} is not the key of an object: 64 lower-case hex digits")
        return self._folder / key[:2] / key

    def _write(self, key: str, data: bytes) -> None:
        write_file(self._path(key), data)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
