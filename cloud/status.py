"""How the cloud is: vehicles, drift, samples, runs, releases, as the database knows them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload, selectinload, undefer

from cloud.config import CloudConfig
from cloud.fleet.control import SILENT_HEARTBEATS
from cloud.fleet.rollout_report import PinLine, RolloutLine, pin_lines, rollout_lines
from cloud.store import Store
from cloud.store.columns import utc_now
from cloud.store.models import (
    Candidate,
    DriftEvent,
    FeatureSeries,
    ModelReport,
    Release,
    Run,
    Sample,
    StageRecord,
    Vehicle,
)
from cloud.store.states import RunState, StageState
from protos.signature_words import signature_words
from protos.traffic_vision.v1 import common_pb2, fleet_pb2
from protos.trials import trial_words

NEWEST = 10


@dataclass(frozen=True, slots=True)
class VehicleLine:
    """A vehicle.

    Attributes:
        state: connected, away, never seen or revoked.
        model, phase, release_counter: as it last reported them; empty and 0 before that.
        signature: what is to be said of models that nobody signed; empty where none is allowed.
        trial: how far the shadow or the probation is that is under way, or why the last one failed.
        drift: the verdict of its last drift event, empty where there is none.
    """

    name: str
    state: str
    last_seen: datetime | None
    daemon_version: str
    model: str
    phase: str
    trial: str
    release_counter: int
    drift: str
    samples: int
    feature_series: int
    signature: str = ""


@dataclass(frozen=True, slots=True)
class DriftLine:
    """A drift event.

    Attributes:
        kind: of the change that is in alarm; empty where there is none.
        strongest: the feature that carries it most.
        explanation: what the vehicle says has changed, for people.
        estimated_map50_change: of the detector by that change, as the vehicle estimates it without labels;
            None: it does not.
    """

    received: datetime
    vehicle: str
    camera: str
    verdict: str
    kind: str
    context: str
    strongest: str
    explanation: str
    estimated_map50_change: float | None
    samples: int


@dataclass(frozen=True, slots=True)
class SamplesLine:
    """The samples in one state."""

    state: str
    samples: int
    jpeg_bytes: int


@dataclass(frozen=True, slots=True)
class RunLine:
    """A retrain.

    Attributes:
        state: how it ended; running, or waiting for people.
        detail: why it is in its state, for people.
    """

    id: str
    started: datetime
    ended: datetime | None
    state: str
    detail: str
    dataset_version: str
    candidate: str
    verdict: str


@dataclass(frozen=True, slots=True)
class ReleaseLine:
    """A release."""

    counter: int
    created: datetime
    model: str
    sha256: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Status:
    """Everything, the newest first; of drift, runs, releases and rollouts the newest `NEWEST`."""

    vehicles: Sequence[VehicleLine]
    drift: Sequence[DriftLine]
    samples: Sequence[SamplesLine]
    runs: Sequence[RunLine]
    releases: Sequence[ReleaseLine]
    rollouts: Sequence[RolloutLine] = ()
    pins: Sequence[PinLine] = ()

    def to_json(self) -> dict[str, Any]:
        """Give JSON-able values; times as ISO 8601, UTC."""
        document: dict[str, Any] = asdict(
            self, dict_factory=lambda pairs: {name: _plain(value) for name, value in pairs}
        )
        return document

    def to_text(self) -> str:
        """Lay it out for a terminal."""
        from cloud.status_text import to_text

        return to_text(self)


def read_status(config: CloudConfig, store: Store) -> Status:
    """Look everything up."""
    now = utc_now()
    with store.reading() as session:
        return Status(
            vehicles=_vehicles(session, config.serve.heartbeat_interval_s),
            drift=_drift(session),
            samples=_samples(session),
            runs=_runs(session),
            releases=_releases(session),
            rollouts=rollout_lines(session, now),
            pins=pin_lines(session, now),
        )


def _vehicles(session: Session, heartbeat_interval_s: float) -> list[VehicleLine]:
    silent_since = utc_now() - timedelta(seconds=SILENT_HEARTBEATS * heartbeat_interval_s)
    samples = _counts(session, Sample)
    series = _counts(session, FeatureSeries)
    newest_reports = _newest_of_each(ModelReport).options(undefer(ModelReport.state))
    reports = {report.vehicle: report for report in session.scalars(newest_reports)}
    events = {event.vehicle: event for event in session.scalars(_newest_of_each(DriftEvent))}
    lines = []
    for vehicle in session.scalars(select(Vehicle).order_by(Vehicle.name)):
        report, event = reports.get(vehicle.name), events.get(vehicle.name)
        said = common_pb2.ModelState.FromString(report.state if report else b"")
        lines.append(
            VehicleLine(
                name=vehicle.name,
                state=_state(vehicle, silent_since),
                last_seen=vehicle.last_seen,
                daemon_version=vehicle.daemon_version,
                model=(report.active_version or report.active_sha256[:12]) if report else "",
                phase=report.phase if report else "",
                trial=_trial(said),
                release_counter=report.release_counter if report else 0,
                drift=event.verdict if event else "",
                samples=samples.get(vehicle.name, 0),
                feature_series=series.get(vehicle.name, 0),
                signature=signature_words(said),
            )
        )
    return lines


def _trial(state: common_pb2.ModelState) -> str:
    """Not by the phase, which a check for the next release covers for a moment."""
    trials = (state.shadow, state.probation)
    for trial in trials:
        if trial.outcome == common_pb2.TRIAL_OUTCOME_UNDER_WAY:
            return trial_words(trial)
    failed = [trial for trial in trials if trial.outcome == common_pb2.TRIAL_OUTCOME_FAILED]
    return "; ".join(f"{trial_words(trial)}: {trial.detail}" for trial in failed)


def _state(vehicle: Vehicle, silent_since: datetime) -> str:
    if vehicle.revoked is not None:
        return "revoked"
    if vehicle.last_seen is None:
        return "never seen"
    # A server that was killed could not write down who left.
    return "connected" if vehicle.connected_since and vehicle.last_seen > silent_since else "away"


def _drift(session: Session) -> list[DriftLine]:
    samples = (
        select(func.count())
        .where(Sample.vehicle == DriftEvent.vehicle, Sample.drift_event == DriftEvent.external_id)
        .scalar_subquery()
    )
    query = (
        select(DriftEvent, samples)
        .options(undefer(DriftEvent.message))
        .order_by(DriftEvent.id.desc())
        .limit(NEWEST)
    )
    return [
        DriftLine(
            received=event.received,
            vehicle=event.vehicle,
            camera=event.camera,
            verdict=event.verdict,
            kind="" if event.kind == "unspecified" else event.kind,
            context=event.context,
            strongest=event.features[0]["name"] if event.features else "",
            explanation=event.explanation,
            estimated_map50_change=_map50_change(event),
            samples=count,
        )
        for event, count in session.execute(query)
    ]


def _map50_change(event: DriftEvent) -> float | None:
    state = fleet_pb2.DriftEvent.FromString(event.message).state
    change = state.estimated_map50_change
    # JSON has no other numbers, and a vehicle may say anything.
    return change if state.HasField("estimated_map50_change") and math.isfinite(change) else None


def _samples(session: Session) -> list[SamplesLine]:
    query = (
        select(Sample.state, func.count(), func.sum(Sample.jpeg_bytes))
        .group_by(Sample.state)
        .order_by(Sample.state)
    )
    return [SamplesLine(state.value, count, int(size)) for state, count, size in session.execute(query)]


def _runs(session: Session) -> list[RunLine]:
    waits = (
        select(Run.id)
        .join(StageRecord, StageRecord.key == Run.id)
        .where(Run.state == RunState.RUNNING, StageRecord.state == StageState.WAITING)
    )
    waiting = set(session.scalars(waits))
    query = (
        select(Run)
        .options(selectinload(Run.candidates).selectinload(Candidate.verdicts))
        .order_by(Run.started.desc())
        .limit(NEWEST)
    )
    return [
        RunLine(
            id=run.id,
            started=run.started,
            ended=run.ended,
            state=StageState.WAITING.value if run.id in waiting else run.state.value,
            detail=run.state_detail,
            dataset_version=run.dataset_version or "",
            candidate=", ".join(f"{candidate.name} {candidate.version}" for candidate in run.candidates),
            verdict=", ".join(
                verdict.verdict.value for candidate in run.candidates for verdict in candidate.verdicts[-1:]
            ),
        )
        for run in session.scalars(query)
    ]


def _releases(session: Session) -> list[ReleaseLine]:
    query = (
        select(Release)
        .options(joinedload(Release.candidate), joinedload(Release.verdict))
        .order_by(Release.counter.desc())
        .limit(NEWEST)
    )
    return [
        ReleaseLine(
            counter=release.counter,
            created=release.created,
            model=f"{release.candidate.name} {release.candidate.version}",
            sha256=release.candidate_sha256,
            verdict=release.verdict.verdict.value if release.verdict else "",
        )
        for release in session.scalars(query)
    ]


def _counts(session: Session, table: type[Sample] | type[FeatureSeries]) -> dict[str, int]:
    query = select(table.vehicle, func.count()).group_by(table.vehicle)
    return dict(session.execute(query).all())


def _newest_of_each(table: Any) -> Any:
    newest = select(func.max(table.id)).group_by(table.vehicle)
    return select(table).where(table.id.in_(newest))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Iterable) and not isinstance(value, (str, dict)):
        return list(value)
    return value
