"""The root that signed models are checked against."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from edge.config import EdgeConfig
from edge.doctor.finding import Finding, failure, ok, warning

_SOON = timedelta(days=30)


def tuf_root(config: EdgeConfig) -> list[Finding]:
    """Whether it parses, verifies by itself, and is valid."""
    if config.updates is None:
        return [ok("updates", "off: only the factory's model runs")]
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata, Root

    path = config.updates.root
    if path is None:
        advice = "take `unsigned` out of [updates] once the models come from a cloud that signs them"
        return [warning("updates", "models that nobody signed, by hand alone: there is no root", advice)]
    try:
        signed = Metadata[Root].from_bytes(path.read_bytes())
        signed.verify_delegate(Root.type, signed)
    except OSError as error:
        return [failure("updates", f"{path}: {error.strerror}", "run this as the service's user")]
    except (RepositoryError, ValueError, TypeError, KeyError, AttributeError) as error:
        advice = "put there the root.json that the fleet's owner gave out"
        return [failure("updates", f"{path} is no root that can be used: {error}", advice)]
    now = datetime.now(timezone.utc)
    return [judge(signed.signed.version, signed.signed.expires, now, config.updates.check_interval_s)]


def judge(number: int, expires: datetime, now: datetime, interval_s: float) -> Finding:
    """Judge a root's time. One that ended is no failure: newer roots follow from it, from the cloud."""
    text = f"root {number}, valid until {expires:%Y-%m-%d}, checked every {interval_s:g} s"
    if expires <= now:
        advice = "updates stay off until the cloud gives a newer root; is the clock right?"
        return warning("updates", f"{text}: it has ended", advice)
    if expires - now < _SOON:
        return warning("updates", text, "it ends within a month: the fleet's owner signs a new one")
    return ok("updates", text)
