"""How the daemon logs: one line an event on standard error, for journals (JSON) or for people (text).

A record's `extra` becomes fields beside the message: `extra={"event": "swap", "gap_ms": 3.1}`.

Where standard error is systemd's journal, each line begins with its priority (sd-daemon(3)), which the
journal takes off: `journalctl -p warning` shows what it should, and `-o cat | jq` has every field. The
journal's own protocol would index the fields, at the price of a second way out: what C libraries and a dying
interpreter print goes to standard error in any case, a stream that survives a restart of journald and keeps
the order.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import IO, Any, Literal

from edge.redaction import redact

REPEAT_S = 60.0

# The lowest level of logging -> syslog(3)'s priority.
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

# What logging itself puts on a record; the rest came by `extra`.
_OWN = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}


def set_up_logging(level: str, form: Literal["json", "text"]) -> None:
    """Send this process's log to standard error; what was set up before is replaced."""
    handler = logging.StreamHandler(sys.stderr)
    lines = JsonLines() if form == "json" else TextLines()
    handler.setFormatter(JournalLines(lines) if is_journal(sys.stderr) else lines)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # gRPC logs a traceback for every message that is none: a client could fill the disk. It is told.
    logging.getLogger("grpc._common").setLevel(logging.CRITICAL)


class JsonLines(logging.Formatter):
    """A JSON object a line: time, level, logger, message, the fields of `extra`, a traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, without credentials."""
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return redact(json.dumps(line, default=str))


class TextLines(logging.Formatter):
    """Time, level and message, for people."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it if there is one; without credentials."""
        text = f"{_utc(record.created)} {record.levelname:<7} {record.getMessage()}"
        if record.exc_info:
            text += f"\n{self.formatException(record.exc_info)}"
        return redact(text)


class JournalLines(logging.Formatter):
    """Another formatter's lines, each with its priority in front."""

    def __init__(self, lines: logging.Formatter) -> None:
        """Over that formatter."""
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        """One line or several, all of one priority."""
        level = next((priority for least, priority in _PRIORITIES if record.levelno >= least), 7)
        return "\n".join(f"<{level}>{line}" for line in self._lines.format(record).splitlines())


def is_journal(stream: IO[str], environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a stream leads to systemd's journal: `$JOURNAL_STREAM` names its device and inode."""
    try:
        stat = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file of the system's
        return False
    return environment.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"


class Repeated:
    """A message that may come with every frame: told at once, then once a minute with its count."""

    def __init__(self, log: logging.Logger, level: int, *, every_s: float = REPEAT_S) -> None:
        """Nothing told yet."""
        self._key: object = None
        self._log = log
        self._level = level
        self._every_s = every_s
        self._lock = threading.Lock()
        self._told_at: float | None = None
        self._silent = 0

    def log(
        self,
        message: str,
        *arguments: object,
        extra: Mapping[str, object] | None = None,
        key: object = None,
        exc_info: bool = False,
    ) -> None:
        """Tell, or count.

        Args:
            message: as of logging, with its arguments.
            arguments: of the message.
            extra: becomes fields.
            key: what repeats; another one than the last that was told is told at once.
            exc_info: tell the exception that is being handled, with its traceback.
        """
        now = time.monotonic()
        with self._lock:
            is_same = key == self._key
            if is_same and self._told_at is not None and now - self._told_at < self._every_s:
                self._silent += 1
                return
            silent, self._silent, self._told_at, self._key = self._silent, 0, now, key
        if silent:
            of = "since this was last told" if is_same else "of what was told before"
            message += f" (and %d more {of})"
            arguments = (*arguments, silent)
        self._log.log(self._level, message, *arguments, extra=extra, exc_info=exc_info)

    def reset(self) -> None:
        """Tell the next one at once: what comes from now on is another matter."""
        with self._lock:
            self._told_at, self._silent = None, 0


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _OWN}
