"""The tables. From top to bottom they tell the loop: vehicle, drift, samples, labels, dataset, run, release.

`id` is a row's number here. `external_id` is what the vehicle chose, the `id` of the contract's message:
unique among that vehicle's own alone, so that none can take or probe another's. Columns that end in `sha256`
hold 64 lower-case hex digits. Protobuf messages are kept whole beside the columns that queries need.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship, validates

from cloud.store.columns import Base, Digest, Document, Identifier, RowNumber, utc_now, words
from cloud.store.states import RunState, SampleState, StageState, VerdictKind


class Vehicle(Base):
    """A vehicle that was enrolled, and how it last said it was.

    Attributes:
        instance_id: of the daemon that is connected or was last; made anew at each of its starts.
        last_peer: where its last control stream came from.
        connected_since: None while no control stream is open.
        status: the last `VehicleStatus`, serialized.
        fleet: whose releases it takes, by its ticket, then as it says itself; None: those for vehicles
            without one.
        driven_s: of its driving, what it has reported, seconds.
        run_driven_ns: of that, since its daemon's last start.
        session_kept_sha256, session_given_sha256: see `cloud.fleet.session_chain.Chain`.
        identity_accepted: when its owner last vouched for whoever comes under its identity.
    """

    __tablename__ = "vehicles"

    name: Mapped[str] = mapped_column(Identifier, primary_key=True)
    enrolled: Mapped[datetime] = mapped_column(default=utc_now)
    revoked: Mapped[datetime | None]
    last_seen: Mapped[datetime | None]
    connected_since: Mapped[datetime | None]
    daemon_version: Mapped[str] = mapped_column(String(64), default="")
    hardware_ids: Mapped[list[str]] = mapped_column(default=list)
    instance_id: Mapped[str] = mapped_column(Identifier, default="")
    last_peer: Mapped[str] = mapped_column(String(100), default="", server_default="")
    status: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    fleet: Mapped[str | None] = mapped_column(String(32))
    session_kept_sha256: Mapped[str | None] = mapped_column(Digest)
    session_given_sha256: Mapped[str | None] = mapped_column(Digest)
    identity_accepted: Mapped[datetime | None]
    driven_s: Mapped[float] = mapped_column(default=0.0, server_default="0")
    run_driven_ns: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")


class Certificate(Base):
    """A client certificate that the cloud's authority gave to a vehicle."""

    __tablename__ = "certificates"

    sha256: Mapped[str] = mapped_column(Digest, primary_key=True)
    vehicle: Mapped[str] = mapped_column(ForeignKey("vehicles.name"), index=True)
    serial: Mapped[str] = mapped_column(Identifier)
    not_before: Mapped[datetime]
    not_after: Mapped[datetime]
    issued: Mapped[datetime] = mapped_column(default=utc_now)
    revoked: Mapped[datetime | None]


class EnrolmentToken(Base):
    """What a ticket is good for: one certificate, for one key.

    Attributes:
        sha256: of the token, which itself is kept nowhere.
        expires: after it, nothing is given for it.
        used, key_sha256, certificate: when it was used, SHA-256 of the key's SubjectPublicKeyInfo, and what
            was given, DER: that key is given it again.
        fleet: that the vehicle belongs to once it has used it; None: to none.
    """

    __tablename__ = "enrolment_tokens"

    sha256: Mapped[str] = mapped_column(Digest, primary_key=True)
    vehicle: Mapped[str] = mapped_column(ForeignKey("vehicles.name"), index=True)
    created: Mapped[datetime] = mapped_column(default=utc_now)
    expires: Mapped[datetime]
    used: Mapped[datetime | None]
    key_sha256: Mapped[str] = mapped_column(Digest, default="")
    certificate: Mapped[bytes | None] = mapped_column(LargeBinary)
    fleet: Mapped[str | None] = mapped_column(String(32))


