"""Looking up what the trigger's decision is made of."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.config import TriggerConfig
from cloud.pipeline.agreement import Alarm
from cloud.pipeline.runs import unused_samples
from cloud.pipeline.trigger import DRIFT, Situation
from cloud.store.models import DriftEvent, Run, Sample, StageRecord
from cloud.store.states import SampleState

ALARM = "alarm"


def observe(session: Session, now: datetime, rule: TriggerConfig) -> Situation:
    """Look up the situation at this moment."""
    samples = session.scalars(unused_samples(SampleState.STORED, SampleState.LABELED)).all()
    last = session.scalars(select(Run.started).order_by(Run.started.desc())).first()
    oldest = min((sample.received for sample in samples), default=None)
    since = now - timedelta(days=rule.budget_days)
    runs = session.scalars(select(Run.id).where(Run.started > since)).all()
    return Situation(
        samples=len(samples),
        drift_samples=sum(DRIFT in sample.reasons for sample in samples),
        vehicles=len({sample.vehicle for sample in samples}),
        since_last_s=_ago_s(now, last),
        oldest_s=_ago_s(now, oldest),
        alarms=_alarms(session, samples, now - timedelta(days=rule.agree_within_days)),
        retrains=len(runs),
        hours=_hours(session, runs),
    )


def _ago_s(now: datetime, moment: datetime | None) -> float | None:
    return (now - moment).total_seconds() if moment is not None else None


def _alarms(session: Session, samples: Sequence[Sample], since: datetime) -> tuple[Alarm, ...]:
    """What each vehicle says in its alarms, by context; samples count for the event they were taken for."""
    waiting = Counter((sample.vehicle, sample.drift_event) for sample in samples if sample.drift_event)
    query = select(DriftEvent).where(DriftEvent.received >= since, DriftEvent.verdict == ALARM)
    features: dict[tuple[str, str], set[str]] = defaultdict(set)
    counts: Counter[tuple[str, str]] = Counter()
    for event in session.scalars(query.order_by(DriftEvent.id)):
        key = event.vehicle, event.context
        features[key] |= {str(f["name"]) for f in event.features if f.get("verdict", ALARM) == ALARM}
        counts[key] += waiting[event.vehicle, event.external_id]
    return tuple(
        Alarm(vehicle, context, frozenset(names), counts[vehicle, context])
        for (vehicle, context), names in sorted(features.items())
    )


def _hours(session: Session, runs: Sequence[str]) -> float:
    """What the stages of these retrains took, as far as they are done."""
    records = session.scalars(select(StageRecord).where(StageRecord.key.in_(runs)))
    return sum(float(record.result.get("seconds", 0.0)) for record in records) / 3600
