"""The sections of the daemon's configuration, edge.toml, and every key in them.

Paths are relative to the folder that the file is in. Units stand in the names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from edge.config.types import (
    DEFAULT_ADDRESS,
    AbsolutePath,
    CloudAddress,
    Day,
    ExistingFile,
    Fleet,
    HttpAddress,
    Name,
    NotEmpty,
    Pace,
    Polygon,
    Positive,
    Region,
    ServeAddress,
    SourceUrl,
    is_loopback,
)


class Section(BaseModel):
    """What every section is: strict, closed and unchangeable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class CameraConfig(Section):
    """One camera, or a recording in its place."""

    name: Name
    # A recording: a video file, a folder of pictures, or SCHEME:... of an installed source. A camera:
    # rtsp://[USER:PASSWORD@]HOST/PATH (rtsps too); /dev/videoN, or better a path under /dev/v4l/by-path, that
    # stays when it is pulled out and put back; "gst:ELEMENT ! ELEMENT ...", as for gst-launch-1.0, up to the
    # element that gives raw video (its text is seen in the list of processes: no passwords).
    url: SourceUrl
    # Frames beyond it leave as rate-limited, by the frames' time. Unset: none do. Taken over by SIGHUP.
    rate_limit_hz: Positive | None = None
    # An older frame is not looked at; a camera without a younger one is stale. Taken over by SIGHUP.
    stale_after_ms: Positive = 1000.0
    # Of recordings: "realtime", a factor of it, or "lockstep": at the speed of inference, every frame seen.
    pace: Pace = "realtime"
    # Of lock-step: at most so many times the recording's own time. Taken over by SIGHUP.
    speed_limit: Positive | None = None
    # Frames per second given to pictures, which have no time of their own.
    still_rate_hz: Positive = 10.0
    # The part of the picture that is looked at: x, y, width, height in shares of it. Boxes stay in pixels of
    # the whole. Unset: all of it.
    region: Region | None = None
    # Polygons that are painted over before anything sees the picture, such as the vehicle's own bonnet:
    # corners x, y in shares of the picture.
    mask: tuple[Polygon, ...] = ()
    # A camera that gives no whole frame for so long, or does not open within it, is opened anew.
    # V4L2 devices all wait as long as the first of them, in whole seconds.
    give_up_s: Annotated[float, Field(gt=0, le=60)] = 4.0
    # Of rtsp://: how the pictures travel.
    transport: Literal["tcp", "udp"] = "tcp"
    # Of V4L2: what the device is asked for; what it gives instead is an error at start. Unset: its own.
    size: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]] | None = None
    rate_hz: Positive | None = None
    fourcc: Annotated[str, Field(min_length=4, max_length=4)] | None = None


class ModelConfig(Section):
    """The model, and what it runs on."""

    # The model file that came with the installation.
    factory: ExistingFile
    # Execution providers by preference; each must be there.
    providers: NotEmpty = ("cpu",)
    # Of one inference on a CPU; 0: one per core.
    threads: Annotated[int, Field(ge=0, le=256)] = 2
    # How long the check of a new model may take: some providers build engines for minutes.
    check_timeout_s: Positive = 900.0
    # How much memory it may take.
    check_memory_bytes: Annotated[int, Field(ge=500_000_000)] = 4_000_000_000
    # Keep what TensorRT builds of a model, in the state folder, sealed with a key of this vehicle's.
    engine_cache: bool = True


class DriftConfig(Section):
    """The drift monitor."""

    # What the world looked like when the model was right; unset: as the model file says, else learnt.
    # One that promises is taken for this camera's, which is not commissioned then; see `drift fit --fleet`.
    reference: ExistingFile | None = None
    # Frames per second of the frames' time that are judged; a reference brings its own.
    rate_hz: Positive = 2.0
    # Hours of driving to one false alarm, of all cameras together.
    target_hours: Positive = 24.0
    # How long a feature without a reference is watched before it is judged, in the frames' time.
    learn_s: Positive = 300.0
    # Each camera gets a reference of its own, fitted of so many hours of driving in each context, for the
    # first time after 4. The promise is made for it alone. 0: none.
    commission_hours: Annotated[float, Field(ge=0, le=1000)] = 24.0


class SamplerConfig(Section):
    """Which frames are kept for the cloud. Times are the frames' own. SIGHUP takes over all but series_s."""

    # Least time between two samples of the same reason.
    drift_spacing_s: Positive = 5.0
    uncertainty_spacing_s: Positive = 20.0
    baseline_spacing_s: Positive = 120.0
    # A frame is uncertain where it is among this share of the most uncertain lately.
    uncertain_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    # A picture whose 64-bit hash differs by so few bits or fewer from a sample's is no news.
    near_duplicate_bits: Annotated[int, Field(ge=0, lt=64)] = 2
    # Of samples, in any 24 hours.
    bytes_per_day: Annotated[int, Field(gt=0)] = 500_000_000
    # The drift features of all frames are shipped in pieces of so much time.
    series_s: Positive = 300.0


