"""A release's trials on a real vehicle of a real cloud: shadow, swap, probation; and who does not pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from sqlalchemy import select

from cloud.release.keys import load_keys
from cloud.release.releasing import ReleaseTerms, complete_release, propose_release
from cloud.status import read_status
from cloud.store.models import ModelReport
from edge.updates.hardware import hardware_ids
from protos.release_facts import ReleaseFacts
from protos.release_promise import Promise, Range, ShadowFacts
from protos.traffic_vision.v1 import common_pb2
from tests.clouds import ServerProcess, database
from tests.daemons import DaemonProcess, counts_of, write_config
from tests.models_factory import constant_model, golden_frame
from tests.retrains import VEHICLE, make_retrain_cloud
from tests.waiting import eventually

pytestmark = pytest.mark.services

# So fast that minutes of driving take seconds, and slow enough for a busy machine.
DRIVE = {
    "name": "front",
    "url": "sim:7?seconds=0&rate=10&size=96x64",
    "pace": "lockstep",
    "speed_limit": 20.0,
}
TWO_THINGS = tuple(
    [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, *(score * (kind == index) for index in range(3))]
    for x1, y1, x2, y2, score, kind in golden_frame().detections.tolist()
)


def steady_model(version: str, products: int = 0) -> bytes:
    """Finds the same two things on every picture; each product of large matrices costs some milliseconds."""
    data = constant_model(
        TWO_THINGS, class_names=("blue", "green", "red"), golden=(golden_frame(),), version=version
    )
    if not products:
        return data
    model = onnx.load_from_string(data)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.zeros((400, 400), np.float32), "square"))
    # It depends on the picture, or it would be computed once.
    graph.node.append(helper.make_node("Add", ["square", "nothing"], ["product0"]))
    for number in range(products):
        graph.node.append(
            helper.make_node("MatMul", [f"product{number}", "square"], [f"product{number + 1}"])
        )
    graph.node.append(helper.make_node("ReduceSum", [f"product{products}"], ["sum"], keepdims=0))
    graph.node.append(helper.make_node("Add", [graph.output[0].name, "sum"], ["slow"]))
    graph.output[0].name = "slow"
    return model.SerializeToString(deterministic=True)


class Road:
    """A cloud's server, and a vehicle that drives."""

    def __init__(self, folder: Path) -> None:
        self.config = make_retrain_cloud(folder, "")
        self.server = ServerProcess(folder / "cloud")
        vehicle = folder / "cloud" / "vehicles" / VEHICLE
        (vehicle / "factory.onnx").write_bytes(steady_model("factory"))
        files = {"ca": "ca.crt", "cert": "client.crt", "key": "client.key"}
        self.edge_toml = write_config(
            vehicle,
            DRIVE,
            cloud={"address": self.server.address, **files, "retry_limit_s": 0.5},
            updates={
                "root": "root.json",
                "check_interval_s": 1.0,
                "probation_s": 30.0,
                "probation_frames": 50,
                "shadow_cpu_share": 1.0,
            },
            vehicle_state={"parked_after_s": 3600.0},
            drift={"learn_s": 100.0},
        )

    def release(self, data: bytes, shadow: ShadowFacts | None, promise: Promise) -> ReleaseFacts:
        keys = load_keys(self.config.folders.keys)
        terms = ReleaseTerms(hardware_ids(("cpu",)), shadow=shadow, promise=promise)
        facts = propose_release(self.config.folders.repository, data, terms, keys.signer("trainer"))
        signers = [keys.signer(name) for name in ("gate", "snapshot", "timestamp")]
        return complete_release(self.config.folders.repository, facts.model_sha256, *signers, terms=terms)

    def reports(self) -> list[common_pb2.ModelState]:
        """What the vehicle has told of its model, in order."""
        with database(self.config) as store, store.reading() as session:
            rows = session.scalars(select(ModelReport).order_by(ModelReport.id))
            return [common_pb2.ModelState.FromString(row.state) for row in rows]


@pytest.fixture
def road(tmp_path: Path) -> Iterator[Road]:
    road = Road(tmp_path)
    yield road
    if road.server.process.poll() is None:
        road.server.process.kill()
    road.server.close()


