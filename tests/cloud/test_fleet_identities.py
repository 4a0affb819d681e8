"""Who gets nothing from a real server, whatever they ask; and that no vehicle does anything to another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select

from cloud.config import CloudConfig
from cloud.fleet.pki import Authority
from cloud.fleet.vehicles import list_vehicles, revoke
from cloud.store.columns import utc_now
from cloud.store.models import DriftEvent, FeatureSeries, ModelReport, Sample, Vehicle
from edge.fleet.identity import Identity, key_to_pem, new_key, read_key, request_for, sign_renewal
from edge.fleet.renewable_channel import RenewableChannel
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import enrolment_pb2 as enrolment
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.traffic_vision.v1 import fleet_pb2_grpc as fleet_grpc
from protos.traffic_vision.v1.enrolment_pb2_grpc import EnrolmentServiceStub
from tests import clouds
from tests.clouds import (
    WAIT_S,
    ControlStream,
    ServerProcess,
    a_hello,
    a_sample,
    a_series,
    conversation,
    serving,
)
from tests.waiting import eventually

pytestmark = pytest.mark.services

OLDEST = timedelta(days=396)  # a certificate of 30 days that ended more than a year ago


@dataclass(frozen=True)
class Running:
    config: CloudConfig
    server: ServerProcess

    @contextmanager
    def as_(self, pair: Identity, instance: str = "") -> Iterator[fleet_grpc.FleetServiceStub]:
        """A connection of its own, whose calls say that instance."""
        certificate = pair.certificate.public_bytes(Encoding.PEM)
        ca = (self.config.folders.pki / "ca.crt").read_bytes()
        credentials = grpc.ssl_channel_credentials(ca, key_to_pem(pair.key), certificate)
        options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]

        def opened() -> grpc.Channel:
            return grpc.secure_channel(self.server.address, credentials, options)

        with RenewableChannel(opened, instance) as channel:
            yield fleet_grpc.FleetServiceStub(channel)

    def renews(self, pair: Identity, instance: str = "") -> bool:
        return self.renewed(pair, instance) is not None

    def renewed(self, pair: Identity, instance: str = "") -> Identity | None:
        ca = (self.config.folders.pki / "ca.crt").read_bytes()
        with grpc.secure_channel(self.server.enrol_address, grpc.ssl_channel_credentials(ca)) as channel:
            stub = EnrolmentServiceStub(channel)
            nonce = stub.BeginRenewal(enrolment.BeginRenewalRequest(), timeout=WAIT_S).nonce
            key = new_key()
            csr = request_for(key)
            request = enrolment.RenewRequest(
                certificate_der=pair.certificate.public_bytes(Encoding.DER),
                nonce=nonce,
                csr_der=csr,
                signature=sign_renewal(pair, nonce, csr),
                instance_id=instance,
            )
            try:
                given = stub.Renew(request, timeout=WAIT_S).certificate_der
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.PERMISSION_DENIED
                return None
        return Identity(key, x509.load_der_x509_certificate(given))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("identities") / "cloud"
    config = clouds.make_cloud(folder, "one", "two")
    with serving(folder) as server:
        yield Running(config, server)


def pair_in(folder: Path, name: str = "client") -> Identity:
    certificate = x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
    return Identity(read_key(folder / f"{name}.key"), certificate)


def enrolled(config: CloudConfig, vehicle: str, age: timedelta = timedelta(0)) -> Identity:
    return pair_in(clouds.enrol_vehicle(config, vehicle, lambda: utc_now() - age)[0])


def stranger(config: CloudConfig, folder: Path) -> Identity:
    """The same names from a cloud of one's own."""
    return enrolled(clouds.make_cloud(folder), "one")


def revoked(config: CloudConfig, folder: Path) -> Identity:
    pair = enrolled(config, "revoked-1")
    revoke(config, "revoked-1", "stolen")
    return pair


def replaced(config: CloudConfig, folder: Path) -> Identity:
    pair = enrolled(config, "replaced-1")
    enrolled(config, "replaced-1")
    return pair


def ended(config: CloudConfig, folder: Path) -> Identity:
    return enrolled(config, "ended-1", OLDEST)


def servers_own(config: CloudConfig, folder: Path) -> Identity:
    return pair_in(config.folders.pki, "server")


