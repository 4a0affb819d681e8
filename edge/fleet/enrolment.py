"""`edge enrol`: with a ticket of the cloud's, a vehicle makes its key, gets its certificate, and is set up.

May be run again with the same ticket while that is good: a kill or a lost answer costs nothing.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from edge.errors import TrafficVisionError
from edge.files import atomic_write
from edge.fleet.channel import explain, open_enrolment_channel
from edge.fleet.identity import (
    IDENTITY_FILE,
    PRIVATE_MODE,
    accept,
    give_to_owner_of,
    key_to_pem,
    new_key,
    read_key,
    request_for,
    write_identity,
)
from edge.updates.errors import RefusedError
from protos.enrolment import TicketError, ticket_of_text
from protos.release_facts import MAX_COUNTER
from protos.traffic_vision.v1 import enrolment_pb2
from protos.traffic_vision.v1.enrolment_pb2_grpc import EnrolmentServiceStub

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG_FILE = "edge.toml"
ROOT_FILE = "root.json"
STATE_FOLDER = "state"

_CALL_S = 30.0
_FOLDER_MODE = 0o700

_CLOUD_TOML = """\
[cloud]
address = {address}
enrol_address = {enrol_address}
ca = "ca.crt"
cert = {identity}
key = {identity}

[updates]
root = {root}
{fleet}{floors}"""

_EDGE_TOML = """\
# The vehicle {vehicle}. Paths are relative to this folder.

vehicle = {vehicle}
state_folder = "state"
{cameras}
[model]
factory = "factory.onnx"

[drift]

[sampler]

{cloud}"""

_CAMERA = """
[[cameras]]
name = {name}
url = {url}
"""


class EnrolmentError(TrafficVisionError):
    """The vehicle was not enrolled; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class VehicleChoices:
    """What a new `edge.toml` says, and what goes with it. One that is there is never changed.

    Attributes:
        cameras: a source's URL by the camera's name.
        model: the model file that the vehicle starts with.
    """

    cameras: Mapping[str, str] = field(default_factory=dict)
    model: Path | None = None


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What was done.

    Attributes:
        vehicle: its name.
        ends: when the certificate ends, UTC.
        missing: sections that an `edge.toml` which was there already should have; empty: it has them, or is
            new.
        floors: keys of `[updates]` that an `edge.toml` which was there already lacks, or has lower than the
            ticket; empty: none, or `missing` has them.
        open_to_others: the folder with the key, where others than its owner may look into it.
    """

    vehicle: str
    ends: datetime
    missing: str
    floors: str
    open_to_others: Path | None


def enrol(text: str, folder: Path, choices: VehicleChoices) -> Enrolled:
    """Enrol this vehicle.

    Args:
        text: the ticket.
        folder: for `edge.toml` and what it names; made where it is missing.
        choices: for a new `edge.toml`.

    Raises:
        EnrolmentError: the ticket is none or good for nothing, the cloud cannot be reached or is not the
            ticket's, the folder is another vehicle's, or the root in it another owner's.
    """
    ticket, authority = _read_ticket(text)
    floors = _floors(ticket)
    if choices.model is not None and not choices.model.is_file():
        raise EnrolmentError(f"{choices.model}: there is no such model file")
    found = _read_config(folder / CONFIG_FILE, ticket.vehicle)
    root = _root_path(found)
    has_root = _has_root(folder / root, ticket)
    state = folder / STATE_FOLDER if found is None else folder / str(found.get("state_folder", STATE_FOLDER))
    try:
        for path in (folder, state):
            path.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
        pending = state / f"enrolling-{hashlib.sha256(ticket.token.encode()).hexdigest()[:16]}.key"
        key = _pending_key(pending)
        answer = _ask(ticket, key, authority)
        identity = accept(key, answer.certificate_der, authority)
        cloud = _CLOUD_TOML.format(
            address=_toml(answer.fleet_address),
            enrol_address=_toml(ticket.enrol_address),
            identity=_toml(_identity_path(folder, state)),
            root=_toml(root),
            fleet=f"fleet = {_toml(ticket.fleet)}\n" if ticket.fleet else "",
            floors=_lines(floors),
        )
        atomic_write(folder / "ca.crt", authority.public_bytes(Encoding.PEM))
        if not has_root:
            atomic_write(folder / root, answer.root_json)
        if choices.model is not None:
            atomic_write(folder / "factory.onnx", choices.model.read_bytes())
        if found is None:
            text = _edge_toml(ticket.vehicle, choices.cameras, cloud)
            atomic_write(folder / CONFIG_FILE, text.encode())
        write_identity(state / IDENTITY_FILE, identity)
        for left in state.glob("enrolling-*.key"):
            left.unlink(missing_ok=True)
    except OSError as error:
        raise EnrolmentError(f"{error.filename or folder}: {error.strerror or error}") from None
    missing = "" if found is None or _has_cloud(found, folder, state) else cloud
    lower = "" if found is None or missing else _lines(_above(found, floors))
    open_to_others = state if state.stat().st_mode & 0o077 else None
    return Enrolled(ticket.vehicle, identity.ends, missing, lower, open_to_others)


def _read_ticket(text: str) -> tuple[enrolment_pb2.EnrolmentTicket, x509.Certificate]:
    try:
        ticket = ticket_of_text(text)
        return ticket, x509.load_der_x509_certificate(ticket.authority_der)
    except (TicketError, ValueError) as error:
        raise EnrolmentError(
            f"{error}; `traffic-vision cloud enrol` prints a ticket, one long line"
        ) from None


def _floors(ticket: enrolment_pb2.EnrolmentTicket) -> dict[str, int | str]:
    """What a vehicle that never saw an update knows: keys of `[updates]`. Tickets of before say nothing."""
    floors: dict[str, int | str] = {}
    if ticket.release_floor > MAX_COUNTER:
        raise EnrolmentError(f"the ticket says release_floor = {ticket.release_floor}, which no release has")
    if ticket.release_floor:
        floors["release_floor"] = ticket.release_floor
    if ticket.issued_wall_ns > 0:
        issued = datetime.fromtimestamp(ticket.issued_wall_ns // 10**9, timezone.utc)
        floors["clock_floor"] = issued.date().isoformat()
    return floors


def _above(found: dict[str, object], floors: Mapping[str, int | str]) -> dict[str, int | str]:
    """The floors that are above those of a configuration."""
    updates = found.get("updates")
    known = updates if isinstance(updates, dict) else {}
    return {key: floor for key, floor in floors.items() if _is_lower(known.get(key), floor)}


def _is_lower(known: object, floor: int | str) -> bool:
    if isinstance(floor, int):
        return not isinstance(known, int) or known < floor
    return not isinstance(known, str) or known < floor  # days as ISO 8601 writes them sort as text


def _lines(floors: Mapping[str, int | str]) -> str:
    return "".join(f"{key} = {json.dumps(floor)}\n" for key, floor in floors.items())


def _read_config(path: Path, vehicle: str) -> dict[str, object] | None:
    """What is there already; None where nothing is."""
    try:
        found: dict[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise EnrolmentError(f"{path}: cannot be read: {error}") from None
    if found.get("vehicle") != vehicle:
        raise EnrolmentError(
            f"{path} says vehicle = {found.get('vehicle')!r}, and the ticket is for {vehicle!r}: "
            "change it there, or take another folder"
        )
    return found


def _root_path(found: Mapping[str, object] | None) -> str:
    """Where the daemon looks for the root: as `edge.toml` says, if one is there, or will say."""
    updates = found.get("updates") if found is not None else None
    return str(updates.get("root", ROOT_FILE)) if isinstance(updates, dict) else ROOT_FILE


def _has_root(path: Path, ticket: enrolment_pb2.EnrolmentTicket) -> bool:
    """Tell whether the vehicle has a root already; none is ever exchanged but by TUF's own chain of roots.

    Raises:
        EnrolmentError: it has another owner's, or nothing tells which one the cloud should give.
    """
    from edge.updates.evidence import check_root  # imports python-tuf

    try:
        data = path.read_bytes()
        version = check_root(data)
    except FileNotFoundError:
        if not ticket.root_sha256:
            raise EnrolmentError(
                f"the ticket names no root that releases are checked against: make a new one with this"
                f" release's `traffic-vision cloud enrol`, or put the owner's root at {path}"
            ) from None
        return False
    except OSError as error:
        raise EnrolmentError(f"{path}: {error.strerror or error}") from None
    except RefusedError as error:
        raise EnrolmentError(f"{path}: {error}; take it away if it is not meant to be there") from None
    if ticket.root_version == version and ticket.root_sha256 != hashlib.sha256(data).digest():
        raise EnrolmentError(
            f"{path} is another root {version} than the ticket's, so another owner's: take it away if the"
            " vehicle has a new one"
        )
    return True


def _pending_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The key for a ticket: kept until its certificate is in place, so that asking again asks the same."""
    with suppress(FileNotFoundError):
        return read_key(path, path.read_bytes())
    key = new_key()
    atomic_write(path, key_to_pem(key), mode=PRIVATE_MODE)
    give_to_owner_of(path.parent, path)
    return key


