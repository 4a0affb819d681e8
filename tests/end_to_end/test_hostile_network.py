"""Somebody on the way between a vehicle and its cloud, both of them real processes: deaf, or all ears."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

import grpc
import pytest

from cloud.config import CloudConfig
from cloud.release.keys import load_keys
from cloud.release.role_files import TIMESTAMP_VALIDITY, current_role, moment, publish_online, read_timestamp
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.traffic_vision.v1.fleet_pb2_grpc import FleetServiceStub
from tests.clouds import WAIT_S, make_cloud, serving
from tests.daemons import DaemonProcess, write_config
from tests.fresh_vehicles import OWN_HARDWARE, cloud_of_tickets, enrolled, ticket_for, until
from tests.models_factory import loaded, rectangles_model
from tests.relays import black_hole, recorder
from tests.rollout_fleet import publish
from tests.update_world import open_world
from tests.waiting import eventually

pytestmark = pytest.mark.services

VEHICLE = "test-1"
CLOUD = {"ca": "ca.crt", "cert": "client.crt", "key": "client.key", "retry_limit_s": 0.5}
UPDATES = {"root": "root.json", "probation_s": 0.1, "probation_frames": 5, "check_interval_s": 1.0}
DRIVE = {"name": "front", "url": "sim:7?seconds=3600&rate=10&size=96x64"}
NAME = "van-that-nobody-shall-know"
SLICE_BYTES = 32
LEFT = timedelta(seconds=20)  # of the metadata when the answers stay away


def model(version: str) -> bytes:
    return rectangles_model(version=version)


def digest(version: str) -> str:
    return loaded(model(version)).digest


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def sign_what_ends_soon(config: CloudConfig) -> datetime:
    """A timestamp that has little time left; gives its end."""
    folder, keys = config.folders.repository, load_keys(config.folders.keys)
    signed = moment(None) - TIMESTAMP_VALIDITY + LEFT
    version = read_timestamp(folder).version + 1
    publish_online(folder, current_role(folder, "snapshot"), version, None, keys.signer("timestamp"), signed)
    return read_timestamp(folder).expires


def test_dropped_requests(tmp_path: Path) -> None:
    """Connections are taken, and what is said on them is answered by nothing, until what is held here ends.

    Driving goes on, the stale metadata is alarmed, and the first contact after it recovers by itself.
    """
    config = make_cloud(tmp_path, VEHICLE)
    with serving(tmp_path) as server, black_hole(port_of(server.address)) as hole:
        own = tmp_path / "vehicles" / VEHICLE
        (own / "factory.onnx").write_bytes(model("factory"))
        cloud = {"address": hole.relay.address, **CLOUD}
        edge = write_config(own, DRIVE, cloud=cloud, updates=UPDATES)
        publish(config, model("1"), "1", OWN_HARDWARE)
        with DaemonProcess(edge) as daemon:

            def status() -> common.VehicleStatus:
                return daemon.client.status().status

            def runs(version: str) -> bool:
                found = status().model
                is_there = found.active.sha256 == digest(version)
                return is_there and found.phase == common.UPDATE_PHASE_CONFIRMED

            eventually(lambda: runs("1"), "release 1")
            ends_ns = int(sign_what_ends_soon(config).timestamp()) * 10**9
            eventually(lambda: status().metadata_expires_wall_ns == ends_ns, "the newest metadata")
            assert not status().metadata_alarm
            hole.open()
            publish(config, model("2"), "2", OWN_HARDWARE)
            eventually(lambda: bool(status().metadata_alarm), "the alarm")
            told = status().metadata_alarm
            assert "ended" in told and "none came since" in told and "keeps its answers away" in told
            assert told in daemon.event("metadata_alarm")["message"]
            eventually(lambda: not status().connected_to_cloud, "that nothing answers is seen")
            assert hole.swallowed_bytes > 0
            for message in islice(daemon.client.detections(), 10):
                assert message.detections.model.sha256 == digest("1")
            assert status().model.active.sha256 == digest("1"), status().model
            hole.close()
            eventually(lambda: runs("2"), "contact alone recovers it")
            assert not status().metadata_alarm and status().connected_to_cloud
            assert daemon.event("metadata_alarm_over")
            assert daemon.terminate() == 0
        assert not [line for line in daemon.log if "traceback" in line]


def heard_in_clear(heard: bytes, secrets: dict[str, bytes]) -> list[str]:
    """Which of these were said in clear; a long one is looked for by its pieces."""
    return [name for name, secret in secrets.items() if any(part in heard for part in parts_of(secret))]


def parts_of(secret: bytes) -> list[bytes]:
    """Pieces that stand for it: those that say nothing (zeros, a fill) are left out."""
    parts = [secret[at : at + SLICE_BYTES] for at in range(0, len(secret), SLICE_BYTES)]
    return [part for part in parts if len(set(part)) > 4 or part == secret]


def test_who_listens_hears_neither_the_model_nor_who_the_vehicle_is(tmp_path: Path) -> None:
    """From the ticket's use to the first frame on a release: all that a vehicle and its cloud say."""
    with cloud_of_tickets(tmp_path / "cloud") as config:
        ticket = ticket_for(config, NAME)
        address, enrol_address = config.serve.fleet_address, config.serve.enrolment_address
        with recorder(port_of(enrol_address)) as desk, recorder(port_of(address)) as line:
            ticket.enrol_address = desk.relay.address
            publish(config, model("1"), "1", OWN_HARDWARE)
            edge = enrolled(ticket, tmp_path / "vehicle")
            text = edge.read_text()
            assert address in text
            edge.write_text(text.replace(address, line.relay.address))
            until(edge, lambda found: found.active.sha256 == digest("1"))
        state = tmp_path / "vehicle" / "state"
        secrets = {
            "the model": model("1"),
            "the vehicle's name": NAME.encode(),
            "its ticket's token": ticket.token.encode(),
            "its session's token": (state / "client.session").read_bytes(),
            "the root": (tmp_path / "vehicle" / "root.json").read_bytes(),
        }
        assert len(desk.heard) > len(secrets["the root"]) and len(line.heard) > len(secrets["the model"])
        for heard in (desk.heard, line.heard):
            assert heard_in_clear(heard, secrets) == []


def test_what_is_said_without_tls_is_heard(tmp_path: Path) -> None:
    """So that the test above could fail."""
    world = open_world(tmp_path / "cloud")
    try:
        facts = world.release(model("1"))
        with recorder(world.port) as line, grpc.insecure_channel(line.relay.address) as channel:
            request = fleet.FetchTargetRequest(path=facts.target_path, sha256=facts.model_sha256)
            list(FleetServiceStub(channel).FetchTarget(request, timeout=WAIT_S))
    finally:
        world.close()
    secrets = {
        "the model": model("1"),
        "its path": facts.target_path.encode(),
        "another's": b"another's name",
    }
    assert heard_in_clear(line.heard, secrets) == ["the model", "its path"]
