"""Certificates that end: renewed by a daemon that drives, and by one that was away. Real processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select

from cloud.config import CloudConfig
from cloud.fleet.vehicles import list_vehicles, revoke
from cloud.store.audit_entry import AuditEntry
from cloud.store.columns import utc_now
from edge.files import atomic_write
from edge.fleet import identity
from protos.traffic_vision.v1 import enrolment_pb2 as wire
from protos.traffic_vision.v1 import fleet_pb2_grpc
from protos.traffic_vision.v1.enrolment_pb2_grpc import EnrolmentServiceStub
from tests import clouds
from tests.clouds import WAIT_S, ServerProcess, make_cloud, serving
from tests.daemons import DaemonProcess, write_config
from tests.waiting import eventually

pytestmark = pytest.mark.services

VEHICLE = "test-1"
DRIVE = {
    "name": "front",
    "url": "sim:7?seconds=0&rate=10&size=128x72",
    "pace": "lockstep",
    "speed_limit": 1.0,
}
SHORT = f"certificate_days = {6 / 86_400:.9f}\n"  # six seconds: renewed after four


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cloud"


def enrolled(config: CloudConfig, age: timedelta = timedelta(0)) -> Path:
    """A vehicle's folder, with a certificate that was given so long ago."""
    own, _ = clouds.enrol_vehicle(config, VEHICLE, lambda: utc_now() - age)
    (own / "state").mkdir(mode=0o700)
    pair = (own / "client.key").read_bytes() + (own / "client.crt").read_bytes()
    atomic_write(own / "state/client.pem", pair, mode=0o600)
    return own


def vehicle(own: Path, server: ServerProcess) -> Path:
    pem = "state/client.pem"
    where = {"address": server.address, "enrol_address": server.enrol_address}
    return write_config(
        own, DRIVE, cloud={**where, "ca": "ca.crt", "cert": pem, "key": pem, "retry_limit_s": 0.5}
    )


def pair_of(own: Path) -> identity.Identity:
    return identity.read_identity(own / "state/client.pem")


def connected(daemon: DaemonProcess) -> bool:
    return daemon.client.status().status.connected_to_cloud


def audited(config: CloudConfig, action: str) -> list[str]:
    with clouds.database(config) as store, store.reading() as session:
        entries = session.scalars(select(AuditEntry).where(AuditEntry.action == action))
        return [str(entry.detail.get("reason", "")) for entry in entries]


def test_a_daemon_that_drives_renews_again_and_again(folder: Path) -> None:
    config = make_cloud(folder, serve=SHORT)
    with serving(folder) as server:
        own = enrolled(config)
        first = pair_of(own)
        with DaemonProcess(vehicle(own, server)) as daemon:
            eventually(lambda: connected(daemon), "the first welcome")
            daemon.event("certificate_renewed", 2)
            eventually(lambda: connected(daemon), "the welcome of the new certificate")
            renewed, status = pair_of(own), daemon.client.status().status
            camera = daemon.cameras()["front"]
            assert camera.captured_frames - sum(count.frames for count in camera.outcomes) <= 1
            assert {count.outcome for count in camera.outcomes if count.frames} == {1}, "all were published"
            assert daemon.terminate() == 0
    assert renewed.ends > first.ends and renewed.key.public_key() != first.key.public_key()
    assert status.certificate_expires_wall_ns == int(renewed.ends.timestamp()) * 10**9
    assert len(audited(config, "renewed")) >= 2 and audited(config, "renewal refused") == []
    assert (own / "state/client.pem").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("days", [40, 394])
def test_a_vehicle_that_was_away_past_its_certificates_end_comes_back_by_itself(
    folder: Path, days: int
) -> None:
    config = make_cloud(folder)
    own = enrolled(config, timedelta(days=days))
    assert pair_of(own).ends < utc_now()
    with serving(folder) as server, DaemonProcess(vehicle(own, server)) as daemon:
        daemon.event("certificate_renewed")
        eventually(lambda: connected(daemon), "the welcome")
        assert daemon.terminate() == 0
    assert pair_of(own).ends > utc_now() + timedelta(days=29)


