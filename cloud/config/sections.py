"""The sections of the configuration, and their defaults. Units stand in the names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from cloud.config.gate import GateConfig
from cloud.config.labels import LabelsConfig
from cloud.config.purity import PurityConfig
from cloud.config.schedule import schedule_text
from cloud.config.types import (
    DEFAULT_LISTEN,
    AbsolutePath,
    Count,
    Fleet,
    Host,
    HostPort,
    HttpUrl,
    Positive,
    Section,
    Share,
    database_url,
    host_and_port,
    remote_url,
    weights_name,
)
from protos.release_promise import MAX_DRIVE_S


class ServeConfig(Section):
    """The fleet service, gRPC with mutual TLS."""

    # Where the server listens.
    listen: HostPort = DEFAULT_LISTEN
    # Where vehicles find it, as their configuration will say; unset: at `listen`.
    address: HostPort | None = None
    # Hosts that the server's certificate is for, beside localhost. After a change: `cloud init` again.
    names: tuple[Host, ...] = ()
    # Vehicles connected at a time; one more is asked to come back later.
    max_vehicles: Count = 1000
    # A vehicle that is silent for three of them counts as gone.
    heartbeat_interval_s: Positive = 10.0
    # How soon a release that another process published is nudged to the vehicles.
    release_poll_s: Positive = 0.2
    # Where vehicles enrol and renew their certificates, with the server's certificate alone. Unset: the port
    # after `listen`'s (any free one where that is 0).
    enrol_listen: HostPort | None = None
    # Where vehicles find that, as tickets will say; unset: at `address`'s host, with `enrol_listen`'s port.
    enrol_address: HostPort | None = None
    # How long a vehicle's certificate holds. Vehicles renew it by themselves once two thirds are over.
    certificate_days: Annotated[float, Field(gt=0, le=3650)] = 30.0

    @property
    def enrolment_listen(self) -> HostPort:
        """HOST:PORT of the listener for enrolments."""
        host, port = host_and_port(self.listen)
        return self.enrol_listen or f"{host}:{port + 1 if port else 0}"

    @property
    def fleet_address(self) -> HostPort:
        """HOST:PORT where vehicles find the fleet's service."""
        return self.address or self.listen

    @property
    def enrolment_address(self) -> HostPort:
        """HOST:PORT where vehicles enrol."""
        if self.enrol_address is not None:
            return self.enrol_address
        host = host_and_port(self.address)[0] if self.address else host_and_port(self.enrolment_listen)[0]
        return f"{host}:{host_and_port(self.enrolment_listen)[1]}"

    @field_validator("enrol_listen")
    @classmethod
    def _has_a_port(cls, enrol_listen: HostPort | None, info: ValidationInfo) -> HostPort | None:
        listen = info.data.get("listen", DEFAULT_LISTEN)
        if enrol_listen is None and host_and_port(listen)[1] == 65535:
            raise ValueError("expected it to be set: there is no port after 65535")
        if enrol_listen == listen and host_and_port(listen)[1]:
            raise ValueError(f"expected another port than listen's, {listen}")
        return enrol_listen


class StoreConfig(Section):
    """Where everything is kept."""

    # SQLAlchemy's URL: sqlite:///FILE or, with the extra cloud-postgresql, postgresql+psycopg://USER@HOST/NAME.
    database: Annotated[str, Field(min_length=1), AfterValidator(database_url)] = "sqlite:///cloud.sqlite"
    objects: AbsolutePath = Path("objects")


class FoldersConfig(Section):
    """Further folders, made by `cloud init`."""

    # The authority, and the server's certificate and key.
    pki: AbsolutePath = Path("pki")
    # The keys that sign releases.
    keys: AbsolutePath = Path("keys")
    # The signed metadata and the models, as vehicles fetch them.
    repository: AbsolutePath = Path("repository")
    # The training data, under DVC.
    data: AbsolutePath = Path("data")
    # MLflow's database; its artifacts lie in a folder beside it.
    mlruns: AbsolutePath = Path("mlruns.sqlite")
    # Retrains on their way. What is in it can be made again.
    work: AbsolutePath = Path("work")


class LimitsConfig(Section):
    """What one message, one connection and one moment may cost."""

    # A sample, serialized; a larger one is refused.
    sample_bytes: Annotated[int, Field(ge=10_000, le=64_000_000)] = 4_000_000
    # Samples or series of one connection that wait for their answer.
    in_flight: Annotated[int, Field(ge=1, le=1024)] = 64
    # Samples and series of all vehicles that wait for the disk, together.
    waiting_bytes: Count = 64_000_000
    # With less free than this on the disk of the objects, vehicles are told to wait.
    free_disk_bytes: Annotated[int, Field(ge=0)] = 1_000_000_000


class QuotasConfig(Section):
    """What one vehicle may send in a day (UTC); beyond it, it is told to wait."""

    samples_per_day: Count = 50_000
    sample_bytes_per_day: Count = 10_000_000_000
    feature_series_per_day: Count = 20_000


