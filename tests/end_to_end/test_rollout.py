"""A rollout from the command line to the frame loop: a real cloud, a real daemon, mutual TLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud.fleet import rollout_actions as actions
from cloud.fleet.rollout_report import rollout_lines
from cloud.store import Store
from cloud.store.columns import utc_now
from edge.updates.hardware import hardware_ids
from protos.traffic_vision.v1 import common_pb2
from tests.clouds import database, make_cloud, serving
from tests.daemons import DaemonProcess, write_config
from tests.models_factory import rectangles_model
from tests.rollout_fleet import delegate, publish
from tests.waiting import eventually

pytestmark = pytest.mark.services

VEHICLE = "test-1"
HARDWARE = hardware_ids(("cpu",))
STAGES = """
[[rollout.stages]]
name = "canaries"
labels = {ring = "canary"}
wait_s = 0
min_reports = 0
[[rollout.stages]]
name = "all"
approval = true
"""
CLOUD = {"ca": "ca.crt", "cert": "client.crt", "key": "client.key", "retry_limit_s": 0.5}
UPDATES = {"root": "root.json", "probation_s": 0.1, "probation_frames": 5}
DRIVE = {"name": "front", "url": "sim:7?seconds=3600&rate=10&size=96x64"}


def stages(store: Store) -> list[str]:
    """The stage that each rollout is at, where one has begun."""
    with store.reading() as session:
        return [line.stage for line in rollout_lines(session, utc_now()) if line.stage.startswith("1/")]


def test_a_vehicle_has_its_turn_when_the_stage_that_it_is_in_begins(tmp_path: Path) -> None:
    config = make_cloud(tmp_path, VEHICLE, extra=STAGES)
    with serving(tmp_path) as server:
        folder = tmp_path / "vehicles" / VEHICLE
        edge = write_config(folder, DRIVE, cloud={"address": server.address, **CLOUD}, updates=UPDATES)
        with DaemonProcess(edge) as daemon, database(config) as store:

            def model() -> common_pb2.ModelState:
                return daemon.client.status().status.model

            eventually(lambda: daemon.client.status().status.connected_to_cloud, "the cloud's welcome")
            eventually(lambda: model().HasField("assigned_release_counter"), "the first assignment")
            publish(config, rectangles_model(version="2"), "2", HARDWARE)
            eventually(lambda: bool(stages(store)), "the rollout")
            assert model().assigned_release_counter == 0, "it is no canary"
            assert model().active.version == "1"
            assert actions.approve(store, None, "ann", utc_now(), force=True) == (1, "all")
            eventually(lambda: model().active.version == "2", "the release")
            eventually(lambda: model().phase == common_pb2.UPDATE_PHASE_CONFIRMED, "its confirmation")
            assert model().assigned_release_counter == 1
            assert daemon.terminate() == 0


def test_a_vehicle_of_a_fleet_takes_its_releases_and_its_way_back_whatever_others_get(tmp_path: Path) -> None:
    config = make_cloud(tmp_path, VEHICLE)  # by a ticket without a fleet: what the vehicle says corrects it
    delegate(config, "trucks")
    with serving(tmp_path) as server:
        folder = tmp_path / "vehicles" / VEHICLE
        updates = {**UPDATES, "fleet": "trucks"}
        edge = write_config(folder, DRIVE, cloud={"address": server.address, **CLOUD}, updates=updates)
        with DaemonProcess(edge) as daemon, database(config) as store:

            def confirmed(version: str, counter: int) -> bool:
                state = daemon.client.status().status.model
                found = (state.active.version, state.release_counter, state.phase)
                return found == (version, counter, common_pb2.UPDATE_PHASE_CONFIRMED)

            for counter, whose in ((1, "trucks"), (2, None), (3, "trucks"), (4, None)):
                version = f"{counter}.0"
                data = rectangles_model(version=version)
                assert publish(config, data, version, HARDWARE, fleet=whose) == counter
                if whose is not None:
                    eventually(lambda ours=(version, counter): confirmed(*ours), f"release {counter}")
            actions.take_back(store, 3, "it is wrong", "ann", utc_now())
            eventually(lambda: confirmed("1.0", 5), "the model before it, signed for the fleet")
            assert daemon.client.status().status.model.assigned_release_counter == 5
            assert daemon.terminate() == 0