def state_of(daemon: DaemonProcess) -> common_pb2.ModelState:
    return daemon.client.status().status.model


def assert_no_frame_is_lost(daemon: DaemonProcess) -> None:
    """Every frame was seen in its turn, and every one has left in exactly one way."""
    camera = daemon.cameras()["front"]
    left = counts_of(camera)
    captured, published = left.pop("captured"), left.pop("published")
    assert published > 0 and not any(left.values()), left
    assert captured - published in (0, 1), "but the one on its way"


def test_from_shadow_to_confirmation_with_no_frame_lost(road: Road) -> None:
    with DaemonProcess(road.edge_toml) as daemon:
        eventually(lambda: daemon.cameras()["front"].captured_frames > 400, "the model before is known")
        facts = road.release(
            steady_model("2"),
            ShadowFacts(drive_s=200, every_frames=2, cpu_percent=100, least_agreement_percent=90),
            Promise(
                drive_s=150,
                errors_permille=20,
                detections_per_1000_frames=(("(all)", Range(1000, 4000)),),
                detections_percent=Range(50, 200),
            ),
        )
        daemon.event("shadow_begun")
        assert state_of(daemon).active.version == "factory"
        for step in ("shadow_ended", "update_activated", "drift_from_shadow", "update_confirmed"):
            daemon.event(step)
        state = state_of(daemon)
        assert state.active.sha256 == state.last_good.sha256 == facts.model_sha256
        assert state.shadow.outcome == state.probation.outcome == common_pb2.TRIAL_OUTCOME_PASSED
        assert state.shadow.agreement[0].f1_share == 1.0
        assert state.shadow.drive_s >= 200 and state.probation.drive_s >= 150
        assert not any(figure.broken for figure in state.probation.figures)
        assert_no_frame_is_lost(daemon)
        eventually(
            lambda: any(told.phase == common_pb2.UPDATE_PHASE_CONFIRMED for told in road.reports()),
            "the cloud knows",
        )
        assert daemon.terminate() == 0
    told = road.reports()
    assert {common_pb2.UPDATE_PHASE_SHADOW, common_pb2.UPDATE_PHASE_PROBATION} <= {one.phase for one in told}
    assert told[-1].probation.drive_s >= 150 and told[-1].shadow.compared_frames >= 30
    swapped = next(line for line in daemon.log if line.get("event") == "model_swapped")
    assert swapped["frame_after"][2] == swapped["frame_before"][2] + 1


@pytest.mark.parametrize(
    ("products", "promise", "figure"),
    [
        (20, Promise(latency_p99_us=5000), "latency_p99_ms"),
        (0, Promise(detections_per_1000_frames=(("(all)", Range(5000, 9000)),)), "detections_per_frame"),
        (0, Promise(detections_per_1000_frames=(("(all)", Range(0, 500)),)), "detections_per_frame"),
    ],
    ids=["slow", "finds too little", "finds too much"],
)
def test_a_broken_promise_puts_the_last_good_model_back(
    road: Road, products: int, promise: Promise, figure: str
) -> None:
    with DaemonProcess(road.edge_toml) as daemon:
        eventually(lambda: daemon.cameras()["front"].captured_frames > 400, "the model before is known")
        factory = state_of(daemon).active.sha256
        facts = road.release(steady_model("2", products), None, replace(promise, drive_s=5000))
        daemon.event("update_activated")
        daemon.event("update_reverted")
        eventually(lambda: state_of(daemon).active.sha256 == factory, "the model before")
        state = state_of(daemon)
        assert list(state.bad_sha256) == [facts.model_sha256]
        assert state.probation.outcome == common_pb2.TRIAL_OUTCOME_FAILED
        assert [one.name for one in state.probation.figures if one.broken] == [figure]
        assert_no_frame_is_lost(daemon)
        eventually(lambda: bool(road.reports()[-1].bad_sha256), "the cloud knows")
        with database(road.config) as store:
            (line,) = read_status(road.config, store).vehicles
        assert figure in line.trial
        assert daemon.terminate() == 0
