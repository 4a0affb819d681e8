"""A cloud that turns hostile, and a vehicle that asks it: a real daemon, over real gRPC with mutual TLS.

The repository and the code that serves it are the real ones; what stands between them and the wire is the
test's: `world.server.metadata` and `.target`. The control stream is a cloud's, too, so that the vehicle looks
when it is told to.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from time import monotonic, time_ns
from typing import Any

import grpc

from cloud.release.role_files import current_role
from edge.updates.hardware import hardware_ids
from protos import handshake
from protos.release_facts import ReleaseFacts
from protos.traffic_vision.v1 import common_pb2
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.traffic_vision.v1 import fleet_pb2_grpc as fleet_grpc
from tests.certificates import Authority
from tests.daemons import DaemonProcess, write_config
from tests.update_world import Server, StatusError, World
from tests.update_world import model as model_file
from tests.waiting import eventually

DEADLINE_S = 30
AGAIN_S = 2.0
RESTING = (
    common_pb2.UPDATE_PHASE_IDLE,
    common_pb2.UPDATE_PHASE_CONFIRMED,
    common_pb2.UPDATE_PHASE_REFUSED,
    common_pb2.UPDATE_PHASE_REVERTED,
)
DRIVE = {"url": "sim:7?seconds=0&rate=10&size=64x64"}
OWN_HARDWARE = hardware_ids(("cpu",))
PROBATION = {"probation_s": 0.001, "probation_frames": 3}


class HostileCloud(fleet_grpc.FleetServiceServicer):
    """The fleet's service: its files as the world's hooks give them, and a control stream that nudges."""

    def __init__(self, files: Server) -> None:
        self.FetchMetadata = files.FetchMetadata
        self.FetchTarget = files.FetchTarget
        self._says: list[queue.SimpleQueue[fleet.ControlResponse | None]] = []

    def Control(self, requests: Any, context: grpc.ServicerContext) -> Iterator[fleet.ControlResponse]:
        says: queue.SimpleQueue[fleet.ControlResponse | None] = queue.SimpleQueue()
        next(requests)
        welcome = fleet.Welcome(
            protocol_version=handshake.NEWEST_PROTOCOL,
            protocol=handshake.supported(),
            server_version="hostile",
            server_wall_ns=time_ns(),
            heartbeat_interval_ms=60_000,
        )
        yield fleet.ControlResponse(welcome=welcome)
        self._says.append(says)
        context.add_callback(lambda: says.put(None))
        while (response := says.get()) is not None:
            yield response

    def nudge(self) -> None:
        """Tell every vehicle to look."""
        for says in tuple(self._says):
            says.put(fleet.ControlResponse(update_nudge=fleet.UpdateNudge()))


class Prey:
    """A vehicle's daemon beside the cloud that attacks it."""

    def __init__(self, world: World, cloud: HostileCloud, config: Path) -> None:
        self.world = world
        self.cloud = cloud
        self.config = config
        self.daemon: DaemonProcess

    def release(self, data: bytes, **terms: Any) -> ReleaseFacts:
        terms.setdefault("hardware_ids", OWN_HARDWARE)
        return self.world.release(data, **terms)

    def status(self) -> common_pb2.VehicleStatus:
        return self.daemon.client.status().status

    def confirmed(self, data: bytes, **terms: Any) -> ReleaseFacts:
        """Release it; the vehicle drives on it, confirmed."""
        facts = self.release(data, **terms)
        self.reaches(facts)
        return facts

    def reaches(self, facts: ReleaseFacts) -> None:
        """A look may find what is left of an attack, and give it up; the next one begins anew."""
        asked = 0.0

        def holds() -> bool:
            nonlocal asked
            model = self.status().model
            if monotonic() - asked > AGAIN_S and model.phase in RESTING:
                asked = monotonic()
                self.cloud.nudge()
            is_there = model.active.sha256 == facts.model_sha256
            return is_there and model.phase == common_pb2.UPDATE_PHASE_CONFIRMED

        eventually(holds, f"release {facts.release_counter} confirmed: {self.status().model}")

    def says(self, *told: str) -> str:
        """It looks, and says this of what it found."""
        self.cloud.nudge()
        found = ""

        def said() -> bool:
            nonlocal found
            found = self.status().model.detail
            return all(words in found for words in told)

        try:
            eventually(said, str(told))
        except AssertionError as error:
            lines = [line["message"] for line in self.daemon.log[-5:]]
            raise AssertionError(
                f"{error}; it says {found!r}, it logs {lines} {self.daemon.errors}"
            ) from None
        return found

    def refuses(self, *told: str) -> str:
        """It looks, says why it takes nothing, and goes on driving on the model that it had."""
        before = self.status()
        detail = self.says(*told)
        self.drives_on(before.model.active.sha256, before.model.release_counter)
        return detail

    def drives_on(self, sha256: str, floor: int) -> None:
        """It publishes frames of this model, from now on too, and its floor is where it was."""
        for message in islice(self.daemon.client.detections(), 3):
            assert message.detections.model.sha256 == sha256
        assert self.status().model.release_counter == floor
        assert self.daemon.process.poll() is None


