"""How the rollouts are, for people and programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.fleet.rollout_rules import Count, Wait
from cloud.fleet.rollout_state import Standing, audience_of, figures_of, policy_of, read_snapshot
from cloud.fleet.rollouts import decision_on
from cloud.store.models import Release
from cloud.store.rollouts import Rollout, RolloutMember, VehicleLabel, VehiclePin

NEWEST = 10


@dataclass(frozen=True, slots=True)
class RolloutLine:
    """A rollout.

    Attributes:
        release: counter of its release.
        model: name and version.
        state: a word of `RolloutState`.
        stage: the one that has begun last, as `2/3 half`.
        since: when it did.
        vehicles: that were assigned the release.
        outcomes: how many of them are how, by the words of `Outcome`.
        figures: `HITS/OF` of what is judged.
        next: what comes next, or why it is in its state.
        labels: of its cohort.
        fleet: whose release it is; None: of the vehicles without one.
    """

    release: int
    model: str
    state: str
    stage: str
    since: datetime
    vehicles: int
    outcomes: Mapping[str, int]
    figures: Mapping[str, str]
    next: str
    labels: Mapping[str, str]
    fleet: str | None = None


@dataclass(frozen=True, slots=True)
class PinLine:
    """A vehicle that stays on one release."""

    vehicle: str
    release: int
    until: datetime | None
    reason: str


def rollout_lines(session: Session, now: datetime) -> list[RolloutLine]:
    """The newest rollouts, the newest release's first."""
    deciding = {rollout.track.counter: rollout for rollout in read_snapshot(session).rollouts}
    query = select(Rollout).order_by(Rollout.release_counter.desc()).limit(NEWEST)
    return [_line(session, row, deciding.get(row.release_counter), now) for row in session.scalars(query)]


def pin_lines(session: Session, now: datetime) -> list[PinLine]:
    """The pins that hold."""
    return [
        PinLine(row.vehicle, row.release_counter, row.until, row.reason)
        for row in session.scalars(select(VehiclePin).order_by(VehiclePin.vehicle))
        if row.until is None or now < row.until
    ]


def labels_by_vehicle(session: Session) -> dict[str, dict[str, str]]:
    """The labels of each vehicle that has any."""
    found: dict[str, dict[str, str]] = {}
    for row in session.scalars(select(VehicleLabel).order_by(VehicleLabel.vehicle, VehicleLabel.key)):
        found.setdefault(row.vehicle, {})[row.key] = row.value
    return found


def _line(session: Session, row: Rollout, standing: Standing | None, now: datetime) -> RolloutLine:
    policy = policy_of(row)
    release = session.get_one(Release, row.release_counter)
    members = select(RolloutMember.outcome).where(RolloutMember.release_counter == row.release_counter)
    outcomes = Counter(outcome.value for outcome in session.scalars(members))
    figures: dict[str, str] = {}
    following = row.trouble or row.reason
    if standing is not None:
        seen = figures_of(session, standing, policy.thresholds)
        counts: Sequence[tuple[str, Count]] = (
            ("failed", seen.failed),
            ("rolled back", seen.rolled_back),
            ("slower", seen.slower),
            ("faster", seen.faster),
            ("more drift", seen.more_drift),
            ("less drift", seen.less_drift),
        )
        figures = {name: f"{count.hits}/{count.of}" for name, count in counts if count.of}
        decision = decision_on(session, standing, now)
        if not following and isinstance(decision, Wait):
            following = decision.reason
    stage = f"{row.begun}/{len(policy.stages)}"
    if row.returns is not None:
        stage = f"takes back {row.returns}"
    elif row.begun:
        stage += f" {policy.stages[row.begun - 1].name}"
    return RolloutLine(
        release=row.release_counter,
        model=f"{release.candidate.name} {release.candidate.version}",
        state=row.state.value,
        stage=stage,
        since=row.stage_since,
        vehicles=sum(outcomes.values()),
        outcomes=dict(outcomes),
        figures=figures,
        next=following,
        labels=dict(policy.labels),
        fleet=audience_of(release.custom).fleet,
    )


def to_json(
    lines: Sequence[RolloutLine], pins: Sequence[PinLine], labels: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """JSON-able values; times as ISO 8601, UTC."""
    return {
        "rollouts": [
            {**_fields(line), "since": line.since.isoformat(), "outcomes": dict(line.outcomes)}
            for line in lines
        ],
        "pins": [
            {**_fields(pin), "until": None if pin.until is None else pin.until.isoformat()} for pin in pins
        ],
        "labels": {vehicle: dict(own) for vehicle, own in labels.items()},
    }


def _fields(line: RolloutLine | PinLine) -> dict[str, Any]:
    return {name: getattr(line, name) for name in line.__slots__}
