"""The perception service by TLS and at several addresses, on a real daemon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from edge.certificates import CertificateError
from edge.serve.client import ClientError, PerceptionClient
from edge.serve.server import SERVICE_NAME
from protos.traffic_vision.v1 import perception_pb2, perception_pb2_grpc
from tests.certificates import Authority
from tests.daemons import LONG_S, DaemonProcess, refused, write_config
from tests.replays import COMMAND, write_drive
from tests.waiting import eventually

pytestmark = pytest.mark.services

DRIVE = {"url": "sim:7?seconds=0&rate=10&size=64x64", "pace": "lockstep", "speed_limit": 2.0}
NAME = "edge.test"


def write_files(folder: Path) -> tuple[Authority, dict[str, str]]:
    folder.mkdir(exist_ok=True)
    authority = Authority()
    authority.server(NAME).write(folder, "server")
    authority.vehicle("planner").write(folder, "client")
    (folder / "ca.crt").write_bytes(authority.certificate)
    return authority, {"cert": "server.crt", "key": "server.key", "client_ca": "ca.crt"}


def client(folder: Path, address: str, own: str = "client") -> PerceptionClient:
    return PerceptionClient(
        address,
        ca=folder / "ca.crt",
        cert=folder / f"{own}.crt",
        key=folder / f"{own}.key",
        server_name=NAME,
    )


def test_tls_asks_both_sides_and_takes_renewed_files_over(tmp_path: Path) -> None:
    _authority, tls = write_files(tmp_path)
    path = f"unix:{tmp_path}/p.sock"
    serve = {"address": "127.0.0.1:0", "more_addresses": [path, "127.0.0.1:0"]}
    config = write_config(tmp_path, DRIVE, **{"serve": serve, "serve.tls": tls})
    with DaemonProcess(config) as daemon:
        first, unix, second = daemon.event("started")["addresses"]
        assert unix == path and first != second
        with PerceptionClient(unix) as local:
            assert next(local.detections()).detections.frame.camera == "camera0"
        for address in (first, second):
            with client(tmp_path, address) as far:
                assert next(far.detections()).detections.frame.camera == "camera0"
        stranger = Authority("another")
        stranger.vehicle("thief").write(tmp_path, "thief")
        with client(tmp_path, first, "thief") as thief, pytest.raises(ClientError):
            thief.status()
        with PerceptionClient(first) as plain, pytest.raises(ClientError):
            plain.status()
        nobody = PerceptionClient(first, ca=tmp_path / "ca.crt", server_name=NAME)
        with nobody, pytest.raises(ClientError):
            nobody.status()
        (tmp_path / "server.crt").write_text("half written")
        with client(tmp_path, first) as far:
            assert far.status().status.cameras
        new = Authority("renewed")
        new.server(NAME).write(tmp_path, "server")
        with client(tmp_path, first) as far, pytest.raises(ClientError, match="CERTIFICATE_VERIFY_FAILED"):
            far.status()  # it trusts the old authority alone
        (tmp_path / "new.crt").write_bytes(new.certificate)
        with PerceptionClient(
            first,
            ca=tmp_path / "new.crt",
            cert=tmp_path / "client.crt",
            key=tmp_path / "client.key",
            server_name=NAME,
        ) as far:
            assert far.status().status.cameras
        daemon.event("certificates_renewed")
        assert any("are not taken over yet" in line["message"] for line in daemon.log)
        watching = [*COMMAND, "watch", "--config", str(config), "--limit", "2"]
        seen = subprocess.run(watching, capture_output=True, text=True, timeout=LONG_S, check=True)
        assert "camera0  frame" in seen.stdout  # by the Unix socket
        assert daemon.terminate() == 0


def test_files_that_are_none_are_refused_at_the_start_and_by_the_client(tmp_path: Path) -> None:
    write_files(tmp_path)
    config = write_config(tmp_path, DRIVE)
    text = config.read_text()
    config.write_text(text + '\n[serve.tls]\ncert = "server.crt"\nkey = "client.key"\n')
    assert "client.key' is not that of" in refused(config)
    config.write_text(text + '\n[serve.tls]\ncert = "server.key"\nkey = "server.key"\n')
    assert "server.key' holds no certificate in PEM" in refused(config)
    with pytest.raises(CertificateError, match=r"none.crt' cannot be read: No such file"):
        PerceptionClient("127.0.0.1:1", ca=tmp_path / "none.crt")
    with pytest.raises(ClientError, match="is a Unix socket, which has no TLS"):
        PerceptionClient("unix:/p.sock", ca=tmp_path / "ca.crt")


def test_health_follows_the_frames_and_reflection_lists_the_service(tmp_path: Path) -> None:
    # A camera of a frame in four seconds, which is stale after one.
    camera = {"url": str(write_drive(tmp_path / "drive", 4)), "still_rate_hz": 0.25, "stale_after_ms": 1000.0}
    config = write_config(tmp_path, camera)
    with DaemonProcess(config) as daemon, grpc.insecure_channel(daemon.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        def serving() -> bool:
            request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
            answer = health.Check(request, timeout=LONG_S)
            return answer.status == health_pb2.HealthCheckResponse.SERVING

        eventually(serving, "the camera is fresh")
        eventually(lambda: not serving(), "the camera is stale")
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        (listed,) = reflection.ServerReflectionInfo(asked, timeout=LONG_S)
        assert SERVICE_NAME in {service.name for service in listed.list_services_response.service}
        daemon.event("camera_ended")
        eventually(serving, "a recording that has ended is no trouble")
        assert daemon.terminate() == 0


def test_the_ten_lines_of_the_example_run(tmp_path: Path) -> None:
    with DaemonProcess(write_config(tmp_path, DRIVE)) as daemon:
        command = [sys.executable, "-m", "tools.examples.detections", daemon.address]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as example:
            assert example.stdout is not None
            lines = [example.stdout.readline().split() for _ in range(3)]
            example.kill()
        assert [line[0] for line in lines] == ["camera0"] * 3
        numbers = [int(line[1]) for line in lines]
        assert numbers == [0, 1, 2]
        assert daemon.terminate() == 0


def test_clients_that_come_and_go_or_never_read_leave_nothing_behind(tmp_path: Path) -> None:
    quick = {**DRIVE, "speed_limit": 50.0}
    config = write_config(tmp_path, quick, serve={"address": "127.0.0.1:0", "max_streams": 4})
    with DaemonProcess(config) as daemon:
        process = psutil.Process(daemon.process.pid)
        # gRPC would let megabytes wait in the transport before the daemon sees that a client is slow.
        little = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024))
        channel = grpc.insecure_channel(daemon.address, options=little)
        stub = perception_pb2_grpc.PerceptionServiceStub(channel)
        request = perception_pb2.StreamDetectionsRequest(queue_limit=2)
        slow = [stub.StreamDetections(request, timeout=600) for _ in range(4)]
        assert next(slow[0]).dropped_messages == 0
        for stream in slow[1:]:
            next(stream)
        with pytest.raises(grpc.RpcError) as full:
            next(stub.StreamDetections(request, timeout=LONG_S))
        assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for stream in slow[1:]:
            stream.cancel()

        def let_in() -> bool:
            with PerceptionClient(daemon.address) as one:
                try:
                    return bool(next(one.detections()).detections.frame.camera)
                except ClientError as refused:  # a place comes free a little after its client has gone
                    assert "streams are open" in str(refused)
                    return False

        def churn(times: int) -> None:
            for _ in range(times):
                eventually(let_in, "a client is let in")

        def frames() -> int:
            return daemon.cameras()["camera0"].captured_frames

        churn(100)
        threads, memory = process.num_threads(), process.memory_info().rss
        churn(100)
        memory_after = process.memory_info().rss
        print(f"{memory / 1e6:.1f} MB, after 100 clients more {memory_after / 1e6:.1f} MB")
        eventually(lambda: process.num_threads() <= threads + 2, "threads of clients that have gone end")
        assert memory_after < memory + 8e6
        expected, dropped = 1, 0
        # The one that never read catches up, and is told what it lost.
        for asleep in (500, 1000, 2000, 4000):
            until = expected + asleep
            eventually(lambda until=until: frames() > until, f"{asleep} frames more")
            while dropped == 0 and expected <= until:
                message = next(slow[0])
                assert message.sequence == expected + message.dropped_messages
                expected, dropped = message.sequence + 1, message.dropped_messages
            if dropped:
                break
        assert dropped
        channel.close()
        assert daemon.terminate() == 0
