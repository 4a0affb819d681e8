"""The control stream of a real server over mutual TLS: handshake, receipts, nudges, identities used twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import select

from cloud.config import CloudConfig
from cloud.fleet.vehicles import revoke
from cloud.store.audit_entry import AuditEntry
from cloud.store.models import Candidate, DriftEvent, ModelReport, Release, Vehicle
from protos import handshake
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.traffic_vision.v1 import fleet_pb2_grpc as fleet_grpc
from tests import clouds
from tests.clouds import a_hello, connected, conversation, serving

pytestmark = pytest.mark.services


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cloud"


@pytest.fixture
def config(folder: Path) -> CloudConfig:
    config = clouds.make_cloud(folder, "one", "two")
    path = folder / "cloud.toml"
    path.write_text(path.read_text().replace("[serve]\n", "[serve]\nrelease_poll_s = 0.05\n"))
    return config


@pytest.fixture
def stub(folder: Path, config: CloudConfig) -> Iterator[fleet_grpc.FleetServiceStub]:
    with serving(folder) as server, connected(folder, server.address, "one") as stub:
        yield stub
        assert server.stop() == 0


def a_drift_event(identity: str = "event-1") -> fleet.ControlRequest:
    feature = common.FeatureDrift(
        name="brightness",
        origin=common.FEATURE_ORIGIN_PICTURE,
        window_s=60,
        ks_d=0.75,
        p_value=1e-9,
        expected_false_alarms_per_day=float("inf"),
        verdict=common.DRIFT_VERDICT_ALARM,
    )
    state = common.DriftState(
        camera="front",
        observed=common.Instant(monotonic_ns=5_000_000_000, source=common.CLOCK_SOURCE_RECORDING),
        verdict=common.DRIFT_VERDICT_ALARM,
        context="day",
        features=[feature],
        explanation="brightness 3 sigma below\nthe day\0",
    )
    event = fleet.DriftEvent(id=identity, state=state, previous=common.DRIFT_VERDICT_STABLE)
    return fleet.ControlRequest(drift_event=event)


def problem(stub: fleet_grpc.FleetServiceStub, *says: fleet.ControlRequest) -> fleet.Problem:
    """The problem that ends a stream on which this is said."""
    with conversation(stub) as stream:
        for request in says:
            stream.say(request)
        return stream.rest()[-1].problem


def test_the_welcome_says_what_holds_here(stub: fleet_grpc.FleetServiceStub, config: CloudConfig) -> None:
    with conversation(stub) as stream:
        stream.say(a_hello(status=common.VehicleStatus(daemon_version="1.2", resident_bytes=7)))
        welcome = stream.hear().welcome
        with clouds.database(config) as store, store.reading() as session:
            vehicle = session.get_one(Vehicle, "one")
            status = common.VehicleStatus.FromString(vehicle.status or b"")
    assert not welcome.assigns_releases, "there is no release yet"
    assert welcome.protocol_version == handshake.NEWEST_PROTOCOL
    assert welcome.heartbeat_interval_ms == 10_000
    assert (welcome.sample_limit_bytes, welcome.samples_in_flight_limit) == (4_000_000, 64)
    assert vehicle.connected_since is not None
    assert (vehicle.instance_id, vehicle.daemon_version, vehicle.hardware_ids) == (
        "one",
        "1.2",
        ["x86_64-cpu"],
    )
    assert status.resident_bytes == 7


def test_a_drift_event_has_its_receipt_and_is_stored_once(
    stub: fleet_grpc.FleetServiceStub, config: CloudConfig
) -> None:
    for _ in range(2):  # the vehicle lost its connection before the receipt
        with conversation(stub) as stream:
            for request in (a_hello(), a_drift_event(), a_drift_event()):
                stream.say(request)
            assert stream.hear().HasField("welcome")
            assert [stream.hear().drift_event_receipt.drift_event_id for _ in range(2)] == ["event-1"] * 2
    with clouds.database(config) as store, store.reading() as session:
        (event,) = session.scalars(select(DriftEvent))
    assert (event.vehicle, event.camera, event.verdict, event.previous) == ("one", "front", "alarm", "stable")
    assert (event.drive_ns, event.context) == (5_000_000_000, "day")
    assert event.explanation == "brightness 3 sigma belowthe day"
    (feature,) = event.features
    assert (feature["name"], feature["ks_d"], feature["expected_false_alarms_per_day"]) == (
        "brightness",
        0.75,
        None,
    )


def test_heartbeats_and_model_states_are_kept(stub: fleet_grpc.FleetServiceStub, config: CloudConfig) -> None:
    state = common.ModelState(
        active=common.ModelRef(sha256="a" * 64, name="streets", version="2"),
        phase=common.UPDATE_PHASE_PROBATION,
        release_counter=2,
    )
    with conversation(stub) as stream:
        stream.say(a_hello())
        stream.say(fleet.ControlRequest(heartbeat=fleet.Heartbeat(status=common.VehicleStatus(uptime_ns=5))))
        stream.say(fleet.ControlRequest(model_state=state))
        stream.say(fleet.ControlRequest(command_result=fleet.CommandResult(command_id="c")))
        stream.say(fleet.ControlRequest())  # from a newer vehicle
        stream.say(a_drift_event())
        assert stream.hear().HasField("welcome")
        assert stream.hear().HasField("drift_event_receipt")  # so what came before was taken
        with clouds.database(config) as store, store.reading() as session:
            vehicle = session.get_one(Vehicle, "one")
            (report,) = session.scalars(select(ModelReport))
            status = common.VehicleStatus.FromString(vehicle.status or b"")
            kept = common.ModelState.FromString(report.state)
    assert status.uptime_ns == 5
    assert (report.phase, report.active_version, report.release_counter) == ("probation", "2", 2)
    assert kept == state


def test_a_release_is_nudged_to_who_is_connected_and_to_who_comes_later(
    stub: fleet_grpc.FleetServiceStub, config: CloudConfig
) -> None:
    with conversation(stub) as stream:
        stream.say(a_hello())
        assert stream.hear().HasField("welcome")
        with clouds.database(config) as store, store.writing() as session:
            session.add(Candidate(sha256="a" * 64, name="streets", version="2", object_key="a" * 64))
            session.flush()
            session.add(
                Release(counter=2, candidate_sha256="a" * 64, target_path="models/m", target_sha256="a" * 64)
            )
        told = {response.WhichOneof("message"): response for response in (stream.hear(), stream.hear())}
        assert told["update_nudge"].update_nudge.release_counter == 2
        assert told["assignment"].assignment.release_counter == 2
    with conversation(stub) as stream:
        stream.say(a_hello(status=common.VehicleStatus(model=common.ModelState(release_counter=1))))
        assert stream.hear().welcome.assigns_releases
        assert stream.hear().assignment.release_counter == 2
        assert stream.hear().update_nudge.release_counter == 2
    with conversation(stub) as stream:  # it has it already
        stream.say(a_hello(status=common.VehicleStatus(model=common.ModelState(release_counter=2))))
        stream.say(a_drift_event())
        assert stream.hear().HasField("welcome")
        assert stream.hear().HasField("assignment")
        assert stream.hear().HasField("drift_event_receipt")


def test_what_breaks_the_contract_ends_the_stream_with_the_reason(stub: fleet_grpc.FleetServiceStub) -> None:
    no_hello = fleet.ControlRequest(heartbeat=fleet.Heartbeat())
    assert problem(stub, no_hello).code == fleet.PROBLEM_CODE_MALFORMED
    future = a_hello()
    future.hello.protocol.CopyFrom(common.ProtocolRange(oldest=900, newest=901))
    refused = problem(stub, future)
    assert refused.code == fleet.PROBLEM_CODE_PROTOCOL
    assert refused.protocol == handshake.supported()
    assert problem(stub, a_hello(""), a_hello()).code == fleet.PROBLEM_CODE_MALFORMED
    assert problem(stub, a_hello(), a_hello()).code == fleet.PROBLEM_CODE_MALFORMED
    assert "id" in problem(stub, a_hello(), a_drift_event("../x")).detail
    large = a_hello(status=common.VehicleStatus(daemon_version="x" * 300_000))
    assert "bytes" in problem(stub, large).detail
    assert problem(stub, a_hello(), fleet.ControlRequest(drift_event=fleet.DriftEvent(id="e"))).code == (
        fleet.PROBLEM_CODE_MALFORMED
    )


def test_an_identity_that_is_used_twice_is_refused_and_reported(
    stub: fleet_grpc.FleetServiceStub, config: CloudConfig
) -> None:
    with conversation(stub) as first:
        first.say(a_hello("first"))
        assert first.hear().HasField("welcome")
        refused = problem(stub, a_hello("second"))
        assert refused.code == fleet.PROBLEM_CODE_IDENTITY_IN_USE
        assert refused.retry_after_ms > 0
        first.say(a_drift_event())  # the first one is not disturbed
        assert first.hear().HasField("drift_event_receipt")
    with clouds.database(config) as store, store.reading() as session:
        (entry,) = session.scalars(select(AuditEntry).where(AuditEntry.action == "identity in use"))
    assert entry.subject == "one"
    assert (entry.detail["connected"], entry.detail["refused"]) == ("first", "second")


def test_the_same_daemon_takes_its_own_place_again(stub: fleet_grpc.FleetServiceStub) -> None:
    with ExitStack() as streams:
        first = streams.enter_context(conversation(stub))
        first.say(a_hello("same"))
        assert first.hear().HasField("welcome")
        second = streams.enter_context(conversation(stub))
        second.say(a_hello("same"))
        assert second.hear().HasField("welcome")
        assert first.rest() == []
        second.say(a_drift_event())
        assert second.hear().HasField("drift_event_receipt")


def test_a_revoked_vehicle_is_told_and_its_open_stream_ends(
    stub: fleet_grpc.FleetServiceStub, config: CloudConfig
) -> None:
    with conversation(stub) as stream:
        stream.say(a_hello())
        assert stream.hear().HasField("welcome")
        revoke(config, "one", "stolen")
        stream.say(a_drift_event())
        (last,) = stream.rest()
    assert last.problem.code == fleet.PROBLEM_CODE_REVOKED
    assert problem(stub, a_hello()).code == fleet.PROBLEM_CODE_REVOKED
    with clouds.database(config) as store, store.reading() as session:
        assert list(session.scalars(select(DriftEvent))) == []


def test_a_vehicle_that_falls_silent_counts_as_gone(folder: Path, config: CloudConfig) -> None:
    path = folder / "cloud.toml"
    path.write_text(path.read_text().replace("[serve]\n", "[serve]\nheartbeat_interval_s = 0.1\n"))
    with (
        serving(folder) as server,
        connected(folder, server.address, "one") as stub,
        conversation(stub) as stream,
    ):
        stream.say(a_hello())
        assert stream.hear().HasField("welcome")
        assert stream.rest() == []


def test_a_vehicle_that_was_deleted_from_the_database_is_unknown(
    stub: fleet_grpc.FleetServiceStub, config: CloudConfig
) -> None:
    with clouds.database(config) as store, store.writing() as session:
        session.connection().exec_driver_sql("DELETE FROM certificates WHERE vehicle = 'one'")
    assert problem(stub, a_hello()).code == fleet.PROBLEM_CODE_UNKNOWN_VEHICLE


def test_more_vehicles_than_are_served_are_asked_to_come_back(folder: Path, config: CloudConfig) -> None:
    path = folder / "cloud.toml"
    path.write_text(path.read_text().replace("[serve]\n", "[serve]\nmax_vehicles = 1\n"))
    with (
        serving(folder) as server,
        connected(folder, server.address, "one") as one,
        connected(folder, server.address, "two") as two,
        conversation(one) as stream,
    ):
        stream.say(a_hello())
        assert stream.hear().HasField("welcome")
        refused = problem(two, a_hello())
        assert refused.code == fleet.PROBLEM_CODE_OVERLOADED
        assert refused.retry_after_ms > 0
