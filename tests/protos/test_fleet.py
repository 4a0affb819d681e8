"""The fleet service over real gRPC on loopback: handshake, an answer per sample, chunks by offset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from protos import handshake
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.traffic_vision.v1 import fleet_pb2_grpc as fleet_grpc

DEADLINE_S = 20
CHUNK_BYTES = 65536
TARGET = bytes(range(256)) * 700


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Cloud(fleet_grpc.FleetServiceServicer):
    def __init__(self) -> None:
        self.stored: dict[str, str] = {}

    def Control(
        self, request_iterator: Iterator[fleet.ControlRequest], context: grpc.ServicerContext
    ) -> Iterator[fleet.ControlResponse]:
        hello = next(request_iterator)
        assert hello.WhichOneof("message") == "hello"
        version = handshake.agree(handshake.supported(), hello.hello.protocol)
        if version is None:
            problem = fleet.Problem(code=fleet.PROBLEM_CODE_PROTOCOL, protocol=handshake.supported())
            yield fleet.ControlResponse(problem=problem)
            return
        yield fleet.ControlResponse(welcome=fleet.Welcome(protocol_version=version))
        for request in request_iterator:
            if request.WhichOneof("message") == "drift_event":
                receipt = fleet.DriftEventReceipt(drift_event_id=request.drift_event.id)
                yield fleet.ControlResponse(drift_event_receipt=receipt)
                yield fleet.ControlResponse(update_nudge=fleet.UpdateNudge(release_counter=7))

    def UploadSamples(
        self, request_iterator: Iterator[fleet.UploadSamplesRequest], context: grpc.ServicerContext
    ) -> Iterator[fleet.UploadSamplesResponse]:
        for request in request_iterator:
            yield self.answer(request.sample)

    def answer(self, sample: fleet.Sample) -> fleet.UploadSamplesResponse:
        if sha256(sample.jpeg) != sample.jpeg_sha256:
            return fleet.UploadSamplesResponse(
                sample_id=sample.id,
                outcome=fleet.UPLOAD_OUTCOME_REFUSED,
                reason=fleet.REFUSAL_REASON_DIGEST,
            )
        known = self.stored.setdefault(sample.id, sample.jpeg_sha256)
        if known != sample.jpeg_sha256:
            return fleet.UploadSamplesResponse(
                sample_id=sample.id,
                outcome=fleet.UPLOAD_OUTCOME_REFUSED,
                reason=fleet.REFUSAL_REASON_ID_CONFLICT,
            )
        return fleet.UploadSamplesResponse(sample_id=sample.id, outcome=fleet.UPLOAD_OUTCOME_STORED)

    def UploadFeatures(
        self, request_iterator: Iterator[fleet.UploadFeaturesRequest], context: grpc.ServicerContext
    ) -> Iterator[fleet.UploadFeaturesResponse]:
        for request in request_iterator:
            series = request.series
            whole = len(series.values) == len(series.names) * len(series.drive_ns)
            yield fleet.UploadFeaturesResponse(
                series_id=series.id,
                outcome=fleet.UPLOAD_OUTCOME_STORED if whole else fleet.UPLOAD_OUTCOME_REFUSED,
                reason=fleet.REFUSAL_REASON_UNSPECIFIED if whole else fleet.REFUSAL_REASON_MALFORMED,
            )

    def FetchMetadata(
        self, request: fleet.FetchMetadataRequest, context: grpc.ServicerContext
    ) -> Iterator[fleet.FetchMetadataResponse]:
        if request.HasField("version") and request.version > 2:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no version {request.version} of {request.role}")
        data = f"{request.role} {request.version if request.HasField('version') else 'latest'}".encode()
        yield fleet.FetchMetadataResponse(data=data, offset_bytes=0, total_bytes=len(data))

    def FetchTarget(
        self, request: fleet.FetchTargetRequest, context: grpc.ServicerContext
    ) -> Iterator[fleet.FetchTargetResponse]:
        if request.sha256 != sha256(TARGET):
            context.abort(grpc.StatusCode.NOT_FOUND, request.path)
        if request.offset_bytes > len(TARGET):
            context.abort(grpc.StatusCode.OUT_OF_RANGE, f"{len(TARGET)} bytes")
        step = min(request.chunk_limit_bytes or CHUNK_BYTES, CHUNK_BYTES)
        for offset in range(request.offset_bytes, len(TARGET), step):
            data = TARGET[offset : offset + step]
            yield fleet.FetchTargetResponse(data=data, offset_bytes=offset, total_bytes=len(TARGET))


@pytest.fixture
def stub() -> Iterator[fleet_grpc.FleetServiceStub]:
    server = grpc.server(ThreadPoolExecutor(max_workers=4))
    fleet_grpc.add_FleetServiceServicer_to_server(Cloud(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield fleet_grpc.FleetServiceStub(channel)
    server.stop(grace=None).wait()


def sample(identity: str, jpeg: bytes) -> fleet.UploadSamplesRequest:
    return fleet.UploadSamplesRequest(
        sample=fleet.Sample(
            id=identity,
            jpeg=jpeg,
            jpeg_sha256=sha256(jpeg),
            frame=common.FrameRef(camera="front", epoch=1, sequence=9, width_px=640, height_px=360),
            source=fleet.SampleSource(id="sim:7", drive_id="7", drive_ns=900_000_000),
            reasons=[fleet.SAMPLE_REASON_DRIFT],
        )
    )


def test_the_handshake_agrees_on_a_version_and_the_stream_goes_on(stub: fleet_grpc.FleetServiceStub) -> None:
    says = [
        fleet.ControlRequest(hello=fleet.Hello(protocol=handshake.supported(), instance_id="one")),
        fleet.ControlRequest(heartbeat=fleet.Heartbeat(status=common.VehicleStatus(uptime_ns=1))),
        fleet.ControlRequest(
            drift_event=fleet.DriftEvent(id="event-1", previous=common.DRIFT_VERDICT_STABLE)
        ),
    ]
    heard = list(stub.Control(iter(says), timeout=DEADLINE_S))
    assert [h.WhichOneof("message") for h in heard] == ["welcome", "drift_event_receipt", "update_nudge"]
    assert heard[0].welcome.protocol_version == handshake.NEWEST_PROTOCOL
    assert heard[1].drift_event_receipt.drift_event_id == "event-1"


def test_a_version_that_is_not_spoken_is_refused_with_those_that_are(
    stub: fleet_grpc.FleetServiceStub,
) -> None:
    future = common.ProtocolRange(oldest=900, newest=901)
    says = [fleet.ControlRequest(hello=fleet.Hello(protocol=future))]
    (heard,) = stub.Control(iter(says), timeout=DEADLINE_S)
    assert heard.problem.code == fleet.PROBLEM_CODE_PROTOCOL
    assert heard.problem.protocol == handshake.supported()


def test_each_sample_has_an_answer_of_its_own(stub: fleet_grpc.FleetServiceStub) -> None:
    broken = sample("c", b"picture c")
    broken.sample.jpeg_sha256 = sha256(b"another")
    says = [sample("a", b"picture a"), broken, sample("b", b"picture b"), sample("a", b"other content")]
    heard = list(stub.UploadSamples(iter(says), timeout=DEADLINE_S))
    assert [(h.sample_id, h.outcome, h.reason) for h in heard] == [
        ("a", fleet.UPLOAD_OUTCOME_STORED, fleet.REFUSAL_REASON_UNSPECIFIED),
        ("c", fleet.UPLOAD_OUTCOME_REFUSED, fleet.REFUSAL_REASON_DIGEST),
        ("b", fleet.UPLOAD_OUTCOME_STORED, fleet.REFUSAL_REASON_UNSPECIFIED),
        ("a", fleet.UPLOAD_OUTCOME_REFUSED, fleet.REFUSAL_REASON_ID_CONFLICT),
    ]


@pytest.mark.parametrize(
    ("offset", "limit"), [(0, 0), (100_000, 0), (0, 1000), (1, 10_000_000), (len(TARGET), 0)]
)
def test_a_target_comes_in_chunks_from_an_offset_on(
    stub: fleet_grpc.FleetServiceStub, offset: int, limit: int
) -> None:
    request = fleet.FetchTargetRequest(
        path="models/m.onnx", sha256=sha256(TARGET), offset_bytes=offset, chunk_limit_bytes=limit
    )
    received = bytearray(TARGET[:offset])
    for chunk in stub.FetchTarget(request, timeout=DEADLINE_S):
        assert chunk.offset_bytes == len(received)
        assert 0 < len(chunk.data) <= (min(limit, CHUNK_BYTES) or CHUNK_BYTES)
        assert chunk.total_bytes == len(TARGET)
        received += chunk.data
    assert bytes(received) == TARGET


def test_a_feature_series_is_answered_as_a_sample_is(stub: fleet_grpc.FleetServiceStub) -> None:
    names, drive_ns = ["brightness", "contrast"], [0, 500_000_000]
    whole = fleet.FeatureSeries(id="w", names=names, drive_ns=drive_ns, values=[0.5, 0.1, 0.4, float("nan")])
    cut = fleet.FeatureSeries(id="c", names=names, drive_ns=drive_ns, values=[0.5])
    says = [fleet.UploadFeaturesRequest(series=series) for series in (whole, cut)]
    heard = list(stub.UploadFeatures(iter(says), timeout=DEADLINE_S))
    assert [(h.series_id, h.outcome) for h in heard] == [
        ("w", fleet.UPLOAD_OUTCOME_STORED),
        ("c", fleet.UPLOAD_OUTCOME_REFUSED),
    ]


def test_what_is_not_there_is_told_by_the_status(stub: fleet_grpc.FleetServiceStub) -> None:
    with pytest.raises(grpc.RpcError) as unknown:
        list(stub.FetchTarget(fleet.FetchTargetRequest(path="models/x"), timeout=DEADLINE_S))
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
    past_the_end = fleet.FetchTargetRequest(sha256=sha256(TARGET), offset_bytes=len(TARGET) + 1)
    with pytest.raises(grpc.RpcError) as past:
        list(stub.FetchTarget(past_the_end, timeout=DEADLINE_S))
    assert past.value.code() == grpc.StatusCode.OUT_OF_RANGE


def test_metadata_by_version_and_without(stub: fleet_grpc.FleetServiceStub) -> None:
    def fetched(request: fleet.FetchMetadataRequest) -> bytes:
        return b"".join(chunk.data for chunk in stub.FetchMetadata(request, timeout=DEADLINE_S))

    assert fetched(fleet.FetchMetadataRequest(role="root", version=2)) == b"root 2"
    assert fetched(fleet.FetchMetadataRequest(role="timestamp")) == b"timestamp latest"
    with pytest.raises(grpc.RpcError) as missing:
        fetched(fleet.FetchMetadataRequest(role="root", version=3))
    assert missing.value.code() == grpc.StatusCode.NOT_FOUND
