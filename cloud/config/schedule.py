"""Fixed moments, in UTC: `daily 03:00` or `weekly sunday 03:00`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_TEXT = re.compile(rf"(?:daily|weekly ({'|'.join(DAYS)})) ([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something is due again and again, UTC.

    Attributes:
        weekday: 0 is Monday; None: every day.
        hour, minute: of that day.
    """

    weekday: int | None
    hour: int
    minute: int

    def latest(self, now: datetime) -> datetime:
        """Give the last such moment that is not after `now`."""
        now = now.astimezone(timezone.utc)
        moment = now.replace(hour=self.hour, minute=self.minute, second=0, microsecond=0)
        if self.weekday is not None:
            moment -= timedelta(days=(moment.weekday() - self.weekday) % 7)
        return moment if moment <= now else moment - self._period

    def next(self, now: datetime) -> datetime:
        """Give the first such moment after `now`."""
        return self.latest(now) + self._period

    @property
    def _period(self) -> timedelta:
        return timedelta(days=1 if self.weekday is None else 7)


def parse_schedule(text: str) -> Schedule:
    """Read a schedule.

    Raises:
        ValueError: it is none; the message says what is expected.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError('expected "daily HH:MM" or "weekly DAY HH:MM" (UTC), such as "weekly sunday 03:00"')
    return Schedule(DAYS.index(found[1]) if found[1] else None, int(found[2]), int(found[3]))


def schedule_text(text: str) -> str:
    """Give the text back where it is a schedule; see `parse_schedule`."""
    parse_schedule(text)
    return text
