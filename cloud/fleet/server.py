"""The fleet server: opens what it needs, serves until it is told to stop, and closes again."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import grpc
from sqlalchemy import func, select

from cloud.config import CloudConfig
from cloud.fleet.admission import Admission
from cloud.fleet.assigner import Assigner
from cloud.fleet.control import ControlService
from cloud.fleet.enrolment_desk import EnrolmentDesk
from cloud.fleet.enrolment_service import MAX_CALLS, MAX_MESSAGE_BYTES, EnrolmentService
from cloud.fleet.group_commit import GroupCommit
from cloud.fleet.ingest import Answer, Ingest, Upload
from cloud.fleet.pki import Authority, KeyPair, read_pair
from cloud.fleet.repository import Repository, open_repository
from cloud.fleet.service import FleetService
from cloud.fleet.session_chain import Link
from cloud.fleet.session_records import link_of
from cloud.fleet.sessions import Sessions
from cloud.fleet.vehicle_records import Record, VehicleRecords
from cloud.store import FolderObjects, Store, open_database
from cloud.store.models import Release
from edge.errors import TrafficVisionError
from protos.traffic_vision.v1 import enrolment_pb2_grpc as enrolment_grpc
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.traffic_vision.v1 import fleet_pb2_grpc as fleet_grpc

# After the signal, calls may still end by themselves for so long; the whole stop stays under 3 s.
GRACE_S = 1.5
# A message beyond it ends its whole stream, so it is well above what is refused by itself.
RECEIVE_HEADROOM = 2
UPLOAD_BATCH = 256
RECORD_BATCH = 256
GIVES_WAY_HEARTBEATS = 2  # an instance that is silent for so many: another may take its place
RECORDS_WAITING_BYTES = 16_000_000
CALLS_PER_VEHICLE = 4  # control, samples, features, a fetch
CONNECTION_AGE_MS = 6 * 3_600_000
MAX_METADATA_BYTES = 8_192  # of a call to enrol

# Signed metadata is looked at so often whether it must be signed anew.
REFRESH_INTERVAL_S = 300.0
# So often it is looked at whether those who are served may still be.
STANDING_INTERVAL_S = 1.0

_LOG = logging.getLogger(__name__)


class ServerError(TrafficVisionError):
    """The server cannot start."""


def serve(config: CloudConfig, ready: Callable[[str, str], None]) -> None:
    """Serve the fleet until SIGTERM or SIGINT.

    Args:
        config: the cloud's.
        ready: is told HOST:PORT of the fleet's service, and that of enrolment, once vehicles can connect.

    Raises:
        TrafficVisionError: a certificate, folder or database is missing, or the port is taken.
    """
    certificates, authority = read_pair(config.folders.pki, "server"), Authority.open(config.folders.pki)
    objects = FolderObjects(config.store.objects)
    try:
        store = open_database(config.store.database)
        try:
            server = FleetServer(config, store, objects, open_repository(config))
            asyncio.run(server.run(certificates, authority, ready))
        finally:
            store.close()
    finally:
        objects.close()


class FleetServer:
    """One server on one event loop."""

    def __init__(
        self, config: CloudConfig, store: Store, objects: FolderObjects, repository: Repository | None
    ) -> None:
        """Take what is open already."""
        self._config = config
        self._store = store
        self._objects = objects
        self._repository = repository
        self._stop = asyncio.Event()

    async def run(
        self, certificates: KeyPair, authority: Authority, ready: Callable[[str, str], None]
    ) -> None:
        """Serve until SIGTERM or SIGINT."""
        limits = self._config.limits
        assigner = Assigner(self._store, self._config)
        vehicle_records = VehicleRecords(self._store, assigner.wake)
        vehicle_records.everyone_is_disconnected()
        ingest = Ingest(self._store, self._objects, limits, self._config.quotas)
        uploads: GroupCommit[Upload, Answer] = GroupCommit(
            ingest.commit,
            name="ingest",
            waiting_limit_bytes=limits.waiting_bytes,
            batch_limit=UPLOAD_BATCH,
        )
        records: GroupCommit[Record, bool] = GroupCommit(
            vehicle_records.commit,
            name="records",
            waiting_limit_bytes=RECORDS_WAITING_BYTES,
            batch_limit=RECORD_BATCH,
        )
        sessions = Sessions(GIVES_WAY_HEARTBEATS * self._config.serve.heartbeat_interval_s)
        admission = Admission(self._store, sessions)
        control = ControlService(
            records, self._config.serve, limits, assigner, sessions, admission.rival, self._link
        )
        service = FleetService(admission, control, uploads, self._repository, limits.in_flight)

        server = self._make_server()
        fleet_grpc.add_FleetServiceServicer_to_server(service, server)
        address = _bind(server, self._config.serve.listen, certificates, authority.certificate)
        desk = EnrolmentDesk(
            self._store,
            authority,
            timedelta(days=self._config.serve.certificate_days),
            admits=sessions.admits,
        )
        enrolment = EnrolmentService(desk, self._repository, self._address_for_vehicles(address))
        enrolment_server = _make_enrolment_server()
        enrolment_grpc.add_EnrolmentServiceServicer_to_server(enrolment, enrolment_server)
        enrol_address = _bind(enrolment_server, self._config.serve.enrolment_listen, certificates, None)
        self._capture_signals()
        committing = [asyncio.create_task(group.run()) for group in (uploads, records)]
        await server.start()
        await enrolment_server.start()
        watching = [
            asyncio.create_task(assigner.run()),
            asyncio.create_task(
                self._every(self._config.serve.release_poll_s, self._nudge, control, assigner)
            ),
            asyncio.create_task(self._every(REFRESH_INTERVAL_S, self._refresh)),
            asyncio.create_task(self._every(STANDING_INTERVAL_S, admission.look_again)),
        ]
        _LOG.info("serving %s, enrolment at %s", address, enrol_address)
        ready(address, enrol_address)

        await self._stop.wait()

        _LOG.info("stopping")
        control.stop()
        assigner.stop()
        await uploads.close()
        await asyncio.gather(server.stop(GRACE_S), enrolment_server.stop(GRACE_S))
        await asyncio.to_thread(enrolment.close)
        await records.close()
        await asyncio.gather(*committing, *watching)

    def _make_server(self) -> grpc.aio.Server:
        return grpc.aio.server(
            maximum_concurrent_rpcs=CALLS_PER_VEHICLE * self._config.serve.max_vehicles,
            options=[
                # Otherwise a second server would share the port instead of being told that it is taken.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", RECEIVE_HEADROOM * self._config.limits.sample_bytes),
                # A vehicle that drove into a tunnel is gone without a word.
                ("grpc.keepalive_time_ms", 20_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
                # What a certificate is worth is looked at when a call begins: none lasts for ever.
                ("grpc.max_connection_age_ms", CONNECTION_AGE_MS),
                ("grpc.max_connection_age_grace_ms", 60_000),
            ],
        )

    def _address_for_vehicles(self, bound: str) -> str:
        told = self._config.serve.fleet_address
        return bound if told.endswith(":0") else told

    def _capture_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    async def _every(self, interval_s: float, do: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Do something now and again until the stop. What fails is logged, and tried again next time."""
        while not self._stop.is_set():
            try:
                await do(*arguments)
            except Exception:  # noqa: BLE001 - the top of this task
                _LOG.exception("%s failed", do.__name__)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stop.wait(), interval_s)

    async def _nudge(self, control: ControlService, assigner: Assigner) -> None:
        """Tell the vehicles when another process has released something."""
        counter = await asyncio.to_thread(self._newest_release)
        if counter > control.release_counter:
            # Whoever is not to have it yet must hear that first.
            await assigner.look_again()
            control.nudge(counter)

    async def _refresh(self) -> None:
        if self._repository is not None:
            await asyncio.to_thread(self._repository.refresh)

    async def _link(self, vehicle: str, hello: fleet.Hello) -> Link:
        return await asyncio.to_thread(link_of, self._store, vehicle, hello)

    def _newest_release(self) -> int:
        with self._store.reading() as session:
            return session.scalar(select(func.max(Release.counter))) or 0


def _make_enrolment_server() -> grpc.aio.Server:
    return grpc.aio.server(
        maximum_concurrent_rpcs=MAX_CALLS,
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_metadata_size", MAX_METADATA_BYTES),
            ("grpc.max_concurrent_streams", 4),
            # Nobody needs a connection for long.
            ("grpc.max_connection_idle_ms", 10_000),
            ("grpc.max_connection_age_ms", 60_000),
            ("grpc.max_connection_age_grace_ms", 5_000),
        ],
    )


def _bind(server: grpc.aio.Server, listen: str, certificates: KeyPair, clients: bytes | None) -> str:
    """Listen; `clients` is the authority of those that are let in, None lets everybody in."""
    credentials = grpc.ssl_server_credentials(
        [(certificates.key, certificates.certificate)],
        root_certificates=clients,
        require_client_auth=clients is not None,
    )
    try:
        port = server.add_secure_port(listen, credentials)
    except RuntimeError:
        raise ServerError(
            f"cannot listen at {listen}: the port is taken, or the address is not this machine's"
        ) from None
    return f"{listen.rpartition(':')[0]}:{port}"