def never_registered(config: CloudConfig, folder: Path) -> Identity:
    """Signed with the stolen key of the authority, for a vehicle that there is, past its registration."""
    key = new_key()
    authority = Authority.open(config.folders.pki)
    return Identity(key, authority.vehicle_certificate(key.public_key(), "one", utc_now(), timedelta(days=1)))


def without_its_key(config: CloudConfig, folder: Path) -> Identity:
    """Certificates are no secret: another key beside somebody's certificate."""
    return Identity(new_key(), enrolled(config, "seen-1").certificate)


CALLS: dict[str, Callable[[fleet_grpc.FleetServiceStub], object]] = {
    "Control": lambda stub: welcome(stub),
    "UploadSamples": lambda stub: clouds.upload(stub, [a_sample("s")]),
    "UploadFeatures": lambda stub: list(
        stub.UploadFeatures(iter([fleet.UploadFeaturesRequest(series=a_series("f"))]), timeout=WAIT_S)
    ),
    "FetchMetadata": lambda stub: list(
        stub.FetchMetadata(fleet.FetchMetadataRequest(role="timestamp"), timeout=WAIT_S)
    ),
    "FetchTarget": lambda stub: list(
        stub.FetchTarget(fleet.FetchTargetRequest(path="models/m", sha256="a" * 64), timeout=WAIT_S)
    ),
}


def welcome(stub: fleet_grpc.FleetServiceStub) -> fleet.Welcome:
    with conversation(stub) as stream:
        stream.say(a_hello())
        said = stream.hear()
    if said.HasField("problem"):
        assert said.problem.code in (
            fleet.PROBLEM_CODE_REVOKED,
            fleet.PROBLEM_CODE_UNKNOWN_VEHICLE,
            fleet.PROBLEM_CODE_IDENTITY_IN_USE,
        )
        raise PermissionError(said.problem.detail)
    return said.welcome


def test_the_calls_are_all_that_there_are() -> None:
    assert set(CALLS) == set(fleet.DESCRIPTOR.services_by_name["FleetService"].methods_by_name)


def test_a_vehicle_that_is_enrolled_gets_each(running: Running) -> None:
    with running.as_(enrolled(running.config, "good-1")) as stub:
        assert CALLS["Control"](stub)
        assert_served(stub)


@pytest.mark.parametrize(
    "who", [stranger, revoked, replaced, ended, servers_own, never_registered, without_its_key]
)
def test_nothing_is_given_to(
    running: Running, tmp_path: Path, who: Callable[[CloudConfig, Path], Identity]
) -> None:
    pair = who(running.config, tmp_path / "cloud")
    for name in CALLS:
        try:
            with running.as_(pair) as stub:
                assert_refused(stub, name)
        except ValueError:  # gRPC takes no key that is not the certificate's
            assert who is without_its_key
    assert not running.renews(pair)


def assert_refused(stub: fleet_grpc.FleetServiceStub, name: str) -> None:
    try:
        got = CALLS[name](stub)
    except PermissionError:
        return
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED), name
        return
    raise AssertionError(f"{name}: {got}")


def assert_served(stub: fleet_grpc.FleetServiceStub) -> None:
    """Each call but Control, which displaces."""
    for name in set(CALLS) - {"Control", "FetchTarget"}:
        assert CALLS[name](stub), name
    with pytest.raises(grpc.RpcError) as refused:
        CALLS["FetchTarget"](stub)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND, "let in, and there is none"


def test_a_certificate_that_ends_while_it_is_connected_is_worth_nothing_from_then_on(tmp_path: Path) -> None:
    folder = tmp_path / "cloud"
    config = clouds.make_cloud(folder, serve=f"certificate_days = {5 / 86_400:.9f}\n")
    with serving(folder) as server:
        running = Running(config, server)
        pair = enrolled(config, "short-1")
        with running.as_(pair) as stub:
            assert CALLS["FetchMetadata"](stub)

            def refused() -> bool:
                try:
                    CALLS["FetchMetadata"](stub)
                except grpc.RpcError as error:
                    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
                    assert "has ended" in error.details()
                    return True
                return False

            eventually(refused, "the end")
            with pytest.raises(PermissionError, match="has ended"):
                CALLS["Control"](stub)
        assert running.renews(pair), "and it can be renewed"


