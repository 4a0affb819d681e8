"""The rollouts as the database has them, read in a few queries into plain values for the rules."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.config import RolloutConfig, ThresholdsConfig
from cloud.fleet.rollout_rules import (
    ENDED,
    HAS_IT,
    TAKEN_BACK,
    Audience,
    Count,
    Figures,
    Progress,
    Stand,
    Track,
    meets,
    takes_everyone,
)
from cloud.store.models import DriftEvent, Release, Vehicle
from cloud.store.rollouts import Rollout, RolloutMember, VehicleLabel, VehiclePin
from cloud.store.states import Outcome, RolloutState
from protos.release_facts import CUSTOM_KEY

LEAST_AFTER = 3  # reports of latency on the new model before it is compared
LEAST_DRIVEN_S = 60.0  # before the new model, and on it, before drift alarms are compared

_NOT_BEGUN = frozenset({Outcome.ASSIGNED})


@dataclass(frozen=True, slots=True)
class Member:
    """A row of `RolloutMember`, see there."""

    vehicle: str
    stage: int
    outcome: Outcome
    changed: datetime
    ran_driven_s: float | None
    before_ms: Sequence[float]
    after_ms: Sequence[float]


@dataclass(frozen=True, slots=True)
class Standing:
    """A rollout with its members.

    Attributes:
        track: what decides who gets the release.
        stage_since, approved, judged_since: see `cloud.store.rollouts.Rollout`.
        members: by the vehicle's name.
        is_last: no newer release is on its way to any of its vehicles, and it takes none back: it could be
            taken back itself.
    """

    track: Track
    stage_since: datetime
    approved: int
    judged_since: datetime
    members: Mapping[str, Member]
    is_last: bool = True

    def progress(self, now: datetime) -> Progress:
        """Where it is."""
        age_s = (now - self.stage_since).total_seconds()
        return Progress(self.track.state, self.track.begun, age_s, self.approved)


@dataclass(frozen=True, slots=True)
class Pin:
    """A vehicle's pin, see `VehiclePin`."""

    release_counter: int
    until: datetime | None

    def holds(self, now: datetime) -> bool:
        """Say whether it has not ended."""
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one moment.

    Attributes:
        releases: counter -> whom it is for, of every release.
        rollouts: those that still decide something, of the newest release first.
        vehicles: that are not revoked, by name.
        pins: by the vehicle's name.
        counters: of all releases that have a rollout.
        withdrawn: counters of releases that were taken back.
    """

    releases: Mapping[int, Audience]
    rollouts: Sequence[Standing]
    vehicles: Mapping[str, Stand]
    pins: Mapping[str, Pin]
    counters: frozenset[int] = frozenset()
    withdrawn: Sequence[int] = field(default_factory=tuple)


def read_snapshot(session: Session, *, lock: bool = False) -> Snapshot:
    """Read everything.

    Args:
        session: any; with `lock` a writing one.
        lock: hold the rollouts until the transaction ends, where the database locks rows.
    """
    releases = {
        counter: audience_of(custom)
        for counter, custom in session.execute(select(Release.counter, Release.custom))
    }
    query = select(Rollout).order_by(Rollout.release_counter.desc())
    rows = list(session.scalars(query.with_for_update() if lock else query))
    tracks = {track.counter: track for track in _deciding(rows, releases)}
    members = _members(session, list(tracks))
    rollouts: list[Standing] = []
    newer: list[Track] = []
    for row in rows:  # the newest first
        track = tracks.get(row.release_counter)
        if track is None:
            continue
        is_last = row.returns is None and not any(_meet(track, other) for other in newer)
        own = members.get(row.release_counter, {})
        rollouts.append(Standing(track, row.stage_since, row.approved, row.judged_since, own, is_last))
        if row.returns is None and row.state not in TAKEN_BACK:
            newer.append(track)
    pins = {pin.vehicle: Pin(pin.release_counter, pin.until) for pin in session.scalars(select(VehiclePin))}
    return Snapshot(
        releases,
        rollouts,
        _vehicles(session, rollouts),
        pins,
        frozenset(row.release_counter for row in rows),
        tuple(row.release_counter for row in rows if row.state in TAKEN_BACK),
    )


def figures_of(session: Session, rollout: Standing, limits: ThresholdsConfig) -> Figures:
    """Count what a rollout's vehicles have reported since it is judged."""
    judged = _judged(rollout)
    slower, faster, compared = _latency(judged, limits)
    more, fewer, driven = _drift(session, judged, rollout.track.counter)
    return replace(
        outcomes_of(rollout),
        slower=Count(slower, compared),
        faster=Count(faster, compared),
        more_drift=Count(more, driven),
        less_drift=Count(fewer, driven),
    )


