"""What a power cut may leave of recorded file operations, by the rules that hold on every file system.

Data is on disk after a sync of its file, a name after a sync of its folder. What is not synced may be there
or not, in any combination, and a write may be torn (Pillai et al., All File Systems Are Not Created Equal,
OSDI 2014). A rename within a folder happens as a whole or not at all; one between two folders is two changes
here, a name that comes and a name that goes, which is worse than what a journal does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.edge.file_operations import Operation

Image = dict[str, "bytes | str | None"]  # path -> a file's bytes, where a link points to, None for a folder


@dataclass(frozen=True)
class _Entry:
    """What a name stands for: a file by its number, a link, or a folder."""

    file: int | None = None
    link: str | None = None


@dataclass
class _Content:
    durable: bytes = b""
    pending: list[Operation] = field(default_factory=list)


_Change = dict[str, "_Entry | None"]


@dataclass
class _Folder:
    durable: dict[str, _Entry] = field(default_factory=dict)
    pending: list[_Change] = field(default_factory=list)


@dataclass(frozen=True)
class Choice:
    """What of the unsynced is kept.

    Attributes:
        names: whether a change of names is kept.
        kept: of an unsynced write's bytes, how many, given its length.
    """

    names: Callable[[], bool]
    kept: Callable[[int], int]


NOTHING = Choice(lambda: False, lambda length: 0)
NAMES_ONLY = Choice(lambda: True, lambda length: 0)
DATA_ONLY = Choice(lambda: False, lambda length: length)


def by_chance(seed: int) -> Choice:
    """Any of it, torn writes too."""
    chance = random.Random(seed)

    def kept(length: int) -> int:
        return chance.choice((0, length, chance.randint(0, length)))

    return Choice(lambda: chance.random() < 0.5, kept)


class Disk:
    """A folder's disk, to which operations are applied one after the other. It begins empty."""

    def __init__(self) -> None:
        self._folders: dict[str, _Folder] = {".": _Folder()}
        self._files: list[_Content] = []
        self._now: dict[str, _Entry] = {}  # what the process sees

    def apply(self, operation: Operation) -> None:
        """Take one more operation."""
        path = operation.path
        if operation.kind == "create":
            self._files.append(_Content())
            self._name({path: _Entry(file=len(self._files) - 1)})
        elif operation.kind in ("write", "truncate"):
            self._content(path).pending.append(operation)
        elif operation.kind == "sync":
            content = self._content(path)
            content.durable = _written(content, lambda length: length)
            content.pending.clear()
        elif operation.kind == "sync_folder":
            folder = self._folders[path]
            for change in folder.pending:
                _change(folder.durable, change)
            folder.pending.clear()
        elif operation.kind == "rename":
            self._name({path: None, operation.to: self._now[path]})
        elif operation.kind == "unlink":
            self._name({path: None})
        elif operation.kind == "mkdir":
            self._folders[path] = _Folder()
            self._name({path: _Entry()})
        else:
            assert operation.kind == "symlink", operation
            self._name({path: _Entry(link=operation.to)})

    def image(self, choice: Choice) -> Image:
        """What the next start finds after a power cut now."""
        image: Image = {}
        self._collect(".", choice, image)
        return image

    def _collect(self, place: str, choice: Choice, image: Image) -> None:
        folder = self._folders[place]
        entries = dict(folder.durable)
        for change in folder.pending:
            if choice.names():
                _change(entries, change)
        for name, entry in sorted(entries.items()):
            path = str(PurePosixPath(place) / name)
            if entry.file is not None:
                image[path] = _written(self._files[entry.file], choice.kept)
            elif entry.link is not None:
                image[path] = entry.link
            else:
                image[path] = None
                self._collect(path, choice, image)

    def _content(self, path: str) -> _Content:
        entry = self._now[path]
        assert entry.file is not None
        return self._files[entry.file]

    def _name(self, changes: _Change) -> None:
        by_folder: dict[str, _Change] = {}
        for path, entry in changes.items():
            whole = PurePosixPath(path)
            by_folder.setdefault(str(whole.parent), {})[whole.name] = entry
        for folder, change in by_folder.items():
            self._folders[folder].pending.append(change)
        _change(self._now, changes)


def write_image(image: Image, folder: Path) -> None:
    """Lay an image out as files below a new folder."""
    folder.mkdir()
    for path, content in image.items():  # a folder comes before what is in it
        if content is None:
            (folder / path).mkdir()
        elif isinstance(content, str):
            (folder / path).symlink_to(content)
        else:
            (folder / path).write_bytes(content)


def _change(entries: dict[str, _Entry], change: _Change) -> None:
    for name, entry in change.items():
        if entry is None:
            entries.pop(name, None)
        else:
            entries[name] = entry


def _written(content: _Content, kept: Callable[[int], int]) -> bytes:
    data = bytearray(content.durable)
    for operation in content.pending:
        if operation.kind == "truncate":
            if kept(1):
                data = data[: operation.offset].ljust(operation.offset, b"\0")
            continue
        part = operation.data[: kept(len(operation.data))]
        if part:
            data = data.ljust(operation.offset, b"\0")
            data[operation.offset : operation.offset + len(part)] = part
    return bytes(data)


def applied(operations: Iterable[Operation]) -> Disk:
    """A disk after these."""
    disk = Disk()
    for operation in operations:
        disk.apply(operation)
    return disk
