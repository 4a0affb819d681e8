"""Key and certificate as one file, the channel that changes them, and when they are renewed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from edge.certificates import CertificateError
from edge.config import CloudConfig
from edge.fleet import identity_keeper
from edge.fleet.channel import ChannelError, open_channel
from edge.fleet.identity import (
    Identity,
    accept,
    new_key,
    read_identity,
    renewal_due,
    request_for,
    used_since,
    write_identity,
)
from edge.fleet.identity_keeper import IdentityKeeper, KeeperOptions
from edge.fleet.renewable_channel import RenewableChannel
from edge.machine import children
from edge.machine.disk_budget import DiskBudget
from protos.traffic_vision.v1 import common_pb2, enrolment_pb2, enrolment_pb2_grpc, fleet_pb2, fleet_pb2_grpc
from tests.certificates import Authority
from tests.fleet_cloud import Cloud, serving, vehicle_options
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 11, 24, tzinfo=timezone.utc)
LIFE = timedelta(days=30)
KILLS = 8


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def a_pair(authority: Authority, since: datetime = NOW, name: str = "v") -> Identity:
    key = new_key()
    return Identity(key, authority.sign(key.public_key(), name, since, since + LIFE))


@given(st.datetimes(datetime(2001, 1, 1), datetime(2090, 1, 1)), st.floats(-0.05, 0.05))
def test_it_is_due_within_the_last_third_or_a_little_before(since: datetime, jitter: float) -> None:
    since = since.replace(microsecond=0, tzinfo=timezone.utc)
    certificate = a_pair(SHARED, since).certificate
    assert used_since(certificate) == since
    due = renewal_due(certificate, jitter)
    assert since + LIFE * 0.6 < due < since + LIFE * 0.75


SHARED = Authority()


def test_a_certificate_of_another_maker_is_taken_to_live_for_a_month(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(authority.vehicle("v").certificate)
    assert certificate.not_valid_after_utc - used_since(certificate) == LIFE


def test_the_file_is_private_and_comes_back(authority: Authority, tmp_path: Path) -> None:
    pair, path = a_pair(authority), tmp_path / "client.pem"
    before = os.umask(0)
    try:
        size = write_identity(path, pair)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.stat().st_size == size
    again = read_identity(path)
    assert again.certificate == pair.certificate and again.key.public_key() == pair.key.public_key()
    other = a_pair(authority)
    mixed = path.read_bytes().split(b"-----BEGIN CERT")[0] + other.certificate.public_bytes(Encoding.PEM)
    path.write_bytes(mixed)
    with pytest.raises(CertificateError, match="is not that of"):
        read_identity(path)
    for data in (b"", b"x", pair.certificate.public_bytes(Encoding.PEM)):
        path.write_bytes(data)
        with pytest.raises(CertificateError, match=r"client\.pem"):
            read_identity(path)


def test_a_kill_leaves_the_old_pair_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "client.pem"
    command = [sys.executable, "-m", "tests.edge.identity_child", str(path)]
    for _ in range(KILLS):
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"put\n"
        child.kill()
        child.wait(60)
        child.stdout.close()
        read_identity(path)


def test_what_the_cloud_gives_must_be_for_our_key_and_of_its_authority(authority: Authority) -> None:
    pair, other = a_pair(authority), a_pair(Authority())
    ours = x509.load_pem_x509_certificate(authority.certificate)
    der = pair.certificate.public_bytes(Encoding.DER)
    assert accept(pair.key, der, ours).certificate == pair.certificate
    with pytest.raises(CertificateError, match="another key"):
        accept(new_key(), der, ours)
    for given_der in (b"", b"x", other.certificate.public_bytes(Encoding.DER)):
        with pytest.raises(CertificateError, match="no certificate of its own authority"):
            accept(pair.key, given_der, ours)


def upload(channel: grpc.Channel) -> None:
    stub = fleet_pb2_grpc.FleetServiceStub(channel)
    assert list(stub.UploadSamples(iter([]), timeout=30)) == []


def test_a_channel_that_changes_its_certificate_while_it_is_in_use(
    authority: Authority, tmp_path: Path
) -> None:
    cloud = Cloud()
    with serving(cloud, authority) as address:
        options = vehicle_options(tmp_path, address, authority, authority.vehicle("old"))
        with RenewableChannel(lambda: open_channel(options), "instance-1") as channel:
            goes_on = threading.Event()
            stub = fleet_pb2_grpc.FleetServiceStub(channel)

            def until() -> Iterator[fleet_pb2.UploadSamplesRequest]:
                goes_on.wait(60)
                yield from ()

            under_way = stub.UploadSamples(until(), timeout=60)
            cloud.wait_for(lambda: cloud.peers == ["old"], "the first stream")
            authority.vehicle("new").write(tmp_path, "client")
            channel.renew()
            goes_on.set()
            with pytest.raises(grpc.RpcError) as cut:
                list(under_way)
            assert cut.value.code() is grpc.StatusCode.CANCELLED
            upload(channel)
            assert cloud.peers == ["old", "new"]
            (tmp_path / "client.crt").write_bytes(b"broken")
            with pytest.raises(ChannelError):
                channel.renew()
            upload(channel)
            assert cloud.peers == ["old", "new", "new"]
            assert cloud.instances == ["instance-1"] * 3, "who it is, over each connection"
        with pytest.raises(ValueError, match="closed"):
            upload(channel)


def test_no_call_meets_a_channel_that_was_just_closed(authority: Authority, tmp_path: Path) -> None:
    with serving(Cloud(), authority) as address:
        options = vehicle_options(tmp_path, address, authority, authority.vehicle("v"))
        ended = threading.Event()

        def calls(channel: RenewableChannel) -> int:
            count = 0
            while not ended.is_set():
                with suppress(grpc.RpcError):
                    upload(channel)
                count += 1
            return count

        with RenewableChannel(lambda: open_channel(options)) as channel, ThreadPoolExecutor(4) as threads:
            counting = [threads.submit(calls, channel) for _ in range(4)]
            for _ in range(20):
                channel.renew()
            ended.set()
            assert all(one.result(60) > 0 for one in counting)  # a ValueError would be raised here


def test_a_methods_first_call_on_a_closed_channel_is_an_error_and_no_crash() -> None:
    """In a process of its own: gRPC 1.85 itself dies of it."""
    script = (
        "import grpc\n"
        "from edge.fleet.renewable_channel import RenewableChannel\n"
        "from protos.traffic_vision.v1 import fleet_pb2, fleet_pb2_grpc\n"
        "channel = RenewableChannel(lambda: grpc.insecure_channel('127.0.0.1:1'))\n"
        "stub = fleet_pb2_grpc.FleetServiceStub(channel)\n"
        "channel.close()\n"
        "for call, asked in ((stub.FetchTarget, fleet_pb2.FetchTargetRequest()), (stub.Control, iter(()))):\n"
        "    try:\n"
        "        call(asked)\n"
        "    except ValueError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=children.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.count("closed channel")) == (0, 2), done.stderr


class Desk(enrolment_pb2_grpc.EnrolmentServiceServicer):
    """Gives certificates, by a clock that the test sets."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.now = NOW
        self.begun = self.renewed = 0
        self.instance = ""
        self.key_of: Callable[[bytes], object] = lambda csr: x509.load_der_x509_csr(csr).public_key()
        self.refuses = ""

    def BeginRenewal(
        self, request: enrolment_pb2.BeginRenewalRequest, context: grpc.ServicerContext
    ) -> enrolment_pb2.BeginRenewalResponse:
        self.begun += 1
        return enrolment_pb2.BeginRenewalResponse(
            nonce=b"n", server_wall_ns=int(self.now.timestamp()) * 10**9
        )

    def Renew(
        self, request: enrolment_pb2.RenewRequest, context: grpc.ServicerContext
    ) -> enrolment_pb2.RenewResponse:
        if self.refuses:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, self.refuses)
        self.renewed += 1
        self.instance = request.instance_id
        made = self.authority.sign(self.key_of(request.csr_der), "v", self.now, self.now + LIFE)
        return enrolment_pb2.RenewResponse(certificate_der=made.public_bytes(Encoding.DER))