def outcomes_of(rollout: Standing) -> Figures:
    """Count how the release ended on a rollout's vehicles since it is judged; latency and drift left out."""
    members, judged = rollout.members.values(), _judged(rollout)
    ran = [member for member in judged if member.outcome in HAS_IT or member.outcome is Outcome.ROLLED_BACK]
    begun = [member for member in judged if member.outcome not in _NOT_BEGUN]
    return Figures(
        members=len(members),
        ended=sum(member.outcome in ENDED for member in members),
        failed=Count(sum(member.outcome is Outcome.FAILED for member in judged), len(begun)),
        rolled_back=Count(sum(member.outcome is Outcome.ROLLED_BACK for member in judged), len(ran)),
    )


def audience_of(custom: Mapping[str, Any]) -> Audience:
    """Whom a release is for, by its `custom` field; any hardware, and no fleet, where it does not say."""
    facts = custom.get(CUSTOM_KEY, {})
    return Audience(frozenset(facts.get("hardware_ids", ())), facts.get("fleet"))


def policy_of(row: Rollout) -> RolloutConfig:
    """The policy that a rollout was started with."""
    return RolloutConfig.model_validate(row.policy, strict=False)


def _judged(rollout: Standing) -> list[Member]:
    return [
        member
        for member in rollout.members.values()
        if member.changed >= rollout.judged_since or member.outcome not in ENDED
    ]


def _meet(one: Track, other: Track) -> bool:
    """Say whether a vehicle can be in both."""
    return one.audience.meets(other.audience) and meets(one.policy, other.policy)


def _deciding(rows: Sequence[Rollout], releases: Mapping[int, Audience]) -> list[Track]:
    """Those down to where newer ones of the fleet that are done leave none of its vehicles over."""
    found: list[Track] = []
    covered: dict[str | None, frozenset[str]] = {}
    whole: set[str | None] = set()  # fleets of which every vehicle has something newer
    every: dict[str | None, frozenset[str]] = {}
    for audience in releases.values():
        every[audience.fleet] = every.get(audience.fleet, frozenset()) | audience.hardware_ids
    for row in rows:  # the newest first
        audience = releases[row.release_counter]
        hardware_ids, fleet = audience.hardware_ids, audience.fleet
        had = covered.get(fleet, frozenset())
        if fleet in whole or (hardware_ids and hardware_ids <= had):
            continue
        policy = policy_of(row)
        found.append(Track(row.release_counter, row.state, policy, row.salt, row.begun, audience))
        is_whole = row.begun == len(policy.stages) and takes_everyone(policy)
        if row.state is RolloutState.DONE and is_whole:
            covered[fleet] = had | hardware_ids
            if not hardware_ids or covered[fleet] >= every[fleet]:
                whole.add(fleet)
    return found


def _members(session: Session, counters: Sequence[int]) -> dict[int, dict[str, Member]]:
    row = RolloutMember
    query = select(
        row.release_counter,
        row.vehicle,
        row.stage,
        row.outcome,
        row.changed,
        row.ran_driven_s,
        row.before_ms,
        row.after_ms,
    ).where(row.release_counter.in_(counters))
    found: dict[int, dict[str, Member]] = {}
    for counter, *values in session.execute(query):
        member = Member(*cast("tuple[Any, ...]", values))
        found.setdefault(counter, {})[member.vehicle] = member
    return found


