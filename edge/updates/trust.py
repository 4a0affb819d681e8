"""What the daemon demands beyond TUF's own rules, before it takes a release. No I/O.

TUF vouches for who signed which bytes and for the order of the metadata. It does not know the vehicle: an
owner's newly signed metadata may offer an older model, or one for another board, and a board without a clock
battery believes metadata that expired long ago (Uptane, standard 2.1.0, names both: rollback and freeze).
Each refusal names the value.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timezone

from edge.updates.errors import Refusal, RefusedError
from protos.release_facts import ReleaseFacts

PROGRAM_MADE = datetime(2025, 1, 1, tzinfo=timezone.utc)  # it is later than that wherever this runs
MAX_MODEL_BYTES = 1 << 29  # 512 MiB

_LEADING_NUMBERS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})*")


@dataclass(frozen=True, slots=True)
class Vehicle:
    """What the installation says of the vehicle that a release must suit.

    Attributes:
        hardware_ids: what it can run; a release fits that names one of them.
        daemon_version: the version of this program; what follows its leading numbers is not compared.
        release_floor: no release below it, even on a vehicle that never saw an update.
        clock_floor: the installation's own time: it is later than that.
        max_model_bytes: a larger model is refused before anything of it is fetched.
        fleet: that it belongs to; None: to none. A release must be for just that.
        unsigned_allowed: the owner may put models in by hand that nobody signed.
    """

    hardware_ids: frozenset[str]
    daemon_version: str
    release_floor: int = 0
    clock_floor: datetime = PROGRAM_MADE
    max_model_bytes: int = MAX_MODEL_BYTES
    fleet: str | None = None
    unsigned_allowed: bool = False


def clock_floor_of(day: date | None) -> datetime:
    """The installation's clock floor: when the vehicle was enrolled, but not before this program was made."""
    if day is None:
        return PROGRAM_MADE
    return max(PROGRAM_MADE, datetime.combine(day, time(), timezone.utc))


def newest_for(
    releases: Iterable[ReleaseFacts], vehicle: Vehicle, assigned: int | None = None
) -> ReleaseFacts | None:
    """Return the release with the highest counter among those for this vehicle's hardware, None without one.

    Only this one is a candidate: where it is refused, an older one is no substitute.

    Args:
        releases: that are signed.
        vehicle: whom it must suit.
        assigned: the counter of the only one that may be chosen; None: any.
    """
    fitting = [
        facts
        for facts in releases
        if vehicle.hardware_ids.intersection(facts.hardware_ids) and assigned in (None, facts.release_counter)
    ]
    return max(fitting, key=lambda facts: facts.release_counter, default=None)


def check_suits(facts: ReleaseFacts, vehicle: Vehicle) -> None:
    """Hold a release against the vehicle; it must suit when it is offered and at each boot.

    Raises:
        RefusedError: it is for another fleet, for other hardware, or needs a newer daemon.
    """
    if facts.fleet != vehicle.fleet:
        raise RefusedError(
            Refusal.FLEET,
            f"{_named(facts)} is for {_fleet(facts.fleet)}; this vehicle belongs to {_fleet(vehicle.fleet)}",
        )
    if not vehicle.hardware_ids.intersection(facts.hardware_ids):
        raise RefusedError(
            Refusal.HARDWARE,
            f"{_named(facts)} is for {', '.join(facts.hardware_ids)};"
            f" this vehicle is {', '.join(sorted(vehicle.hardware_ids)) or 'of no known hardware'}",
        )
    if _release_numbers(vehicle.daemon_version) < _release_numbers(facts.minimum_daemon_version):
        raise RefusedError(
            Refusal.DAEMON_TOO_OLD,
            f"{_named(facts)} needs traffic-vision {facts.minimum_daemon_version} or newer;"
            f" this is {vehicle.daemon_version}: update the daemon first",
        )


def check_admissible(
    facts: ReleaseFacts,
    length: int,
    vehicle: Vehicle,
    *,
    active_counter: int,
    release_floor: int,
    bad_sha256: Collection[str],
) -> None:
    """Decide whether a release that TUF vouches for may follow the model that is active.

    Args:
        facts: what is signed about it.
        length: of its file, bytes, as signed.
        vehicle: whom it must suit.
        active_counter: of the active release; 0 for the factory's model.
        release_floor: the highest counter that this vehicle confirmed.
        bad_sha256: digests that failed here once.

    Raises:
        RefusedError: with the rule that it breaks.
    """
    floor = max(release_floor, vehicle.release_floor)
    if facts.release_counter < floor:
        raise RefusedError(
            Refusal.ROLLBACK,
            f"{_named(facts)} is older than this vehicle allows: its counter is {facts.release_counter},"
            f" the least allowed is {floor}",
        )
    if facts.release_counter <= active_counter:
        raise RefusedError(
            Refusal.ROLLBACK,
            f"{_named(facts)} has counter {facts.release_counter}, the active release has {active_counter}",
        )
    check_suits(facts, vehicle)
    if facts.model_sha256 in bad_sha256:
        raise RefusedError(
            Refusal.KNOWN_BAD,
            f"{_named(facts)} has sha256 {facts.model_sha256}, which failed on this vehicle before",
        )
    if length > vehicle.max_model_bytes:
        raise RefusedError(
            Refusal.TOO_LARGE,
            f"{_named(facts)} has {length} bytes, this vehicle takes up to {vehicle.max_model_bytes}",
        )


def check_expiry(expiries: Mapping[str, datetime], clock: datetime, floor: datetime) -> None:
    """Hold every role's expiry against the later of the clock and what is known to be past.

    Args:
        expiries: role -> end of its validity.
        clock: the system's clock, which a board without a battery resets to 1970.
        floor: the latest moment that is known to be past.

    Raises:
        RefusedError: names the role that ended first, and both times, since a clock far ahead looks the same.
    """
    now = max(clock, floor)
    role = min(expiries, key=lambda name: expiries[name])
    if expiries[role] <= now:
        raise RefusedError(
            Refusal.EXPIRED,
            f"the {role} metadata ended {_time(expiries[role])}; the clock says {_time(clock)}, and it is"
            f" later than {_time(floor)} for certain: stale metadata, or a clock that is ahead",
        )


def raised_clock_floor(floor: datetime, signed_at: datetime, clock: datetime) -> datetime:
    """Move the floor up to when verified metadata was signed.

    The signing time comes from an online key. Where the clock is plausible (not before the floor) it has a
    say too, so that a thief with that key alone cannot lift the floor into the future and make everything
    else look expired. Where the clock is known to be wrong, the signature is all there is.
    """
    witness = min(signed_at, clock) if clock >= floor else signed_at
    return max(floor, witness)


def _release_numbers(version: str) -> tuple[int, ...]:
    found = _LEADING_NUMBERS.match(version)
    numbers = [int(part) for part in found.group().split(".")] if found else []
    while numbers and numbers[-1] == 0:  # 1.0 is 1
        numbers.pop()
    return tuple(numbers)


def _named(facts: ReleaseFacts) -> str:
    return f"release {facts.release_counter} ({facts.model_name} {facts.model_version})"


def _fleet(name: str | None) -> str:
    return "no fleet" if name is None else f"the fleet '{name}'"


def _time(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
