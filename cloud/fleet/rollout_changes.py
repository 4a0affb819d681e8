"""What happens to rollouts, written down: each change and its line in the audit trail in one transaction."""

from __future__ import annotations

import logging
import secrets
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.config import RolloutConfig, StageConfig
from cloud.fleet.rollout_reports import latency_ms, outcome_after
from cloud.fleet.rollout_rules import Begin, Decision, Finish, Halt, assigning, meets
from cloud.fleet.rollout_state import Snapshot, Standing, audience_of, figures_of, policy_of
from cloud.store.database import audit
from cloud.store.models import Release, Vehicle
from cloud.store.rollouts import Rollout, RolloutMember
from cloud.store.states import Outcome, RolloutState
from protos.traffic_vision.v1 import common_pb2 as common

SERVER = "server"  # in the audit trail: nobody did it by hand
EVERYONE = RolloutConfig(stages=(StageConfig(name="everyone", wait_s=0, min_reports=0),))

_LOG = logging.getLogger(__name__)


def start(
    session: Session,
    counter: int,
    policy: RolloutConfig,
    actor: str,
    now: datetime,
    *,
    state: RolloutState = RolloutState.RUNNING,
    returns: int | None = None,
) -> Rollout:
    """Begin the rollout of a release; those of older releases that could meet it stop where they are.

    Args:
        session: a writing one.
        counter: of a release that has none.
        policy: how it goes, frozen from now on.
        actor: for the audit trail.
        now: the present time.
        state: DONE, where everyone is to have it at once, or, with `returns`, its members alone.
        returns: the release that it takes back.
    """
    is_over = state is RolloutState.DONE
    row = Rollout(
        release_counter=counter,
        created=now,
        policy=policy.model_dump(mode="json"),
        salt=secrets.token_hex(16),
        state=state,
        stage_since=now,
        judged_since=now,
        begun=len(policy.stages) if is_over and returns is None else 0,
        ended=now if is_over else None,
        returns=returns,
    )
    session.add(row)
    session.flush()
    stages = [stage.name for stage in policy.stages]
    audit(session, actor, "rollout started", str(counter), stages=stages, labels=dict(policy.labels))
    if not is_over:
        _supersede(session, counter, policy, now)
    return row


def change_state(
    session: Session,
    row: Rollout,
    state: RolloutState,
    reason: str,
    actor: str,
    now: datetime,
    **facts: object,
) -> None:
    """Bring a rollout into another state, and say who did it and why."""
    row.state, row.reason = state, reason
    if state in (RolloutState.DONE, RolloutState.SUPERSEDED, RolloutState.RETURNED):
        row.ended = now
    audit(session, actor, f"rollout {state.value}", str(row.release_counter), reason=reason, **facts)
    _LOG.info("the rollout of release %d is %s: %s", row.release_counter, state.value, reason)


def apply(session: Session, rollout: Standing, decision: Decision, now: datetime) -> None:
    """Do what the rules decided. The rollout's row is as it was when they did."""
    counter = rollout.track.counter
    row = session.get_one(Rollout, counter)
    if isinstance(decision, Begin):
        stage = rollout.track.policy.stages[decision.stage - 1]
        row.begun, row.stage_since, row.reason = decision.stage, now, ""
        audit(session, SERVER, "rollout stage", str(counter), stage=stage.name, number=decision.stage)
        _LOG.info("the rollout of release %d is at stage %s", counter, stage.name)
    elif isinstance(decision, Finish):
        change_state(session, row, RolloutState.DONE, "all stages are over", SERVER, now)
    elif isinstance(decision, Halt):
        halt(session, row, rollout, decision.reason, SERVER, now)


def halt(session: Session, row: Rollout, rollout: Standing, reason: str, actor: str, now: datetime) -> None:
    """Stop a rollout for all that do not have the release yet; take it back where the policy says so."""
    policy = rollout.track.policy
    figures = figures_of(session, rollout, policy.thresholds)
    told = {
        "members": figures.members,
        "ended": figures.ended,
        **{
            name: f"{count.hits}/{count.of}"
            for name in ("failed", "rolled_back", "slower", "faster", "more_drift", "less_drift")
            if (count := getattr(figures, name)).of
        },
    }
    change_state(session, row, RolloutState.HALTED, reason, actor, now, figures=told)
    if policy.automatic_return and actor == SERVER:
        change_state(session, row, RolloutState.RETURNING, reason, actor, now)


def admit(session: Session, snapshot: Snapshot, now: datetime) -> None:
    """Take in whom a rollout reaches; what each said of itself last is where its report begins."""
    for vehicle, counter, stage in admissions(snapshot):
        member = RolloutMember(
            release_counter=counter,
            vehicle=vehicle,
            stage=stage,
            assigned=now,
            outcome=Outcome.ASSIGNED,
            changed=now,
            before_ms=[],
            after_ms=[],
        )
        _begin_with(session, member, now)
        session.add(member)


def admissions(snapshot: Snapshot) -> list[tuple[str, int, int]]:
    """Vehicles that a rollout takes in now: name, release counter, stage."""
    tracks = [rollout.track for rollout in snapshot.rollouts]
    found = []
    for name, vehicle in snapshot.vehicles.items():
        track, stage = assigning(tracks, vehicle)
        if track is not None and stage:
            found.append((name, track.counter, stage))
    return found


def _begin_with(session: Session, member: RolloutMember, now: datetime) -> None:
    serialized = session.scalar(select(Vehicle.status).where(Vehicle.name == member.vehicle))
    if serialized is None:
        return
    status = common.VehicleStatus.FromString(serialized)
    sha256 = session.get_one(Release, member.release_counter).target_sha256
    outcome = outcome_after(
        Outcome.ASSIGNED, status.model, sha256, member.release_counter, RolloutState.RUNNING
    )
    age_ms = latency_ms(status.cameras)
    if outcome is Outcome.CONFIRMED:  # it had it before anybody assigned it: nothing to compare
        member.outcome = outcome
    elif age_ms is not None:
        member.before_ms = [age_ms]


def _supersede(session: Session, counter: int, policy: RolloutConfig, now: datetime) -> None:
    audience = audience_of(session.get_one(Release, counter).custom)
    open_states = (RolloutState.RUNNING, RolloutState.PAUSED)
    query = select(Rollout).where(Rollout.release_counter < counter, Rollout.state.in_(open_states))
    for older in session.scalars(query):
        others = audience_of(session.get_one(Release, older.release_counter).custom)
        if audience.meets(others) and meets(policy, policy_of(older)):
            change_state(session, older, RolloutState.SUPERSEDED, f"release {counter} came", SERVER, now)
