from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from edge.frames.frame import FrameKey
from edge.messages import Clock
from edge.perception.detector import Detections, StageTimes
from edge.publication import Publication
from edge.serve.client import ClientError, PerceptionClient
from edge.serve.hub import Hub
from edge.serve.perception_service import PerceptionService
from edge.serve.server import SERVICE_NAME, PerceptionServer, ServeError
from edge.vehicle_state.state import Reports
from protos.traffic_vision.v1 import common_pb2, perception_pb2, perception_pb2_grpc
from tests.models_factory import metadata
from tests.waiting import eventually

pytestmark = pytest.mark.services

LONG_S = 60.0
# gRPC would let megabytes wait in the transport before the daemon sees that a client is slow.
LITTLE = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024))
DIGEST = "ab" * 32
ROWS = [[1, 2, 30, 40, 0.9, 2], [5, 6, 70, 80, 0.4, 0]]


def publication(sequence: int, camera: str = "front", time_s: float | None = None) -> Publication:
    found = Detections(np.array(ROWS, np.float32), DIGEST, StageTimes(1, 2, 3))
    captured_ns = round((sequence if time_s is None else time_s) * 1e9)
    return Publication(FrameKey(camera, 0, sequence), captured_ns, False, 96, 160, found, metadata(), 7, 8, 9)


def drift(verdict: common_pb2.DriftVerdict, camera: str = "front") -> common_pb2.DriftState:
    return common_pb2.DriftState(camera=camera, verdict=verdict)


class Served:
    """A service over hubs that the test fills."""

    def __init__(self, folder: Path, max_streams: int = 4) -> None:
        self.detections: Hub[Publication] = Hub()
        self.drift: Hub[common_pb2.DriftState] = Hub(retain=lambda state: state.camera)
        self.reports = Reports(valid_ms=1500)
        self.reloads: list[perception_pb2.ReloadModelRequest] = []
        service = PerceptionService(
            cameras=("front", "rear"),
            detections=self.detections,
            drift=self.drift,
            clock=Clock("run"),
            status=lambda: perception_pb2.GetStatusResponse(class_names=["a"]),
            reload_model=self.reload,
            report_vehicle=self.reports.report,
            max_streams=max_streams,
            queue_limit=8,
        )
        self.server = PerceptionServer(service, f"unix:{folder}/p.sock", max_streams=max_streams)
        self.server.start()
        self.channel = grpc.insecure_channel(self.server.address)
        self.stub = perception_pb2_grpc.PerceptionServiceStub(self.channel)

    def reload(self, request: perception_pb2.ReloadModelRequest) -> perception_pb2.ReloadModelResponse:
        self.reloads.append(request)
        return perception_pb2.ReloadModelResponse(outcome=perception_pb2.RELOAD_OUTCOME_SWAPPED)

    def stream(self, clients: int = 1, **fields: object) -> Iterator[perception_pb2.StreamDetectionsResponse]:
        """Open a stream; returns when the daemon has let it in as the hub's so-manieth client."""
        request = perception_pb2.StreamDetectionsRequest(**fields)
        calls = [self.stub.StreamDetections(request, timeout=LONG_S)]

        def is_in() -> bool:
            # A place comes free a little after its client has gone.
            if calls[-1].done() and calls[-1].code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                calls.append(self.stub.StreamDetections(request, timeout=LONG_S))
            return self.detections.clients == clients

        wait_for(is_in)
        return calls[-1]

    def close(self) -> None:
        self.detections.close()
        self.drift.close()
        self.channel.close()
        assert self.server.stop(5)


def wait_for(holds: Callable[[], bool]) -> None:
    eventually(holds, "what was waited for")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.close()