def test_one_vehicle_neither_sees_nor_changes_what_another_sends(running: Running) -> None:
    config = running.config
    mine, other = enrolled(config, "mine"), enrolled(config, "other")
    with running.as_(mine) as stub, running.as_(other) as others:
        for each in (stub, others):  # the same ids, the same content: new for each, no hint of the other's
            (sample,) = clouds.upload(each, [a_sample("same")])
            assert sample.outcome == fleet.UPLOAD_OUTCOME_STORED
            request = fleet.UploadFeaturesRequest(series=a_series("same"))
            (series,) = each.UploadFeatures(iter([request]), timeout=WAIT_S)
            assert series.outcome == fleet.UPLOAD_OUTCOME_STORED
        (changed,) = clouds.upload(others, [a_sample("same", clouds.a_jpeg(7))])
        assert changed.reason == fleet.REFUSAL_REASON_ID_CONFLICT, "of its own"
    with clouds.database(config) as store, store.reading() as session:
        for table in (Sample, FeatureSeries):
            rows = session.execute(
                select(table.vehicle, table.external_id).where(table.external_id == "same")
            )
            assert sorted(map(tuple, rows)) == [("mine", "same"), ("other", "same")]


def test_receipts_and_states_go_to_who_spoke(running: Running) -> None:
    config = running.config
    mine, other = enrolled(config, "speaks"), enrolled(config, "listens")
    state = common.DriftState(camera="front", verdict=common.DRIFT_VERDICT_ALARM)
    event = fleet.ControlRequest(drift_event=fleet.DriftEvent(id="same", state=state))
    model = common.ModelState(active=common.ModelRef(sha256="b" * 64, version="9"))
    with ExitStack() as stack:
        stub, others = (stack.enter_context(running.as_(pair)) for pair in (mine, other))
        stream, theirs = (stack.enter_context(conversation(one)) for one in (stub, others))
        for one in (stream, theirs):
            one.say(a_hello("same instance"))
            assert one.hear().HasField("welcome"), "the same instance of another vehicle displaces nobody"
        stream.say(fleet.ControlRequest(model_state=model))
        heartbeat = fleet.Heartbeat(status=common.VehicleStatus(uptime_ns=77))
        stream.say(fleet.ControlRequest(heartbeat=heartbeat))
        stream.say(event)
        assert stream.hear().drift_event_receipt.drift_event_id == "same"
        with clouds.database(config) as store, store.reading() as session:
            events = select(DriftEvent.vehicle).where(DriftEvent.external_id == "same")
            assert list(session.scalars(events)) == ["speaks"]
            reports = select(ModelReport.vehicle).where(ModelReport.active_version == "9")
            assert list(session.scalars(reports)) == ["speaks"]
            kept = {name: session.get_one(Vehicle, name).status or b"" for name in ("speaks", "listens")}
        uptimes = {name: common.VehicleStatus.FromString(data).uptime_ns for name, data in kept.items()}
        assert uptimes == {"speaks": 77, "listens": 0}
        theirs.say(event)
        assert theirs.hear().drift_event_receipt.drift_event_id == "same", "its own, and the first it hears"
    with clouds.database(config) as store, store.reading() as session:
        assert set(session.scalars(events)) == {"speaks", "listens"}


@contextmanager
def connected(stub: fleet_grpc.FleetServiceStub, instance: str) -> Iterator[ControlStream]:
    with conversation(stub) as stream:
        stream.say(a_hello(instance))
        assert stream.hear().HasField("welcome")
        yield stream


def speaks(stream: ControlStream) -> None:
    """Until the server has heard it."""
    state = common.DriftState(camera="front", verdict=common.DRIFT_VERDICT_ALARM)
    stream.say(fleet.ControlRequest(drift_event=fleet.DriftEvent(id="alive", state=state)))
    assert stream.hear().HasField("drift_event_receipt")


def used_twice(running: Running, vehicle: str) -> bool:
    with clouds.database(running.config) as store:
        (line,) = (line for line in list_vehicles(store) if line.name == vehicle)
    return line.used_twice is not None


def kept_of(running: Running, vehicle: str) -> list[str]:
    with clouds.database(running.config) as store, store.reading() as session:
        return [
            identity
            for table in (Sample, FeatureSeries)
            for identity in session.scalars(select(table.external_id).where(table.vehicle == vehicle))
        ]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("says", ["", "the clone"])