class World:
    """A keeper with a pair on disk, and the desk that it asks. Waits are short; the clocks are the test's."""

    def __init__(self, folder: Path, address: str, desk: Desk) -> None:
        self.desk = desk
        self.path = folder / "client.pem"
        self.first = a_pair(desk.authority)
        self.wall = NOW
        self.connected = True
        self.opened = 0
        write_identity(self.path, self.first)
        (folder / "ca.crt").write_bytes(desk.authority.certificate)
        self.config = CloudConfig(
            address=address, ca=folder / "ca.crt", cert=self.path, key=self.path, enrol_address=address
        )

    def _open(self) -> grpc.Channel:
        self.opened += 1
        return grpc.insecure_channel("127.0.0.1:1")

    @contextmanager
    def keeping(self, **more: float) -> Iterator[IdentityKeeper]:
        options = KeeperOptions(look_s=0.01, alone_s=more.pop("alone_s", 1e9), **more)
        with RenewableChannel(self._open) as channel:
            keeper = IdentityKeeper(
                self.config,
                channel,
                lambda: self.connected,
                DiskBudget().lane("identity"),
                options,
                instance_id="instance-1",
                wall_ns=lambda: int(self.wall.timestamp()) * 10**9,
            )
            keeper.start()
            try:
                yield keeper
            finally:
                keeper.stop()
                assert keeper.join(30)

    def ends(self, keeper: IdentityKeeper) -> datetime:
        status = common_pb2.VehicleStatus()
        keeper.fill_status(status)
        return datetime.fromtimestamp(status.certificate_expires_wall_ns / 1e9, timezone.utc)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    authority = Authority()
    own = authority.server("localhost")
    desk = Desk(authority)
    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads)
        enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(desk, server)
        credentials = grpc.ssl_server_credentials([(own.key, own.certificate)])
        port = server.add_secure_port("localhost:0", credentials)
        server.start()
        try:
            yield World(tmp_path, f"localhost:{port}", desk)
        finally:
            server.stop(None).wait(30)


