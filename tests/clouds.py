"""What the tests of the cloud share: a cloud's folder, its server as a real process, vehicles on the wire."""

from __future__ import annotations

import hashlib
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cloud.config import CloudConfig, load_config
from cloud.fleet.enrolment import CloudChoices, enrol, init_cloud
from cloud.fleet.enrolment_desk import EnrolmentDesk, Given
from cloud.fleet.pki import Authority
from cloud.fleet.repository import open_repository
from cloud.store import Store, open_database
from cloud.store.columns import utc_now
from edge.fleet import identity
from protos import handshake
from protos.enrolment import ticket_of_text
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.traffic_vision.v1 import fleet_pb2_grpc as fleet_grpc
from tests import models_factory as factory

ROOT = Path(__file__).resolve().parents[1]
WAIT_S = 60.0
MAIN = "from tools.cli import main; main()"
HW = (48, 64)


# Ports that are free, each by a name of its own, so that a test may fix one of them.
ENROL_LISTEN = "localhost:0"
_ENROL_LINE = '# enrol_listen = "HOST:PORT"'


def make_cloud(folder: Path, *vehicles: str, extra: str = "", serve: str = "") -> CloudConfig:
    """A cloud's folder with vehicles; `extra` is added to its cloud.toml, `serve` to that section."""
    choices = CloudChoices(listen="127.0.0.1:0", address="127.0.0.1:1")
    init_cloud(folder, choices)
    path = folder / "cloud.toml"
    text = path.read_text()
    assert _ENROL_LINE in text
    ports = f'enrol_listen = "{ENROL_LISTEN}"\nenrol_address = "127.0.0.1:1"\n{serve}'
    path.write_text(f"{text.replace(_ENROL_LINE, ports)}\n{extra}")
    config = load_config(path)
    for vehicle in vehicles:
        enrol_vehicle(config, vehicle)
    return config


def enrol_vehicle(
    config: CloudConfig, vehicle: str, now: Callable[[], datetime] = utc_now, fleet: str | None = None
) -> tuple[Path, Given]:
    """A vehicle's identity in a folder of the cloud's, by the ways of the enrolment, without its network."""
    key = identity.new_key()
    ticket = ticket_of_text(enrol(config, vehicle, fleet=fleet).text)
    with desk(config, now) as opened:
        given = opened.enrol(ticket.token, identity.request_for(key), "a test")
    folder = config.folders.pki.parent / "vehicles" / vehicle
    folder.mkdir(parents=True, exist_ok=True)
    certificate = x509.load_der_x509_certificate(given.certificate_der).public_bytes(Encoding.PEM)
    (folder / "client.key").write_bytes(identity.key_to_pem(key))
    (folder / "client.crt").write_bytes(certificate)
    (folder / "ca.crt").write_bytes((config.folders.pki / "ca.crt").read_bytes())
    (folder / "root.json").write_bytes(open_repository(config).root())
    return folder, given


@contextmanager
def desk(config: CloudConfig, now: Callable[[], datetime] = utc_now) -> Iterator[EnrolmentDesk]:
    """The cloud's giver of certificates, at a time of one's choice."""
    lifetime = timedelta(days=config.serve.certificate_days)
    with database(config) as store:
        yield EnrolmentDesk(store, Authority.open(config.folders.pki), lifetime, now=now)


