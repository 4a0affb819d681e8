"""The release floor of a new vehicle: never above what it may be given, and as near to it as can be known."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from cloud.config import RolloutConfig, StageConfig
from cloud.fleet import rollout_actions as actions
from cloud.fleet.floors import least_counter, release_floor
from cloud.store.models import Release
from cloud.store.states import RolloutState
from protos.release_facts import ReleaseFacts
from tests.rollout_fleet import HARDWARE, Fleet, fleet_of, quick, refuses, sha

OTHER = "aarch64-cpu"


def facts(counter: int, *hardware_ids: str, fleet: str | None = None) -> ReleaseFacts:
    return ReleaseFacts(
        counter, "streets", str(counter), sha(counter), hardware_ids or (HARDWARE,), fleet=fleet
    )


hardware = st.sets(st.sampled_from("abc"), min_size=1).map(lambda ids: tuple(sorted(ids)))
fleets = st.sampled_from([None, "trucks"])


@given(st.lists(st.tuples(hardware, fleets, st.booleans()), max_size=8), fleets)
def test_for_any_hardware_a_release_of_the_fleet_that_all_are_given_is_no_older(
    drawn: list[tuple[tuple[str, ...], str | None, bool]], fleet: str | None
) -> None:
    releases = [facts(number, *ids, fleet=of) for number, (ids, of, _) in enumerate(drawn, start=1)]
    whole = {number for number, (_, _, given_to_all) in enumerate(drawn, start=1) if given_to_all}
    floor = least_counter(releases, whole, fleet)
    own = [release for release in releases if release.fleet == fleet]
    for hardware_id in {one for release in own for one in release.hardware_ids}:
        given_to_all = [
            release.release_counter
            for release in own
            if release.release_counter in whole and hardware_id in release.hardware_ids
        ]
        assert floor <= max(given_to_all, default=0)
    if own and whole >= {release.release_counter for release in own} and len({*own[0].hardware_ids}) == 3:
        assert floor >= own[0].release_counter, "it is for all, and all are given it"


def floor_of(fleet: Fleet, vehicle: str = "new") -> int:
    with fleet.store.reading() as session:
        rows = session.execute(select(Release.counter, Release.custom))
        releases = [facts(counter, *custom["traffic_vision"]["hardware_ids"]) for counter, custom in rows]
        return release_floor(session, releases, vehicle, None, fleet.now)


def stage_of_half(fleet: Fleet) -> None:
    fleet.add_release(2)
    fleet.look()


def to_all(fleet: Fleet) -> None:
    fleet.add_release(2)
    for _ in range(2):
        fleet.confirm(fleet.assigned(to=2), 2)
    fleet.look()
    assert fleet.state(2) is RolloutState.DONE


def halted(fleet: Fleet) -> None:
    stage_of_half(fleet)
    fleet.say(sorted(fleet.assigned(to=2))[:8], refuses(2))
    fleet.look()


def taken_back(fleet: Fleet) -> None:
    to_all(fleet)
    actions.take_back(fleet.store, 2, "it is bad", "ann", fleet.now)


def labelled(fleet: Fleet) -> None:
    fleet.policy = quick(labels={"ring": "canary"})
    fleet.add_vehicles("canary")
    actions.label(fleet.store, "canary", {"ring": "canary"}, "ann")
    to_all(fleet)


def to_some(fleet: Fleet) -> None:
    fleet.policy = RolloutConfig(stages=(StageConfig(name="half", percent=50, wait_s=0, min_reports=0),))
    fleet.add_release(2)
    fleet.look()
    fleet.look()
    assert fleet.state(2) is RolloutState.DONE


def for_other_hardware(fleet: Fleet) -> None:
    fleet.add_vehicles("board", hardware=OTHER)
    fleet.add_release(2, hardware=OTHER)
    for _ in range(2):
        fleet.confirm(fleet.assigned(to=2), 2)
    fleet.look()


def not_started(fleet: Fleet) -> None:
    fleet.policy = quick(automatic=False)
    fleet.add_release(2)
    fleet.look()


SITUATIONS: list[tuple[Callable[[Fleet], None], int]] = [
    (stage_of_half, 1),
    (to_all, 2),
    (halted, 1),
    (taken_back, 1),
    (labelled, 1),
    (to_some, 1),
    (for_other_hardware, 1),
    (not_started, 1),
]


@pytest.mark.parametrize(("happens", "floor"), SITUATIONS)
def test_the_floor_is_the_newest_release_that_every_vehicle_is_given(
    tmp_path: Path, happens: Callable[[Fleet], None], floor: int
) -> None:
    with fleet_of(tmp_path, 20) as fleet:
        happens(fleet)
        assert floor_of(fleet) == floor
        fleet.add_vehicles(*(f"new-{number}" for number in range(8)))
        told = fleet.assigned()
        assert all(told[f"new-{number}"] >= floor for number in range(8)), "none is locked out"


def test_without_a_release_or_a_rollout_there_is_no_floor(tmp_path: Path) -> None:
    with fleet_of(tmp_path, 1) as fleet, fleet.store.reading() as session:
        assert release_floor(session, [], "new", None, fleet.now) == 0
        assert release_floor(session, [facts(7)], "new", None, fleet.now) == 0
        assert release_floor(session, [facts(1, fleet="trucks")], "new", None, fleet.now) == 0


def test_a_vehicle_that_is_pinned_may_have_what_it_is_pinned_to(tmp_path: Path) -> None:
    with fleet_of(tmp_path, 4) as fleet:
        to_all(fleet)
        fleet.add_vehicles("new")
        until = fleet.now + timedelta(days=1)
        actions.pin(fleet.store, "new", 1, until, "a comparison", "ann", fleet.now)
        assert floor_of(fleet) == 1
        fleet.now = until
        assert floor_of(fleet) == 2
