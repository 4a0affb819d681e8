"""The perception service over a real Unix socket: sequence, drops, status, reload by slot."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from protos import handshake
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import perception_pb2 as perception
from protos.traffic_vision.v1 import perception_pb2_grpc as perception_grpc

DEADLINE_S = 20
MODEL = common.ModelRef(sha256="ab" * 32, name="baseline", version="1")
QUEUE = 2


def frame_detections(sequence: int) -> common.FrameDetections:
    return common.FrameDetections(
        frame=common.FrameRef(
            camera="front", sequence=sequence, captured=common.Instant(monotonic_ns=sequence)
        ),
        model=MODEL,
        detections=[
            common.Detection(
                x1_px=1, y1_px=2, x2_px=30.5, y2_px=40, score=0.9, class_index=2, class_name="car"
            ),
            common.Detection(
                x1_px=5, y1_px=5, x2_px=9, y2_px=9, score=0.2, class_index=0, class_name="pedestrian"
            ),
        ],
    )


class Daemon(perception_grpc.PerceptionServiceServicer):
    """Ten frames are made before the client reads: a queue of two keeps the newest."""

    def StreamDetections(
        self, request: perception.StreamDetectionsRequest, context: grpc.ServicerContext
    ) -> Iterator[perception.StreamDetectionsResponse]:
        asked = request.protocol if request.HasField("protocol") else handshake.supported()
        if handshake.agree(handshake.supported(), asked) is None:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "protocol")
        made = 10
        for sequence in range(made - QUEUE, made):
            detections = frame_detections(sequence)
            kept = [
                d
                for d in detections.detections
                if d.score >= request.min_score
                and (not request.class_names or d.class_name in request.class_names)
            ]
            del detections.detections[:]
            detections.detections.extend(kept)
            yield perception.StreamDetectionsResponse(
                sequence=sequence,
                dropped_messages=made - QUEUE if sequence == made - QUEUE else 0,
                detections=detections,
            )

    def StreamDrift(
        self, request: perception.StreamDriftRequest, context: grpc.ServicerContext
    ) -> Iterator[perception.StreamDriftResponse]:
        brightness = common.FeatureDrift(name="brightness", ks_d=0.8, p_value=1e-9, shift_sigma=-3)
        state = common.DriftState(camera="front", verdict=common.DRIFT_VERDICT_ALARM, features=[brightness])
        yield perception.StreamDriftResponse(state=state)

    def GetStatus(
        self, request: perception.GetStatusRequest, context: grpc.ServicerContext
    ) -> perception.GetStatusResponse:
        camera = common.CameraStatus(
            camera="front",
            captured_frames=10,
            outcomes=[
                common.FrameCount(outcome=common.FRAME_OUTCOME_PUBLISHED, frames=7),
                common.FrameCount(outcome=common.FRAME_OUTCOME_SUPERSEDED, frames=3),
            ],
        )
        return perception.GetStatusResponse(
            protocol=handshake.supported(), status=common.VehicleStatus(cameras=[camera])
        )

    def ReloadModel(
        self, request: perception.ReloadModelRequest, context: grpc.ServicerContext
    ) -> perception.ReloadModelResponse:
        swapped = request.slot == common.SLOT_B and request.expected_sha256 in ("", MODEL.sha256)
        outcome = perception.RELOAD_OUTCOME_SWAPPED if swapped else perception.RELOAD_OUTCOME_NOTHING_THERE
        return perception.ReloadModelResponse(outcome=outcome, active=MODEL)

    def ReportVehicle(
        self, request: perception.ReportVehicleRequest, context: grpc.ServicerContext
    ) -> perception.ReportVehicleResponse:
        state = request.state
        parked = state.ignition == common.IGNITION_OFF or (
            state.HasField("speed_mps") and state.speed_mps == 0
        )
        return perception.ReportVehicleResponse(valid_ms=60_000 if parked else 1_000)


@pytest.fixture
def stub() -> Iterator[perception_grpc.PerceptionServiceStub]:
    # A Unix socket's path must be short; pytest's own folders may not be.
    with tempfile.TemporaryDirectory(prefix="tv-") as folder:
        address = f"unix:{Path(folder) / 'perception.sock'}"
        server = grpc.server(ThreadPoolExecutor(max_workers=4))
        perception_grpc.add_PerceptionServiceServicer_to_server(Daemon(), server)
        assert server.add_insecure_port(address)
        server.start()
        with grpc.insecure_channel(address) as channel:
            yield perception_grpc.PerceptionServiceStub(channel)
        server.stop(grace=None).wait()


def test_a_gap_in_the_sequence_is_as_long_as_the_drops_that_are_told(
    stub: perception_grpc.PerceptionServiceStub,
) -> None:
    request = perception.StreamDetectionsRequest(class_names=["car"], min_score=0.5, queue_limit=QUEUE)
    expected = 0
    seen = 0
    for message in stub.StreamDetections(request, timeout=DEADLINE_S):
        assert message.sequence - expected == message.dropped_messages
        assert [d.class_name for d in message.detections.detections] == ["car"]
        assert message.detections.model == MODEL
        assert message.detections.detections[0].x2_px == 30.5
        expected = message.sequence + 1
        seen += 1
    assert seen == QUEUE


def test_a_client_of_another_protocol_is_told_so(stub: perception_grpc.PerceptionServiceStub) -> None:
    request = perception.StreamDetectionsRequest(protocol=common.ProtocolRange(oldest=900, newest=901))
    with pytest.raises(grpc.RpcError) as refused:
        list(stub.StreamDetections(request, timeout=DEADLINE_S))
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION


def test_drift_says_which_feature_and_which_way(stub: perception_grpc.PerceptionServiceStub) -> None:
    (message,) = stub.StreamDrift(perception.StreamDriftRequest(), timeout=DEADLINE_S)
    assert message.state.verdict == common.DRIFT_VERDICT_ALARM
    assert message.state.features[0].shift_sigma == -3
    assert not message.state.HasField("estimated_map50_change")


def test_the_ways_out_add_up(stub: perception_grpc.PerceptionServiceStub) -> None:
    (camera,) = stub.GetStatus(perception.GetStatusRequest(), timeout=DEADLINE_S).status.cameras
    assert sum(count.frames for count in camera.outcomes) == camera.captured_frames


def test_a_reload_names_a_slot_and_no_file(stub: perception_grpc.PerceptionServiceStub) -> None:
    done = stub.ReloadModel(perception.ReloadModelRequest(slot=common.SLOT_B), timeout=DEADLINE_S)
    assert (done.outcome, done.active) == (perception.RELOAD_OUTCOME_SWAPPED, MODEL)
    assert set(perception.ReloadModelRequest.DESCRIPTOR.fields_by_name) == {"slot", "expected_sha256"}


def test_a_vehicle_that_stands_is_told_from_one_of_unknown_speed(
    stub: perception_grpc.PerceptionServiceStub,
) -> None:
    def valid_ms(state: common.VehicleState) -> int:
        request = perception.ReportVehicleRequest(state=state)
        return stub.ReportVehicle(request, timeout=DEADLINE_S).valid_ms

    standing, unknown = common.VehicleState(speed_mps=0), common.VehicleState(headlights_on=False)
    assert valid_ms(standing) == valid_ms(common.VehicleState(ignition=common.IGNITION_OFF)) == 60_000
    assert valid_ms(unknown) == valid_ms(common.VehicleState(speed_mps=-0.5)) == 1_000
    assert unknown.HasField("headlights_on") and not unknown.HasField("latitude_deg")