def command_line(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", MAIN, *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "GRPC_VERBOSITY": "NONE"}


class ServerProcess:
    """`traffic-vision cloud serve`, as people run it."""

    def __init__(self, folder: Path) -> None:
        self.log = (folder / "server.log").open("ab")
        self.process = subprocess.Popen(
            command_line("cloud", "serve", "--config", folder / "cloud.toml"),
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment(),
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        assert line.startswith("serving "), (folder / "server.log").read_text()
        _, self.address, _, self.enrol_address = line.split()

    def kill(self) -> None:
        """As `kill -9`."""
        self.process.kill()
        self.close()

    def stop(self) -> int:
        """As the system's manager of services; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.close()

    def close(self) -> int:
        code = self.process.wait(WAIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()
        return code


@contextmanager
def serving(folder: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(folder)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.close()


@contextmanager
def channel(address: str, identity: Path | None, authority: Path | None = None) -> Iterator[grpc.Channel]:
    """A channel with the certificate in the folder `identity`, or without one."""
    roots = ((authority or identity or Path()) / "ca.crt").read_bytes()
    key = certificate = None
    if identity is not None:
        key, certificate = (identity / "client.key").read_bytes(), (identity / "client.crt").read_bytes()
    credentials = grpc.ssl_channel_credentials(roots, key, certificate)
    options = [("grpc.enable_retries", 0)]
    with grpc.secure_channel(address, credentials, options) as opened:
        yield opened


@contextmanager
def connected(folder: Path, address: str, vehicle: str) -> Iterator[fleet_grpc.FleetServiceStub]:
    with channel(address, folder / "vehicles" / vehicle) as opened:
        yield fleet_grpc.FleetServiceStub(opened)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def a_jpeg(number: int = 0, hw: tuple[int, int] = HW) -> bytes:
    """A picture of its own for each number, small."""
    noise = np.random.default_rng(number).integers(0, 255, (*hw, 3), dtype=np.uint8)
    return factory.jpeg(noise)


def a_sample(identity: str, jpeg: bytes | None = None, **fields: Any) -> fleet.Sample:
    jpeg = a_jpeg() if jpeg is None else jpeg
    sample = fleet.Sample(
        id=identity,
        jpeg=jpeg,
        jpeg_sha256=sha256(jpeg),
        frame=common.FrameRef(camera="front", epoch=1, sequence=9, width_px=HW[1], height_px=HW[0]),
        source=fleet.SampleSource(id="sim:7", drive_id="7", drive_ns=900_000_000),
        reasons=[fleet.SAMPLE_REASON_DRIFT, fleet.SAMPLE_REASON_UNCERTAINTY],
        priority=0.5,
        drift_event_id="event-1",
    )
    sample.MergeFrom(fleet.Sample(**fields))
    return sample


def a_series(identity: str, rows: int = 3) -> fleet.FeatureSeries:
    names = ["brightness", "contrast"]
    return fleet.FeatureSeries(
        id=identity,
        camera="front",
        source=fleet.SampleSource(id="sim:7", drive_id="7"),
        names=names,
        drive_ns=[number * 500_000_000 for number in range(rows)],
        values=[0.5, float("nan")] * rows,
    )


def upload(
    stub: fleet_grpc.FleetServiceStub, samples: Iterable[fleet.Sample]
) -> list[fleet.UploadSamplesResponse]:
    requests = (fleet.UploadSamplesRequest(sample=sample) for sample in samples)
    return list(stub.UploadSamples(requests, timeout=WAIT_S))


def outcomes(responses: Sequence[fleet.UploadSamplesResponse]) -> dict[str, tuple[str, str]]:
    """The contract's words by the sample's id."""
    return {
        response.sample_id: (
            fleet.UploadOutcome.Name(response.outcome).removeprefix("UPLOAD_OUTCOME_"),
            fleet.RefusalReason.Name(response.reason).removeprefix("REFUSAL_REASON_"),
        )
        for response in responses
    }


def a_hello(instance: str = "one", **fields: Any) -> fleet.ControlRequest:
    hello = fleet.Hello(
        protocol=handshake.supported(),
        instance_id=instance,
        daemon_version="1.2",
        hardware_ids=["x86_64-cpu"],
    )
    hello.MergeFrom(fleet.Hello(**fields))
    return fleet.ControlRequest(hello=hello)


class ControlStream:
    """A control stream that a test speaks on, message by message."""

    def __init__(self, stub: fleet_grpc.FleetServiceStub) -> None:
        self._outgoing: queue.Queue[fleet.ControlRequest | None] = queue.Queue()
        self._call = stub.Control(iter(self._outgoing.get, None), timeout=WAIT_S)

    def say(self, request: fleet.ControlRequest) -> None:
        self._outgoing.put(request)

    def say_no_more(self) -> None:
        self._outgoing.put(None)

    def hear(self) -> fleet.ControlResponse:
        response: fleet.ControlResponse = next(self._call)
        return response

    def rest(self) -> list[fleet.ControlResponse]:
        """What still comes, until the server ends the stream."""
        return list(self._call)

    def close(self) -> None:
        self.say_no_more()
        self._call.cancel()


@contextmanager
def conversation(stub: fleet_grpc.FleetServiceStub) -> Iterator[ControlStream]:
    stream = ControlStream(stub)
    try:
        yield stream
    finally:
        stream.close()


@contextmanager
def database(config: CloudConfig) -> Iterator[Store]:
    store = open_database(config.store.database)
    try:
        yield store
    finally:
        store.close()


def in_threads(*works: Callable[[], None]) -> None:
    """Run these at the same time, to their end; what one raises is raised here."""
    with ThreadPoolExecutor(len(works)) as threads:
        for done in [threads.submit(work) for work in works]:
            done.result(WAIT_S)
