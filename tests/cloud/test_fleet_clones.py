"""Copies of a vehicle's identity: they get nothing beside the vehicle, and are reported."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from sqlalchemy import select

from cloud.fleet.vehicles import list_vehicles
from cloud.store.models import FeatureSeries, Sample
from edge.fleet.identity import Identity
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.traffic_vision.v1 import fleet_pb2_grpc as fleet_grpc
from tests import clouds
from tests.clouds import WAIT_S, ControlStream, a_hello, a_sample, conversation
from tests.identities import CALLS, Running, assert_refused, assert_served, enrolled

pytestmark = pytest.mark.services


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
