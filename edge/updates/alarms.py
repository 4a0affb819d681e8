"""What people are told of a clock that is wrong, and of metadata that no contact renews. No I/O.

Neither stops the drive. A vehicle that gets no metadata keeps the model that it has for as long as it must:
somebody who keeps the cloud's answers away wins nothing but the age of the model, and that is told (Uptane,
standard 2.1.0: drop-request and freeze attacks).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

CLOCK_SLACK = timedelta(minutes=5)  # between a clock that is set by hand and the times that are signed
FAR = timedelta(days=1)  # between this vehicle's clock and its cloud's


@dataclass(frozen=True, slots=True)
class Alarms:
    """Sentences for people; empty where all is well."""

    clock: str = ""
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class Contact:
    """What the checks so far have brought.

    Attributes:
        checks: that have ended, in this run of the daemon.
        expires: when the metadata that is held here ends; None: none is.
        expired: the last check's refusal, where what it was given had ended already.
        cloud_ahead: the cloud's clock less this vehicle's, as the cloud said it; None: it has not.
    """

    checks: int = 0
    expires: datetime | None = None
    expired: str = ""
    cloud_ahead: timedelta | None = None


def alarms(contact: Contact, clock: datetime, floor: datetime) -> Alarms:
    """Judge the clock, and the metadata by it.

    Args:
        contact: with the cloud.
        clock: the system's.
        floor: the latest moment that is past for certain.
    """
    return Alarms(_clock(contact, clock, floor), _metadata(contact, max(clock, floor)))


def _clock(contact: Contact, clock: datetime, floor: datetime) -> str:
    if clock < floor - CLOCK_SLACK:
        return f"the clock is behind: it says {_time(clock)}, and it is later than {_time(floor)} for certain"
    ahead = contact.cloud_ahead
    if ahead is not None and abs(ahead) > FAR:
        way = "behind" if ahead > timedelta() else "ahead of"
        return f"the clock says {_time(clock)}, which is {abs(ahead).days} days {way} the cloud's"
    if contact.expired:
        return f"the clock may be ahead: it says {_time(clock)}, and what the cloud sends had ended before"
    return ""


def _metadata(contact: Contact, now: datetime) -> str:
    if contact.expired:
        return contact.expired
    if contact.expires is None:
        return "no update metadata was ever had here" if contact.checks else ""
    if contact.expires <= now:
        return (
            f"the update metadata held here ended {_time(contact.expires)}, and none came since:"
            " the cloud is away, or somebody keeps its answers away"
        )
    return ""


def _time(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
