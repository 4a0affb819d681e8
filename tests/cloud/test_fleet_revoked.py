"""A vehicle that is revoked while it is served: every stream that it has open ends within seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from cloud.fleet.vehicles import list_vehicles, revoke
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.traffic_vision.v1 import fleet_pb2_grpc as fleet_grpc
from tests import clouds
from tests.clouds import WAIT_S, a_hello, a_sample, a_series, conversation
from tests.identities import Running, assert_served, enrolled
from tests.waiting import eventually

pytestmark = pytest.mark.services

SECONDS = 20.0  # of a machine that others use too; a look is every second
SIZE = 64_000_000  # far more than what is on its way to a vehicle that reads nothing


@pytest.fixture(scope="module")
def target(running: Running) -> fleet.FetchTargetRequest:
    """A file that the cloud serves, a large one; who signed it, the cloud does not ask."""
    request = fleet.FetchTargetRequest(path="models/large.onnx", sha256="a" * 64)
    file = running.config.folders.repository / "targets" / "models" / f"{request.sha256}.large.onnx"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(SIZE))
    return request


def ended_by(call: Any) -> grpc.StatusCode:
    """Read on to the end; how it ended."""
    try:
        for _ in call:
            pass
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def call_is_ended(running: Running, vehicle: str) -> bool:
    lines = (running.config.folders.pki.parent / "server.log").read_text().splitlines()
    return any(vehicle in line and "its call ends: revoked" in line for line in lines)


def is_connected(running: Running, vehicle: str) -> bool:
    with clouds.database(running.config) as store:
        (line,) = (line for line in list_vehicles(store) if line.name == vehicle)
    return line.connected_since is not None


def first_and_no_more(message: Any) -> Iterator[Any]:
    """A stream that stays open, and on which nothing more is said."""
    yield message
    threading.Event().wait(WAIT_S)


def uploading(stub: fleet_grpc.FleetServiceStub) -> Any:
    request = fleet.UploadSamplesRequest(sample=a_sample("before"))
    return stub.UploadSamples(first_and_no_more(request), timeout=WAIT_S)


def uploading_features(stub: fleet_grpc.FleetServiceStub) -> Any:
    request = fleet.UploadFeaturesRequest(series=a_series("before"))
    return stub.UploadFeatures(first_and_no_more(request), timeout=WAIT_S)


@pytest.mark.parametrize("call", [uploading, uploading_features])
def test_an_upload_that_says_nothing_ends(
    running: Running, call: Callable[[fleet_grpc.FleetServiceStub], Any]
) -> None:
    vehicle = f"revoked-{call.__name__}".replace("_", "-")
    pair, other = enrolled(running.config, vehicle), enrolled(running.config, "honest")
    with running.as_(pair) as stub, running.as_(other) as others:
        answers, theirs = call(stub), call(others)
        next(answers), next(theirs)
        revoke(running.config, vehicle, "stolen")
        eventually(lambda: not answers.is_active(), "the end", SECONDS)
        assert ended_by(answers) is grpc.StatusCode.PERMISSION_DENIED
        assert theirs.is_active(), "nobody else's"
        assert_served(others)
        theirs.cancel()


def test_a_download_ends_where_it_is(running: Running, target: fleet.FetchTargetRequest) -> None:
    """What was on its way then, gRPC's windows full, it still gets."""
    pair = enrolled(running.config, "revoked-fetching")
    with running.as_(pair) as stub:
        chunks = stub.FetchTarget(target, timeout=WAIT_S)
        got = len(next(chunks).data)
        revoke(running.config, "revoked-fetching", "stolen")
        eventually(lambda: call_is_ended(running, "revoked-fetching"), "the end", SECONDS)
        with pytest.raises(grpc.RpcError) as refused:
            for chunk in chunks:
                got += len(chunk.data)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert got < SIZE / 2


def test_a_control_stream_ends(running: Running) -> None:
    pair = enrolled(running.config, "revoked-connected")
    with running.as_(pair) as stub, conversation(stub) as stream:
        stream.say(a_hello())
        assert stream.hear().HasField("welcome")
        revoke(running.config, "revoked-connected", "stolen")
        (last,) = stream.rest()
        assert last.problem.code == fleet.PROBLEM_CODE_REVOKED


def test_streams_of_a_certificate_that_another_took_the_place_of_end(running: Running) -> None:
    """The copy of a vehicle that was enrolled anew, and that has not come itself yet."""
    pair = enrolled(running.config, "enrolled-anew")
    with running.as_(pair) as stub, conversation(stub) as stream:
        stream.say(a_hello())
        assert stream.hear().HasField("welcome")
        answers = uploading(stub)
        next(answers)
        enrolled(running.config, "enrolled-anew")
        (last,) = stream.rest()
        assert last.problem.code == fleet.PROBLEM_CODE_REVOKED
        eventually(lambda: not is_connected(running, "enrolled-anew"), "it is listed as away")
        assert ended_by(answers) is grpc.StatusCode.PERMISSION_DENIED