@pytest.mark.parametrize(("days", "why"), [(396, "more than a year ago"), (40, "was revoked")])
def test_who_was_away_too_long_or_was_revoked_drives_on_alone(folder: Path, days: int, why: str) -> None:
    config = make_cloud(folder)
    own = enrolled(config, timedelta(days=days))
    before = (own / "state/client.pem").read_bytes()
    if "revoked" in why:
        revoke(config, VEHICLE, "stolen")
    with serving(folder) as server, DaemonProcess(vehicle(own, server)) as daemon:
        assert why in daemon.event("certificate_not_renewed")["message"]
        frames = daemon.cameras()["front"].captured_frames
        eventually(lambda: daemon.cameras()["front"].captured_frames > frames, "frames go on")
        assert not connected(daemon)
        assert daemon.terminate() == 0
    assert (own / "state/client.pem").read_bytes() == before
    assert any(why in reason for reason in audited(config, "renewal refused"))


def test_a_man_in_the_middle_renews_nothing(folder: Path, tmp_path: Path) -> None:
    config, other = make_cloud(folder), make_cloud(tmp_path / "other")
    own = enrolled(config, timedelta(days=40))
    before = (own / "state/client.pem").read_bytes()
    with serving(tmp_path / "other") as server, DaemonProcess(vehicle(own, server)) as daemon:
        said = daemon.event("certificate_not_renewed")["message"]
        assert "not from the authority that this vehicle trusts" in said
        assert daemon.terminate() == 0
    assert (own / "state/client.pem").read_bytes() == before
    assert audited(other, "renewal refused") == audited(other, "renewed") == [], "it was asked nothing"


def test_a_cloud_that_comes_late_finds_the_vehicle_renewing(folder: Path) -> None:
    config = make_cloud(folder)
    own = enrolled(config, timedelta(days=40))
    with serving(folder) as server:
        address, enrol_address = server.address, server.enrol_address
        written = vehicle(own, server)
        assert server.stop() == 0
    with DaemonProcess(written) as daemon:
        assert "nothing answers" in daemon.event("certificate_not_renewed")["message"]
        toml = folder / "cloud.toml"
        text = toml.read_text().replace('"127.0.0.1:0"', f'"{address}"')
        toml.write_text(text.replace(f'"{clouds.ENROL_LISTEN}"', f'"{enrol_address}"'))
        with serving(folder):
            daemon.event("certificate_renewed")
            eventually(lambda: connected(daemon), "the welcome")
            assert daemon.terminate() == 0


def test_a_daemon_that_is_killed_whenever_has_one_whole_pair_and_comes_back(folder: Path) -> None:
    config = make_cloud(folder, serve=SHORT)
    with serving(folder) as server:
        own = enrolled(config)
        written = vehicle(own, server)
        for _ in range(2):
            with DaemonProcess(written) as daemon:
                daemon.event("certificate_renewed")
                daemon.process.send_signal(signal.SIGKILL)
                daemon.wait()
            pair_of(own)
        with DaemonProcess(written) as daemon:
            eventually(lambda: connected(daemon), "the welcome")
            assert daemon.terminate() == 0
    assert audited(config, "identity in use") == []


class Asking:
    """A vehicle, or whoever pretends to be one, at the listener for renewals."""

    def __init__(self, stub: EnrolmentServiceStub) -> None:
        self._stub = stub

    def nonce(self) -> bytes:
        nonce: bytes = self._stub.BeginRenewal(wire.BeginRenewalRequest(), timeout=WAIT_S).nonce
        return nonce

    def request(self, own: identity.Identity, signer: identity.Identity | None = None) -> wire.RenewRequest:
        csr, nonce = identity.request_for(identity.new_key()), self.nonce()
        der = own.certificate.public_bytes(Encoding.DER)
        signature = identity.sign_renewal(identity.Identity((signer or own).key, own.certificate), nonce, csr)
        return wire.RenewRequest(certificate_der=der, nonce=nonce, csr_der=csr, signature=signature)

    def renew(self, request: wire.RenewRequest) -> x509.Certificate:
        answer = self._stub.Renew(request, timeout=WAIT_S)
        return x509.load_der_x509_certificate(answer.certificate_der)

    def refusal(self, request: wire.RenewRequest) -> str:
        with pytest.raises(grpc.RpcError) as refused:
            self.renew(request)
        assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
        return str(refused.value.details())