def _ask(
    ticket: enrolment_pb2.EnrolmentTicket, key: ec.EllipticCurvePrivateKey, authority: x509.Certificate
) -> enrolment_pb2.EnrolResponse:
    request = enrolment_pb2.EnrolRequest(
        token=ticket.token, csr_der=request_for(key), root_version=ticket.root_version
    )
    with open_enrolment_channel(ticket.enrol_address, authority.public_bytes(Encoding.PEM)) as channel:
        try:
            answer = EnrolmentServiceStub(channel).Enrol(request, timeout=_CALL_S)
        except grpc.RpcError as error:
            if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.PERMISSION_DENIED:
                raise EnrolmentError(f"the cloud gives nothing for this ticket: {error.details()}") from None
            raise EnrolmentError(
                f"{ticket.enrol_address}: {explain(error)}; the ticket can be used again"
            ) from None
    if answer.vehicle != ticket.vehicle:
        raise EnrolmentError(f"the ticket is for {ticket.vehicle!r}, the answer for {answer.vehicle!r}")
    if ticket.root_sha256 and hashlib.sha256(answer.root_json).digest() != ticket.root_sha256:
        raise EnrolmentError(
            "the root that the cloud gives is not the one that the ticket names: it is another cloud than the"
            " one that the ticket was made by, or in other hands"
        )
    return answer


def _identity_path(folder: Path, state: Path) -> str:
    path = state / IDENTITY_FILE
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path.absolute())


def _has_cloud(found: dict[str, object], folder: Path, state: Path) -> bool:
    cloud = found.get("cloud")
    return isinstance(cloud, dict) and (folder / str(cloud.get("cert"))).absolute() == (
        (state / IDENTITY_FILE).absolute()
    )


def _edge_toml(vehicle: str, cameras: Mapping[str, str], cloud: str) -> str:
    sections = [
        _CAMERA.format(name=_toml(name), url=_toml(url))
        for name, url in (cameras or {"front": "drive.mp4"}).items()
    ]
    return _EDGE_TOML.format(vehicle=_toml(vehicle), cameras="".join(sections), cloud=cloud)


def _toml(text: str) -> str:
    """Write a TOML string: JSON's escapes are TOML's too (https://toml.io/en/v1.0.0#string), but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
