"""A wrong clock and stale metadata are told, driving goes on, and the first contact is the end of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.ngclient._internal import trusted_metadata_set

from cloud.release import repository
from cloud.release.role_files import current_role, publish_online, read_timestamp
from edge.updates import metadata
from edge.updates.alarms import CLOCK_SLACK, FAR, Alarms, Contact, alarms
from tests.update_garage import FRAMES, REFUSED, Garage, Vehicle
from tests.update_world import StatusError, model, utc
from tests.waiting import eventually

NOW = utc(2026, 6, 1)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(timezone.utc))


@given(MOMENTS, MOMENTS, MOMENTS)
def test_metadata_is_stale_from_its_end_on_whichever_of_clock_and_floor_says_so(
    expires: datetime, clock: datetime, floor: datetime
) -> None:
    told = alarms(Contact(1, expires), clock, floor)
    assert bool(told.metadata) == (expires <= max(clock, floor))
    assert bool(told.clock) == (clock < floor - CLOCK_SLACK)


@given(st.timedeltas(-timedelta(days=9000), timedelta(days=9000)))
def test_the_clouds_clock_is_a_witness(ahead: timedelta) -> None:
    told = alarms(Contact(1, NOW + FAR, cloud_ahead=ahead), NOW, NOW).clock
    assert bool(told) == (abs(ahead) > FAR)
    if told:
        assert ("behind the cloud's" in told) == (ahead > timedelta())


def test_nothing_is_told_before_the_first_check_and_no_metadata_after_it() -> None:
    assert alarms(Contact(), NOW, NOW) == Alarms()
    assert alarms(Contact(1), NOW, NOW) == Alarms("", "no update metadata was ever had here")


def test_a_clock_ahead_is_told_with_what_it_refused() -> None:
    told = alarms(Contact(1, NOW + FAR, "the timestamp metadata ended"), NOW, NOW)
    assert told.metadata == "the timestamp metadata ended" and "may be ahead" in told.clock


class Calendar:
    """The time of the vehicle, of python-tuf on it, and of the cloud."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = timedelta()
        calendar = self

        class Shifted(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return calendar.now()

        class Module:
            datetime = Shifted
            timezone = timezone

        # python-tuf has no clock that could be given to it.
        monkeypatch.setattr(trusted_metadata_set, "datetime", Module)
        monkeypatch.setattr(metadata, "datetime", Shifted)

    def now(self) -> datetime:
        return datetime.now(timezone.utc) + self.ahead


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> Calendar:
    return Calendar(monkeypatch)


def away(request: Any) -> Iterator[Any]:
    raise StatusError(grpc.StatusCode.UNAVAILABLE)
    yield


def alarmed(vehicle: Vehicle) -> str:
    return vehicle.status().metadata_alarm


def logged(caplog: pytest.LogCaptureFixture, event: str) -> int:
    return sum(getattr(record, "event", "") == event for record in caplog.records)


def test_a_month_away_is_alarmed_and_the_first_contact_recovers_without_a_restart(
    start: Garage, calendar: Calendar, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world = start.world
    start.clock = calendar.now
    vehicle = start.confirmed(model("1"))
    assert not alarmed(vehicle) and not vehicle.status().clock_alarm
    honest = world.server.metadata
    world.server.metadata = away
    for day in range(1, 31):
        calendar.ahead = timedelta(days=day)
        published = vehicle.published
        vehicle.updates.nudge(0)
        status = vehicle.status()
        # The timestamp holds a day, so that the first day's end is the end of it.
        assert bool(status.metadata_alarm) == (day >= 1), day
        assert status.model.active.version == "1" and vehicle.published > published
    eventually(lambda: logged(caplog, "metadata_alarm") == 1, "told once in the log")
    # A check that had its answer from before may judge it by the clock of now, and say that it had ended.
    eventually(lambda: "none came since" in alarmed(vehicle), "what is wrong")

    # The cloud comes back. It has signed its timestamp each day, and there is a new release.
    online = world.keys.signer("snapshot"), world.keys.signer("timestamp")
    repository.refresh_timestamp(world.folder, *online, calendar.now().replace(microsecond=0))
    facts = start.release(model("2"), calendar.now().replace(microsecond=0))
    world.server.metadata = honest
    vehicle.updates.nudge(0)
    eventually(lambda: vehicle.models.slots.state.release_floor == facts.release_counter, "the new release")
    assert not alarmed(vehicle) and not vehicle.status().clock_alarm
    eventually(lambda: logged(caplog, "metadata_alarm_over") == 1, "told in the log")
    assert logged(caplog, "metadata_alarm") == 1


def test_a_restart_without_the_cloud_knows_that_its_metadata_is_stale(
    start: Garage, calendar: Calendar
) -> None:
    start.clock = calendar.now
    start.confirmed(model("1"))
    calendar.ahead = timedelta(days=3)
    start.world.server.metadata = away
    vehicle = start()
    eventually(lambda: "none came since" in alarmed(vehicle), "the alarm")
    assert vehicle.status().HasField("metadata_expires_wall_ns")


def test_a_clock_far_ahead_is_told_and_driving_goes_on(start: Garage, calendar: Calendar) -> None:
    start.clock = calendar.now
    vehicle = start.confirmed(model("1"))
    calendar.ahead = timedelta(days=400)
    start.release(model("2"))
    vehicle.updates.nudge(0)
    eventually(lambda: "may be ahead" in vehicle.status().clock_alarm, "the alarm")
    published = vehicle.published
    assert vehicle.until(REFUSED).active.version == "1" and vehicle.published > published
    calendar.ahead = timedelta()  # set right
    vehicle.updates.nudge(0)
    eventually(lambda: vehicle.status().model.active.version == "2", "the release")
    assert vehicle.status().clock_alarm == alarmed(vehicle) == ""


def test_a_clock_that_was_set_back_is_told(start: Garage, calendar: Calendar) -> None:
    start.clock = calendar.now
    vehicle = start.confirmed(model("1"))
    calendar.ahead = -timedelta(days=9000)
    assert "the clock is behind: it says 200" in vehicle.status().clock_alarm
    assert not alarmed(vehicle)


def test_the_clouds_clock_is_asked(start: Garage) -> None:
    vehicle = start(start=False)
    vehicle.updates.compare_clocks(lambda: timedelta(days=40))
    assert "40 days behind the cloud's" in vehicle.status().clock_alarm


def test_what_a_check_refuses_as_expired_is_what_is_told(start: Garage) -> None:
    """A cloud that sends metadata of the day before yesterday: the vehicle's own clock is right."""
    world = start.world
    online = world.keys.signer("snapshot"), world.keys.signer("timestamp")
    past = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(days=2)
    snapshot, version = current_role(world.folder, "snapshot"), read_timestamp(world.folder).version + 1
    publish_online(world.folder, snapshot, version, None, online[1], past)
    vehicle = start()
    vehicle.publishing = FRAMES
    eventually(lambda: "expired" in alarmed(vehicle), "the alarm")
    repository.refresh_timestamp(world.folder, *online)
    vehicle.updates.nudge(0)
    eventually(lambda: not alarmed(vehicle), "recovered")


def test_floors_of_the_installation_hold_on_a_fresh_vehicle(start: Garage) -> None:
    assert start.config.updates is not None
    start.release(model("1"))
    tomorrow = (datetime.now(timezone.utc) + timedelta(days=2)).date()
    updates = start.config.updates.model_copy(update={"release_floor": 2, "clock_floor": tomorrow})
    start.config = start.config.model_copy(update={"updates": updates})
    vehicle = start(start=False)
    known = vehicle.models.slots.vehicle
    assert known.release_floor == 2 and known.clock_floor.date() == tomorrow
    assert "the clock is behind" in vehicle.status().clock_alarm