class ModelReport(Base):
    """What a vehicle said about its models at a change: which runs, and how the next one is doing.

    Attributes:
        phase: `UpdatePhase` in lower case, without its prefix.
        state: the whole `ModelState`, serialized.
    """

    __tablename__ = "model_reports"
    __table_args__ = (Index(None, "vehicle", "received"),)

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    vehicle: Mapped[str] = mapped_column(ForeignKey("vehicles.name"))
    received: Mapped[datetime] = mapped_column(default=utc_now)
    phase: Mapped[str] = mapped_column(String(32))
    active_sha256: Mapped[str] = mapped_column(Digest, default="")
    active_version: Mapped[str] = mapped_column(String(100), default="")
    candidate_sha256: Mapped[str] = mapped_column(Digest, default="")
    release_counter: Mapped[int] = mapped_column(BigInteger, default=0)
    detail: Mapped[str] = mapped_column(Text, default="")
    state: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)


class DriftEvent(Base):
    """A verdict of a vehicle's drift monitor that changed.

    Attributes:
        drive_ns: when it was observed, in the frames' time, ns.
        driven_s: the vehicle's, when it came; None: of a time when that was not kept.
        verdict, previous, kind: the contract's words in lower case, without their prefixes.
        features: the features that carry it, the strongest first: name, origin, context, window_s, ks_d,
            p_value, expected_false_alarms_per_day, shift_sigma (may be absent), verdict.
        message: the whole `fleet.DriftEvent`, serialized.
    """

    __tablename__ = "drift_events"
    __table_args__ = (
        UniqueConstraint("vehicle", "external_id"),
        Index(None, "vehicle", "received"),
        Index(None, "vehicle", "driven_s"),
    )

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    vehicle: Mapped[str] = mapped_column(ForeignKey("vehicles.name"))
    external_id: Mapped[str] = mapped_column(Identifier)
    received: Mapped[datetime] = mapped_column(default=utc_now, index=True)
    camera: Mapped[str] = mapped_column(Identifier, default="")
    drive_ns: Mapped[int] = mapped_column(BigInteger, default=0)
    driven_s: Mapped[float | None]
    verdict: Mapped[str] = mapped_column(String(32))
    previous: Mapped[str] = mapped_column(String(32))
    kind: Mapped[str] = mapped_column(String(32), default="")
    context: Mapped[str] = mapped_column(Text, default="")
    explanation: Mapped[str] = mapped_column(Text, default="")
    model_sha256: Mapped[str] = mapped_column(Digest, default="")
    features: Mapped[list[dict[str, Any]]] = mapped_column(Document, default=list)
    message: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)


class Sample(Base):
    """A frame that a vehicle sent.

    Attributes:
        content_sha256: of the whole message as it was sent; tells a resend from a conflict.
        object_key: the JPEG in the object store.
        source_id: what opens the source again, where something does.
        drive_id: training and validation never share one.
        picture: its name in the source, empty where the source has no names.
        drive_ns: the frames' time since the drive's start, ns.
        reasons: the contract's words in lower case, without their prefix; the strongest first.
        drift_event: `external_id` of the vehicle's drift event, empty for none. No foreign key: the sample
            may be faster than its event.
        message: the `fleet.Sample` without `jpeg`, serialized: detections, features, drift state.
        state_detail: why it is in its state, for people.
    """

    __tablename__ = "samples"
    __table_args__ = (
        UniqueConstraint("vehicle", "external_id"),
        Index(None, "vehicle", "drift_event"),
        Index(None, "vehicle", "received"),
        Index(None, "state", "id"),
    )

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    vehicle: Mapped[str] = mapped_column(ForeignKey("vehicles.name"))
    external_id: Mapped[str] = mapped_column(Identifier)
    received: Mapped[datetime] = mapped_column(default=utc_now)
    content_sha256: Mapped[str] = mapped_column(Digest)
    jpeg_sha256: Mapped[str] = mapped_column(Digest, index=True)
    jpeg_bytes: Mapped[int]
    object_key: Mapped[str] = mapped_column(String(200))
    camera: Mapped[str] = mapped_column(Identifier)
    width_px: Mapped[int]
    height_px: Mapped[int]
    source_id: Mapped[str] = mapped_column(Text)
    drive_id: Mapped[str] = mapped_column(String(200), index=True)
    picture: Mapped[str] = mapped_column(Text)
    drive_ns: Mapped[int] = mapped_column(BigInteger)
    reasons: Mapped[list[str]]
    priority: Mapped[float]
    drift_event: Mapped[str] = mapped_column(Identifier, default="")
    message: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    state: Mapped[SampleState] = mapped_column(words(SampleState), default=SampleState.STORED)
    state_detail: Mapped[str] = mapped_column(Text, default="")

    labels: Mapped[list[Label]] = relationship(back_populates="sample")

    @validates("state")
    def _forgotten_for_good(self, _: str, state: SampleState) -> SampleState:
        """A stage that began before may still want to change it."""
        return SampleState.FORGOTTEN if self.state is SampleState.FORGOTTEN else state


