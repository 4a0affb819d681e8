"""A real server, and whoever comes to it with some identity: each call there is, served or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cloud.config import CloudConfig
from cloud.store.columns import utc_now
from edge.fleet.identity import Identity, key_to_pem, new_key, read_key, renewal_request
from edge.fleet.renewable_channel import RenewableChannel
from protos.traffic_vision.v1 import enrolment_pb2 as enrolment
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.traffic_vision.v1 import fleet_pb2_grpc as fleet_grpc
from protos.traffic_vision.v1.enrolment_pb2_grpc import EnrolmentServiceStub
from tests import clouds
from tests.clouds import WAIT_S, ServerProcess, a_hello, a_sample, a_series, conversation


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
            request = renewal_request(pair, key, nonce, instance)
            try:
                given = stub.Renew(request, timeout=WAIT_S).certificate_der
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.PERMISSION_DENIED
                return None
        return Identity(key, x509.load_der_x509_certificate(given))


def pair_in(folder: Path, name: str = "client") -> Identity:
    certificate = x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
    return Identity(read_key(folder / f"{name}.key"), certificate)


def enrolled(config: CloudConfig, vehicle: str, age: timedelta = timedelta(0)) -> Identity:
    return pair_in(clouds.enrol_vehicle(config, vehicle, lambda: utc_now() - age)[0])


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
