"""A vehicle that never saw an update, and a thief on the server: the floors that came with its ticket.

Real processes, mutual TLS: the ticket is made by the command line, before the server is stolen.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from cloud.config import CloudConfig
from cloud.release.keys import load_keys
from cloud.store.rollouts import Rollout
from cloud.store.states import RolloutState
from edge.config import load_config as load_edge_config
from protos.enrolment import ticket_to_text
from tests import clouds
from tests.fresh_vehicles import OWN_HARDWARE, VAN, cloud_of_tickets, enrolled, run, ticket_for, until
from tests.models_factory import loaded, rectangles_model
from tests.rollout_fleet import publish
from tests.update_attack import online_only
from tests.waiting import eventually

pytestmark = pytest.mark.services


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudConfig]:
    """A cloud that runs, and whose two releases all are given."""
    with cloud_of_tickets(tmp_path / "cloud") as config:
        for version in ("1", "2"):
            publish(config, rectangles_model(version=version), version, OWN_HARDWARE)
        with clouds.database(config) as store:

            def is_everyones() -> bool:
                with store.reading() as session:
                    row = session.get(Rollout, 2)
                    return row is not None and row.state is RolloutState.DONE

            eventually(is_everyones, "release 2 is everyone's")
        yield config


def steal(config: CloudConfig) -> None:
    """Who has the server shows only what was released first, by its online keys, and assigns it."""
    run(
        "cloud",
        "rollout",
        "pin",
        VAN,
        "1",
        "--reason",
        "x",
        "--config",
        config.folders.pki.parent / "cloud.toml",
    )
    online_only(config.folders.repository, load_keys(config.folders.keys), models_version=2)


def test_a_fresh_vehicle_refuses_what_is_older_than_its_ticket(cloud: CloudConfig, tmp_path: Path) -> None:
    ticket = ticket_for(cloud)
    steal(cloud)
    path = enrolled(ticket, tmp_path / "vehicle")
    model = until(
        path, lambda model: model.assigned_release_counter == 1, "this vehicle goes back to none before 2"
    )
    assert model.active.sha256 == loaded(rectangles_model(version="factory")).digest
    assert model.release_counter == 0, "it has confirmed none"


def test_a_ticket_of_before_enrols_as_it_did(cloud: CloudConfig, tmp_path: Path) -> None:
    """Without floors the same theft succeeds: they are what holds."""
    ticket = ticket_for(cloud)
    ticket.ClearField("release_floor")
    ticket.ClearField("issued_wall_ns")
    steal(cloud)
    path = enrolled(ticket, tmp_path / "vehicle")
    updates = load_edge_config(path).updates
    assert updates is not None and (updates.release_floor, updates.clock_floor) == (0, None)
    until(path, lambda model: model.active.version == "1")


def test_a_fresh_vehicle_takes_what_its_ticket_allows(cloud: CloudConfig, tmp_path: Path) -> None:
    days = {datetime.now(timezone.utc).date()}
    path = enrolled(ticket_for(cloud), tmp_path / "vehicle")
    days.add(datetime.now(timezone.utc).date())
    updates = load_edge_config(path).updates
    assert updates is not None
    assert updates.release_floor == 2 and updates.clock_floor in days
    told = run("edge", "update", "status", "--config", path).stdout
    assert f"floors     release 2, clock {updates.clock_floor} 00:00:00Z" in told
    assert until(path, lambda model: model.release_counter == 2).active.version == "2"


def test_the_day_of_the_ticket_is_past_for_certain(cloud: CloudConfig, tmp_path: Path) -> None:
    """As for a board whose clock stands still: what has ended by then is not taken."""
    ticket = ticket_for(cloud)
    ticket.issued_wall_ns += 3 * 86_400 * 10**9
    path = enrolled(ticket, tmp_path / "vehicle")
    model = until(path, lambda model: "the timestamp metadata ended" in model.detail)
    assert model.active.sha256 == loaded(rectangles_model(version="factory")).digest


def test_an_edge_toml_that_was_there_is_told_what_it_lacks(cloud: CloudConfig, tmp_path: Path) -> None:
    folder = tmp_path / "vehicle"
    first = ticket_for(cloud)
    first.release_floor = 1
    enrolled(first, folder)
    again = ("edge", "enrol", "-", folder)
    told = run(*again, given=ticket_to_text(ticket_for(cloud)) + "\n").stderr
    assert "its [updates] should say:\nrelease_floor = 2\n" in told and "clock_floor" not in told
    path = folder / "edge.toml"
    path.write_text(path.read_text().replace("release_floor = 1", "release_floor = 2"))
    later = ticket_for(cloud)
    later.issued_wall_ns += 3 * 86_400 * 10**9
    day: date = (datetime.now(timezone.utc) + timedelta(days=3)).date()
    told = run(*again, given=ticket_to_text(later) + "\n").stderr
    assert f'should say:\nclock_floor = "{day}"\n' in told
    assert "should say" not in run(*again, given=ticket_to_text(ticket_for(cloud)) + "\n").stderr


def test_a_floor_that_no_release_has_is_refused(cloud: CloudConfig, tmp_path: Path) -> None:
    ticket = ticket_for(cloud)
    ticket.release_floor = 2**60
    with pytest.raises(Exception, match="which no release has"):
        enrolled(ticket, tmp_path / "vehicle")
    assert not (tmp_path / "vehicle").exists()
