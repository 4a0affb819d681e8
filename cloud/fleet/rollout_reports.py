"""What vehicles say of their models, held against the rollouts that they are in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from cloud.fleet.rollout_rules import HAS_IT, TAKEN_BACK
from cloud.store.models import Release
from cloud.store.rollouts import Rollout, RolloutMember
from cloud.store.states import Outcome, RolloutState
from protos.traffic_vision.v1 import common_pb2 as common

KEPT_BEFORE = 10  # reports of latency
KEPT_AFTER = 20
MAX_DETAIL = 500

_FINAL = (Outcome.CONFIRMED, Outcome.ROLLED_BACK, Outcome.WITHDRAWN)
_UNDER_WAY = frozenset(
    {
        common.UPDATE_PHASE_CHECKING,
        common.UPDATE_PHASE_DOWNLOADING,
        common.UPDATE_PHASE_VERIFYING,
        common.UPDATE_PHASE_STAGED,
        common.UPDATE_PHASE_SHADOW,
    }
)


@dataclass(frozen=True, slots=True)
class Membership:
    """A vehicle's place in a rollout, and what its reports are held against."""

    member: RolloutMember
    model_sha256: str
    state: RolloutState


def memberships(session: Session, vehicles: Iterable[str]) -> Mapping[str, Sequence[Membership]]:
    """Look up, by vehicle, the rollouts in which what it says can still change something."""
    query = (
        select(RolloutMember, Release.target_sha256, Rollout.state)
        .join(Rollout, Rollout.release_counter == RolloutMember.release_counter)
        .join(Release, Release.counter == RolloutMember.release_counter)
        .where(
            RolloutMember.vehicle.in_(list(vehicles)),
            or_(
                RolloutMember.outcome.not_in(_FINAL),
                Rollout.state.in_((RolloutState.RUNNING, RolloutState.PAUSED)),
            ),
        )
    )
    found: dict[str, list[Membership]] = {}
    for member, sha256, state in session.execute(query):
        found.setdefault(member.vehicle, []).append(Membership(member, sha256, state))
    return found


def note(
    places: Iterable[Membership],
    state: common.ModelState,
    cameras: Iterable[common.CameraStatus],
    now: datetime,
) -> bool:
    """Take a report into the rows; say whether an outcome is another one now.

    Args:
        places: of the vehicle, from `memberships`.
        state: of its models.
        cameras: of its status; none where the report was not one.
        now: the present time.
    """
    age_ms = latency_ms(cameras)
    changed = False
    for place in places:
        member = place.member
        after = outcome_after(member.outcome, state, place.model_sha256, member.release_counter, place.state)
        if after is not member.outcome:
            member.outcome, member.changed, changed = after, now, True
            member.detail = "".join(char for char in state.detail[:MAX_DETAIL] if char.isprintable())
        if after in HAS_IT and member.ran_since is None:
            member.ran_since = now
        if age_ms is not None and place.state in (RolloutState.RUNNING, RolloutState.PAUSED):
            if after in HAS_IT and state.active.sha256 == place.model_sha256:
                member.after_ms = [*member.after_ms, age_ms][-KEPT_AFTER:]
            elif member.ran_since is None:
                member.before_ms = [*member.before_ms, age_ms][-KEPT_BEFORE:]
    return changed


def outcome_after(
    before: Outcome, state: common.ModelState, sha256: str, counter: int, rollout: RolloutState
) -> Outcome:
    """How a release fares on a vehicle, by what it said last.

    Args:
        before: the outcome until now.
        state: what it says of its models.
        sha256: of the release's model.
        counter: of the release.
        rollout: the state of the release's rollout.
    """
    if before in (Outcome.ROLLED_BACK, Outcome.WITHDRAWN):
        return before
    if state.active.sha256 == sha256:
        confirmed = state.phase != common.UPDATE_PHASE_PROBATION and state.release_counter >= counter
        return Outcome.CONFIRMED if confirmed else Outcome.RUNNING
    if sha256 in state.bad_sha256:
        ran = before in HAS_IT or state.phase == common.UPDATE_PHASE_REVERTED
        return Outcome.ROLLED_BACK if ran else Outcome.FAILED
    if before is Outcome.CONFIRMED:
        return before  # it went on to something else
    if before is Outcome.RUNNING:
        return Outcome.WITHDRAWN if rollout in TAKEN_BACK else Outcome.BEGUN
    if state.candidate.sha256 == sha256:
        if state.phase == common.UPDATE_PHASE_REFUSED:
            return Outcome.FAILED
        if state.phase in _UNDER_WAY:
            return Outcome.BEGUN
    return before


def latency_ms(cameras: Iterable[common.CameraStatus]) -> float | None:
    """The age of a detection at p99 on the slowest camera, ms; None where no camera gives one."""
    ages = [camera.age_p99_ns / 1e6 for camera in cameras if camera.age_p99_ns > 0]
    slowest = max(ages, default=None)
    return None if slowest is None or not math.isfinite(slowest) else round(slowest, 3)
