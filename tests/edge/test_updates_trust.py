"""The rules beyond TUF's: properties, and that each refusal names the value."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.updates import trust
from edge.updates.errors import Refusal, RefusedError
from protos.release_facts import ReleaseFacts
from tests.update_world import VEHICLE, utc

SHA = "a" * 64
moments = st.datetimes(utc(1970, 1, 2).replace(tzinfo=None), utc(2100, 1, 1).replace(tzinfo=None)).map(
    lambda naive: naive.replace(tzinfo=utc(2000, 1, 1).tzinfo)
)
counters = st.integers(1, 50)
versions = st.lists(st.integers(0, 20), min_size=1, max_size=4)


def facts(counter: int = 7, **fields: object) -> ReleaseFacts:
    base = ReleaseFacts(counter, "streets", "2", SHA, ("x86_64-cpu", "jetson-orin-trt"))
    return dataclasses.replace(base, **fields)


def refusal(
    offered: ReleaseFacts, *, length: int = 10, active: int = 0, floor: int = 0, bad: tuple[str, ...] = ()
) -> RefusedError | None:
    try:
        trust.check_admissible(
            offered, length, VEHICLE, active_counter=active, release_floor=floor, bad_sha256=bad
        )
    except RefusedError as error:
        return error
    return None


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(counters, st.integers(0, 50), st.integers(0, 50))
def test_nothing_older_than_the_floor_or_the_active_release_is_admitted(
    counter: int, active: int, floor: int
) -> None:
    error = refusal(facts(counter), active=active, floor=floor)
    assert (error is None) == (counter >= floor and counter > active)
    if error is not None:
        assert error.refusal is Refusal.ROLLBACK
        assert str(counter) in str(error)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(versions, versions)
def test_versions_compare_as_numbers(daemon: list[int], minimum: list[int]) -> None:
    vehicle = dataclasses.replace(VEHICLE, daemon_version=".".join(map(str, daemon)) + ".dev3+local")
    offered = facts(minimum_daemon_version=".".join(map(str, minimum)))
    width = 5
    enough = daemon + [0] * (width - len(daemon)) >= minimum + [0] * (width - len(minimum))
    try:
        trust.check_suits(offered, vehicle)
    except RefusedError as error:
        assert not enough
        assert error.refusal is Refusal.DAEMON_TOO_OLD
        assert offered.minimum_daemon_version in str(error)
    else:
        assert enough


def test_other_hardware_is_refused_by_name() -> None:
    error = refusal(facts(hardware_ids=("jetson-orin-trt",)))
    assert error is not None
    assert error.refusal is Refusal.HARDWARE
    assert "jetson-orin-trt" in str(error)
    assert "x86_64-cpu" in str(error)


def test_a_digest_that_failed_here_is_refused() -> None:
    error = refusal(facts(), bad=(SHA,))
    assert error is not None
    assert error.refusal is Refusal.KNOWN_BAD
    assert SHA in str(error)


def test_the_size_is_capped_before_anything_is_fetched() -> None:
    assert refusal(facts(), length=trust.MAX_MODEL_BYTES) is None
    error = refusal(facts(), length=trust.MAX_MODEL_BYTES + 1)
    assert error is not None
    assert error.refusal is Refusal.TOO_LARGE
    assert str(trust.MAX_MODEL_BYTES + 1) in str(error)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(counters, st.booleans()), max_size=8))
def test_the_newest_that_fits_the_hardware_is_the_candidate(offered: list[tuple[int, bool]]) -> None:
    releases = [
        facts(counter, hardware_ids=("x86_64-cpu" if fits else "other",)) for counter, fits in offered
    ]
    newest = trust.newest_for(releases, VEHICLE)
    fitting = [counter for counter, fits in offered if fits]
    assert (newest.release_counter if newest else None) == max(fitting, default=None)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(moments, moments, moments)
def test_metadata_holds_only_while_it_ends_after_both_clock_and_floor(
    expiry: object, clock: object, floor: object
) -> None:
    try:
        trust.check_expiry({"timestamp": expiry}, clock, floor)
    except RefusedError as error:
        assert not (expiry > clock and expiry > floor)
        assert error.refusal is Refusal.EXPIRED
        assert "timestamp" in str(error)
    else:
        assert expiry > clock and expiry > floor


def test_a_clock_that_was_reset_is_overruled_by_the_floor() -> None:
    with pytest.raises(RefusedError, match=r"1970-01-01.*2026-03-01"):
        trust.check_expiry({"timestamp": utc(2026, 2, 1)}, utc(1970, 1, 1), utc(2026, 3, 1))


def test_the_role_that_ended_first_is_named() -> None:
    expiries = {"root": utc(2027, 1, 1), "snapshot": utc(2026, 1, 2), "timestamp": utc(2026, 1, 3)}
    with pytest.raises(RefusedError, match="the snapshot metadata ended 2026-01-02"):
        trust.check_expiry(expiries, utc(2026, 6, 1), utc(2025, 1, 1))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(moments, moments, moments)
def test_the_clock_floor_never_falls_and_never_passes_what_was_signed(
    floor: object, signed_at: object, clock: object
) -> None:
    raised = trust.raised_clock_floor(floor, signed_at, clock)
    assert raised >= floor
    assert raised <= max(floor, signed_at)
    if clock >= floor:
        assert raised <= max(floor, clock), "a stolen key alone cannot lift it past a plausible clock"


def test_a_board_without_a_clock_learns_the_time_from_the_signature() -> None:
    raised = trust.raised_clock_floor(utc(2025, 1, 1), utc(2026, 5, 1), utc(1970, 1, 1))
    assert raised == utc(2026, 5, 1)
    assert raised + timedelta(0) == trust.raised_clock_floor(raised, utc(2026, 4, 1), utc(1970, 1, 1))
