"""Reads a bundle from a stick (protos/release_bundle.py): which files are in it, each within its limits.

It only reads. What a file says is believed when its signatures check, not before. Each header is taken apart
by itself, since a tar archive can say more than we want to follow: links, devices, folders, sparse files, and
extended headers that give the next file another name or size are all refused, before any content is read.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edge.updates.errors import UpdateError
from protos.release_bundle import MARK, MAX_FILES, SCHEMA, metadata_name, size_limit, target_name

_BLOCK = tarfile.BLOCKSIZE


class BundleError(UpdateError):
    """The file is no bundle, is damaged, or holds what no bundle may; the message says what."""


class NoSuchMetadataError(BundleError):
    """The bundle holds no such role or version."""


class NoSuchTargetError(BundleError):
    """The bundle holds no such release's file."""


@dataclass(frozen=True, slots=True)
class _Span:
    """Where a file lies in the archive, bytes."""

    offset: int
    size: int


class Bundle:
    """An open bundle; any number of threads may read it. Made by `open_bundle`.

    Args:
        path: for messages.
        handle: of the archive; closed by `close`.
        files: name -> where it lies.
    """

    def __init__(self, path: Path, handle: int, files: Mapping[str, _Span]) -> None:
        self._path = path
        self._handle = handle
        self._files = files

    def __enter__(self) -> Bundle:
        """Return the bundle; it is closed at the block's end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the file; what `target` gave can no longer be read. May be called twice."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def metadata(self, role: str, version: int | None) -> bytes:
        """Return a role's metadata, not verified.

        Args:
            role: such as "root" or "timestamp".
            version: None for the timestamp, whose file has none in its name.

        Raises:
            NoSuchMetadataError: it is not in the bundle.
            BundleError: the file cannot be read to its end.
        """
        name = metadata_name(role, version)
        span = self._files.get(name)
        if span is None:
            raise NoSuchMetadataError(f"{self._path}: there is no {name[:120]!r} in this bundle")
        with self._open(name, span) as file:
            return file.read()

    def target(self, path: str, sha256: str) -> IO[bytes]:
        """Open a release's file, not verified; its length is the archive's word.

        Args:
            path: of the target in the metadata, for the message.
            sha256: of its content, as the metadata has it.

        Raises:
            NoSuchTargetError: it is not in the bundle.
            BundleError: while reading, where the file ends early.
        """
        name = target_name(sha256)
        span = self._files.get(name)
        if span is None or not name.startswith("targets/"):
            raise NoSuchTargetError(
                f"{self._path}: {path[:120]!r} (sha256 {sha256[:64]}) is not in this bundle"
            )
        return self._open(name, span)

    def _open(self, name: str, span: _Span) -> IO[bytes]:
        return io.BufferedReader(_Part(self, name, span), buffer_size=1 << 16)

    def read_at(self, offset: int, size: int) -> bytes:
        """Read bytes of the archive, wherever another reader is.

        Raises:
            BundleError: it was closed, or the medium fails.
        """
        if self._handle < 0:
            raise BundleError(f"{self._path}: the bundle is closed")
        try:
            return os.pread(self._handle, size, offset)
        except OSError as error:
            raise BundleError(f"{self._path}: cannot be read: {error.strerror}") from None


class _Part(io.RawIOBase):
    """One file of the archive, from its beginning on."""

    def __init__(self, bundle: Bundle, name: str, span: _Span) -> None:
        self._bundle = bundle
        self._name = name
        self._span = span
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # typeshed: any writable buffer
        """Fill the buffer from the archive."""
        size = min(len(buffer), self._span.size - self._position)
        if size == 0:
            return 0
        data = self._bundle.read_at(self._span.offset + self._position, size)
        if not data:
            raise BundleError(f"{self._name} ends early: the bundle was cut while it was read")
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def open_bundle(path: Path) -> Bundle:
    """Open a bundle and look at what is in it: names and sizes, no content but the schema's number.

    Raises:
        BundleError: it cannot be read, or is no bundle of this schema, whole and within the limits.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # never wait for a pipe's writer
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be opened: {getattr(error, 'strerror', error)}") from None
    bundle: Bundle | None = None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path}: a bundle is a regular file")
        files: dict[str, _Span] = {}
        bundle = Bundle(path, handle, files)
        _find_files(path, bundle, status.st_size, files)
        _check_schema(path, bundle, files)
    except BaseException:
        os.close(handle)
        raise
    return bundle


def _find_files(path: Path, bundle: Bundle, length: int, files: dict[str, _Span]) -> None:
    offset = 0
    while True:
        header = bundle.read_at(offset, _BLOCK)
        if len(header) == _BLOCK and not any(header):
            break
        name, size = _read_header(path, header, offset)
        limit = size_limit(name)
        if limit is None or (not files and name != MARK):
            raise BundleError(f"{path}: {name[:120]!r} has no place in a bundle; only {MARK!r} begins one")
        if not 0 <= size <= limit:
            raise BundleError(f"{path}: {name} has {size} bytes, allowed are {limit}")
        if name in files:
            raise BundleError(f"{path}: {name} is in it twice")
        if len(files) == MAX_FILES:
            raise BundleError(f"{path}: more than {MAX_FILES} files are in it")
        files[name] = _Span(offset + _BLOCK, size)
        offset += _BLOCK + (size + _BLOCK - 1) // _BLOCK * _BLOCK
        if offset > length:
            raise BundleError(f"{path}: it ends within {name}: copy it again")
    if length - offset > 2 * tarfile.RECORDSIZE:
        raise BundleError(f"{path}: {length - offset} bytes follow its end")


def _read_header(path: Path, header: bytes, offset: int) -> tuple[str, int]:
    try:
        entry = tarfile.TarInfo.frombuf(header, "ascii", "strict")
    except (tarfile.TarError, ValueError) as error:
        what = "no bundle" if offset == 0 else f"damaged at byte {offset}: copy it again"
        raise BundleError(f"{path}: {what} ({error})") from None
    if entry.type != tarfile.REGTYPE:
        raise BundleError(f"{path}: {entry.name[:120]!r} is no plain file (type {entry.type!r})")
    return entry.name, entry.size


def _check_schema(path: Path, bundle: Bundle, files: Mapping[str, _Span]) -> None:
    if MARK not in files:
        raise BundleError(f"{path}: no bundle: it is empty")
    span = files[MARK]
    schema = bundle.read_at(span.offset, span.size)
    if schema != f"{SCHEMA}\n".encode():
        raise BundleError(f"{path}: its schema is {schema!r}, this program reads {SCHEMA}: update the daemon")
