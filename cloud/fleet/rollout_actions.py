"""What people do with rollouts. Each action is one transaction, with its line in the audit trail.

A server that runs sees what was done at its next look, within `serve.release_poll_s`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.config import RolloutConfig
from cloud.fleet import rollout_changes as changes
from cloud.fleet.rollout_rules import TAKEN_BACK, Begin, Halt, Wait
from cloud.fleet.rollout_state import Standing, audience_of, policy_of, read_snapshot
from cloud.fleet.rollouts import decision_on
from cloud.store import Store
from cloud.store.database import audit
from cloud.store.models import Release, Vehicle
from cloud.store.rollouts import Rollout, VehicleLabel, VehiclePin
from cloud.store.states import RolloutState
from edge.errors import TrafficVisionError

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class RolloutError(TrafficVisionError):
    """What was asked is not possible with this rollout, vehicle or release."""


def start(store: Store, counter: int | None, policy: RolloutConfig, actor: str, now: datetime) -> int:
    """Begin the rollout of a release; its counter is given back.

    Args:
        store: the database.
        counter: of the release; None: the newest.
        policy: how it goes.
        actor: who asks for it.
        now: the present time.

    Raises:
        RolloutError: there is no such release, or it has a rollout.
    """
    with store.writing() as session:
        newest = session.scalar(select(Release.counter).order_by(Release.counter.desc()).limit(1))
        counter = newest if counter is None else counter
        if counter is None or session.get(Release, counter) is None:
            raise RolloutError(
                f"there is no release {counter or ''}".rstrip() + "; `cloud status` lists them"
            )
        known = session.get(Rollout, counter)
        if known is not None:
            raise RolloutError(
                f"release {counter} has a rollout already, which is {known.state.value}: resume, approve or"
                " return it"
            )
        changes.start(session, counter, policy, actor, now)
    return counter


def pause(store: Store, counter: int | None, reason: str, actor: str, now: datetime) -> int:
    """Take nobody new in until it is resumed. Who is in stays in.

    Raises:
        RolloutError: it does not run.
    """
    with store.writing() as session:
        row = _one(session, counter, (RolloutState.RUNNING,))
        changes.change_state(session, row, RolloutState.PAUSED, reason, actor, now)
        return row.release_counter


def resume(store: Store, counter: int | None, reason: str, actor: str, now: datetime, *, force: bool) -> int:
    """Go on with a rollout that is paused, or, with `force`, halted; what halted it counts no more.

    The time of its stage begins anew.

    Raises:
        RolloutError: it is neither.
    """
    with store.writing() as session:
        row = _one(session, counter, (RolloutState.PAUSED, RolloutState.HALTED))
        was_halted = row.state is RolloutState.HALTED
        if was_halted and not force:
            raise RolloutError(
                f"release {row.release_counter} is halted: {row.reason}. To go on in spite of it, --force"
            )
        if was_halted:
            row.judged_since = now
        row.stage_since = now
        changes.change_state(session, row, RolloutState.RUNNING, reason, actor, now, forced=was_halted)
        return row.release_counter


def approve(store: Store, counter: int | None, actor: str, now: datetime, *, force: bool) -> tuple[int, str]:
    """Let the next stage begin; with `force`, before this one has proved itself.

    Returns:
        The release's counter, and the name of the stage that may begin.

    Raises:
        RolloutError: it does not run, has no further stage, or its stage is not over yet.
    """
    with store.writing() as session:
        row = _one(session, counter, (RolloutState.RUNNING,))
        stages = policy_of(row).stages
        if row.begun >= len(stages):
            raise RolloutError(f"release {row.release_counter} has no further stage to approve")
        decision = decision_on(session, _standing(session, row), now)
        if isinstance(decision, Halt):
            raise RolloutError(f"release {row.release_counter} is about to be halted: {decision.reason}")
        early = isinstance(decision, Wait) and not decision.needs_person
        if early and not force:
            assert isinstance(decision, Wait)
            raise RolloutError(f"{decision.reason}. To begin the next one now, --force")
        row.approved = row.begun + 1
        name = stages[row.begun].name
        action = "rollout forced" if early else "rollout approved"
        why = "" if isinstance(decision, Begin) else getattr(decision, "reason", "")
        audit(session, actor, action, str(row.release_counter), stage=name, waited_for=why)
        return row.release_counter, name


def halt(store: Store, counter: int | None, reason: str, actor: str, now: datetime) -> int:
    """Stop it for all that do not have the release yet.

    Raises:
        RolloutError: it is over, or halted already.
    """
    with store.writing() as session:
        states = (RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.DONE, RolloutState.SUPERSEDED)
        row = _one(session, counter, states)
        changes.halt(session, row, _standing(session, row), reason, actor, now)
        return row.release_counter


def take_back(store: Store, counter: int | None, reason: str, actor: str, now: datetime) -> int:
    """Ask for the release to be taken back from those that have it; `rollout_return.take_back` signs.

    Raises:
        RolloutError: it is itself what takes another back.
    """
    with store.writing() as session:
        row = _one(session, counter, tuple(RolloutState))
        if row.returns is not None:
            raise RolloutError(
                f"release {row.release_counter} brought back the model before release {row.returns}: release"
                " a newer one instead"
            )
        if row.state not in TAKEN_BACK:
            changes.change_state(session, row, RolloutState.RETURNING, reason, actor, now)
        return row.release_counter


def pin(
    store: Store, vehicle: str, counter: int, until: datetime | None, reason: str, actor: str, now: datetime
) -> None:
    """Keep a vehicle on one release, whatever rollouts say; in place of its earlier pin.

    Raises:
        RolloutError: there is no such vehicle or release, the release is another fleet's, or the pin is over
            before it begins.
    """
    if until is not None and until <= now:
        raise RolloutError(f"the pin would end at {until:%Y-%m-%d %H:%M:%S}, which is past")
    with store.writing() as session:
        own = _vehicle(session, vehicle).fleet
        release = session.get(Release, counter)
        if release is None:
            raise RolloutError(f"there is no release {counter}; `cloud status` lists them")
        fleet = audience_of(release.custom).fleet
        if fleet != own:
            raise RolloutError(
                f"release {counter} is for {_whose(fleet)}, and {vehicle!r} belongs to {_whose(own)}:"
                " it takes no other releases than those"
            )
        session.merge(
            VehiclePin(vehicle=vehicle, release_counter=counter, created=now, until=until, reason=reason)
        )
        ends = None if until is None else until.isoformat()
        audit(session, actor, "pinned", vehicle, release=counter, until=ends, reason=reason)


def unpin(store: Store, vehicle: str, actor: str) -> None:
    """Let rollouts decide about a vehicle again.

    Raises:
        RolloutError: it is not pinned.
    """
    with store.writing() as session:
        known = session.get(VehiclePin, vehicle)
        if known is None:
            raise RolloutError(f"{vehicle!r} is not pinned")
        audit(session, actor, "unpinned", vehicle, release=known.release_counter)
        session.delete(known)


def label(store: Store, vehicle: str, wanted: Mapping[str, str], actor: str) -> dict[str, str]:
    """Put labels on a vehicle, or take off those whose value is empty; all that it has now are given back.

    A vehicle that a rollout has taken in stays in, whatever its labels become.

    Raises:
        RolloutError: there is no such vehicle, or a key or value is no label.
    """
    for key, value in wanted.items():
        if not _LABEL.fullmatch(key) or (value and not _LABEL.fullmatch(value)):
            raise RolloutError(
                f"{key}={value} is no label: key and value are 1 to 63 of A-Z a-z 0-9 . _ -,"
                " a letter or digit first"
            )
    with store.writing() as session:
        _vehicle(session, vehicle)
        for key, value in wanted.items():
            known = session.get(VehicleLabel, (vehicle, key))
            if value:
                session.merge(VehicleLabel(vehicle=vehicle, key=key, value=value))
            elif known is not None:
                session.delete(known)
        if wanted:
            audit(session, actor, "labelled", vehicle, labels=dict(wanted))
        session.flush()
        query = select(VehicleLabel).where(VehicleLabel.vehicle == vehicle).order_by(VehicleLabel.key)
        return {row.key: row.value for row in session.scalars(query)}


def _vehicle(session: Session, name: str) -> Vehicle:
    vehicle = session.get(Vehicle, name)
    if vehicle is None or vehicle.revoked is not None:
        raise RolloutError(f"there is no vehicle {name!r}, or it was revoked")
    return vehicle


def _whose(fleet: str | None) -> str:
    return "no fleet" if fleet is None else f"the fleet {fleet!r}"


def _one(session: Session, counter: int | None, states: tuple[RolloutState, ...]) -> Rollout:
    """The rollout of a release; the newest that takes nothing back, where none is named.

    Never an older one that would do: the same command twice is not to reach back one release further.
    """
    query = select(Rollout).order_by(Rollout.release_counter.desc()).with_for_update()
    if counter is None:
        row = session.scalars(query.where(Rollout.returns.is_(None))).first()
    else:
        row = session.scalars(query.where(Rollout.release_counter == counter)).first()
    if row is None:
        raise RolloutError("there is no rollout" if counter is None else f"release {counter} has no rollout")
    if row.state not in states:
        shown = " or ".join(state.value for state in states)
        raise RolloutError(
            f"the rollout of release {row.release_counter} is {row.state.value}, not {shown}; another one is"
            " named by --release"
        )
    return row


def _standing(session: Session, row: Rollout) -> Standing:
    found = [
        rollout for rollout in read_snapshot(session).rollouts if rollout.track.counter == row.release_counter
    ]
    if not found:
        raise RolloutError(
            f"release {row.release_counter} decides nothing any more: every vehicle has a newer one"
        )
    return found[0]
