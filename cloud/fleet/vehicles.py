"""`cloud vehicles`: who is enrolled, and the end of an identity."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, undefer

from cloud.config import CloudConfig
from cloud.fleet.enrolment import EnrolmentError, operator
from cloud.fleet.vehicle_records import IDENTITY_IN_USE
from cloud.store import Store, open_database
from cloud.store.columns import utc_now
from cloud.store.database import audit
from cloud.store.models import AuditEntry, Certificate, EnrolmentToken, Vehicle
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
        used_twice: when a second computer last came under its identity; None: not since it was enrolled.
        certificate_seen_until: the end of the certificate that it has, as it last said.
        fleet: whose releases it takes; None: those for vehicles without one.
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
    revoked: datetime | None
    fleet: str | None

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
        twice = _newest(
            session,
            select(AuditEntry.subject, func.max(AuditEntry.at))
            .where(AuditEntry.action == IDENTITY_IN_USE)
            .group_by(AuditEntry.subject),
        )
        ever = set(session.scalars(select(Certificate.vehicle).distinct()))
        vehicles = session.scalars(select(Vehicle).options(undefer(Vehicle.status)).order_by(Vehicle.name))
        return [
            _identity(vehicle, vehicle.name in ever, certificates, tickets, twice) for vehicle in vehicles
        ]


def revoke(config: CloudConfig, vehicle: str, reason: str) -> None:
    """Take a vehicle's identity away for good; a server that runs closes its streams at their next message.

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
    remarks = []
    if vehicle.revoked is not None:
        remarks.append(f"revoked {_moment(vehicle.revoked)}")
    if vehicle.ticket_until is not None:
        remarks.append(f"ticket until {_moment(vehicle.ticket_until)}")
    if vehicle.used_twice is not None:
        remarks.append(f"identity used twice {_moment(vehicle.used_twice)}")
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
    twice: dict[str, datetime],
) -> VehicleIdentity:
    status = common.VehicleStatus.FromString(vehicle.status or b"")
    active = status.model.active
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
        used_twice=_since(vehicle.enrolled, twice.get(vehicle.name)),
        revoked=vehicle.revoked,
        fleet=vehicle.fleet,
    )


def _since(start: datetime | None, moment: datetime | None) -> datetime | None:
    return moment if moment is None or start is None or moment > start else None


def _seen(status: common.VehicleStatus) -> datetime | None:
    try:
        seconds = status.certificate_expires_wall_ns // 10**9
        return datetime.fromtimestamp(seconds, timezone.utc) if seconds else None
    except (ValueError, OverflowError, OSError):  # what a vehicle says need not be a time
        return None
