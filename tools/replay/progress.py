"""One line of progress on a terminal, nothing elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TextIO

_EVERY_S = 0.2


class ProgressLine:
    """Shows how many are done and how many a second, rewritten in place; erased at the end."""

    def __init__(self, stream: TextIO, what: str = "frame") -> None:
        """Show on `stream` if it is a terminal; `what` is the name of one step."""
        self._stream = stream
        self._what = what
        self._shows = stream.isatty()
        self._started = self._shown = time.monotonic()

    def show(self, done: int, expected: int | None) -> None:
        """Tell how many frames are done, of how many."""
        if not self._shows:
            return
        now = time.monotonic()
        if now - self._shown < _EVERY_S:
            return
        self._shown = now
        of = f"/{expected}" if expected is not None else ""
        rate = done / (now - self._started)
        self._stream.write(f"\r\x1b[K{self._what} {done}{of}  {rate:.1f}/s")
        self._stream.flush()

    def __enter__(self) -> ProgressLine:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Erase the line."""
        if self._shows:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