class TriggerConfig(Section):
    """When a retrain begins by itself: all must hold, or the schedule be due; see docs/retraining.md."""

    # Samples that no dataset has yet; and those of them that were taken because of drift.
    min_samples: Count = 50
    min_drift_samples: Annotated[int, Field(ge=0)] = 0
    # Vehicles that agree on what has changed: an alarm in the same context, by so many features in common,
    # within this time, with so many waiting samples of each; 0: they are not asked.
    min_vehicles: Annotated[int, Field(ge=0)] = 0
    min_features: Count = 1
    min_samples_per_vehicle: Annotated[int, Field(ge=0)] = 1
    agree_within_days: Positive = 7.0
    # Since the last retrain began.
    cool_down_s: Annotated[float, Field(ge=0)] = 3600.0
    # What retrains may cost in so many days: their number, and the hours of their stages. Unset: no limit.
    budget_days: Positive = 7.0
    budget_retrains: Count | None = None
    budget_hours: Positive | None = None
    # Whatever the numbers above are, but within the budget: "daily HH:MM" or "weekly DAY HH:MM", UTC, where
    # so many samples have come by then.
    schedule: Annotated[str, AfterValidator(schedule_text)] | None = None
    schedule_min_samples: Count = 1
    # How often `cloud run --watch` looks.
    poll_s: Positive = 5.0


class DatasetConfig(Section):
    """How old and new data are mixed."""

    # Of all drives, by their names: for choosing the checkpoint, and kept aside for the gate.
    val_share: Share = 0.1
    test_share: Share = 0.1
    # Old pictures for each new one in the training list, spread over drives and slices.
    old_per_new: Annotated[float, Field(ge=0)] = 2.0
    max_training_images: Count = 4000
    # Where each version is copied to: a path, or an URL as DVC takes it (s3://bucket/data). Unset: nowhere.
    remote: Annotated[str, Field(min_length=1), AfterValidator(remote_url)] | None = None


class TrainingConfig(Section):
    """How a retrain goes on from the champion's checkpoint."""

    # Side of the square training picture, pixels.
    imgsz: Annotated[int, Field(ge=32, multiple_of=32)] = 320
    epochs: Count = 10
    # Pictures at a time; halved where the GPU has too little memory.
    batch: Count = 16
    # It ends after so many epochs without a better result on the validation images.
    patience: Count = 100
    # Of AdamW, at its highest. Lower than for a model from scratch: what it can do is to stay.
    learning_rate: Positive = 0.0005
    # Pictures keep their shape, one for all, rather than be padded to a square: 16:9 costs 60 % of it.
    rectangular: bool = False
    # Pictures that one step of the optimizer is made of. Fewer make more steps of a short training.
    step_images: Count = 64
    # While the learning rate rises.
    warmup_epochs: Annotated[float, Field(ge=0)] = 3.0
    # "best" on the validation images, or "last": where those have nothing of what is new, the best by them
    # is what learned least of it.
    keep: Literal["best", "last"] = "best"
    seed: Annotated[int, Field(ge=0)] = 0
    threads: Count = 2
    # "cpu", "0", "0,1" for several GPUs...; unset: a GPU if there is one.
    device: Annotated[str, Field(pattern=r"^(cpu|mps|\d+(,\d+)*)$")] | None = None
    # An Ultralytics detector's architecture, such as "yolov8n", "yolo11n" or "yolo26n". Unset, or as the
    # champion's: training goes on from the champion's checkpoint. Another one begins from its weights: a
    # checkpoint's file, or a name that Ultralytics publishes; unset: the architecture's own.
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] | None = None
    weights: Annotated[str, Field(min_length=1), AfterValidator(weights_name)] | None = None


class ReleaseConfig(Section):
    """What a release says beyond its model file."""

    hardware_ids: Annotated[tuple[str, ...], Field(min_length=1)] = ("x86_64-cpu", "aarch64-cpu")
    # The first daemon that reads the drift reference in its short form (`edge.drift.reference_file`).
    minimum_daemon_version: Annotated[str, Field(min_length=1)] = "0.3.0"
    # Pictures in the model file that prove on the vehicle that it computes what it should.
    golden_pictures: Annotated[int, Field(ge=1, le=16)] = 6
    # Pictures of the holdout that are corrupted, in 35 ways, so that vehicles can tell what a change costs
    # the model; 0: they cannot.
    drop_pictures: Annotated[int, Field(ge=0, le=10_000)] = 100
    # The fleet whose vehicles alone may install it; unset: those without a fleet.
    fleet: Fleet | None = None
    # Before the swap a release runs beside the active model for so long, seconds of driving; 0: it doesn't.
    # It sees every so-manieth frame, within a share of one core, and must agree with the active model so far
    # (F1; unset: it is only reported).
    shadow_s: Annotated[int, Field(ge=0, le=MAX_DRIVE_S)] = 0
    shadow_every_frames: Annotated[int, Field(ge=1, le=10_000)] = 10
    shadow_cpu_percent: Annotated[int, Field(ge=1, le=100)] = 10
    shadow_least_agreement_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    # What a release promises of its probation; vehicles may ask for a longer one. Unset: nothing of it.
    probation_s: Annotated[int, Field(ge=0, le=MAX_DRIVE_S)] = 0
    probation_frames: Annotated[int, Field(ge=0)] = 0
    # 99 of 100 inferences take no longer than this share of what they took with the model before.
    latency_percent: Annotated[int, Field(gt=0)] | None = 200
    errors_permille: Annotated[int, Field(ge=0, le=1000)] | None = 20
    # A typical stretch of driving has so many times more or fewer detections than the holdout, at most.
    detections_factor: Annotated[float, Field(gt=1)] | None = 4.0
    # What it finds fits the drift reference in its own file.
    no_drift_alarm: bool = True


