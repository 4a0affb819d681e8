"""Every operation by which this process changes files below a folder, seen before it is done.

`Intercepted` stands in front of the functions of `os` and `io` that open for writing, write, truncate, sync,
rename, remove, link and make folders; pathlib and tempfile, and so python-tuf's own writing, go through them.
What it does not see: writes by other processes or by C code of its own, permissions, times, locks.

A sync is only told of, not done: whoever listens decides what a power cut would have kept.
"""

# pathlib goes through the very functions that are replaced here.
# ruff: noqa: PTH100, PTH110, PTH112, PTH115, PTH118, PTH120

from __future__ import annotations

import builtins
import io
import os
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True)
class Operation:
    """One change; paths are relative to the folder that is watched.

    Attributes:
        kind: create, write, truncate, sync, sync_folder, rename, unlink, mkdir, symlink.
        path: what is changed.
        to: the new name of a rename; what a link points to.
        offset: where a write begins, or the new length of a truncate, bytes.
        data: of a write.
        handle: the open file that a write goes to.
    """

    kind: str
    path: str
    to: str = ""
    offset: int = 0
    data: bytes = b""
    handle: int = -1

    def tear(self) -> None:
        """Do half of a write, as a kill in the middle of it may."""
        os.write(self.handle, self.data[: len(self.data) // 2])


class _File(io.FileIO):
    def __init__(self, handle: int, mode: str, told: Callable[[Operation], None], path: str) -> None:
        super().__init__(handle, mode)
        self._told, self._path = told, path

    def write(self, data: Any, /) -> int:
        content, handle = bytes(data), self.fileno()
        at_end = "a" in self.mode
        offset = os.fstat(handle).st_size if at_end else os.lseek(handle, 0, os.SEEK_CUR)
        self._told(Operation("write", self._path, offset=offset, data=content, handle=handle))
        return super().write(content)

    def truncate(self, size: int | None = None, /) -> int:
        length = self.tell() if size is None else size
        self._told(Operation("truncate", self._path, offset=length))
        return super().truncate(length)


class Intercepted:
    """While it is entered, `before` is called before each operation below `root`, and may raise.

    Args:
        root: a folder.
        before: takes the operation.
    """

    def __init__(self, root: pathlib.Path, before: Callable[[Operation], None]) -> None:
        self._root = os.path.realpath(root)
        self._before = before
        self._real: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> Intercepted:
        one = {"unlink": "unlink", "remove": "unlink", "mkdir": "mkdir", "rmdir": "unlink"}
        two = ("rename", "replace")
        places: list[Any] = [os]
        if hasattr(pathlib, "_NormalAccessor"):  # Python 3.10 binds the functions at import
            places.append(pathlib._NormalAccessor)
        # Taken once: what is in another place already would tell each operation twice.
        told = {name: self._one(getattr(os, name), kind) for name, kind in one.items()}
        told |= {name: self._two(getattr(os, name)) for name in two}
        told["symlink"] = self._symlink(os.symlink)
        for place in places:
            for name, function in told.items():
                self._replace(place, name, function)
        self._replace(os, "open", self._os_open(os.open))
        self._replace(os, "fsync", self._fsync)
        opened = self._open(io.open)
        self._replace(io, "open", opened)
        self._replace(builtins, "open", opened)
        if len(places) > 1:
            self._replace(places[1], "open", staticmethod(opened))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._real:
            place, name, function = self._real.pop()
            setattr(place, name, function)

    def _replace(self, place: Any, name: str, function: Any) -> None:
        if not hasattr(place, name):
            return
        self._real.append((place, name, place.__dict__[name]))
        is_class = isinstance(place, type) and not isinstance(function, staticmethod)
        setattr(place, name, staticmethod(function) if is_class else function)

    def _inside(self, path: Any) -> str | None:
        """The path below the root, its last part unresolved; None: it is elsewhere."""
        folder, name = os.path.split(os.path.abspath(os.fsdecode(path)))
        whole = os.path.join(os.path.realpath(folder), name)
        return os.path.relpath(whole, self._root) if whole.startswith(f"{self._root}/") else None

    def _of_handle(self, handle: int) -> str | None:
        whole = os.readlink(f"/proc/self/fd/{handle}")
        if whole == self._root:
            return "."
        return os.path.relpath(whole, self._root) if whole.startswith(f"{self._root}/") else None

    def _tell(self, kind: str, path: str | None, **more: Any) -> None:
        if path is not None:
            self._before(Operation(kind, path, **more))

    def _one(self, real: Callable[..., None], kind: str) -> Callable[..., None]:
        def function(path: Any, *more: Any, **named: Any) -> None:
            there = os.path.lexists(os.path.dirname(path) if kind == "mkdir" else path)
            if there and not (kind == "mkdir" and os.path.lexists(path)):  # else it fails by itself
                self._tell(kind, self._inside(path))
            real(path, *more, **named)

        return function

    def _two(self, real: Callable[..., None]) -> Callable[..., None]:
        def function(source: Any, target: Any, **named: Any) -> None:
            self._tell("rename", self._inside(source), to=self._inside(target) or "")
            real(source, target, **named)

        return function

    def _symlink(self, real: Callable[..., None]) -> Callable[..., None]:
        def function(target: Any, path: Any, *more: Any, **named: Any) -> None:
            self._tell("symlink", self._inside(path), to=os.fsdecode(target))
            real(target, path, *more, **named)

        return function

    def _os_open(self, real: Callable[..., int]) -> Callable[..., int]:
        def function(path: Any, flags: int, mode: int = 0o777, **named: Any) -> int:
            inside = self._inside(path) if flags & (WRITES | os.O_CREAT) else None
            if inside is not None:
                there = os.path.exists(path)
                if not there and flags & os.O_CREAT:
                    self._tell("create", inside)
                elif there and flags & os.O_TRUNC:
                    self._tell("truncate", inside)
            return real(path, flags, mode, **named)

        return function

    def _fsync(self, handle: int) -> None:
        path = self._of_handle(handle)
        is_folder = path is not None and os.path.isdir(os.path.join(self._root, path))
        self._tell("sync_folder" if is_folder else "sync", path)

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def function(
            file: Any, mode: str = "r", buffering: int = -1, *more: Any, opener: Any = None, **named: Any
        ) -> Any:
            is_handle = isinstance(file, int)
            writes = any(letter in mode for letter in "wax+")
            inside = (self._of_handle(file) if is_handle else self._inside(file)) if writes else None
            if inside is None:
                return real(file, mode, buffering, *more, opener=opener, **named)
            flags = os.O_RDWR if "+" in mode else os.O_WRONLY
            for letter, flag in (("w", os.O_TRUNC), ("a", os.O_APPEND), ("x", os.O_EXCL)):
                flags |= (flag | os.O_CREAT) if letter in mode else 0
            handle = file if is_handle else (opener or os.open)(os.fspath(file), flags | os.O_CLOEXEC)
            path = self._of_handle(handle)
            assert path is not None and "b" in mode, f"{path} {mode}: text is not seen"
            raw = _File(handle, mode.replace("b", ""), self._before, path)
            return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

        return function