class FeatureSeries(Base):
    """The features of many frames of one camera. The message, serialized, is in the object store."""

    __tablename__ = "feature_series"
    __table_args__ = (UniqueConstraint("vehicle", "external_id"), Index(None, "vehicle", "received"))

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    vehicle: Mapped[str] = mapped_column(ForeignKey("vehicles.name"))
    external_id: Mapped[str] = mapped_column(Identifier)
    received: Mapped[datetime] = mapped_column(default=utc_now)
    content_sha256: Mapped[str] = mapped_column(Digest)
    object_key: Mapped[str] = mapped_column(String(200))
    camera: Mapped[str] = mapped_column(Identifier)
    source_id: Mapped[str] = mapped_column(Text)
    drive_id: Mapped[str] = mapped_column(String(200), index=True)
    names: Mapped[list[str]]
    rows: Mapped[int]
    first_drive_ns: Mapped[int] = mapped_column(BigInteger)
    last_drive_ns: Mapped[int] = mapped_column(BigInteger)
    model_sha256: Mapped[str] = mapped_column(Digest, default="")
    context: Mapped[str] = mapped_column(Text, default="")


class Label(Base):
    """What one labelling service says is in a sample.

    Attributes:
        service: simulated, label-studio, teacher ...
        boxes: x1, y1, x2, y2 (pixels of the frame), category; further fields as the service has them. Empty:
            nothing is in it.
        attributes: what slices are made of, such as timeofday.
    """

    __tablename__ = "labels"
    __table_args__ = (UniqueConstraint("sample_id", "service"),)

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    sample_id: Mapped[int] = mapped_column(ForeignKey("samples.id"))
    service: Mapped[str] = mapped_column(String(32))
    created: Mapped[datetime] = mapped_column(default=utc_now)
    boxes: Mapped[list[dict[str, Any]]] = mapped_column(Document)
    attributes: Mapped[dict[str, Any]] = mapped_column(default=dict)

    sample: Mapped[Sample] = relationship(back_populates="labels")


class DatasetSample(Base):
    """That a sample is in a dataset version, and on which side of its split."""

    __tablename__ = "dataset_samples"

    dataset_version: Mapped[str] = mapped_column(ForeignKey("datasets.version"), primary_key=True)
    sample_id: Mapped[int] = mapped_column(ForeignKey("samples.id"), primary_key=True, index=True)
    split: Mapped[str] = mapped_column(String(32))


class Dataset(Base):
    """A version of the training data: a tag of the data repository.

    Attributes:
        version: the tag.
        sha256: as `cloud.datasets.dataset_sha256` gives it.
        dvc_md5: of the folder, as DVC names it.
        git_commit: of the data repository.
        facts: counts by slice and class, the purity check's report.
    """

    __tablename__ = "datasets"

    version: Mapped[str] = mapped_column(Identifier, primary_key=True)
    parent_version: Mapped[str | None] = mapped_column(ForeignKey("datasets.version"))
    created: Mapped[datetime] = mapped_column(default=utc_now)
    sha256: Mapped[str] = mapped_column(Digest, default="")
    dvc_md5: Mapped[str] = mapped_column(Identifier, default="")
    git_commit: Mapped[str] = mapped_column(Identifier, default="")
    images: Mapped[int] = mapped_column(default=0)
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)

    samples: Mapped[list[Sample]] = relationship(secondary="dataset_samples", viewonly=True)


