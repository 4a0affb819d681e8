"""A ticket, a key made on the vehicle, a certificate over the network: real processes, real TLS."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select

from cloud.config import CloudConfig, load_config
from cloud.fleet.enrolment import enrol as issue
from cloud.fleet.enrolment_service import MAX_MESSAGE_BYTES
from cloud.store.audit_entry import AuditEntry
from edge.config import load_config as load_edge_config
from edge.doctor import certificates
from edge.doctor.finding import Level
from edge.errors import TrafficVisionError
from edge.fleet import enrolment, identity
from protos.enrolment import ticket_of_text, ticket_to_text
from protos.traffic_vision.v1 import common_pb2, fleet_pb2, fleet_pb2_grpc
from protos.traffic_vision.v1 import enrolment_pb2 as wire
from protos.traffic_vision.v1.enrolment_pb2_grpc import EnrolmentServiceStub
from tests import clouds
from tests.clouds import WAIT_S, ServerProcess, serving
from tests.daemons import DaemonProcess
from tests.models_factory import rectangles_model
from tests.waiting import eventually
from tools.cli import root

pytestmark = pytest.mark.services

DRIVE = "front=sim:7?seconds=2&rate=10&size=128x72"


class Cloud:
    """A cloud that runs, and whose tickets lead to it."""

    def __init__(self, folder: Path, server: ServerProcess) -> None:
        self.folder = folder
        self.server = server
        toml = folder / "cloud.toml"
        text = toml.read_text()
        text = text.replace('enrol_address = "127.0.0.1:1"', f'enrol_address = "{server.enrol_address}"')
        toml.write_text(text.replace("[serve]", f'[serve]\naddress = "{server.address}"'))
        self.config: CloudConfig = load_config(toml)
        assert self.config.serve.fleet_address == server.address

    def ticket(self, vehicle: str, valid: timedelta = timedelta(hours=1)) -> str:
        return issue(self.config, vehicle, valid).text

    def audited(self, action: str) -> list[tuple[str, str]]:
        """Whom the entries are about, and why."""
        with clouds.database(self.config) as store, store.reading() as session:
            entries = session.scalars(select(AuditEntry).where(AuditEntry.action == action))
            return [(entry.subject, entry.detail.get("reason", "")) for entry in entries]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    folder = tmp_path / "cloud"
    make_cloud(folder)
    with serving(folder) as server:
        yield Cloud(folder, server)


def make_cloud(folder: Path) -> None:
    """One that tells vehicles the port at which it listens."""
    clouds.make_cloud(folder)
    toml = folder / "cloud.toml"
    toml.write_text(toml.read_text().replace('\naddress = "127.0.0.1:1"', ""))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "vehicle"


def run(ticket: str, folder: Path, *more: str | Path) -> Result:
    result = CliRunner().invoke(
        root, ["edge", "enrol", "-", str(folder), *map(str, more)], input=f"{ticket}\n"
    )
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refusal(ticket: str, folder: Path) -> str:
    with pytest.raises(TrafficVisionError) as refused:
        run(ticket, folder)
    assert not list(folder.rglob("*.pem")) and not (folder / "edge.toml").exists()
    return str(refused.value)


def welcomed(cloud: Cloud, folder: Path) -> bool:
    pem = (folder / "state" / "client.pem").read_bytes()
    credentials = grpc.ssl_channel_credentials((folder / "ca.crt").read_bytes(), pem, pem)
    with (
        grpc.secure_channel(cloud.server.address, credentials) as channel,
        clouds.conversation(fleet_pb2_grpc.FleetServiceStub(channel)) as stream,
    ):
        stream.say(clouds.a_hello())
        return stream.hear().HasField("welcome")


def test_a_vehicle_with_a_ticket_is_set_up_and_drives(cloud: Cloud, own: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(rectangles_model())
    result = run(cloud.ticket("van-1"), own, "--camera", DRIVE, "--model", model)
    assert result.stdout == f"{own / 'edge.toml'}\n"
    assert "enrolled, with a certificate until" in result.stderr and "chmod" not in result.stderr
    files = {str(path.relative_to(own)) for path in own.rglob("*") if path.is_file()}
    assert files == {"edge.toml", "ca.crt", "root.json", "factory.onnx", "state/client.pem"}
    assert stat.S_IMODE((own / "state/client.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((own / "state").stat().st_mode) == 0o700
    pair = identity.read_identity(own / "state/client.pem")
    assert cloud.audited("enrolled") == [("van-1", "")]
    updates = load_edge_config(own / "edge.toml").updates
    assert updates is not None and updates.fleet is None
    with DaemonProcess(own / "edge.toml") as daemon:
        assert daemon.until_ended()["front"]["captured"] == 20
        status = daemon.client.status().status
        assert status.model.active_slot == common_pb2.SLOT_FACTORY
        assert status.drift[0].verdict == common_pb2.DRIFT_VERDICT_LEARNING
        assert status.certificate_expires_wall_ns == int(pair.ends.timestamp()) * 10**9
        eventually(lambda: daemon.client.status().status.connected_to_cloud, "the welcome")
        assert daemon.terminate() == 0


def test_a_ticket_says_whose_releases_the_vehicle_takes(cloud: Cloud, own: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(rectangles_model())
    ticket = ticket_of_text(cloud.ticket("van-1"))
    ticket.fleet = "trucks"
    run(ticket_to_text(ticket), own, "--camera", DRIVE, "--model", model)
    updates = load_edge_config(own / "edge.toml").updates
    assert updates is not None and updates.fleet == "trucks"


def test_the_same_ticket_gives_the_same_again_to_who_lost_the_answer(
    cloud: Cloud, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = cloud.ticket("van-1")

    def dies(path: Path, made: identity.Identity) -> int:
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as broken:
        broken.setattr(enrolment, "write_identity", dies)
        with pytest.raises(TrafficVisionError, match="Input/output error"):
            run(ticket, own)
    (pending,) = (own / "state").glob("enrolling-*.key")
    assert stat.S_IMODE(pending.stat().st_mode) == 0o600
    key = identity.read_key(pending)
    assert run(ticket, own).exit_code == 0
    pair = identity.read_identity(own / "state/client.pem")
    assert pair.key.public_key() == key.public_key()
    assert cloud.audited("enrolled") == [("van-1", "")], "one certificate was given"
    assert not list((own / "state").glob("enrolling-*"))
    assert welcomed(cloud, own)


def test_a_ticket_that_was_used_gives_nothing_to_another_key(cloud: Cloud, own: Path, tmp_path: Path) -> None:
    ticket = cloud.ticket("van-1")
    run(ticket, own)
    assert "used already, with another key" in refusal(ticket, tmp_path / "thief")
    assert cloud.audited("enrolment refused") == [("van-1", "the ticket was used already, with another key")]
    assert welcomed(cloud, own), "the vehicle is none the worse for it"


def test_tickets_that_are_good_for_nothing(cloud: Cloud, own: Path) -> None:
    ended = cloud.ticket("van-1", timedelta(microseconds=1))
    assert "the ticket ended on" in refusal(ended, own)
    replaced = cloud.ticket("van-2")
    newest = cloud.ticket("van-2")
    assert "the ticket ended on" in refusal(replaced, own)
    forged = ticket_of_text(newest)
    forged.token = "a" * 43
    assert "there is no such ticket here" in refusal(ticket_to_text(forged), own)
    for text in ("", "a ticket", newest[:-9]):
        assert "ticket" in refusal(text, own)
    revoke(cloud, "van-2")
    assert "van-2 was revoked" in refusal(newest, own)
    assert [subject for subject, _ in cloud.audited("enrolment refused")] == [
        "van-1",
        "van-2",
        "unknown",
        "van-2",
    ]
    assert cloud.audited("enrolled") == []


def revoke(cloud: Cloud, vehicle: str) -> None:
    arguments = ["cloud", "vehicles", "revoke", vehicle, "--reason", "lost"]
    assert CliRunner().invoke(root, [*arguments, "--config", str(cloud.folder / "cloud.toml")]).exit_code == 0


def test_a_man_in_the_middle_with_another_authority_learns_nothing(
    cloud: Cloud, own: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    make_cloud(other)
    ticket = ticket_of_text(cloud.ticket("van-1"))
    with serving(other) as server:
        there = Cloud(other, server)
        ticket.enrol_address = server.enrol_address
        assert "not from the authority that this vehicle trusts" in refusal(ticket_to_text(ticket), own)
        assert there.audited("enrolment refused") == [], "not even the token"
    ticket.enrol_address = cloud.server.enrol_address
    assert run(ticket_to_text(ticket), own).exit_code == 0, "the ticket is still good"


def test_a_ticket_for_a_cloud_that_is_away_can_be_used_later(cloud: Cloud, own: Path) -> None:
    ticket = ticket_of_text(cloud.ticket("van-1"))
    ticket.enrol_address = "127.0.0.1:1"
    assert "nothing answers at the cloud's address; the ticket can be used again" in refusal(
        ticket_to_text(ticket), own
    )


def test_a_configuration_that_is_there_stays_and_must_be_the_vehicles(cloud: Cloud, own: Path) -> None:
    (own / "kept").mkdir(parents=True, mode=0o755)
    config = own / "edge.toml"
    config.write_text('vehicle = "vehicle-1"\nstate_folder = "kept"\n')
    ticket = cloud.ticket("van-1")
    with pytest.raises(
        TrafficVisionError, match=r"says vehicle = 'vehicle-1', and the ticket is for 'van-1'"
    ):
        run(ticket, own)
    text = 'vehicle = "van-1"\nstate_folder = "kept"\n'
    config.write_text(text)
    result = run(ticket, own)
    assert config.read_text() == text
    assert (
        'cert = "kept/client.pem"' in result.stderr
        and f'enrol_address = "{cloud.server.enrol_address}"' in (result.stderr)
    )
    assert f"chmod 700 {own / 'kept'}" in result.stderr
    config.write_text(text + '[cloud]\ncert = "kept/client.pem"\n')
    assert "needs" not in run(cloud.ticket("van-1"), own).stderr


def test_a_new_ticket_ends_what_an_earlier_computer_had(cloud: Cloud, own: Path, tmp_path: Path) -> None:
    run(cloud.ticket("van-1"), own)
    assert welcomed(cloud, own)
    run(cloud.ticket("van-1"), tmp_path / "replacement")
    assert welcomed(cloud, tmp_path / "replacement")
    assert not welcomed(cloud, own)


def a_request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def broken_proof() -> bytes:
    csr = bytearray(identity.request_for(identity.new_key()))
    csr[-1] ^= 1
    return bytes(csr)


@contextmanager
def asking(cloud: Cloud) -> Iterator[EnrolmentServiceStub]:
    credentials = grpc.ssl_channel_credentials((cloud.folder / "pki/ca.crt").read_bytes())
    with grpc.secure_channel(cloud.server.enrol_address, credentials) as channel:
        yield EnrolmentServiceStub(channel)


BROKEN_REQUESTS: list[tuple[bytes, str]] = [
    (b"", "no PKCS #10 request"),
    (b"\x30\x82" + bytes(200), "no PKCS #10 request"),
    (a_request(rsa.generate_private_key(65537, 2048)), "curve P-256"),
    (a_request(ec.generate_private_key(ec.SECP384R1())), "curve P-256"),
    (broken_proof(), "not signed by its own key"),
    (bytes(4097), "at most 4096 are taken"),
]


def test_a_request_that_proves_no_key_uses_no_ticket_up(cloud: Cloud) -> None:
    token = ticket_of_text(cloud.ticket("van-1")).token
    with asking(cloud) as stub:
        for csr, why in BROKEN_REQUESTS:
            with pytest.raises(grpc.RpcError) as refused:
                stub.Enrol(wire.EnrolRequest(token=token, csr_der=csr), timeout=WAIT_S)
            assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
            assert why in refused.value.details()
        good = wire.EnrolRequest(token=token, csr_der=identity.request_for(identity.new_key()))
        assert stub.Enrol(good, timeout=WAIT_S).vehicle == "van-1"


def test_the_open_listener_is_bounded_and_serves_nothing_else(cloud: Cloud, own: Path) -> None:
    credentials = grpc.ssl_channel_credentials((cloud.folder / "pki/ca.crt").read_bytes())
    with grpc.secure_channel(cloud.server.enrol_address, credentials) as channel:
        fleet = fleet_pb2_grpc.FleetServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            list(fleet.FetchMetadata(fleet_pb2.FetchMetadataRequest(role="timestamp"), timeout=WAIT_S))
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
    run(cloud.ticket("van-1"), own)
    with asking(cloud) as stub:
        with pytest.raises(grpc.RpcError) as refused:
            stub.Enrol(wire.EnrolRequest(token="a" * (MAX_MESSAGE_BYTES + 1)), timeout=WAIT_S)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

        def asks() -> grpc.StatusCode:
            try:
                stub.BeginRenewal(wire.BeginRenewalRequest(), timeout=WAIT_S)
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        eventually(lambda: asks() is grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests")
        assert welcomed(cloud, own), "who has a certificate is served meanwhile"


def test_the_doctor_tells_the_certificates_end(cloud: Cloud, own: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(rectangles_model())
    run(cloud.ticket("van-1"), own, "--camera", DRIVE, "--model", tmp_path / "model.onnx")
    config = load_edge_config(own / "edge.toml")
    findings = certificates.certificates(config)
    ends = identity.read_identity(own / "state/client.pem").ends
    assert {finding.level for finding in findings} == {Level.OK}, findings
    assert any(f"valid until {ends:%Y-%m-%d}" in finding.text for finding in findings)
    (own / "state/client.pem").chmod(0o644)
    assert Level.FAILURE in {finding.level for finding in certificates.certificates(config)}
