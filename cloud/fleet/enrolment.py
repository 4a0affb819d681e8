"""`cloud init` and `cloud enrol`: a cloud's folder, and what a vehicle is given.

Both may be run again at any time: they make what is missing and keep what is there.
"""

from __future__ import annotations

import getpass
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from cloud.config import DEFAULT_LISTEN, CloudConfig, load_config
from cloud.datasets.files import link_or_copy, write_file
from cloud.fleet.fleets import check_fleet
from cloud.fleet.pki import Authority, check_vehicle_name
from cloud.fleet.repository import open_repository
from cloud.store import Store, open_database
from cloud.store.columns import utc_now
from cloud.store.database import audit
from cloud.store.models import Certificate, Vehicle
from edge.errors import TrafficVisionError

CONFIG_FILE = "cloud.toml"

_LOG = logging.getLogger(__name__)

_CLOUD_TOML = """\
# Traffic Vision's cloud. Every key has a default, and paths are relative to this folder.

[serve]
listen = {listen}
# Where vehicles find it, if not at `listen`.
{address}
# Hosts that the server's certificate is for, beside localhost; after a change, `cloud init` again.
names = {names}

[store]
# sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME
database = "sqlite:///cloud.sqlite"
"""

_EDGE_TOML = """\
# The vehicle {vehicle}. Paths are relative to this folder.

vehicle = {vehicle}
state_folder = "state"
{cameras}
[model]
factory = "factory.onnx"

[drift]

[sampler]

[cloud]
address = {address}
ca = "ca.crt"
cert = "client.crt"
key = "client.key"

[updates]
root = "root.json"
{fleet}"""

_CAMERA = """
[[cameras]]
name = {name}
url = {url}
"""


class EnrolmentError(TrafficVisionError):
    """A cloud's folder or a vehicle cannot be set up as asked."""


@dataclass(frozen=True, slots=True)
class CloudChoices:
    """What a new `cloud.toml` says. One that is there is never changed.

    Attributes:
        listen: HOST:PORT of the server.
        address: HOST:PORT where vehicles find it, if not there.
        names: hosts that the server's certificate is for, beside localhost.
    """

    listen: str | None = None
    address: str | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VehicleChoices:
    """What a new `edge.toml` says, and what goes with it. One that is there is never changed.

    Attributes:
        cameras: a source's URL by the camera's name.
        model: the model file that the vehicle starts with.
        fleet: whose releases it takes; None: those for vehicles without one.
    """

    cameras: Mapping[str, str] = field(default_factory=dict)
    model: Path | None = None
    fleet: str | None = None


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
    for path in (folders.pki, folders.keys, folders.vehicles):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    Authority.make(folders.pki).server_pair(folders.pki, config.serve.names)
    open_repository(config).prepare()
    open_database(config.store.database).close()
    return config


def enrol(config: CloudConfig, vehicle: str, choices: VehicleChoices) -> Path:
    """Give a vehicle its identity and configuration; the folder that is returned goes onto it.

    Args:
        config: the cloud's.
        vehicle: its name.
        choices: for a new configuration.

    Raises:
        TrafficVisionError: the name cannot be a vehicle's, the vehicle was revoked, the model file is
            missing, or the cloud's folder was not made by `init_cloud`.
    """
    check_vehicle_name(vehicle)
    if choices.model is not None and not choices.model.is_file():
        raise EnrolmentError(f"{choices.model}: there is no such model file")
    if choices.fleet is not None:
        check_fleet(config, choices.fleet)
    address = config.serve.address or config.serve.listen
    if address.endswith(":0"):
        raise EnrolmentError("vehicles need a fixed port: set serve.address in cloud.toml")
    authority = Authority.open(config.folders.pki)
    store = open_database(config.store.database)
    try:
        _register(store, vehicle)
        folder = config.folders.vehicles / vehicle
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        pair = authority.vehicle_pair(folder, vehicle)
        _register_certificate(store, vehicle, pair.certificate)
    finally:
        store.close()
    write_file(folder / "ca.crt", authority.certificate)
    write_file(folder / "root.json", open_repository(config).root())
    if choices.model is not None:
        (folder / "factory.onnx").unlink(missing_ok=True)
        link_or_copy(choices.model, folder / "factory.onnx")
    if not (folder / "edge.toml").exists():
        write_file(folder / "edge.toml", _edge_toml(vehicle, address, choices))
    return folder


def revoke(config: CloudConfig, vehicle: str, reason: str) -> None:
    """Take a vehicle's identity away for good; a server that runs closes its streams at their next message.

    Raises:
        EnrolmentError: there is no such vehicle.
    """
    store = open_database(config.store.database)
    try:
        with store.writing() as session:
            known = session.get(Vehicle, vehicle)
            if known is None:
                raise EnrolmentError(f"there is no vehicle {vehicle!r}")
            if known.revoked is None:
                known.revoked = utc_now()
                audit(session, operator(), "revoked", vehicle, reason=reason)
    finally:
        store.close()


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


def _register(store: Store, vehicle: str) -> None:
    with store.writing() as session:
        known = session.get(Vehicle, vehicle)
        if known is not None and known.revoked is not None:
            raise EnrolmentError(f"{vehicle} was revoked on {known.revoked:%Y-%m-%d}: take another name")
        if known is None:
            session.add(Vehicle(name=vehicle))
            audit(session, operator(), "enrolled", vehicle)


def _register_certificate(store: Store, vehicle: str, pem: bytes) -> None:
    certificate = x509.load_pem_x509_certificate(pem)
    sha256 = certificate.fingerprint(hashes.SHA256()).hex()
    with store.writing() as session:
        if session.get(Certificate, sha256) is None:
            session.add(
                Certificate(
                    sha256=sha256,
                    vehicle=vehicle,
                    serial=f"{certificate.serial_number:x}",
                    not_before=certificate.not_valid_before_utc,
                    not_after=certificate.not_valid_after_utc,
                )
            )
            audit(session, operator(), "certified", vehicle, sha256=sha256)


def _edge_toml(vehicle: str, address: str, choices: VehicleChoices) -> str:
    sections = [
        _CAMERA.format(name=_toml(name), url=_toml(url))
        for name, url in (choices.cameras or {"front": "drive.mp4"}).items()
    ]
    return _EDGE_TOML.format(
        vehicle=_toml(vehicle),
        address=_toml(address),
        cameras="".join(sections),
        fleet="" if choices.fleet is None else f"fleet = {_toml(choices.fleet)}\n",
    )


def _toml(text: str) -> str:
    """Write a TOML string: JSON's escapes are TOML's too (https://toml.io/en/v1.0.0#string), but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
