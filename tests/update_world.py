"""A cloud that signs releases, on loopback, and vehicles that look for them.

The repository, the serving part, gRPC and the vehicle's own code are the real ones; mutual TLS is left out.
A test turns the server hostile by `World.server.metadata` and `.target`, which stand between files and wire.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import grpc
from tuf.api.metadata import Metadata as Signed
from tuf.api.metadata import Root

import edge
from cloud.release import releasing, repository, serving
from cloud.release.ceremony import Wish, begin_delegation, begin_rotation
from cloud.release.key_publishing import finish, publish
from cloud.release.keys import KeyRing, create_keys, load_keys
from cloud.release.releasing import ReleaseTerms
from cloud.release.role_files import current_role
from edge.machine.disk_budget import DiskLane
from edge.updates.client import UpdateClient, UpdateResult
from edge.updates.download import TransferLimits
from edge.updates.evidence import Evidence
from edge.updates.slots import Slots
from edge.updates.trust import Vehicle
from protos.release_facts import ReleaseFacts, role_of_fleet
from protos.traffic_vision.v1 import common_pb2
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.traffic_vision.v1 import fleet_pb2_grpc as fleet_grpc
from tests.models_factory import rectangles_model

HARDWARE = "x86_64-cpu"
VEHICLE = Vehicle(hardware_ids=frozenset({HARDWARE}), daemon_version=edge.__version__)
TERMS = ReleaseTerms(hardware_ids=(HARDWARE,))
LIMITS = TransferLimits(rpc_s=20, least_bytes_per_s=1, metadata_s=40)
DEADLINE_S = 30

Metadata = Callable[[fleet.FetchMetadataRequest], Iterator[fleet.FetchMetadataResponse]]
Target = Callable[[fleet.FetchTargetRequest], Iterator[fleet.FetchTargetResponse]]


@cache
def model(version: str, padding: int = 0) -> bytes:
    """A model file; padding bytes in its drift prior make it larger."""
    return rectangles_model(version=version, drift_prior="x" * padding if padding else None)


class Server(fleet_grpc.FleetServiceServicer):
    """The fleet service's two file streams over a repository."""

    def __init__(self, folder: Path) -> None:
        self.metadata: Metadata = lambda request: serving.fetch_metadata(folder, request)
        self.target: Target = lambda request: serving.fetch_target(folder, request)
        self.asked: list[str] = []  # what was fetched, in order
        self.hung_up = threading.Event()  # set when the latest call ends, whoever ended it

    def FetchMetadata(
        self, request: fleet.FetchMetadataRequest, context: grpc.ServicerContext
    ) -> Iterator[fleet.FetchMetadataResponse]:
        version = f"{request.version}." if request.HasField("version") else ""
        self.asked.append(f"{version}{request.role}")
        self.hung_up.clear()
        context.add_callback(self.hung_up.set)
        yield from answered(self.metadata(request), context)

    def FetchTarget(
        self, request: fleet.FetchTargetRequest, context: grpc.ServicerContext
    ) -> Iterator[fleet.FetchTargetResponse]:
        self.asked.append(f"{request.path}@{request.offset_bytes}")
        self.hung_up.clear()
        context.add_callback(self.hung_up.set)
        yield from answered(self.target(request), context)