def test_when_its_time_has_come_it_is_renewed_once_and_in_use(world: World) -> None:
    with world.keeping() as keeper:
        world.desk.now = world.wall = NOW + timedelta(days=22)
        eventually(lambda: world.opened == 2, "the new channel")
        assert world.ends(keeper) == world.desk.now + LIFE
    pair = read_identity(world.path)
    assert pair.key.public_key() != world.first.key.public_key() and pair.ends == world.desk.now + LIFE
    assert world.desk.renewed == 1 and world.desk.instance == "instance-1"


def test_before_its_time_nobody_is_asked(world: World) -> None:
    looks = threading.Semaphore(0)

    def connected() -> bool:
        looks.release()
        return True

    world.wall = NOW + timedelta(days=18)
    with world.keeping() as keeper:
        keeper._is_connected = connected
        for _ in range(5):
            assert looks.acquire(timeout=30)
    assert world.desk.begun == 0


def test_a_clock_far_ahead_asks_and_does_not_renew(world: World) -> None:
    world.wall = NOW + timedelta(days=4000)
    with world.keeping(refused_s=0.01):
        eventually(lambda: world.desk.begun >= 3, "asked")
    assert world.desk.renewed == 0 and read_identity(world.path).certificate == world.first.certificate


def test_a_clock_in_1970_finds_out_when_the_cloud_lets_it_in_no_more(world: World) -> None:
    world.wall = datetime(1970, 1, 1, tzinfo=timezone.utc)
    world.connected = False
    world.desk.now = NOW + timedelta(days=100)
    with world.keeping(alone_s=0.05):
        eventually(lambda: world.opened == 2, "the new channel")
    assert world.desk.renewed == 1


def test_a_vehicle_that_was_enrolled_anew_by_hand_takes_that_over(world: World) -> None:
    world.connected = False
    with world.keeping(alone_s=0.05) as keeper:
        write_identity(world.path, a_pair(world.desk.authority, NOW + timedelta(days=1)))
        eventually(lambda: world.opened == 2, "the new channel")
        assert world.ends(keeper) == NOW + timedelta(days=31)
    assert world.desk.renewed == 0


@pytest.mark.parametrize("trouble", ["refused", "another key", "disk"])
def test_what_goes_wrong_leaves_the_old_pair(
    world: World, trouble: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.desk.now = world.wall = NOW + timedelta(days=22)
    expected = {"refused": "v was revoked", "another key": "for another key", "disk": "No space left"}[
        trouble
    ]
    if trouble == "refused":
        world.desk.refuses = "v was revoked"
    elif trouble == "another key":
        world.desk.key_of = lambda csr: new_key().public_key()
    else:

        def full(path: Path, pair: Identity) -> int:
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(identity_keeper, "write_identity", full)
    with world.keeping() as keeper:
        eventually(lambda: expected in caplog.text, "why")
        assert world.ends(keeper) == NOW + LIFE
    assert read_identity(world.path).certificate == world.first.certificate and world.opened == 1


def test_a_request_says_nothing_but_its_key() -> None:
    key = new_key()
    request = x509.load_der_x509_csr(request_for(key))
    assert request.is_signature_valid and not list(request.subject)
    assert request.public_key() == key.public_key()
