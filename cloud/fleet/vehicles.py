"""`cloud vehicles`: who is enrolled, and the end of an identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, undefer

from cloud.config import CloudConfig
from cloud.fleet.enrolment import EnrolmentError, operator
from cloud.fleet.session_chain import Chain
from cloud.fleet.session_records import IDENTITY_IN_USE, cleared, keep_chain
from cloud.store import Store, open_database
from cloud.store.audit_entry import AuditEntry
from cloud.store.columns import utc_now
from cloud.store.database import audit
from cloud.store.models import Certificate, EnrolmentToken, Vehicle
from protos.signature_words import signature_words
from protos.traffic_vision.v1 import common_pb2 as common


@dataclass(frozen=True, slots=True)
class VehicleIdentity:
    """A vehicle and its identity.

    Attributes:
        enrolled: since when it has a certificate; None: it has none yet.
        ticket_until: of a ticket that waits to be used.
        certificate_until: the end of its newest certificate that is in force.
        connected_since: None: it is away.
        model: that runs there, as it last said; empty before that.
        used_twice: when a second computer last came under its identity; None: not since it was enrolled, or
            since its owner vouched for it.
        used_twice_how: what was found then, for people; empty: nothing.
        certificate_seen_until: the end of the certificate that it has, as it last said.
        fleet: whose releases it takes; None: those for vehicles without one.
        signature: what is to be said of models there that nobody signed; empty where none is allowed.
    """

    name: str
    enrolled: datetime | None
    ticket_until: datetime | None
    certificate_until: datetime | None
    certificate_seen_until: datetime | None
    connected_since: datetime | None
    last_seen: datetime | None
    daemon_version: str
    model: str
    used_twice: datetime | None
    used_twice_how: str
    revoked: datetime | None
    fleet: str | None
    signature: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give it with times as text, as `--json` prints it."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in asdict(self).items()
        }


def list_vehicles(store: Store) -> list[VehicleIdentity]:
    """Give all vehicles, by name."""
    now = utc_now()
    with store.reading() as session:
        certificates = _newest(
            session,
            select(Certificate.vehicle, func.max(Certificate.not_after))
            .where(Certificate.revoked.is_(None))
            .group_by(Certificate.vehicle),
        )
        tickets = _newest(
            session,
            select(EnrolmentToken.vehicle, func.max(EnrolmentToken.expires))
            .where(EnrolmentToken.used.is_(None), EnrolmentToken.expires > now)
            .group_by(EnrolmentToken.vehicle),
        )
        newest = (
            select(func.max(AuditEntry.id))
            .where(AuditEntry.action == IDENTITY_IN_USE)
            .group_by(AuditEntry.subject)
        )
        twice = {
            entry.subject: entry
            for entry in session.scalars(select(AuditEntry).where(AuditEntry.id.in_(newest)))
        }
        ever = set(session.scalars(select(Certificate.vehicle).distinct()))
        vehicles = session.scalars(select(Vehicle).options(undefer(Vehicle.status)).order_by(Vehicle.name))
        return [
            _identity(vehicle, vehicle.name in ever, certificates, tickets, twice) for vehicle in vehicles
        ]


def revoke(config: CloudConfig, vehicle: str, reason: str) -> None:
    """Take a vehicle's identity away for good; a server that runs ends its streams within seconds.

    Raises:
        EnrolmentError: there is no such vehicle.
    """
    store = open_database(config.store.database)
    try:
        with store.writing() as session:
            known = session.get(Vehicle, vehicle, with_for_update=True)
            if known is None:
                raise EnrolmentError(f"there is no vehicle {vehicle!r}")
            if known.revoked is None:
                known.revoked = utc_now()
                audit(session, operator(), "revoked", vehicle, reason=reason)
    finally:
        store.close()


def accept(config: CloudConfig, vehicles: Sequence[str], reason: str) -> list[str]:
    """Vouch for whoever comes under these identities next: what was reported of them counts no more.

    For a vehicle whose state was lost or restored, and for all of them after the database was. Unlike a new
    enrolment it takes no certificate from anybody.

    Args:
        config: the cloud's.
        vehicles: their names; none: all that are not revoked.
        reason: for the audit trail.

    Returns:
        Whom.

    Raises:
        EnrolmentError: there is no such vehicle, or it was revoked.
    """
    store = open_database(config.store.database)
    try:
        with store.writing() as session:
            query = select(Vehicle).order_by(Vehicle.name).with_for_update()
            known = {
                vehicle.name: vehicle
                for vehicle in session.scalars(query.where(Vehicle.name.in_(vehicles)) if vehicles else query)
            }
            for name in vehicles:
                if name not in known:
                    raise EnrolmentError(f"there is no vehicle {name!r}")
                if known[name].revoked is not None:
                    raise EnrolmentError(f"{name!r} was revoked, for good")
            accepted = [vehicle for vehicle in known.values() if vehicle.revoked is None]
            for vehicle in accepted:
                keep_chain(vehicle, Chain())
                vehicle.identity_accepted = utc_now()
                audit(session, operator(), "identity accepted", vehicle.name, reason=reason)
            return [vehicle.name for vehicle in accepted]
    finally:
        store.close()


def to_text(vehicles: list[VehicleIdentity]) -> str:
    """Give a table for people."""
    if not vehicles:
        return "no vehicle is enrolled"
    times = ("enrolled", "certificate until", "connected since")
    heads = ("vehicle", "fleet", *times, "daemon", "model", "remarks")
    rows = [heads, *(_row(vehicle) for vehicle in vehicles)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(vehicle: VehicleIdentity) -> tuple[str, ...]:
    remarks = [vehicle.signature] if vehicle.signature else []
    if vehicle.revoked is not None:
        remarks.append(f"revoked {_moment(vehicle.revoked)}")
    if vehicle.ticket_until is not None:
        remarks.append(f"ticket until {_moment(vehicle.ticket_until)}")
    if vehicle.used_twice is not None:
        how = f" ({vehicle.used_twice_how})" if vehicle.used_twice_how else ""
        remarks.append(f"identity used twice {_moment(vehicle.used_twice)}{how}")
    return (
        vehicle.name,
        vehicle.fleet or "-",
        _moment(vehicle.enrolled),
        _moment(vehicle.certificate_until),
        _moment(vehicle.connected_since),
        vehicle.daemon_version or "-",
        vehicle.model or "-",
        "; ".join(remarks),
    )


def _moment(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%MZ}"


def _newest(session: Session, query: Any) -> dict[str, datetime]:
    return {row[0]: row[1] for row in session.execute(query)}


def _identity(
    vehicle: Vehicle,
    was_certified: bool,
    certificates: dict[str, datetime],
    tickets: dict[str, datetime],
    twice: dict[str, AuditEntry],
) -> VehicleIdentity:
    status = common.VehicleStatus.FromString(vehicle.status or b"")
    active = status.model.active
    since, report = cleared(vehicle), twice.get(vehicle.name)
    if report is not None and since is not None and report.at <= since:
        report = None
    return VehicleIdentity(
        name=vehicle.name,
        enrolled=vehicle.enrolled if was_certified else None,
        ticket_until=tickets.get(vehicle.name),
        certificate_until=certificates.get(vehicle.name),
        certificate_seen_until=_seen(status),
        connected_since=vehicle.connected_since,
        last_seen=vehicle.last_seen,
        daemon_version=vehicle.daemon_version,
        model=f"{active.name} {active.version}".strip(),
        used_twice=None if report is None else report.at,
        used_twice_how="" if report is None else str(report.detail.get("shown", "")),
        revoked=vehicle.revoked,
        fleet=vehicle.fleet,
        signature=signature_words(status.model),
    )


def _seen(status: common.VehicleStatus) -> datetime | None:
    try:
        seconds = status.certificate_expires_wall_ns // 10**9
        return datetime.fromtimestamp(seconds, timezone.utc) if seconds else None
    except (ValueError, OverflowError, OSError):  # what a vehicle says need not be a time
        return None