@contextmanager
def asking(config: CloudConfig, server: ServerProcess) -> Iterator[Asking]:
    credentials = grpc.ssl_channel_credentials((config.folders.pki / "ca.crt").read_bytes())
    with grpc.secure_channel(server.enrol_address, credentials) as channel:
        yield Asking(EnrolmentServiceStub(channel))


def test_only_the_old_key_renews_and_each_request_counts_once(folder: Path, tmp_path: Path) -> None:
    config = make_cloud(folder)
    own = pair_of(enrolled(config))
    clouds.enrol_vehicle(config, "other")
    stranger = pair_of(enrolled(make_cloud(tmp_path / "strangers")))
    server_pair = identity.Identity(
        identity.read_key(config.folders.pki / "server.key"),
        x509.load_pem_x509_certificate((config.folders.pki / "server.crt").read_bytes()),
    )
    with serving(folder) as server, asking(config, server) as desk:
        assert "not signed by the key" in desk.refusal(desk.request(own, signer=stranger))
        assert "not of this authority" in desk.refusal(desk.request(stranger))
        assert "not known here" in desk.refusal(desk.request(server_pair))
        swapped = desk.request(own)
        swapped.csr_der = identity.request_for(stranger.key)
        assert "not signed by the key" in desk.refusal(swapped)
        made_up = desk.request(own)
        made_up.nonce = bytes(56)
        made_up.signature = identity.sign_renewal(own, made_up.nonce, made_up.csr_der)
        assert "the nonce" in desk.refusal(made_up)
        for garbage in (wire.RenewRequest(), wire.RenewRequest(certificate_der=b"\x30\x82\x01")):
            assert "no certificate" in desk.refusal(garbage)
        good = desk.request(own)
        renewed = desk.renew(good)
        assert "the nonce" in desk.refusal(good), "a recorded request is worth nothing"
    assert renewed.not_valid_after_utc >= own.ends
    assert len(audited(config, "renewed")) == 1


def test_a_copied_key_ends_with_the_next_renewal(folder: Path) -> None:
    config = make_cloud(folder)
    own = pair_of(enrolled(config))
    with serving(folder) as server, asking(config, server) as desk:
        first = desk.request(own)
        thief_key = identity.new_key()
        csr, nonce = identity.request_for(thief_key), desk.nonce()
        theft = wire.RenewRequest(
            certificate_der=first.certificate_der,
            nonce=nonce,
            csr_der=csr,
            signature=identity.sign_renewal(own, nonce, csr),
        )
        stolen = identity.Identity(thief_key, desk.renew(theft))
        assert served(config, server, stolen)
        desk.renew(first)  # the vehicle itself
        assert not served(config, server, stolen)
        assert "replaced by a newer one" in desk.refusal(desk.request(stolen))


def served(config: CloudConfig, server: ServerProcess, pair: identity.Identity) -> bool:
    pem = identity.key_to_pem(pair.key) + pair.certificate.public_bytes(Encoding.PEM)
    credentials = grpc.ssl_channel_credentials((config.folders.pki / "ca.crt").read_bytes(), pem, pem)
    with (
        grpc.secure_channel(server.address, credentials) as channel,
        clouds.conversation(fleet_pb2_grpc.FleetServiceStub(channel)) as stream,
    ):
        stream.say(clouds.a_hello())
        welcome = stream.hear().HasField("welcome")
    eventually(lambda: is_away(config), "the server has heard that it hung up")
    return welcome


def is_away(config: CloudConfig) -> bool:
    with clouds.database(config) as store:
        return all(line.connected_since is None for line in list_vehicles(store))