def code_of(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return refused.value.code(), refused.value.details()


def test_a_frame_arrives_whole(served: Served) -> None:
    stream = served.stream()
    served.detections.publish(publication(5, time_s=0.5))
    message = next(stream)
    assert message.sequence == 0 and message.dropped_messages == 0
    found = message.detections
    assert (found.frame.camera, found.frame.sequence) == ("front", 5)
    assert (found.frame.width_px, found.frame.height_px) == (160, 96)
    assert found.frame.captured.monotonic_ns == 500_000_000
    assert found.frame.captured.source == common_pb2.CLOCK_SOURCE_RECORDING
    assert found.model == common_pb2.ModelRef(sha256=DIGEST, name="rectangles", version="1")
    assert found.times == common_pb2.StageTimes(wait_ns=7, preprocess_ns=1, inference_ns=2, postprocess_ns=3)
    assert found.published.monotonic_ns == 9
    assert found.published.source == common_pb2.CLOCK_SOURCE_SYSTEM
    first = found.detections[0]
    assert (first.class_name, first.class_index, first.x1_px, first.y2_px) == ("red", 2, 1, 40)
    assert first.score == pytest.approx(0.9)


def test_filters_by_camera_class_score_and_rate(served: Served) -> None:
    by_camera = served.stream(1, cameras=["rear"])
    by_class = served.stream(2, class_names=["red"], min_score=0.5)
    by_score = served.stream(3, min_score=0.95)
    by_rate = served.stream(4, max_rate_hz=2)
    for index in range(6):
        served.detections.publish(publication(index, "rear" if index == 3 else "front", index / 5))
    assert next(by_camera).detections.frame.sequence == 3
    assert [box.class_name for box in next(by_class).detections.detections] == ["red"]
    assert len(next(by_score).detections.detections) == 0
    served.detections.close()
    rated = []
    with pytest.raises(grpc.RpcError):
        for message in by_rate:
            rated.append(message)
    assert [message.detections.frame.sequence for message in rated] == [
        0,
        2,
        3,
        4,
    ]  # rear has a rate of its own
    assert [message.sequence for message in rated] == [0, 1, 2, 3]


def test_a_slow_client_is_told_what_it_lost(served: Served) -> None:
    sent = 20_000
    with grpc.insecure_channel(served.server.address, options=LITTLE) as channel:
        stub = perception_pb2_grpc.PerceptionServiceStub(channel)
        request = perception_pb2.StreamDetectionsRequest(queue_limit=2)
        stream = stub.StreamDetections(request, timeout=LONG_S)
        wait_for(lambda: served.detections.clients == 1)
        got = published_to(served, stream, sent)
    assert got[-1].sequence == sent - 1
    assert sum(message.dropped_messages for message in got) + len(got) == sent
    assert len(got) < sent
    assert all(message.sequence == message.detections.frame.sequence for message in got)


def published_to(
    served: Served, stream: Iterator[perception_pb2.StreamDetectionsResponse], sent: int
) -> list[perception_pb2.StreamDetectionsResponse]:
    """What comes of so many publications to a client that reads none before they are all made."""
    for index in range(sent):
        served.detections.publish(publication(index))
    served.detections.close()
    got = []
    with pytest.raises(grpc.RpcError):
        for message in stream:
            got.append(message)
    return got


def test_drift_comes_with_the_present_states_and_then_changes(served: Served) -> None:
    served.drift.publish(drift(common_pb2.DRIFT_VERDICT_STABLE))
    all_states = served.stub.StreamDrift(perception_pb2.StreamDriftRequest(), timeout=LONG_S)
    changes = served.stub.StreamDrift(
        perception_pb2.StreamDriftRequest(changes_only=True, cameras=["front"]), timeout=LONG_S
    )
    assert next(all_states).state.verdict == next(changes).state.verdict == common_pb2.DRIFT_VERDICT_STABLE
    for verdict in (common_pb2.DRIFT_VERDICT_STABLE, common_pb2.DRIFT_VERDICT_ALARM):
        served.drift.publish(drift(verdict))
    assert next(all_states).state.verdict == common_pb2.DRIFT_VERDICT_STABLE
    assert next(changes).state.verdict == common_pb2.DRIFT_VERDICT_ALARM


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"cameras": ["left"]}, "no camera 'left'; there are front, rear"),
        ({"min_score": 1.5}, "min_score is 1.5"),
        ({"min_score": float("nan")}, "min_score is nan"),
        ({"max_rate_hz": -1.0}, "max_rate_hz is -1"),
        ({"max_rate_hz": float("inf")}, "max_rate_hz is inf"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(served: Served, fields: dict, reason: str) -> None:
    request = perception_pb2.StreamDetectionsRequest(**fields)
    code, details = code_of(lambda: next(served.stub.StreamDetections(request, timeout=LONG_S)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and reason in details


def test_a_protocol_that_nobody_speaks_is_refused(served: Served) -> None:
    newer = common_pb2.ProtocolRange(oldest=98, newest=99)
    request = perception_pb2.StreamDetectionsRequest(protocol=newer)
    code, details = code_of(lambda: next(served.stub.StreamDetections(request, timeout=LONG_S)))
    assert code is grpc.StatusCode.FAILED_PRECONDITION and "speaks 1 to 1" in details


def test_streams_are_bounded_and_a_place_comes_free(served: Served) -> None:
    streams = [served.stream(number + 1) for number in range(4)]
    request = perception_pb2.StreamDetectionsRequest()
    code, details = code_of(lambda: next(served.stub.StreamDetections(request, timeout=LONG_S)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "4 streams" in details
    assert served.stub.GetStatus(perception_pb2.GetStatusRequest(), timeout=LONG_S).class_names == ["a"]
    for stream in streams:
        stream.cancel()
    wait_for(lambda: served.detections.clients == 0)
    for _ in range(20):  # clients that come and go leave nothing behind
        again = served.stream()
        served.detections.publish(publication(1))
        assert next(again).sequence == 0
        again.cancel()
        wait_for(lambda: served.detections.clients == 0)


def test_reload_reaches_the_daemon_and_a_digest_must_be_one(served: Served) -> None:
    client = PerceptionClient(served.server.address)
    with client:
        assert client.reload(common_pb2.SLOT_A).outcome == perception_pb2.RELOAD_OUTCOME_SWAPPED
        with pytest.raises(ClientError, match="64 lower-case hex digits"):
            client.reload(expected_sha256="../etc/passwd")
    assert [request.slot for request in served.reloads] == [common_pb2.SLOT_A]


def test_health_says_when_frames_are_answered(served: Served) -> None:
    stub = health_pb2_grpc.HealthStub(served.channel)

    def state(name: str) -> int:
        return stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=LONG_S).status

    assert state("") == state(SERVICE_NAME) == health_pb2.HealthCheckResponse.NOT_SERVING
    served.server.serving(True)
    assert state("") == state(SERVICE_NAME) == health_pb2.HealthCheckResponse.SERVING


def test_a_client_goes_on_with_the_next_daemon(tmp_path: Path) -> None:
    lost: list[str] = []
    with PerceptionClient(f"unix:{tmp_path}/p.sock", disconnected=lost.append) as client:
        messages = client.detections()
        for number in range(2):
            served = Served(tmp_path)
            arrived: list[int] = []
            taker = threading.Thread(
                target=lambda into=arrived: into.append(next(messages).detections.frame.sequence)
            )
            taker.start()
            wait_for(lambda served=served: served.detections.clients == 1)
            served.detections.publish(publication(number))
            taker.join(LONG_S)
            assert arrived == [number]
            served.close()
    assert "the daemon stops" in lost


def test_a_refusal_ends_the_clients_stream(served: Served) -> None:
    with PerceptionClient(served.server.address) as client, pytest.raises(ClientError, match="no camera 'x'"):
        next(client.detections(cameras=["x"]))


def test_an_address_that_is_taken_is_refused(served: Served, tmp_path: Path) -> None:
    with pytest.raises(ServeError, match=r"cannot serve at unix:.*another process listens there"):
        Served(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ServeError, match=f"cannot serve at {address}: another process"):
            PerceptionServer(_service(served), address, max_streams=1)


def test_what_a_killed_daemon_left_is_cleared_and_a_file_is_not(served: Served, tmp_path: Path) -> None:
    left = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left))
    server = PerceptionServer(_service(served), f"unix:{left}", max_streams=1)
    assert oct(left.stat().st_mode & 0o777) == "0o660"
    server.stop(0)
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ServeError, match="it is no socket"):
        PerceptionServer(_service(served), f"unix:{file}", max_streams=1)
    assert file.read_text() == "mine"


def _service(served: Served) -> PerceptionService:
    return PerceptionService(
        cameras=(),
        detections=served.detections,
        drift=served.drift,
        clock=Clock("run"),
        status=perception_pb2.GetStatusResponse,
        reload_model=served.reload,
        report_vehicle=served.reports.report,
        max_streams=1,
        queue_limit=1,
    )
