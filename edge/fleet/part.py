"""What ties the vehicle to its cloud, as a part of the daemon: spools, uplinks and the control stream."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import grpc

from edge.background_writer import BackgroundWriter
from edge.backoff import BackoffOptions
from edge.config import CloudConfig, EdgeConfig
from edge.fleet.channel import ChannelOptions, open_channel
from edge.fleet.control import ControlClient
from edge.fleet.control_terms import ControlHandlers, ControlOptions
from edge.fleet.renewable_channel import RenewableChannel
from edge.fleet.sampling import Sampling, Spools
from edge.fleet.session_token import SessionToken
from edge.fleet.spool import Spool, SpoolOptions
from edge.fleet.uplink import FEATURES, SAMPLES, Uplink, UplinkOptions
from edge.fleet.upload_budget import UploadBudget
from edge.machine.disk_budget import DiskBudget
from edge.parts import Links
from edge.status import daemon_version
from protos.traffic_vision.v1 import common_pb2, fleet_pb2

logger = logging.getLogger(__name__)

# Beside the samples; both are small.
_SERIES_LIMIT_BYTES = 200_000_000
_EVENTS_LIMIT_BYTES = 10_000_000
_RETRY_S = 0.5  # the first pause between two tries
_STREAM_STOP_S = 1.0


def open_cloud_channel(config: CloudConfig, instance_id: str) -> RenewableChannel:
    """Open the vehicle's connection to its cloud; it connects when it is first used.

    Args:
        config: where the cloud is, and who we are.
        instance_id: of this run, for the cloud alone; see `RenewableChannel`.

    Raises:
        ChannelError: a file is missing or not what it should be.
    """
    options = ChannelOptions(config.address, config.ca, config.cert, config.key, backoff=_backoff(config))
    return RenewableChannel(lambda: open_channel(options), instance_id)


def open_spools(config: EdgeConfig, disk: DiskBudget) -> Spools:
    """Open the queues on disk. Samples and series are what a day's bytes may be too few for.

    Raises:
        SpoolError: a folder cannot be used.
    """
    folder, samples = config.state_folder / "spool", config.spool
    return Spools(
        samples=Spool(
            folder / "samples",
            SpoolOptions(samples.limit_bytes),
            disk=disk.lane("samples", samples.bytes_per_day),
        ),
        series=Spool(folder / "series", SpoolOptions(_SERIES_LIMIT_BYTES), disk=disk.lane("series")),
        events=Spool(
            folder / "events", SpoolOptions(_EVENTS_LIMIT_BYTES), disk=disk.lane("events"), is_optional=False
        ),
    )


class Fleet:
    """Owns the spools, and, where there is a cloud, what empties them."""

    name = "fleet"

    def __init__(
        self,
        config: EdgeConfig,
        links: Links,
        spools: Spools,
        writer: BackgroundWriter,
        *,
        sampling: Sampling | None,
        channel: grpc.Channel | None,
        hardware_ids: tuple[str, ...],
        instance_id: str,
        disk: DiskBudget | None = None,
        nudge: Callable[[int], None] = lambda counter: None,
        assign: Callable[[fleet_pb2.Assignment | None], None] = lambda assignment: None,
    ) -> None:
        """Make ready.

        Args:
            config: the whole.
            links: to the daemon.
            spools: what is sent.
            writer: fills them; stopped from here, so that what it writes is there before the end.
            sampling: takes the cloud's wishes for samples; None: there is no sampler.
            channel: to the cloud, closed from here; None: the spools are kept until there is one.
            hardware_ids: what releases are made for.
            instance_id: as the channel has it.
            disk: counts what is written.
            nudge: is told that there may be a release.
            assign: is told which release the cloud wants here; None: it assigns nothing.
        """
        self._spools = spools
        self._writer = writer
        self._channel = channel
        self._sampling = sampling
        budget = None if config.sampler is None else config.sampler.bytes_per_day
        disk = disk or DiskBudget()
        file = config.state_folder / "upload-budget.json"
        self._budget = UploadBudget(budget, file, disk=disk.lane("budgets"))
        self._uplinks: tuple[Uplink, ...] = ()
        self._control: ControlClient | None = None
        if channel is not None and config.cloud is not None:
            who = ControlOptions(
                daemon_version=daemon_version(),
                hardware_ids=hardware_ids,
                instance_id=instance_id,
                backoff=_backoff(config.cloud),
                fleet=None if config.updates is None else config.updates.fleet or "",
            )
            session = SessionToken(config.cloud.key, disk.lane("identity"))
            self._connect(config.cloud, links, channel, who, session, nudge, assign)

    @property
    def control(self) -> ControlClient | None:
        """The control stream; None without a cloud."""
        return self._control

    def is_connected(self) -> bool:
        """Whether the cloud has welcomed this vehicle in the present control stream."""
        return self._control is not None and self._control.status().stream.connected

    def start(self) -> None:
        """Start the threads."""
        self._writer.start()
        for uplink in self._uplinks:
            uplink.start()
        if self._control is not None:
            self._control.start()

    def stop(self) -> None:
        """Cut the connection; what has no answer is sent again after the next start."""
        if self._sampling is not None:
            self._sampling.cut()
        for stream in self._streams():
            stream.stop(0.0)
        if self._channel is not None:
            self._channel.close()  # cuts every other call too: a download of the updates' thread

    def join(self, timeout_s: float) -> bool:
        """Wait until what was taken is on disk and the threads have ended."""
        end = time.monotonic() + timeout_s
        written = self._writer.stop(timeout_s)
        ended = [
            stream.stop(min(_STREAM_STOP_S, max(0.0, end - time.monotonic()))) for stream in self._streams()
        ]
        self._budget.save()
        self._log_uploads()
        return written and all(ended)

    def fill_status(self, status: common_pb2.VehicleStatus) -> None:
        """Add the spool of samples and the connection."""
        spool = self._spools.samples.status()
        status.spool.CopyFrom(
            common_pb2.SpoolStatus(
                samples=spool.items,
                used_bytes=spool.used_bytes,
                limit_bytes=spool.limit_bytes,
                dropped_samples=spool.dropped,
            )
        )
        status.connected_to_cloud = self.is_connected()

    def _log_uploads(self) -> None:
        """Tell once, at the end, what was acknowledged: what the spool no longer has, the cloud has."""
        for uplink in self._uplinks:
            counts = uplink.status().counts
            logger.info(
                "%s: %d stored by the cloud, %d of them twice sent, %d refused",
                uplink.name,
                counts.stored + counts.duplicates,
                counts.duplicates,
                counts.refused.total(),
                extra={
                    "event": f"uploaded_{uplink.name}",
                    "acknowledged": counts.stored + counts.duplicates,
                    "refused": dict(counts.refused),
                },
            )

    def _streams(self) -> list[Uplink | ControlClient]:
        return [*self._uplinks, *([self._control] if self._control else [])]

    def _connect(
        self,
        config: CloudConfig,
        links: Links,
        channel: grpc.Channel,
        who: ControlOptions,
        session: SessionToken,
        nudge: Callable[[int], None],
        assign: Callable[[fleet_pb2.Assignment | None], None],
    ) -> None:
        options = UplinkOptions(backoff=_backoff(config))
        lanes = ((SAMPLES, self._spools.samples), (FEATURES, self._spools.series))
        self._uplinks = tuple(
            Uplink(lane, spool, channel, options, budget=self._budget) for lane, spool in lanes
        )
        handlers = ControlHandlers(
            status=links.status,
            update_nudge=nudge,
            sample_request=self._take_samples,
            upload_budget=self._limit_budget,
            welcome=self._welcome,
            assignment=assign,
            session=session,
        )
        self._control = ControlClient(channel, self._spools.events, handlers, who)

    def _take_samples(self, request: fleet_pb2.SampleRequest) -> str | None:
        return "this vehicle has no sampler" if self._sampling is None else self._sampling.request(request)

    def _limit_budget(self, command: fleet_pb2.UploadBudget) -> str | None:
        self._budget.limit_to(command.bytes_per_day)
        for uplink in self._uplinks:
            uplink.wake()
        return None

    def _welcome(self, welcome: fleet_pb2.Welcome) -> None:
        for uplink in self._uplinks:
            uplink.limit_to(welcome.samples_in_flight_limit, welcome.sample_limit_bytes)


def _backoff(config: CloudConfig) -> BackoffOptions:
    return BackoffOptions(min(_RETRY_S, config.retry_limit_s), config.retry_limit_s)
