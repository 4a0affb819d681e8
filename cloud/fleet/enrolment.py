"""`cloud init` and `cloud enrol`: a cloud's folder, and the ticket by which a vehicle enrols itself.

`cloud init` may be run again at any time: it makes what is missing and keeps what is there.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import update
from sqlalchemy.orm import Session
from tuf.api.metadata import Metadata, Root

from cloud.config import DEFAULT_LISTEN, CloudConfig, load_config
from cloud.datasets.files import write_file
from cloud.fleet.enrolment_desk import token_sha256
from cloud.fleet.fleets import check_fleet
from cloud.fleet.floors import release_floor
from cloud.fleet.pki import Authority, check_vehicle_name
from cloud.fleet.repository import open_repository
from cloud.release.repository import current_root, list_releases
from cloud.store import open_database
from cloud.store.columns import utc_now
from cloud.store.database import audit
from cloud.store.models import EnrolmentToken, Vehicle
from edge.errors import TrafficVisionError
from protos.enrolment import ticket_to_text
from protos.traffic_vision.v1.enrolment_pb2 import EnrolmentTicket

CONFIG_FILE = "cloud.toml"
TICKET_VALID = timedelta(hours=24)
LONGEST_VALID = timedelta(days=30)

_CLOUD_TOML = """\
# Traffic Vision's cloud. Every key has a default, and paths are relative to this folder.

[serve]
listen = {listen}
# Where vehicles find it, if not at `listen`.
{address}
# Hosts that the server's certificate is for, beside localhost; after a change, `cloud init` again.
names = {names}
# Where vehicles enrol and renew their certificates; unset: at the next port.
# enrol_listen = "HOST:PORT"

[store]
# sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME
database = "sqlite:///cloud.sqlite"
"""


class EnrolmentError(TrafficVisionError):
    """A cloud's folder or a vehicle's ticket cannot be made as asked."""


@dataclass(frozen=True, slots=True)
class CloudChoices:
    """What a new `cloud.toml` says. One that is there is never changed.

    Attributes:
        listen: HOST:PORT of the server.
        address: HOST:PORT where vehicles find it, if not there.
        names: hosts that the server's certificate is for, beside localhost.
        root_keys: files for root's private keys, away from the server; none: in its folder of keys.
        root_threshold: how many of them sign a new root; None: two.
    """

    listen: str | None = None
    address: str | None = None
    names: tuple[str, ...] = ()
    root_keys: tuple[Path, ...] = ()
    root_threshold: int | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """What goes to the vehicle, by hand.

    Attributes:
        text: one line, a secret until it is used.
        expires: after it, it is good for nothing.
        enrol_address: HOST:PORT where it is used.
        authority_sha256: of the authority's certificate, hex, to be compared by people.
    """

    text: str
    expires: datetime
    enrol_address: str
    authority_sha256: str


def init_cloud(folder: Path, choices: CloudChoices) -> CloudConfig:
    """Make a cloud's folder: configuration, certificates, database, keys.

    Args:
        folder: new, empty, or made by this before.
        choices: for a new configuration.

    Raises:
        TrafficVisionError: the folder or its configuration cannot be used, or holds other choices.
    """
    config = _make_config(folder, choices)
    folders = config.folders
    for path in (config.store.objects, folders.repository, folders.data):
        path.mkdir(parents=True, exist_ok=True)
    for path in (folders.pki, folders.keys):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    Authority.make(folders.pki).server_pair(folders.pki, config.serve.names)
    open_repository(config).prepare(choices.root_keys, choices.root_threshold)
    open_database(config.store.database).close()
    return config


def enrol(
    config: CloudConfig, vehicle: str, valid: timedelta = TICKET_VALID, fleet: str | None = None
) -> Ticket:
    """Register a vehicle, and give a ticket by which it gets its certificate, once.

    A ticket of the same vehicle that was not used is good for nothing from now on. The ticket carries what a
    vehicle that never saw an update cannot know: its floors (the newest release that all are given, and the
    time), and which root to begin with, so that the server that it comes to has no say in either.

    Args:
        config: the cloud's.
        vehicle: its name.
        valid: how long the ticket is good.
        fleet: whose releases it shall take; None: those for vehicles without one.

    Raises:
        TrafficVisionError: the name cannot be a vehicle's, the vehicle was revoked, there is no such fleet,
            or the cloud's folder was not made by `init_cloud`.
    """
    check_vehicle_name(vehicle)
    if fleet is not None:
        check_fleet(config, fleet)
    if not timedelta(0) < valid <= LONGEST_VALID:
        raise EnrolmentError(f"a ticket is good for some time, and for {LONGEST_VALID.days} days at most")
    address = config.serve.enrolment_address
    if address.endswith(":0") or config.serve.fleet_address.endswith(":0"):
        raise EnrolmentError(
            "vehicles need fixed ports: set serve.address and serve.enrol_address in cloud.toml"
        )
    authority = x509.load_pem_x509_certificate(Authority.open(config.folders.pki).certificate)
    token, now = secrets.token_urlsafe(32), utc_now()
    expires = now + valid
    releases = [release.facts for release in list_releases(config.folders.repository)]
    root = current_root(config.folders.repository)
    store = open_database(config.store.database)
    try:
        with store.writing() as session:
            _register(session, vehicle, fleet)
            floor = release_floor(session, releases, vehicle, fleet, now)
            session.execute(
                update(EnrolmentToken)
                .where(
                    EnrolmentToken.vehicle == vehicle,
                    EnrolmentToken.used.is_(None),
                    EnrolmentToken.expires > now,
                )
                .values(expires=now)
            )
            session.add(
                EnrolmentToken(sha256=token_sha256(token), vehicle=vehicle, expires=expires, fleet=fleet)
            )
            facts = {"expires": expires.isoformat(), "fleet": fleet, "release_floor": floor}
            audit(session, operator(), "ticket issued", vehicle, **facts)
    finally:
        store.close()
    ticket = EnrolmentTicket(
        vehicle=vehicle,
        enrol_address=address,
        authority_der=authority.public_bytes(Encoding.DER),
        token=token,
        expires_wall_ns=int(expires.timestamp()) * 10**9,
        fleet=fleet or "",
        release_floor=floor,
        issued_wall_ns=int(now.timestamp()) * 10**9,
        root_version=Metadata[Root].from_bytes(root).signed.version,
        root_sha256=hashlib.sha256(root).digest(),
    )
    return Ticket(ticket_to_text(ticket), expires, address, authority.fingerprint(hashes.SHA256()).hex())


def operator() -> str:
    """Name who runs this process, for the audit trail."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


