"""A drive from day into night, from the vehicle's frames to the cloud's store: real processes, real TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import select

from cloud.config import CloudConfig
from cloud.store.models import DriftEvent, FeatureSeries, Sample
from edge.fleet.spool import Spool
from protos.traffic_vision.v1 import common_pb2, fleet_pb2
from tests.clouds import database, make_cloud, serving
from tests.daemons import DaemonProcess, write_config
from tests.models_factory import loaded, rectangles_model
from tests.waiting import eventually

VEHICLE = "test-1"
SIZE = "128x72"
DUSK_S = 30
DRIVE = {
    "name": "front",
    "url": f"sim:7?light=noon-night&dusk={DUSK_S}&fade=5&seconds=150&rate=10&size={SIZE}",
    "pace": "lockstep",
}
SAMPLER = {"drift_spacing_s": 2, "baseline_spacing_s": 10, "near_duplicate_bits": 0, "series_s": 20}


def vehicle(folder: Path, address: str, reference: Path, **more: Any) -> Path:
    """The vehicle's configuration beside its certificates, as an enrolment laid them out."""
    certificates = {"ca": "ca.crt", "cert": "client.crt", "key": "client.key"}
    sections: dict[str, Any] = {
        "drift": {"reference": str(reference)},
        "sampler": SAMPLER,
        "cloud": {"address": address, "retry_limit_s": 0.5, **certificates},
        **more,
    }
    return write_config(folder / "vehicles" / VEHICLE, DRIVE, **sections)


def stored(config: CloudConfig, table: Any) -> list[Any]:
    with database(config) as store, store.reading() as session:
        return list(session.scalars(select(table)))


def test_what_matters_of_the_night_is_in_the_cloud(tmp_path: Path, reference: Path) -> None:
    cloud = make_cloud(tmp_path, VEHICLE)
    with serving(tmp_path) as server, DaemonProcess(vehicle(tmp_path, server.address, reference)) as daemon:
        assert daemon.until_ended()["front"] == {"captured": 1500, "published": 1500}
        (alarm,) = [line for line in daemon.log if line.get("verdict") == "alarm"]
        assert alarm["time_s"] > DUSK_S and alarm["features"]

        def is_empty() -> bool:
            status = daemon.client.status().status
            return status.spool.samples == 0 and status.connected_to_cloud

        eventually(is_empty, "all samples acknowledged")
        assert daemon.terminate() == 0
        eventually(lambda: len(stored(cloud, DriftEvent)) == 1, "the drift event")
    samples = stored(cloud, Sample)
    (event,) = stored(cloud, DriftEvent)
    by_drift = [sample for sample in samples if "drift" in sample.reasons]
    assert len(by_drift) >= 20
    assert {sample.drift_event for sample in by_drift} == {event.external_id}
    assert all(sample.drive_ns > DUSK_S * 1e9 for sample in by_drift)
    assert all(sample.source_id == DRIVE["url"] and sample.picture for sample in samples)
    assert [s for s in samples if s.reasons == ["baseline"] and s.drive_ns < DUSK_S * 1e9]
    assert len({sample.drive_id for sample in samples}) == 1
    spool = tmp_path / "vehicles" / VEHICLE / "state" / "spool"
    assert not list((spool / "samples").glob("*.item")) and not list((spool / "events").glob("*.item"))
    series = stored(cloud, FeatureSeries)
    kept = [fleet_pb2.FeatureSeries.FromString(payload) for _, payload in Spool(spool / "series").pending()]
    # Two a second; the last series is made at the stop, and waits for the next start.
    assert sum(one.rows for one in series) + sum(len(one.drive_ns) for one in kept) == 300
    assert len(kept) <= 1
    assert {one.model_sha256 for one in series} == {loaded(rectangles_model(version="1")).digest}


def test_without_its_cloud_the_vehicle_drives_and_keeps(tmp_path: Path, reference: Path) -> None:
    make_cloud(tmp_path, VEHICLE)
    config = vehicle(tmp_path, "127.0.0.1:1", reference)
    with DaemonProcess(config) as daemon:
        assert daemon.until_ended()["front"] == {"captured": 1500, "published": 1500}
        status = daemon.client.status().status
        assert status.spool.samples >= 20 and not status.connected_to_cloud
        assert status.drift[0].verdict == common_pb2.DRIFT_VERDICT_ALARM
        assert daemon.terminate() == 0
        assert any("nothing answers at the cloud's address" in line["message"] for line in daemon.log)
