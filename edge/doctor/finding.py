"""What the doctor says."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Level(enum.Enum):
    """How bad it is."""

    OK = "ok"
    # It works now, and may not for long, or not as well as it could.
    WARNING = "warning"
    # The daemon would not start, or not do its work.
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what it is about: `disk`, `camera front`.
        level: how bad it is.
        text: what was found, with values; without credentials.
        advice: what to do; empty where all is well.
    """

    subject: str
    level: Level
    text: str
    advice: str = ""


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding(subject, Level.OK, text)


def warning(subject: str, text: str, advice: str) -> Finding:
    """It works now."""
    return Finding(subject, Level.WARNING, text, advice)


def failure(subject: str, text: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(subject, Level.FAILURE, text, advice)