class SpoolConfig(Section):
    """Where samples wait for the cloud, on disk."""

    limit_bytes: Annotated[int, Field(gt=0)] = 2_000_000_000
    # The samples' part of disk.bytes_per_day, so that they leave something for the rest.
    bytes_per_day: Annotated[int, Field(gt=0)] = 1_000_000_000


class CloudConfig(Section):
    """The cloud, by gRPC with mutual TLS. Files are PEM."""

    address: CloudAddress
    ca: ExistingFile
    cert: ExistingFile
    key: ExistingFile
    # Longest pause between two tries to reach it.
    retry_limit_s: Positive = 60.0
    # Where the certificate is renewed before its end, and after it. It needs cert and key in one file, which
    # is written anew. Unset: it is not renewed.
    enrol_address: CloudAddress | None = None

    @field_validator("enrol_address")
    @classmethod
    def _renews_one_file(cls, enrol_address: str | None, info: ValidationInfo) -> str | None:
        if enrol_address is not None and info.data.get("cert") != info.data.get("key"):
            raise ValueError("expected cert and key to be one file, which changes as a whole")
        return enrol_address


class UpdatesConfig(Section):
    """Signed models from the cloud."""

    # The TUF root that came with the vehicle. Unset: nothing signed can be checked; `unsigned` must be true.
    root: ExistingFile | None = None
    check_interval_s: Positive = 3600.0
    # A new model is confirmed once it has driven so long (in the frames' time, parked time left out), and
    # published so many frames. A release may ask for more.
    probation_s: Positive = 300.0
    probation_frames: Annotated[int, Field(gt=0)] = 500
    # The fleet whose releases the vehicle takes; unset: those for vehicles without one.
    fleet: Fleet | None = None
    # No release below it, even on a vehicle that never saw an update: what all were given as it was enrolled.
    release_floor: Annotated[int, Field(ge=0)] = 0
    # A day that is past, whatever the clock says: when it was enrolled. Unset: as the program was written.
    clock_floor: Day | None = None
    # A model that nobody signed may be put in by hand (`edge update install --unsigned`), never by a network.
    # Every status says so.
    unsigned: bool = Field(default=False, validate_default=True)
    # The longest probation that a release may ask for, and the longest shadow.
    probation_limit_s: Positive = 86_400.0
    # Of 99 in 100 inferences of a new model at most, whatever its release promises: milliseconds, and times
    # what the model before took in the same run. Unset: as the release promises.
    probation_latency_ms: Positive | None = None
    probation_latency_ratio: Positive | None = None
    # Of one core, at most, that a model may take that runs in shadow; and its memory.
    shadow_cpu_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    shadow_memory_bytes: Annotated[int, Field(ge=100_000_000)] = 2_000_000_000

    @field_validator("unsigned")
    @classmethod
    def _is_needed_without_a_root(cls, unsigned: bool, info: ValidationInfo) -> bool:
        if not unsigned and info.data.get("root", "broken") is None:
            raise ValueError("expected `root`, or true: without a root nothing signed can be checked")
        return unsigned


class TlsConfig(Section):
    """TLS of the perception service's TCP addresses. Files are PEM."""

    cert: ExistingFile
    key: ExistingFile
    # Who signs the clients' certificates; a client without one is refused. Unset: any client.
    client_ca: ExistingFile | None = None


class ServeConfig(Section):
    """The perception service for local programs."""

    address: ServeAddress = DEFAULT_ADDRESS
    # Served too, by the same rules.
    more_addresses: tuple[ServeAddress, ...] = ()
    # An address that is not loopback needs it, with client_ca.
    tls: TlsConfig | None = Field(default=None, validate_default=True)
    # Streams at a time; one more is refused.
    max_streams: Annotated[int, Field(gt=0, le=256)] = 16
    # Messages that may wait for a slow client. Taken over by SIGHUP, for new streams.
    queue_limit: Annotated[int, Field(gt=0, le=10_000)] = 64

    @field_validator("tls")
    @classmethod
    def _guards_what_is_not_loopback(cls, tls: TlsConfig | None, info: ValidationInfo) -> TlsConfig | None:
        addresses = (info.data.get("address", DEFAULT_ADDRESS), *info.data.get("more_addresses", ()))
        far = [address for address in addresses if not is_loopback(address)]
        if far and (tls is None or tls.client_ca is None):
            raise ValueError(f"expected [serve.tls] with client_ca: {far[0]} is not loopback")
        return tls


