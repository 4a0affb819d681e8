"""Where `edge update install` leaves what a running daemon shall install, and finds what came of it.

A folder in the state folder, which belongs to the daemon's user alone: whoever can write there could write
the slots themselves. A file is only an offer; the daemon verifies it as whatever else comes. No RPC names a
path.

    inbox/NAME.bundle       a signed bundle
    inbox/NAME.onnx         a model that nobody signed
    inbox/NAME.rollback     the wish that the active model be taken back: "last_good" or "factory"
    inbox/NAME.answer       what came of NAME, a JSON object
    inbox/NAME.copying      one of the above on its way
"""

from __future__ import annotations

import json
import logging
import math
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
from edge.files import atomic_write, sync_file, sync_folder

BUNDLE, UNSIGNED, ROLLBACK = ".bundle", ".onnx", ".rollback"
_ANSWER, _COPYING = ".answer", ".copying"
_LEFT_OVER_S = 86_400.0  # no command waits for its answer so long
_LOOK_S = 0.1  # between two looks for an answer: the daemon is another process, and tells by a file alone
_ANSWER_S = 15.0  # from when a thing is taken away to its answer; a disk may be slow

_LOG = logging.getLogger(__name__)


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
        self._answered: set[str] = set()  # names that could not be taken away

    def next(self) -> Path | None:
        """What waits, the oldest first; None: nothing."""
        try:
            found = [
                path
                for path in self._folder.iterdir()
                if path.suffix in (BUNDLE, UNSIGNED, ROLLBACK) and path.name not in self._answered
            ]
            regular = [path for path in found if stat.S_ISREG(path.lstat().st_mode)]
            return min(regular, key=lambda path: path.lstat().st_mtime_ns, default=None)
        except OSError:
            return None

    def answer(self, given: Path, answer: Answer) -> None:
        """Take it away, and say what came of it.

        In this order, and on disk, so that what was answered comes back in no later start. In this run it
        does not either, should the disk take no change.

        Raises:
            OSError: the folder cannot be written to; what came of it stands in the log.
        """
        self._answered.add(given.name)
        try:
            given.unlink(missing_ok=True)
            self._answered.remove(given.name)
            sync_folder(self._folder)
            atomic_write(given.with_suffix(_ANSWER), json.dumps(asdict(answer)).encode())
        except OSError:
            _LOG.error(
                "%s: %s", given.name, answer.detail, extra={"event": "inbox_unanswered", "given": given.name}
            )
            raise

    def sweep(self) -> None:
        """Remove what nobody comes for any more: copies that were broken off, answers that nobody awaited."""
        with suppress(OSError):  # no folder, or a disk that takes no change
            for path in list(self._folder.iterdir()):
                old = path.lstat().st_mtime < time.time() - _LEFT_OVER_S
                if old and path.suffix in (_ANSWER, _COPYING):
                    path.unlink(missing_ok=True)

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
        return self._left(text, suffix, lambda copy: copy.write_bytes(text.encode()))

    def _left(self, what: str, suffix: str, write: Callable[[Path], object]) -> Path:
        name = self._folder / f"{secrets.token_hex(8)}{suffix}"
        copy = name.with_suffix(_COPYING)
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._give_away(self._folder)
            sync_folder(self._folder.parent)
            write(copy)
            sync_file(copy)  # or a power cut leaves its name and nothing in it
            self._give_away(copy)
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
            InboxError: none came in time; what was left is taken back. Or the daemon has taken it, and its
                answer does not come: the disk has no room for it.
        """
        path, end, taken_s = given.with_suffix(_ANSWER), time.monotonic() + timeout_s, math.inf
        while (now_s := time.monotonic()) < end:
            try:
                document = json.loads(path.read_bytes())
            except FileNotFoundError:
                if not given.exists():
                    taken_s = min(taken_s, now_s)
                if now_s - taken_s > _ANSWER_S:
                    raise InboxError(
                        "the daemon has taken it and could not say what came of it: its disk may be full; see"
                        " its log and `edge update history`"
                    ) from None
                self._sleep(given)
                continue
            path.unlink(missing_ok=True)
            return Answer(bool(document["is_installed"]), str(document["detail"]))
        self._take_back(given)
        raise InboxError(f"the daemon has not answered in {timeout_s:g} s; see its log")

    def _sleep(self, given: Path) -> None:
        try:
            time.sleep(_LOOK_S)
        except KeyboardInterrupt:  # nobody waits for it any more
            self._take_back(given)
            raise

    def _take_back(self, given: Path) -> None:
        given.unlink(missing_ok=True)
        with suppress(OSError):
            sync_folder(self._folder)

    def _give_away(self, path: Path) -> None:
        """To the daemon's user, whose the state folder is: root may have made it."""
        status = self._folder.parent.stat()
        # That user may have put a link in its place meanwhile.
        os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)
