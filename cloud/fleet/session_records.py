"""The session chain in the database: judged and lengthened in the transaction that a Hello is written in."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.fleet.session_chain import Chain, Link, confirmed, connected, digest, judge
from cloud.store import Store
from cloud.store.audit_entry import AuditEntry
from cloud.store.database import audit
from cloud.store.models import Vehicle
from protos.traffic_vision.v1 import fleet_pb2 as fleet

IDENTITY_IN_USE = "identity in use"  # in the audit trail
REPORT_INTERVAL = timedelta(minutes=1)  # a report is a row for ever
MAX_PEER = 100

_LOG = logging.getLogger(__name__)


def shown_by(hello: fleet.Hello) -> str | None:
    """Give what a vehicle shows, as `session_chain.judge` takes it."""
    if not hello.HasField("session_token"):
        return None
    return digest(hello.session_token) if hello.session_token else ""


def link_of(store: Store, vehicle: str, hello: fleet.Hello) -> Link:
    """Tell how a connection would follow the vehicle's last one; nothing is changed."""
    with store.reading() as session:
        found = session.get(Vehicle, vehicle)
        return judge(Chain() if found is None else chain_of(found), shown_by(hello))


def chain_of(vehicle: Vehicle) -> Chain:
    """Give what is known of a vehicle's tokens."""
    return Chain(vehicle.session_kept_sha256, vehicle.session_given_sha256)


def keep_chain(vehicle: Vehicle, chain: Chain) -> None:
    """Write down what is known of a vehicle's tokens."""
    vehicle.session_kept_sha256, vehicle.session_given_sha256 = chain.kept, chain.given


def confirm(vehicle: Vehicle, kept: fleet.SessionTokenKept) -> None:
    """Take what a vehicle says of its disk."""
    keep_chain(vehicle, confirmed(chain_of(vehicle), kept.token_sha256.hex()))


def cleared(vehicle: Vehicle) -> datetime | None:
    """Give the time before which no report counts: its enrolment, or when its owner vouched for it."""
    times = [time for time in (vehicle.enrolled, vehicle.identity_accepted) if time is not None]
    return max(times, default=None)


def was_reported(session: Session, vehicle: Vehicle, since: datetime | None) -> bool:
    """Tell whether a second use of a vehicle's identity was reported after a time; None: ever."""
    query = select(AuditEntry.id).where(
        AuditEntry.subject == vehicle.name, AuditEntry.action == IDENTITY_IN_USE
    )
    if since is not None:
        query = query.where(AuditEntry.at > since)
    return session.scalar(query.limit(1)) is not None


def connect(
    session: Session, vehicle: Vehicle, hello: fleet.Hello, peer: str, given_sha256: str, now: datetime
) -> None:
    """Lengthen a vehicle's chain by a connection, before anything else of its Hello is written.

    Where another connection came in between, that is logged, and written into the audit trail.

    Args:
        session: of `Store.writing`.
        vehicle: that was let in.
        hello: of the connection.
        peer: where it came from, for people.
        given_sha256: `session_chain.digest` of the token that its Welcome gives.
        now: the time.
    """
    shown = shown_by(hello)
    link = judge(chain_of(vehicle), shown)
    keep_chain(vehicle, connected(shown, given_sha256))
    earlier_peer, vehicle.last_peer = vehicle.last_peer, _printable(peer, MAX_PEER)
    if not link.is_broken:
        return
    came = _printable(hello.instance_id, 64)
    seen = "" if vehicle.last_seen is None else vehicle.last_seen.isoformat(timespec="seconds")
    _LOG.error(
        "%s: the identity is used twice, or the vehicle's state was lost: %s from %s shows %s; before it came"
        " %s from %s, last seen %s. If it is the vehicle: traffic-vision cloud vehicles accept %s",
        vehicle.name,
        came,
        vehicle.last_peer or "an unknown address",
        link.value,
        vehicle.instance_id or "another",
        earlier_peer or "an unknown address",
        seen or "never",
        vehicle.name,
    )
    since = [now - REPORT_INTERVAL, *(time for time in (cleared(vehicle),) if time is not None)]
    if not was_reported(session, vehicle, max(since)):
        audit(
            session,
            "server",
            IDENTITY_IN_USE,
            vehicle.name,
            shown=link.value,
            connected=came,
            peer=vehicle.last_peer,
            earlier=vehicle.instance_id,
            earlier_peer=earlier_peer,
            earlier_seen=seen,
        )


def _printable(text: str, longest: int) -> str:
    return "".join(char for char in text[:longest] if char.isprintable())