def answered(chunks: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
    try:
        yield from chunks
    except serving.NoSuchFileError as error:
        context.abort(grpc.StatusCode.NOT_FOUND, str(error))
    except serving.OffsetError as error:
        context.abort(grpc.StatusCode.OUT_OF_RANGE, str(error))
    except StatusError as error:
        context.abort(error.code, "on purpose")


class StatusError(Exception):
    """Raised by a hook: ends the RPC with this status."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class World:
    """A cloud's folder with its keys, and its server."""

    folder: Path
    keys: KeyRing
    server: Server
    channel: grpc.Channel
    stop_server: Callable[[], None]
    port: int
    vehicles: list[Slots] = field(default_factory=list)

    @property
    def root(self) -> bytes:
        """The root that ships with every vehicle: the first one."""
        return (self.folder / "metadata" / "1.root.json").read_bytes()

    def propose(self, data: bytes, now: datetime | None = None, **terms: Any) -> ReleaseFacts:
        """The trainer's step."""
        trainer = self.keys.signer(self.keys.release_key("trainer", terms.get("fleet")))
        return releasing.propose_release(self.folder, data, replace(TERMS, **terms), trainer, now)

    def complete(self, sha256: str, now: datetime | None = None, fleet: str | None = None) -> ReleaseFacts:
        """The gate's step."""
        names = (self.keys.release_key("gate", fleet), "snapshot", "timestamp")
        signers = [self.keys.signer(name) for name in names]
        return releasing.complete_release(self.folder, sha256, *signers, now, fleet)

    def release(self, data: bytes, now: datetime | None = None, **terms: Any) -> ReleaseFacts:
        """Both steps."""
        return self.complete(self.propose(data, now, **terms).model_sha256, now, terms.get("fleet"))

    def delegate(self, fleet: str, own_keys: bool = False) -> None:
        """A fleet gets its role."""
        keys = self.keys.folder
        begin_delegation(self.folder, keys, fleet, Wish("owner"), own_keys=own_keys)
        assert publish(self.folder, keys) is not None
        finish(self.folder)
        self.keys = load_keys(keys)

    def exchange(self, subject: str, *, revoke: bool = False, now: datetime | None = None) -> None:
        """A key, or all keys of a role, is rotated or revoked."""
        keys, wish = self.keys.folder, Wish("owner", "stolen" if revoke else "")
        begin_rotation(self.folder, keys, subject, wish, revoke=revoke, now=now)
        assert publish(self.folder, keys, now) is not None
        finish(self.folder)
        self.keys = load_keys(keys)

    def evidence(self, facts: ReleaseFacts) -> Evidence:
        """What proves a release, straight from the repository."""
        return evidence_in(self.folder, facts)

    def slots(
        self,
        folder: Path,
        vehicle: Vehicle = VEHICLE,
        root: bytes | None = None,
        disk: DiskLane | None = None,
    ) -> Slots:
        """A vehicle's slots; they are closed with the world."""
        factory = folder / "factory.onnx"
        folder.mkdir(parents=True, exist_ok=True)
        if not factory.exists():
            factory.write_bytes(model("factory"))
        slots = Slots(folder / "slots", factory, root or self.root, vehicle, disk=disk)
        self.vehicles.append(slots)
        return slots

    def client(self, slots: Slots, limits: TransferLimits = LIMITS, **options: Any) -> UpdateClient:
        """A vehicle's client."""
        return UpdateClient(fleet_grpc.FleetServiceStub(self.channel), slots, limits=limits, **options)

    def close(self) -> None:
        """End the server and give the vehicles' folders back."""
        self.channel.close()
        self.stop_server()
        for slots in self.vehicles:
            slots.close()


def check(world: World, slots: Slots, **options: Any) -> UpdateResult:
    """A vehicle looks once."""
    return world.client(slots, **options).check()


def activated(world: World, slots: Slots) -> None:
    """A vehicle gets the newest release, drives on it, and confirms it."""
    assert check(world, slots).phase == common_pb2.UPDATE_PHASE_STAGED
    slots.activate()
    slots.confirm()


def open_world(folder: Path, now: datetime | None = None) -> World:
    """Make a repository in `folder` and serve it."""
    keys = create_keys(folder / "keys")
    repository.create_repository(folder / "repository", keys, now)
    service = Server(folder / "repository")
    pool = ThreadPoolExecutor(4)
    server = grpc.server(pool)
    fleet_grpc.add_FleetServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def stop() -> None:
        server.stop(None).wait(DEADLINE_S)
        pool.shutdown(wait=True)

    return World(folder / "repository", keys, service, channel, stop, port)


def evidence_in(folder: Path, facts: ReleaseFacts) -> Evidence:
    """What proves a release of the repository in `folder`."""
    metadata = folder / "metadata"
    count = len(list(metadata.glob("*.root.json")))
    return Evidence(
        roots=tuple((metadata / f"{version}.root.json").read_bytes() for version in range(2, count + 1)),
        targets=current_role(folder, "targets").to_bytes(),
        models=current_role(folder, role_of_fleet(facts.fleet)).to_bytes(),
        path=facts.target_path,
    )


def utc(*when: int) -> datetime:
    """A moment in UTC."""
    return datetime(*when, tzinfo=timezone.utc)


def edit(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Change a metadata document without signing it anew."""
    document = json.loads(data)
    change(document)
    return json.dumps(document).encode()


def exchange_root_keys(world: World) -> None:
    """Three root rotations, each exchanging one root key, signed by two old and two new ones."""
    ring = [world.keys.signer(name) for name in ("root-1", "root-2", "root-3")]
    for turn in range(3):
        root = Signed[Root].from_bytes(repository.current_root(world.folder)).signed
        fresh = create_keys(world.folder.parent / f"keys-{turn}").signer("root-1")
        root.revoke_key(ring[0].public_key.keyid, "root")
        root.add_key(fresh.public_key, "root")
        ring = [*ring[1:], fresh]
        repository.publish_root(world.folder, root, ring)