def test_a_copied_identity_gets_nothing_beside_the_vehicle_and_is_reported(
    running: Running, name: str, says: str
) -> None:
    vehicle = f"cloned-{name}-{len(says)}".lower()
    pair, _ = enrolled(running.config, vehicle), enrolled(running.config, "honest")
    with (
        running.as_(pair, "the vehicle") as stub,
        running.as_(pair, says) as clone,
        connected(stub, "the vehicle") as stream,
    ):
        assert_refused(clone, name)
        assert kept_of(running, vehicle) == []
        assert not used_twice(running, vehicle), "it could be the vehicle itself, after a crash"
        speaks(stream)
        assert used_twice(running, vehicle) and not used_twice(running, "honest")
        assert_served(stub)


def test_a_copied_identity_is_not_renewed_until_the_vehicle_is_enrolled_anew(running: Running) -> None:
    pair = enrolled(running.config, "renewed-twice")
    with running.as_(pair, "the vehicle") as stub, connected(stub, "the vehicle") as stream:
        assert running.renewed(pair, "the clone") is None and running.renewed(pair) is None
        speaks(stream)
        assert used_twice(running, "renewed-twice")
        assert running.renewed(pair, "the vehicle") is None, "who of the two it is, nobody can tell"
        assert_served(stub)
    assert running.renewed(pair) is None, "also after it has gone"
    fresh = enrolled(running.config, "renewed-twice")
    assert running.renews(fresh) and not running.renews(pair)
    assert not used_twice(running, "renewed-twice")


def test_a_vehicle_goes_on_through_a_renewal_and_over_a_new_connection(running: Running) -> None:
    old = enrolled(running.config, "goes-on")
    with running.as_(old, "the vehicle") as stub, connected(stub, "the vehicle") as stream:
        renewed = running.renewed(old, "the vehicle")
        assert renewed is not None
        for pair in (old, renewed):  # what a tunnel left, or the renewal: the first stream is not gone yet
            with running.as_(pair, "the vehicle") as anew:
                assert_served(anew)
                speaks(stream)
        assert not used_twice(running, "goes-on")
        with running.as_(renewed, "the vehicle") as anew, connected(anew, "the vehicle") as again:
            assert stream.rest() == []
            assert_served(anew)
            assert_refused_as_a_clone(running, old)
            speaks(again)
    assert used_twice(running, "goes-on"), "by the clone"


def test_the_connection_of_the_control_stream_is_proof_enough(running: Running) -> None:
    pair = enrolled(running.config, "unsaid")
    with running.as_(pair) as stub, connected(stub, "the vehicle") as stream:
        assert_served(stub)
        speaks(stream)
    assert not used_twice(running, "unsaid")


def assert_refused_as_a_clone(running: Running, pair: Identity) -> None:
    with running.as_(pair) as clone:
        for name in CALLS:
            assert_refused(clone, name)


def test_a_stream_of_a_copy_ends_when_the_vehicle_comes(running: Running) -> None:
    pair = enrolled(running.config, "came-later")
    goes_on = threading.Event()

    def samples() -> Iterator[fleet.UploadSamplesRequest]:
        yield fleet.UploadSamplesRequest(sample=a_sample("before"))
        assert goes_on.wait(WAIT_S)
        yield fleet.UploadSamplesRequest(sample=a_sample("after"))

    with running.as_(pair) as clone, running.as_(pair, "the vehicle") as stub:
        answers = clone.UploadSamples(samples(), timeout=WAIT_S)
        assert next(answers).sample_id == "before"
        with connected(stub, "the vehicle") as stream:
            goes_on.set()
            with pytest.raises(grpc.RpcError) as refused:
                next(answers)
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
            speaks(stream)
    assert kept_of(running, "came-later") == ["before"]
    assert used_twice(running, "came-later")


def test_a_copy_that_was_there_first_is_reported_and_ends_when_the_vehicle_is_enrolled_anew(
    running: Running,
) -> None:
    pair = enrolled(running.config, "too-late")
    with running.as_(pair) as clone, connected(clone, "the clone") as stolen:
        with running.as_(pair, "the vehicle") as stub:
            for name in CALLS:
                assert_refused(stub, name)
        speaks(stolen)
        assert used_twice(running, "too-late")
        fresh = enrolled(running.config, "too-late")
        with running.as_(fresh, "the vehicle") as stub:
            assert_served(stub)  # before its control stream
            (last,) = stolen.rest()
            assert last.problem.code == fleet.PROBLEM_CODE_REVOKED
            with connected(stub, "the vehicle") as stream:
                assert_refused_as_a_clone(running, pair)
                speaks(stream)
    assert not used_twice(running, "too-late"), "a certificate that was revoked is no second one"
    assert running.renews(fresh)