class Run(Base):
    """One retrain, from its trigger to its release or refusal.

    Attributes:
        id: the key of its stage records.
        trigger: why it was started; `airflow`: the run of Airflow's that does it, where one does.
        parent_sha256: the model file that training went on from.
        code_commit: of this code.
        mlflow_run_id: empty until the stage train began.
    """

    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(Identifier, primary_key=True)
    started: Mapped[datetime] = mapped_column(default=utc_now, index=True)
    ended: Mapped[datetime | None]
    state: Mapped[RunState] = mapped_column(words(RunState), default=RunState.RUNNING)
    state_detail: Mapped[str] = mapped_column(Text, default="")
    trigger: Mapped[dict[str, Any]] = mapped_column(default=dict)
    dataset_version: Mapped[str | None] = mapped_column(ForeignKey("datasets.version"))
    parent_sha256: Mapped[str] = mapped_column(Digest, default="")
    code_commit: Mapped[str] = mapped_column(Identifier, default="")
    mlflow_run_id: Mapped[str] = mapped_column(Identifier, default="")

    dataset: Mapped[Dataset | None] = relationship()
    candidates: Mapped[list[Candidate]] = relationship(back_populates="run")


class Candidate(Base):
    """A model file that could be released. The baseline is one too, without a run.

    Attributes:
        sha256: of the file.
        object_key: the file in the object store.
    """

    __tablename__ = "candidates"

    sha256: Mapped[str] = mapped_column(Digest, primary_key=True)
    run_id: Mapped[str | None] = mapped_column(ForeignKey("runs.id"), index=True)
    created: Mapped[datetime] = mapped_column(default=utc_now)
    name: Mapped[str] = mapped_column(String(100))
    version: Mapped[str] = mapped_column(String(100))
    object_key: Mapped[str] = mapped_column(String(200))
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)

    run: Mapped[Run | None] = relationship(back_populates="candidates")
    verdicts: Mapped[list[Verdict]] = relationship(back_populates="candidate", order_by="Verdict.id")


class Verdict(Base):
    """The release gate's judgement of a candidate against the champion.

    Attributes:
        rules: each rule with its verdict and figures.
        scores: both models' scores by slice.
    """

    __tablename__ = "verdicts"

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    candidate_sha256: Mapped[str] = mapped_column(ForeignKey("candidates.sha256"), index=True)
    champion_sha256: Mapped[str] = mapped_column(Digest, default="")
    created: Mapped[datetime] = mapped_column(default=utc_now)
    verdict: Mapped[VerdictKind] = mapped_column(words(VerdictKind))
    rules: Mapped[list[dict[str, Any]]] = mapped_column(Document, default=list)
    scores: Mapped[dict[str, Any]] = mapped_column(default=dict)

    candidate: Mapped[Candidate] = relationship(back_populates="verdicts")


class Release(Base):
    """A model that was signed and published.

    Attributes:
        counter: the release counter; only ever goes up.
        target_path: in the signed metadata, "models/...".
        target_sha256: of the target, which holds the model file.
        verdict_id: None for the baseline, and for a release by force (see the audit trail).
    """

    __tablename__ = "releases"

    counter: Mapped[int] = mapped_column(RowNumber, primary_key=True, autoincrement=False)
    candidate_sha256: Mapped[str] = mapped_column(ForeignKey("candidates.sha256"), index=True)
    verdict_id: Mapped[int | None] = mapped_column(ForeignKey("verdicts.id"))
    parent_counter: Mapped[int | None] = mapped_column(ForeignKey("releases.counter"))
    created: Mapped[datetime] = mapped_column(default=utc_now)
    target_path: Mapped[str] = mapped_column(Text)
    target_sha256: Mapped[str] = mapped_column(Digest)
    custom: Mapped[dict[str, Any]] = mapped_column(default=dict)

    candidate: Mapped[Candidate] = relationship()
    verdict: Mapped[Verdict | None] = relationship()


class StageRecord(Base):
    """One stage for one key (a run's id): what makes a stage idempotent and lets it resume.

    Attributes:
        attempts: how often it was begun.
        progress: what a later attempt goes on from.
        result: the JSON line that the stage printed, once it is done.
        error: why it failed, for people.
    """

    __tablename__ = "stage_records"

    stage: Mapped[str] = mapped_column(String(32), primary_key=True)
    key: Mapped[str] = mapped_column(Identifier, primary_key=True)
    state: Mapped[StageState] = mapped_column(words(StageState), default=StageState.RUNNING)
    attempts: Mapped[int] = mapped_column(default=1)
    started: Mapped[datetime] = mapped_column(default=utc_now)
    ended: Mapped[datetime | None]
    progress: Mapped[dict[str, Any]] = mapped_column(default=dict)
    result: Mapped[dict[str, Any]] = mapped_column(default=dict)
    error: Mapped[str] = mapped_column(Text, default="")