class StageConfig(Section):
    """A step of a rollout: who gets the release in it, and what must be seen before the next step."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    # Of the vehicles that the labels leave, by a salted hash of each one's name.
    percent: Annotated[float, Field(gt=0, le=100)] = 100.0
    # Only vehicles that have all of these.
    labels: dict[str, str] = Field(default_factory=dict)
    # At least so long, and until so many vehicles, and such a share of those that were assigned it, have said
    # how it ended on them.
    wait_s: Annotated[float, Field(ge=0)] = 3600.0
    min_reports: Annotated[int, Field(ge=0)] = 1
    min_share: Share = 0.0
    # It begins only once a person has said so.
    approval: bool = False


class ThresholdsConfig(Section):
    """What halts a rollout. Shares of the vehicles that have reported; see docs/rollout.md."""

    # Refused it, or failed to install it.
    max_failure_share: Share = 0.05
    # Put an older model back, on probation or once it was confirmed.
    max_rollback_share: Share = 0.05
    # Show older detections at p99 than before, by so much of them and so many ms.
    max_slower_share: Share = 0.25
    slower_ratio: Annotated[float, Field(ge=1)] = 1.3
    slower_ms: Annotated[float, Field(ge=0)] = 5.0
    # Have more drift alarms than in as many hours of driving before.
    max_drift_share: Share = 0.25
    # With fewer reports nothing is judged.
    min_reports: Count = 5
    # That a share is above its limit, however often it is looked at.
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95


class RolloutConfig(Section):
    """How a release comes to the vehicles, unless `cloud rollout start` says otherwise."""

    # Each release begins its rollout by itself.
    automatic: bool = True
    # Only vehicles that have all of these.
    labels: dict[str, str] = Field(default_factory=dict)
    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1)] = (
        StageConfig(name="everyone", min_reports=0),
    )
    thresholds: ThresholdsConfig = ThresholdsConfig()
    # After a halt, those that have it get the model before it, as a new release.
    automatic_return: bool = True
    # A stage that is over, with shares above their limits that chance may explain: wait for a person, or go
    # on.
    when_unsure: Literal["hold", "advance"] = "hold"


class OrchestrationConfig(Section):
    """Who goes through a retrain's stages. When one begins, `cloud run` says either way."""

    # "embedded": `cloud run` itself. "airflow": Apache Airflow, at which `cloud run` begins a run of the DAG.
    orchestrator: Literal["embedded", "airflow"] = "embedded"
    # Where Airflow's API is, and where browsers find its pages, if not there.
    url: HttpUrl = "http://127.0.0.1:8081"
    pages: HttpUrl | None = None
    # traffic_vision_retrain, or traffic_vision_retrain_pods on a Kubernetes cluster.
    dag: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,100}$")] = "traffic_vision_retrain"
    # Airflow gives a token to this user, whose password stands in this file, as JSON {"USER": "PASSWORD"}.
    user: Annotated[str, Field(min_length=1)] = "cloud"
    password_file: AbsolutePath = Path("airflow/passwords.json")
    # A file with a token that someone else got, in place of user and password.
    token_file: AbsolutePath | None = None
    # For each answer.
    timeout_s: Positive = 10.0

    @property
    def pages_url(self) -> HttpUrl:
        """Where browsers find its pages."""
        return self.pages or self.url

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Of the URL; without a port, its scheme's."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


class LogConfig(Section):
    """What is logged, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class CloudConfig(Section):
    """The whole file."""

    serve: ServeConfig
    store: StoreConfig
    folders: FoldersConfig
    limits: LimitsConfig
    quotas: QuotasConfig
    labels: LabelsConfig
    trigger: TriggerConfig
    purity: PurityConfig
    dataset: DatasetConfig
    training: TrainingConfig
    gate: GateConfig
    release: ReleaseConfig
    rollout: RolloutConfig
    orchestration: OrchestrationConfig
    log: LogConfig
