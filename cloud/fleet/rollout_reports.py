"""What vehicles say of their models, held against the rollouts that they are in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session, aliased

from cloud.fleet.rollout_rules import HAS_IT, TAKEN_BACK
from cloud.fleet.rollout_state import audience_of
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
    """A vehicle's place in a rollout, and what its reports are held against.

    Attributes:
        member: its row.
        model_sha256, fleet: of the release: its model, and whose it is.
        state: of the rollout.
    """

    member: RolloutMember
    model_sha256: str
    state: RolloutState
    fleet: str | None = None


def memberships(session: Session, vehicles: Iterable[str]) -> Mapping[str, Sequence[Membership]]:
    """Look up, by vehicle, the rollouts in which what it says can still change something.

    Of those that are done, with what is final on a vehicle, the newest that has it: no older release runs.
    """
    others = aliased(RolloutMember)
    newest = select(func.max(others.release_counter)).where(others.vehicle == RolloutMember.vehicle)
    query = (
        select(RolloutMember, Rollout.state)
        .join(Rollout, Rollout.release_counter == RolloutMember.release_counter)
        .where(
            RolloutMember.vehicle.in_(list(vehicles)),
            or_(
                RolloutMember.outcome.not_in(_FINAL),
                Rollout.state.in_((RolloutState.RUNNING, RolloutState.PAUSED)),
                and_(
                    Rollout.state == RolloutState.DONE,
                    RolloutMember.release_counter == newest.scalar_subquery(),
                ),
            ),
        )
    )
    rows = session.execute(query).all()
    releases = select(Release.counter, Release.target_sha256, Release.custom).where(
        Release.counter.in_({member.release_counter for member, _ in rows})
    )
    known = {
        counter: (sha256, audience_of(custom).fleet) for counter, sha256, custom in session.execute(releases)
    }
    found: dict[str, list[Membership]] = {}
    for member, state in rows:
        sha256, fleet = known[member.release_counter]
        found.setdefault(member.vehicle, []).append(Membership(member, sha256, state, fleet))
    return found


def note(
    places: Iterable[Membership],
    state: common.ModelState,
    cameras: Iterable[common.CameraStatus],
    driven_s: float,
    now: datetime,
) -> bool:
    """Take a report into the rows; say whether an outcome is another one now.

    Args:
        places: of the vehicle, from `memberships`.
        state: of its models.
        cameras: of its status; none where the report was not one.
        driven_s: the vehicle's.
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
            member.ran_since, member.ran_driven_s = now, driven_s
        if age_ms is not None and place.state in (RolloutState.RUNNING, RolloutState.PAUSED):
            if after in HAS_IT and state.active.sha256 == place.model_sha256:
                member.after_ms = [*member.after_ms, age_ms][-KEPT_AFTER:]
            elif member.ran_since is None:
                member.before_ms = [*member.before_ms, age_ms][-KEPT_BEFORE:]
    return changed


def outcome_after(
    before: Outcome, state: common.ModelState, sha256: str, counter: int, rollout: RolloutState
) -> Outcome:
    """How a release fares on a vehicle, by what it said last. Given up once, it stays so, run again or not.

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
        return Outcome.ROLLED_BACK if _fell_back(state, counter) else before
    if before is Outcome.RUNNING:
        return Outcome.WITHDRAWN if rollout in TAKEN_BACK else Outcome.BEGUN
    if state.candidate.sha256 == sha256:
        if state.phase == common.UPDATE_PHASE_REFUSED:
            return Outcome.FAILED
        if state.phase in _UNDER_WAY:
            return Outcome.BEGUN
    return before


def _fell_back(state: common.ModelState, counter: int) -> bool:
    """Say whether a vehicle runs something older than a release that it confirmed, and nothing newer came.

    A crash loop, a frame loop that fails with it, a damaged slot, or a person: none of these calls it bad.
    """
    is_newest = state.release_counter == counter  # the highest that it confirmed
    # A newer release is on probation, or is this moment put in its place.
    is_followed = state.phase == common.UPDATE_PHASE_PROBATION or state.active == state.candidate
    return is_newest and bool(state.active.sha256) and not is_followed and not state.active_is_unsigned


def latency_ms(cameras: Iterable[common.CameraStatus]) -> float | None:
    """The age of a detection at p99 on the slowest camera, ms; None where no camera gives one."""
    ages = [camera.age_p99_ns / 1e6 for camera in cameras if camera.age_p99_ns > 0]
    slowest = max(ages, default=None)
    return None if slowest is None or not math.isfinite(slowest) else round(slowest, 3)