@contextmanager
def prey(
    world: World,
    folder: Path,
    *,
    updates: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
) -> Iterator[Prey]:
    """A vehicle that drives on its factory's model, connected.

    Args:
        world: what is released, and how it is served.
        folder: of the vehicle; what it keeps from an earlier start is used.
        updates: keys of [updates] beside those that make a probation short.
        model: keys of [model] beside its factory's file.
    """
    authority = Authority()
    folder.mkdir(exist_ok=True)
    (folder / "ca.crt").write_bytes(authority.certificate)
    authority.vehicle("test-1").write(folder, "client")
    (folder / "root.json").write_bytes(world.root)
    (folder / "factory.onnx").write_bytes(model_file("factory"))
    with _serving(HostileCloud(world.server), authority) as (cloud, port):
        config = write_config(
            folder,
            DRIVE,
            cloud={
                "address": f"localhost:{port}",
                "retry_limit_s": 0.5,
                "ca": "ca.crt",
                "cert": "client.crt",
                "key": "client.key",
            },
            model={"factory": "factory.onnx", "threads": 1, **(model or {})},
            updates={"root": "root.json", **PROBATION, **(updates or {})},
        )
        vehicle = Prey(world, cloud, config)
        with DaemonProcess(config) as vehicle.daemon:
            yield vehicle
            code = vehicle.daemon.terminate()
            assert code == 0, (code, vehicle.daemon.errors, vehicle.daemon.log[-3:])
        assert not [line for line in vehicle.daemon.log if "traceback" in line]


@contextmanager
def _serving(cloud: HostileCloud, authority: Authority) -> Iterator[tuple[HostileCloud, int]]:
    issued = authority.server("localhost")
    credentials = grpc.ssl_server_credentials(
        [(issued.key, issued.certificate)], authority.certificate, require_client_auth=True
    )
    pool = ThreadPoolExecutor(8)
    server = grpc.server(pool)
    fleet_grpc.add_FleetServiceServicer_to_server(cloud, server)
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    try:
        yield cloud, port
    finally:
        server.stop(None).wait(DEADLINE_S)
        pool.shutdown(wait=True)


def files_of(world: World) -> dict[str, bytes]:
    """The repository's metadata as it is now, to be served later."""
    return {path.name: path.read_bytes() for path in (world.folder / "metadata").iterdir()}


def serve_files(world: World, files: dict[str, bytes]) -> None:
    """Serve these in place of the repository's."""

    def metadata(request: fleet.FetchMetadataRequest) -> Iterator[fleet.FetchMetadataResponse]:
        version = f"{request.version}." if request.HasField("version") else ""
        data = files.get(f"{version}{request.role}.json")
        if data is None:
            raise StatusError(grpc.StatusCode.NOT_FOUND)
        yield fleet.FetchMetadataResponse(data=data, offset_bytes=0, total_bytes=len(data))

    world.server.metadata = metadata


def models_version(world: World) -> int:
    return int(current_role(world.folder, "models").signed.version)
