"""The rollouts move: what follows from the rules is written down, and each vehicle's assignment is known.

Any number of servers may do so at once. All that decides is in the database, each change is worked out again
from what is there inside the transaction that makes it, and the same again changes nothing: a stage begins
once, a vehicle is taken in once. A server that is killed anywhere leaves the state before a change or after
it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.orm import Session

from cloud.config import RolloutConfig
from cloud.fleet.rollout_changes import EVERYONE, SERVER, admissions, admit, apply, start
from cloud.fleet.rollout_rules import Decision, Figures, Wait, assigning, at_once, decide
from cloud.fleet.rollout_state import Pin, Snapshot, Standing, figures_of, outcomes_of, read_snapshot
from cloud.store import Store
from cloud.store.columns import utc_now
from cloud.store.states import RolloutState
from protos.traffic_vision.v1 import fleet_pb2 as fleet

MOST_ROUNDS = 64  # stages that begin in one look, one after the other
MOST_WITHDRAWN = 16  # of the newest; no vehicle has more than one on probation


@dataclass(frozen=True, slots=True)
class Assignments:
    """What each vehicle is assigned, at one moment.

    Attributes:
        assigns: whether this cloud assigns at all. One without a release does not, unless its first one is
        not
            to be everyone's at once.
        counters: vehicle -> the release of its rollout; 0: none.
        pins: vehicle -> its pin.
        withdrawn: releases that were taken back, the newest first.
        returning: some are to be taken back, and the release that does so is not signed yet.
    """

    assigns: bool = False
    counters: Mapping[str, int] = field(default_factory=dict)
    pins: Mapping[str, Pin] = field(default_factory=dict)
    withdrawn: tuple[int, ...] = ()
    returning: bool = False

    def of(self, vehicle: str, now: datetime) -> fleet.Assignment | None:
        """What a vehicle is told; None where this cloud assigns nothing."""
        if not self.assigns:
            return None
        assignment = fleet.Assignment(withdrawn_release_counters=self.withdrawn)
        pin, counter = self.pins.get(vehicle), self.counters.get(vehicle, 0)
        if pin is not None and pin.holds(now):
            assignment.release_counter, assignment.pinned = pin.release_counter, True
        elif counter:
            assignment.release_counter, assignment.rollout_id = counter, f"release-{counter}"
        return assignment


class Rollouts:
    """Looks at the rollouts and moves them on. One thread at a time calls it."""

    def __init__(self, store: Store, config: RolloutConfig, clock: Callable[[], datetime] = utc_now) -> None:
        """Take the database, and the policy of releases that nobody starts by hand."""
        self._store = store
        self._config = config
        self._clock = clock

    def look(self) -> Assignments:
        """Do whatever is due, and say who is assigned what."""
        for _ in range(MOST_ROUNDS):
            now = self._clock()
            with self._store.reading() as session:
                snapshot = read_snapshot(session)
                if not self._is_due(session, snapshot, now):
                    break
            with self._store.writing() as session:
                self._move(session, now)
        return self._assignments_of(snapshot)

    def _is_due(self, session: Session, snapshot: Snapshot, now: datetime) -> bool:
        return (
            bool(to_start(snapshot, self._config))
            or bool(admissions(snapshot))
            or any(not isinstance(decision_on(session, rollout, now), Wait) for rollout in snapshot.rollouts)
        )

    def _move(self, session: Session, now: datetime) -> None:
        snapshot = read_snapshot(session, lock=True)
        starting = to_start(snapshot, self._config)
        for counter, policy, state in starting:
            start(session, counter, policy, SERVER, now, state=state)
        if starting:
            return  # the next round goes on from there
        for rollout in snapshot.rollouts:
            apply(session, rollout, decision_on(session, rollout, now), now)
        session.flush()
        admit(session, read_snapshot(session), now)

    def _assignments_of(self, snapshot: Snapshot) -> Assignments:
        """Who is assigned what, as the rows stand."""
        tracks = [rollout.track for rollout in snapshot.rollouts]
        counters = {}
        for name, vehicle in snapshot.vehicles.items():
            track, _ = assigning(tracks, vehicle)
            counters[name] = 0 if track is None else track.counter
        return Assignments(
            bool(snapshot.releases) or not at_once(self._config),
            counters,
            _pins_that_fit(snapshot),
            tuple(sorted(snapshot.withdrawn, reverse=True)[:MOST_WITHDRAWN]),
            any(rollout.track.state is RolloutState.RETURNING for rollout in snapshot.rollouts),
        )


def _pins_that_fit(snapshot: Snapshot) -> dict[str, Pin]:
    """All but those to a release of a fleet that the vehicle has left since."""
    return {
        name: pin
        for name, pin in snapshot.pins.items()
        if name in snapshot.vehicles
        and snapshot.releases[pin.release_counter].fleet == snapshot.vehicles[name].fleet
    }


def to_start(snapshot: Snapshot, config: RolloutConfig) -> list[tuple[int, RolloutConfig, RolloutState]]:
    """Rollouts that are to begin by themselves, the oldest release's first.

    Where there is no rollout yet, all releases but the newest of each fleet are as good as rolled out:
    vehicles got them before there were rollouts.
    """
    newest = max(snapshot.counters, default=0)
    new = sorted(counter for counter in snapshot.releases if counter > newest)
    newest_of = {snapshot.releases[counter].fleet: counter for counter in new}
    before = [] if newest else [counter for counter in new if counter not in newest_of.values()]
    found = [(counter, EVERYONE, RolloutState.DONE) for counter in before]
    if config.automatic:
        found += [(counter, config, RolloutState.RUNNING) for counter in new if counter not in before]
    return found


def decision_on(session: Session, rollout: Standing, now: datetime) -> Decision:
    """What the rules say of a rollout now.

    One that is done is held against what became of the release alone: latency and drift change with the year.
    """
    progress, policy = rollout.progress(now), rollout.track.policy
    if progress.state is RolloutState.RUNNING:
        return decide(policy, progress, figures_of(session, rollout, policy.thresholds))
    return decide(policy, progress, outcomes_of(rollout) if rollout.is_last else Figures())
