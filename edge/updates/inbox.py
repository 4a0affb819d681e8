"""Where `edge update install` leaves what a running daemon shall install, and finds what came of it.

A folder in the state folder, which belongs to the daemon's user alone: whoever can write there could write
the slots themselves. A file is only an offer; the daemon verifies it as whatever else comes. No RPC names a
path.

    inbox/NAME.bundle       a signed bundle
    inbox/NAME.onnx         a model that nobody signed
    inbox/NAME.rollback     the wish that the active model be taken back: "last_good" or "factory"
    inbox/NAME.answer       what came of NAME, a JSON object
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from edge.errors import TrafficVisionError
from edge.files import atomic_write, sync_folder

BUNDLE, UNSIGNED, ROLLBACK = ".bundle", ".onnx", ".rollback"
_ANSWER = ".answer"
_LOOK_S = 0.1


class InboxError(TrafficVisionError):
    """What was given cannot be left with the daemon, or no answer came."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an installation.

    Attributes:
        is_installed: it runs now, or is staged, or has run before.
        detail: for people.
    """

    is_installed: bool
    detail: str


class Inbox:
    """The folder, from either side."""

    def __init__(self, state_folder: Path) -> None:
        """In a vehicle's state folder; made when it is first needed."""
        self._folder = state_folder / "inbox"

    def next(self) -> Path | None:
        """What waits, the oldest first; None: nothing."""
        try:
            found = [path for path in self._folder.iterdir() if path.suffix in (BUNDLE, UNSIGNED, ROLLBACK)]
            regular = [path for path in found if stat.S_ISREG(path.lstat().st_mode)]
            return min(regular, key=lambda path: path.lstat().st_mtime_ns, default=None)
        except OSError:
            return None

    def answer(self, given: Path, answer: Answer) -> None:
        """Say what came of it, and take it away.

        Raises:
            OSError: the folder cannot be written to.
        """
        atomic_write(given.with_suffix(_ANSWER), json.dumps(asdict(answer)).encode())
        given.unlink(missing_ok=True)

    def leave(self, file: Path, suffix: str) -> Path:
        """Leave a copy for the daemon; gives where it waits.

        Raises:
            InboxError: it cannot be copied.
        """
        return self._left(str(file), suffix, lambda copy: shutil.copyfile(file, copy))

    def wish(self, text: str, suffix: str) -> Path:
        """Leave a wish for the daemon; gives where it waits.

        Raises:
            InboxError: it cannot be written.
        """
        return self._left(text, suffix, lambda copy: copy.write_text(text))

    def _left(self, what: str, suffix: str, write: Callable[[Path], object]) -> Path:
        name = self._folder / f"{secrets.token_hex(8)}{suffix}"
        copy = name.with_suffix(".copying")
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write(copy)
            os.chown(copy, *_owner(self._folder.parent))
            copy.rename(name)
            sync_folder(self._folder)
        except OSError as error:
            with suppress(OSError):
                copy.unlink(missing_ok=True)
            raise InboxError(f"{what}: cannot be left with the daemon in {self._folder}: {error}") from None
        return name

    def wait(self, given: Path, timeout_s: float) -> Answer:
        """Wait for the answer.

        Raises:
            InboxError: none came in time; what was left is taken back.
        """
        path, end = given.with_suffix(_ANSWER), time.monotonic() + timeout_s
        while time.monotonic() < end:
            try:
                document = json.loads(path.read_bytes())
            except FileNotFoundError:
                time.sleep(_LOOK_S)
                continue
            path.unlink(missing_ok=True)
            return Answer(bool(document["is_installed"]), str(document["detail"]))
        given.unlink(missing_ok=True)
        raise InboxError(f"the daemon has not answered in {timeout_s:g} s; see its log")


def _owner(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_uid, status.st_gid
