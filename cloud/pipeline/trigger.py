"""When a retrain begins by itself. The rule is data (`[trigger]`), and each decision says why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.config import TriggerConfig
from cloud.pipeline.runs import unused_samples
from cloud.store.models import Run
from cloud.store.states import SampleState

DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class Situation:
    """What the decision is made of.

    Attributes:
        samples: that no dataset has.
        drift_samples: of them, those that were taken because of drift.
        vehicles: that they are from.
        since_last_s: since the last retrain began, None where there was none.
    """

    samples: int
    drift_samples: int
    vehicles: int
    since_last_s: float | None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a retrain is to begin, and why or why not, for people."""

    begin: bool
    why: str
    situation: Situation

    def to_json(self) -> dict[str, Any]:
        """Give JSON-able values: a run's trigger."""
        return {"by": "rule", "why": self.why, **asdict(self.situation)}


def decide(situation: Situation, rule: TriggerConfig) -> Decision:
    """Hold the situation against the rule."""
    there = f"{situation.samples} new samples"
    lacking = []
    if situation.samples < rule.min_samples:
        lacking.append(f"{there} of {rule.min_samples}")
    if situation.drift_samples < rule.min_drift_samples:
        lacking.append(f"{situation.drift_samples} of {rule.min_drift_samples} samples of drift")
    since = situation.since_last_s
    if since is not None and since < rule.cool_down_s:
        lacking.append(f"{since:.0f} s of {rule.cool_down_s:g} s since the last retrain began")
    if lacking:
        return Decision(False, f"not yet: {', '.join(lacking)}", situation)
    return Decision(
        True,
        f"{there} of {situation.vehicles} vehicles, {situation.drift_samples} of them of drift: enough",
        situation,
    )


def observe(session: Session, now: datetime) -> Situation:
    """Look up what the decision is made of."""
    samples = session.scalars(unused_samples(SampleState.STORED, SampleState.LABELED)).all()
    last = session.scalars(select(Run.started).order_by(Run.started.desc())).first()
    return Situation(
        samples=len(samples),
        drift_samples=sum(DRIFT in sample.reasons for sample in samples),
        vehicles=len({sample.vehicle for sample in samples}),
        since_last_s=(now - last).total_seconds() if last is not None else None,
    )