def _vehicles(session: Session, rollouts: Sequence[Standing]) -> dict[str, Stand]:
    labels: dict[str, dict[str, str]] = {}
    rows = select(VehicleLabel.vehicle, VehicleLabel.key, VehicleLabel.value)
    for vehicle, key, value in session.execute(rows):
        labels.setdefault(vehicle, {})[key] = value
    outcomes: dict[str, dict[int, Outcome]] = {}
    for rollout in rollouts:
        for member in rollout.members.values():
            outcomes.setdefault(member.vehicle, {})[rollout.track.counter] = member.outcome
    query = select(Vehicle.name, Vehicle.hardware_ids, Vehicle.fleet).where(Vehicle.revoked.is_(None))
    return {
        name: Stand(name, labels.get(name, {}), frozenset(hardware_ids), outcomes.get(name, {}), fleet)
        for name, hardware_ids, fleet in session.execute(query)
    }


def _latency(members: Iterable[Member], limits: ThresholdsConfig) -> tuple[int, int, int]:
    """How many are slower, how many faster, of how many; by medians of what each reported."""
    slower = faster = compared = 0
    for member in members:
        if not member.before_ms or len(member.after_ms) < LEAST_AFTER:
            continue
        compared += 1
        before, after = statistics.median(member.before_ms), statistics.median(member.after_ms)
        slower += after > before * limits.slower_ratio and after - before > limits.slower_ms
        faster += before > after * limits.slower_ratio and before - after > limits.slower_ms
    return slower, faster, compared


def _drift(session: Session, members: Iterable[Member], counter: int) -> tuple[int, int, int]:
    """How many have more drift alarms on a release than before it, how many fewer, of how many.

    Each vehicle's alarms in as many seconds of driving before as after; parked, nothing can alarm. Given
    their sum, those after are then binomial with one half where the rate is the same, whatever it is on that
    vehicle (Przyborowski & Wilenski, "Homogeneity of results in testing samples from Poisson series", 1940):
    more is as likely as fewer, which is what the rules test over the vehicles.
    """
    rows = session.execute(select(Vehicle.name, Vehicle.driven_s))
    driven = {vehicle.name: vehicle.driven_s for vehicle in rows}
    spans: dict[str, tuple[float, float]] = {}
    for member in members:
        began_s = member.ran_driven_s
        span_s = 0.0 if began_s is None else min(driven[member.vehicle] - began_s, began_s)
        if began_s is not None and span_s >= LEAST_DRIVEN_S:
            spans[member.vehicle] = began_s, span_s
    if not spans:
        return 0, 0, 0
    row, event = RolloutMember, DriftEvent
    alarms = (
        select(event.vehicle, event.driven_s, event.model_sha256, Release.target_sha256)
        .join(row, row.vehicle == event.vehicle)
        .join(Vehicle, Vehicle.name == event.vehicle)
        .join(Release, Release.counter == row.release_counter)
        .where(
            row.release_counter == counter,
            event.verdict == "alarm",
            event.driven_s > 2 * row.ran_driven_s - Vehicle.driven_s,
        )
    )
    balance = dict.fromkeys(spans, 0)
    for vehicle, at_s, of_model, sha256 in session.execute(alarms):
        assert at_s is not None  # by the query
        began_s, span_s = spans.get(vehicle, (0.0, 0.0))
        if began_s - span_s < at_s <= began_s:
            balance[vehicle] -= 1
        elif began_s < at_s <= began_s + span_s and of_model in ("", sha256):  # else it came late
            balance[vehicle] += 1
    more = sum(value > 0 for value in balance.values())
    return more, sum(value < 0 for value in balance.values()), len(spans)
