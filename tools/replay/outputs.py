"""Output files that appear whole or not at all, checked before any work is done."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from types import TracebackType
from typing import TextIO

from edge.errors import TrafficVisionError

STDOUT = "-"


class OutputError(TrafficVisionError):
    """An output that cannot be written."""


def check_writable(path: Path) -> None:
    """Find out before the work whether a file can be made at `path`.

    Raises:
        OutputError: its folder is missing or not writable, or it is a folder itself.
    """
    path = path.resolve()
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {str(path)!r}: its folder does not exist")
    if path.is_dir():
        raise OutputError(f"cannot write {str(path)!r}: it is a folder")
    if not os.access(path if _is_special(path) else path.parent, os.W_OK):
        raise OutputError(f"cannot write {str(path)!r}: no permission")


def check_named(path: Path, what: str, *suffixes: str) -> None:
    """Find out before the work whether a file can be made at `path`, and is not another's by its name.

    Args:
        path: the file.
        what: it is, such as "a page".
        suffixes: it ends in one of these.

    Raises:
        OutputError: see `check_writable`; or it ends otherwise.
    """
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"cannot write {str(path)!r}: {what}'s name ends in {' or '.join(suffixes)}")
    check_writable(path)


def temporary_beside(path: Path) -> Path:
    """A name for a temporary file in the same folder, with the same suffix."""
    return path.with_name(f".{path.stem[:100]}.{secrets.token_hex(4)}.partial{path.suffix}")


def put_in_place(temporary: Path, path: Path) -> None:
    """Sync a finished temporary file to disk and give it its name, durably."""
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class LinesFile:
    """A text file of lines that appears, synced, when its block ends well; `-` is standard output.

    A pipe or a device is written as it is: it cannot be replaced.
    """

    def __init__(self, target: str) -> None:
        """Open the temporary file.

        Raises:
            OutputError: the file cannot be made.
        """
        self.target = target
        self._path: Path | None = None
        self._file: TextIO = sys.stdout
        if target == STDOUT:
            return
        path = Path(target).resolve()
        check_writable(path)
        try:
            if _is_special(path):
                self._file = path.open("w", encoding="utf-8")
            else:
                self._path, self._temporary = path, temporary_beside(path)
                self._file = self._temporary.open("x", encoding="utf-8", newline="\n")
        except OSError as error:
            raise OutputError(f"cannot write {target!r}: {error.strerror}") from error

    def write(self, line: str) -> None:
        """Write one line; the line feed is added. Standard output and pipes get it at once.

        Raises:
            OutputError: the disk is full, or the like.
            BrokenPipeError: nobody reads any more.
        """
        try:
            self._file.write(line + "\n")
            if self._path is None:
                self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write {self.target!r}: {error.strerror}") from error

    def __enter__(self) -> LinesFile:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Put the file in its place, or take it away if the block failed."""
        if self.target == STDOUT:
            return
        try:
            self._file.close()
            if self._path is not None and kind is None:
                put_in_place(self._temporary, self._path)
        except OSError as failure:
            if kind is None:
                raise OutputError(f"cannot write {self.target!r}: {failure.strerror}") from failure
        finally:
            if self._path is not None:
                self._temporary.unlink(missing_ok=True)


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()