class HttpConfig(Section):
    """HTTP: health, metrics, the live page, detection of single pictures."""

    # Port 0: any free one; the log says which.
    address: HttpAddress = "127.0.0.1:8080"
    # Holds the token that every request must bring, one line of 16 characters or more; an address that is not
    # loopback needs it. It travels unencrypted: put a TLS proxy or a tunnel before it where others listen.
    token_file: ExistingFile | None = Field(default=None, validate_default=True)
    # The live page and its pictures.
    live_page: bool = True
    # Of a picture that is posted to /detect.
    max_picture_bytes: Annotated[int, Field(gt=0, le=100_000_000)] = 20_000_000

    @field_validator("token_file")
    @classmethod
    def _guards_what_is_not_loopback(cls, token_file: Path | None, info: ValidationInfo) -> Path | None:
        address = info.data.get("address", "")
        if token_file is None and not is_loopback(address):
            raise ValueError(f"expected a file with a token: {address} is not loopback")
        return token_file


class VehicleStateConfig(Section):
    """What the vehicle's own sensors say: by the perception service, and by JSON lines on a Unix socket."""

    # Unset: by the perception service alone.
    socket: AbsolutePath | None = None
    # How long a report holds; after that, motion in the pictures tells parked from driving. A camera that is
    # parked before dense traffic counts as driving then (docs/drift.md, "Driving or not").
    valid_ms: Annotated[int, Field(gt=0, le=3_600_000)] = 2000
    # Slower than this is standing still.
    moving_mps: Positive = 0.5
    # Standing still for so long is parked.
    parked_after_s: Annotated[float, Field(gt=0, le=3600)] = 30.0


class ClockConfig(Section):
    """The wall clock that stands beside the monotonic one in what is published, for people and for fusion."""

    # Said with each time stamp. "ptp": `ptp_device`, or the system's time where phc2sys keeps it by PTP.
    source: Literal["system", "ptp", "gnss"] = "system"
    # A PTP hardware clock, such as /dev/ptp0. Unset: the system's time.
    ptp_device: AbsolutePath | None = None
    # PTP keeps TAI, so far ahead of UTC: 37 s since 2017. 0 where the device keeps UTC.
    ptp_utc_offset_s: Annotated[int, Field(ge=0, le=1000)] = 37

    @field_validator("ptp_device")
    @classmethod
    def _is_what_the_source_says(cls, device: Path | None, info: ValidationInfo) -> Path | None:
        if device is not None and info.data.get("source", "ptp") != "ptp":
            raise ValueError(f'expected source = "ptp" beside it, not "{info.data["source"]}"')
        return device


class DiskConfig(Section):
    """Flash wears out: what is written to disk in all, by whatever part, within a day."""

    # Beyond it samples and series are refused; models, events and states are written and counted.
    # Taken over by SIGHUP, as spool.bytes_per_day is.
    bytes_per_day: Annotated[int, Field(gt=0)] = 2_000_000_000


class LogConfig(Section):
    """What is logged, on standard error."""

    # Taken over by SIGHUP.
    level: Literal["debug", "info", "warning", "error"] = "info"
    # "json": one object a line; "text": for people.
    format: Literal["json", "text"] = "json"


class EdgeConfig(Section):
    """The whole file."""

    vehicle: Name
    # What the daemon keeps: lock, slots, spool. Made where it is missing.
    state_folder: AbsolutePath
    cameras: tuple[CameraConfig, ...]
    model: ModelConfig
    drift: DriftConfig | None = None
    sampler: SamplerConfig | None = None
    spool: SpoolConfig = SpoolConfig()
    # Without it, the daemon runs alone.
    cloud: CloudConfig | None = None
    # Without [cloud], models come by `edge update install` alone.
    updates: UpdatesConfig | None = None
    serve: ServeConfig = ServeConfig()
    # Without it, nothing is served by HTTP.
    http: HttpConfig | None = None
    vehicle_state: VehicleStateConfig = VehicleStateConfig()
    clock: ClockConfig = ClockConfig()
    disk: DiskConfig = DiskConfig()
    log: LogConfig = LogConfig()

    @field_validator("cameras")
    @classmethod
    def _are_told_apart(cls, cameras: tuple[CameraConfig, ...]) -> tuple[CameraConfig, ...]:
        if not cameras:
            raise ValueError("expected one [[cameras]] section or more")
        names = [camera.name for camera in cameras]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"expected a name of its own for each camera, and {twice[0]!r} is there twice")
        return cameras


SECTIONS: dict[str, type[Section]] = {
    "cameras": CameraConfig,
    "model": ModelConfig,
    "drift": DriftConfig,
    "sampler": SamplerConfig,
    "spool": SpoolConfig,
    "cloud": CloudConfig,
    "updates": UpdatesConfig,
    "serve": ServeConfig,
    "tls": TlsConfig,
    "http": HttpConfig,
    "vehicle_state": VehicleStateConfig,
    "clock": ClockConfig,
    "disk": DiskConfig,
    "log": LogConfig,
}
