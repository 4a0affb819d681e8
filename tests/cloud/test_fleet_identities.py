"""Who gets nothing from a real server, whatever they ask; and that no vehicle does anything to another."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from sqlalchemy import select

from cloud.config import CloudConfig
from cloud.fleet.pki import Authority
from cloud.fleet.vehicles import revoke
from cloud.store.columns import utc_now
from cloud.store.models import DriftEvent, FeatureSeries, ModelReport, Sample, Vehicle
from edge.fleet.identity import Identity, new_key
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests import clouds
from tests.clouds import WAIT_S, a_hello, a_sample, a_series, conversation, serving
from tests.identities import CALLS, Running, assert_refused, assert_served, enrolled, pair_in
from tests.waiting import eventually

pytestmark = pytest.mark.services

OLDEST = timedelta(days=396)  # a certificate of 30 days that ended more than a year ago


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