def _make_config(folder: Path, choices: CloudChoices) -> CloudConfig:
    path = folder / CONFIG_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = [entry.name for entry in folder.iterdir() if not entry.name.startswith(f".{CONFIG_FILE}")]
    except OSError as error:
        raise EnrolmentError(f"{folder}: cannot be made a cloud's folder: {error.strerror}") from None
    if path.exists():
        config = load_config(path)
        _refuse_other_choices(path, config, choices)
        return config
    if others:
        raise EnrolmentError(
            f"{folder}: neither empty nor a cloud's folder (there is no {CONFIG_FILE} in it)"
        )
    text = _CLOUD_TOML.format(
        listen=_toml(choices.listen or DEFAULT_LISTEN),
        address=f"address = {_toml(choices.address)}" if choices.address else '# address = "HOST:PORT"',
        names=f"[{', '.join(map(_toml, choices.names))}]",
    )
    write_file(path, text)
    try:
        return load_config(path)
    except TrafficVisionError:
        path.unlink()
        raise


def _refuse_other_choices(path: Path, config: CloudConfig, choices: CloudChoices) -> None:
    for name in ("listen", "address", "names"):
        asked, is_there = getattr(choices, name), getattr(config.serve, name)
        if asked and asked != is_there:
            raise EnrolmentError(f"{path} says {name} = {is_there!r} already: change it there")


def _register(session: Session, vehicle: str, fleet: str | None) -> None:
    """Make its row. One that is there goes to the ticket's fleet when the ticket is used, not before."""
    known = session.get(Vehicle, vehicle, with_for_update=True)
    if known is not None and known.revoked is not None:
        raise EnrolmentError(f"{vehicle} was revoked on {known.revoked:%Y-%m-%d}: take another name")
    if known is None:
        session.add(Vehicle(name=vehicle, fleet=fleet))
        session.flush()


def _toml(text: str) -> str:
    """Write a TOML string: JSON's escapes are TOML's too (https://toml.io/en/v1.0.0#string), but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
