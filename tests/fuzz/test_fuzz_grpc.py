"""Mutated requests and mutated HTTP/2 against a real daemon: it answers with a status, and goes on."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from google.protobuf.message import Message

from protos.handshake import supported
from protos.traffic_vision.v1 import common_pb2, perception_pb2
from tests.daemons import DaemonProcess, write_config
from tests.fuzz.fuzzing import MARKS, mutated, run_cases

pytestmark = MARKS

SERVICE = perception_pb2.DESCRIPTOR.services_by_name["PerceptionService"]
STREAM_S = 0.1  # a stream that was accepted is left after so long
CALL_S = 30.0
ALIVE_EVERY = 50
# UNKNOWN would be an exception that nobody foresaw. INTERNAL is gRPC's for bytes that are no message.
FORESEEN = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.NOT_FOUND,
}
REQUESTS: dict[str, list[Message]] = {
    "StreamDetections": [
        perception_pb2.StreamDetectionsRequest(
            protocol=supported(), cameras=["camera0"], class_names=["red"], min_score=0.5, max_rate_hz=5
        ),
        perception_pb2.StreamDetectionsRequest(queue_limit=3),
    ],
    "StreamDrift": [perception_pb2.StreamDriftRequest(protocol=supported(), cameras=["camera0"])],
    "GetStatus": [perception_pb2.GetStatusRequest()],
    "ReloadModel": [
        perception_pb2.ReloadModelRequest(slot=common_pb2.SLOT_FACTORY, expected_sha256="ab" * 32),
        perception_pb2.ReloadModelRequest(),
    ],
    "ReportVehicle": [
        perception_pb2.ReportVehicleRequest(
            state=common_pb2.VehicleState(
                observed=common_pb2.Instant(monotonic_ns=5, wall_ns=7, boot_id="boot"),
                speed_mps=13.9,
                ignition=common_pb2.IGNITION_ON,
                latitude_deg=52.5,
                longitude_deg=13.4,
                ambient_light_lux=800.0,
                headlights_on=True,
            )
        )
    ],
}
ONCE_MORE: tuple[int, ...] = ()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """One that sees a frame now and then, and must be as it was at the end."""
    camera = {"url": "sim:7?seconds=0&rate=10&size=64x64"}
    with DaemonProcess(write_config(tmp_path, camera)) as daemon:
        yield daemon
        assert daemon.client.status().status.cameras[0].captured_frames > 0
        assert daemon.terminate() == 0
        assert daemon.errors == [], daemon.errors[:5]
        assert not [line for line in daemon.log if line.get("event") == "hangs"]
        troubles = [line for line in daemon.log if line["level"] not in ("debug", "info")]
        assert len(troubles) < 20, troubles[:3]  # a client that writes the journal full


def test_every_method_is_fuzzed() -> None:
    assert set(REQUESTS) == {method.name for method in SERVICE.methods}


def test_requests(daemon: DaemonProcess) -> None:
    whole = [message.SerializeToString() for messages in REQUESTS.values() for message in messages]
    methods = {method.name: method.server_streaming for method in SERVICE.methods}
    with grpc.insecure_channel(daemon.address) as channel:

        def case(chance: random.Random) -> None:
            name = chance.choice(list(methods))
            data = mutated(chance.choice(REQUESTS[name]).SerializeToString(), chance, whole)
            path = f"/{SERVICE.full_name}/{name}"
            status = ask(channel, path, data, streams=methods[name])
            assert status in FORESEEN, f"{name}({data.hex()}): {status}"

        run_cases(case, ONCE_MORE)
    settled = psutil.Process(daemon.process.pid).num_threads()
    assert settled < 60, f"{settled} threads"
    assert daemon.process.poll() is None


def ask(channel: grpc.Channel, path: str, data: bytes, *, streams: bool) -> grpc.StatusCode:
    try:
        if not streams:
            channel.unary_unary(path)(data, timeout=CALL_S)
            return grpc.StatusCode.OK
        call = channel.unary_stream(path)(data, timeout=STREAM_S)
        next(call, None)
        call.cancel()
    except grpc.RpcError as error:
        code = error.code()
        # An accepted stream whose camera is silent ends by the time-out given here.
        return grpc.StatusCode.OK if streams and code is grpc.StatusCode.DEADLINE_EXCEEDED else code
    return grpc.StatusCode.OK


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Types of frames, RFC 9113, section 6.
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def header(name: str, value: str) -> bytes:
    """A literal header without indexing, RFC 7541, section 6.2.2; both shorter than 127 bytes."""
    return b"".join((b"\0", bytes((len(name),)), name.encode(), bytes((len(value),)), value.encode()))


def conversation(name: str, request: bytes) -> list[bytes]:
    """A whole call, frame by frame."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/{SERVICE.full_name}/{name}",
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
        "grpc-timeout": "100m",
    }
    block = b"".join(header(key, value) for key, value in headers.items())
    return [
        frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535)),
        frame(HEADERS, 4, 1, block),
        frame(DATA, 1, 1, struct.pack(">BI", 0, len(request)) + request),
        frame(WINDOW, 0, 0, struct.pack(">I", 1000)),
        frame(PING, 0, 0, b"12345678"),
    ]


def hostile(chance: random.Random) -> bytes:
    name = chance.choice(list(REQUESTS))
    frames = conversation(name, chance.choice(REQUESTS[name]).SerializeToString())
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(frames))
        kind = chance.randrange(6)
        if kind == 0:
            frames[at] = mutated(frames[at], chance, frames)
        elif kind == 1:
            other = chance.randrange(len(frames))
            frames[at], frames[other] = frames[other], frames[at]
        elif kind == 2:
            payload = chance.randbytes(chance.choice((0, 1, 4, 5, 8, 100)))
            stream = chance.choice((0, 1, 2, 3, 2**31 - 1, 2**31))
            frames.insert(at, frame(chance.randrange(12), chance.randrange(256), stream, payload))
        elif kind == 3:
            frames.insert(at, frames[at] * chance.choice((1, 10, 200)))
        elif kind == 4:
            frames[at] = frames[at][: chance.randrange(len(frames[at]) + 1)]
        else:
            del frames[at]
            frames = frames or [b"\0"]
    preface = mutated(PREFACE, chance) if chance.random() < 0.1 else PREFACE
    return preface + b"".join(frames)


def test_http2(daemon: DaemonProcess) -> None:
    host, _, port = daemon.address.rpartition(":")
    cases = 0

    def case(chance: random.Random) -> None:
        nonlocal cases
        cases += 1
        data = hostile(chance)
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), CALL_S) as connection:
            connection.settimeout(chance.choice((0.0, 0.02, 0.1)) or None)
            if connection.gettimeout() is None:  # gone without a look at the answer
                connection.sendall(data)
                return
            connection.sendall(data)
            while connection.recv(65_536):
                pass
        if cases % ALIVE_EVERY == 0:
            daemon.client.status(timeout_s=CALL_S)

    run_cases(case, ONCE_MORE)
    daemon.client.status(timeout_s=CALL_S)
    assert daemon.process.poll() is None
