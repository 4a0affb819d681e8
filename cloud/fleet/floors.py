"""The release floor of a new vehicle: what it may call too old before it has seen any release.

It is carried to the vehicle with its ticket, so a server that is stolen later cannot lower it. It must never
be above what the vehicle may be given, for then it would keep its factory's model until a newer release
comes: only what is rolled out to all counts, and where hardware differs, the least.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.fleet.rollout_rules import takes_everyone
from cloud.fleet.rollout_state import Pin, policy_of
from cloud.store.rollouts import Rollout, VehiclePin
from cloud.store.states import RolloutState
from protos.release_facts import ReleaseFacts


def least_counter(releases: Iterable[ReleaseFacts], whole: Collection[int], fleet: str | None) -> int:
    """The counter below which no vehicle of a fleet is given a release, whatever its hardware.

    What hardware a vehicle is, the cloud learns when it connects, so the hardware whose newest release is
    the oldest decides.

    Args:
        releases: that are signed.
        whole: counters of those that every vehicle they are for is given.
        fleet: that the vehicle belongs to; None: to none.

    Returns:
        0 where there is none for certain.
    """
    newest: dict[str, int] = {}
    for facts in releases:
        if facts.fleet != fleet:
            continue
        counter = facts.release_counter if facts.release_counter in whole else 0
        for hardware_id in facts.hardware_ids:
            newest[hardware_id] = max(counter, newest.get(hardware_id, 0))
    return min(newest.values(), default=0)


def release_floor(
    session: Session, releases: Iterable[ReleaseFacts], vehicle: str, fleet: str | None, now: datetime
) -> int:
    """The floor of a vehicle that is enrolled now.

    Args:
        session: any.
        releases: that are signed.
        vehicle: its name; one that is pinned is not kept from its pin.
        fleet: that it belongs to; None: to none.
        now: the present time.
    """
    whole = {row.release_counter for row in session.scalars(select(Rollout)) if _is_whole(row)}
    floor = least_counter(releases, whole, fleet)
    row = session.get(VehiclePin, vehicle)
    if row is not None and Pin(row.release_counter, row.until).holds(now):
        return min(floor, row.release_counter)
    return floor


def _is_whole(row: Rollout) -> bool:
    """Say whether it is over, was not taken back, and leaves nobody out: one that is a return may."""
    policy = policy_of(row)
    return row.state is RolloutState.DONE and row.begun == len(policy.stages) and takes_everyone(policy)
