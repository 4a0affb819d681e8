"""Drift alarms after a release against before it: by the hours that vehicles drove, not by the clock's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from cloud.config import RolloutConfig, StageConfig
from cloud.fleet.rollout_state import figures_of, read_snapshot
from cloud.store.models import Vehicle
from cloud.store.states import RolloutState
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as wire
from tests.rollout_fleet import HARDWARE, Fleet, fleet_of, runs, sha

HOUR_NS = 3600 * 10**9
VANS = [f"van-{number}" for number in range(12)]
WATCHED = RolloutConfig(stages=(StageConfig(name="all", wait_s=10**6),))


class Drives:
    """Twelve vehicles that drive, alarm and report."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._driven_ns = 0
        self._events = 0

    def drive(self, hours: float, counter: int) -> None:
        self.fleet.look(3600 * hours)
        self._driven_ns += round(hours * HOUR_NS)
        self.fleet.say(VANS, self.report(counter))

    def report(self, counter: int) -> wire.Heartbeat:
        return wire.Heartbeat(status=common.VehicleStatus(model=runs(counter), driven_ns=self._driven_ns))

    def restart(self, counter: int) -> None:
        self._driven_ns = 0
        status = self.report(counter).status
        self.fleet.say(VANS, wire.Hello(instance_id="another", hardware_ids=[HARDWARE], status=status))

    def alarm(self, vans: Iterable[str], counter: int) -> None:
        for van in vans:
            self._events += 1
            state = common.DriftState(
                verdict=common.DRIFT_VERDICT_ALARM, model=common.ModelRef(sha256=sha(counter))
            )
            self.fleet.say([van], wire.DriftEvent(id=str(self._events), state=state))

    def release(self) -> None:
        self.fleet.add_release(2)
        self.fleet.look()
        self.fleet.say(VANS, self.report(2))

    def compared(self) -> tuple[int, int, int]:
        """With more alarms, with fewer, of so many."""
        with self.fleet.store.reading() as session:
            (rollout,) = [one for one in read_snapshot(session).rollouts if one.track.counter == 2]
            seen = figures_of(session, rollout, WATCHED.thresholds)
        return seen.more_drift.hits, seen.less_drift.hits, seen.more_drift.of


@pytest.fixture
def drives(tmp_path: Path) -> Iterator[Drives]:
    with fleet_of(tmp_path, 12, WATCHED) as fleet:
        yield Drives(fleet)


def test_a_fleet_that_was_parked_all_night_has_no_hours_to_compare_its_morning_with(drives: Drives) -> None:
    drives.fleet.look(8 * 3600)
    drives.release()
    drives.drive(1, 2)
    drives.alarm(VANS[:9], 2)
    drives.drive(1, 2)
    drives.fleet.look()
    assert drives.compared() == (0, 0, 0)
    assert drives.fleet.state(2) is RolloutState.RUNNING


def test_the_hours_before_the_night_are_what_the_morning_is_held_against(drives: Drives) -> None:
    drives.drive(1.6, 1)
    drives.alarm(VANS[:9], 1)
    drives.drive(0.4, 1)
    drives.fleet.look(8 * 3600)
    drives.release()
    drives.drive(0.5, 2)
    drives.alarm(VANS[3:], 2)
    drives.drive(1.5, 2)
    drives.fleet.look()
    assert drives.compared() == (3, 3, 12)
    assert drives.fleet.state(2) is RolloutState.RUNNING


def test_more_alarms_in_as_many_hours_of_driving_halt_it(drives: Drives) -> None:
    drives.drive(3, 1)
    drives.alarm(VANS[:1] * 2, 1)
    drives.drive(1, 1)
    drives.restart(1)
    drives.release()
    drives.drive(2, 2)
    drives.alarm(VANS, 2)
    drives.drive(1, 2)
    drives.fleet.look()
    assert "11 of 12 vehicles have more drift alarms (91.7%" in drives.fleet.rollout(2).reason


def test_what_was_before_as_many_hours_and_what_the_old_model_told_late_counts_not(drives: Drives) -> None:
    drives.drive(1, 1)
    drives.alarm(VANS[:4], 1)
    drives.drive(5, 1)
    drives.release()
    drives.drive(1, 2)
    drives.alarm(VANS[:8], 1)
    drives.drive(1, 2)
    assert drives.compared() == (0, 0, 12)
    drives.alarm(VANS[:2], 2)
    assert drives.compared() == (2, 0, 12)
    drives.drive(4, 2)
    assert drives.compared() == (0, 2, 12), "after six hours, those of the first count too"


def test_who_does_not_say_how_long_it_drove_is_not_compared(drives: Drives) -> None:
    drives.drive(2, 1)
    with drives.fleet.store.writing() as session:
        session.get_one(Vehicle, "van-3").driven_s = 0.0  # an older daemon's
    drives.release()
    drives.drive(2, 2)
    drives.alarm(VANS, 2)
    silent = wire.Heartbeat(status=common.VehicleStatus(model=runs(2)))
    drives.fleet.say(VANS, silent)
    assert drives.compared() == (11, 0, 11)
