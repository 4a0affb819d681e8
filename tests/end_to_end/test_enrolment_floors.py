"""A vehicle that never saw an update, and a thief on the server: the floors that came with its ticket.

Real processes, mutual TLS: the ticket is made by the command line, before the server is stolen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cloud.config import CloudConfig, load_config
from cloud.release.keys import load_keys
from cloud.store.rollouts import Rollout
from cloud.store.states import RolloutState
from edge.config import load_config as load_edge_config
from edge.updates.hardware import hardware_ids
from protos.enrolment import ticket_of_text, ticket_to_text
from protos.traffic_vision.v1.common_pb2 import ModelState
from protos.traffic_vision.v1.enrolment_pb2 import EnrolmentTicket
from tests import clouds
from tests.daemons import DaemonProcess
from tests.models_factory import loaded, rectangles_model
from tests.rollout_fleet import publish
from tests.update_attack import online_only
from tests.waiting import eventually
from tools.cli import root

pytestmark = pytest.mark.services

AT_ONCE = """
[[rollout.stages]]
name = "all"
wait_s = 0
min_reports = 0
"""
DRIVE = "front=sim:7?seconds=3600&rate=10&size=96x64"
VAN = "van-1"


def run(*arguments: str | Path, given: str | None = None) -> Result:
    result = CliRunner().invoke(root, list(map(str, arguments)), input=given)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudConfig]:
    """A cloud that runs, and whose two releases all are given."""
    folder = tmp_path / "cloud"
    clouds.make_cloud(folder, extra=AT_ONCE)
    toml = folder / "cloud.toml"
    toml.write_text(toml.read_text().replace('\naddress = "127.0.0.1:1"', ""))  # where it listens, then
    with clouds.serving(folder) as server:
        text = toml.read_text().replace(
            'enrol_address = "127.0.0.1:1"', f'enrol_address = "{server.enrol_address}"'
        )
        toml.write_text(text.replace("[serve]", f'[serve]\naddress = "{server.address}"'))
        config = load_config(toml)
        for version in ("1", "2"):
            publish(config, rectangles_model(version=version), version, hardware_ids(("cpu",)))
        with clouds.database(config) as store:

            def is_everyones() -> bool:
                with store.reading() as session:
                    row = session.get(Rollout, 2)
                    return row is not None and row.state is RolloutState.DONE

            eventually(is_everyones, "release 2 is everyone's")
        yield config


def ticket_for(config: CloudConfig, vehicle: str = VAN) -> EnrolmentTicket:
    return ticket_of_text(run("cloud", "enrol", vehicle, "--cloud", config.folders.pki.parent).stdout)


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


def enrolled(ticket: EnrolmentTicket, folder: Path) -> Path:
    """The vehicle's `edge.toml`, with a probation that is soon over and an address that is free."""
    model = folder.with_suffix(".onnx")
    model.write_bytes(rectangles_model(version="factory"))
    run(
        "edge", "enrol", "-", folder, "--camera", DRIVE, "--model", model, given=ticket_to_text(ticket) + "\n"
    )
    path = folder / "edge.toml"
    text = path.read_text().replace("[updates]\n", "[updates]\nprobation_s = 0.1\nprobation_frames = 5\n")
    path.write_text(text + '\n[serve]\naddress = "127.0.0.1:0"\n')
    return path


def until(path: Path, holds: Callable[[ModelState], bool], told: str = "") -> ModelState:
    """Drive until it holds, and what came of a look for updates was told in the log.

    The frames that come then are of the model that it says.
    """
    with DaemonProcess(path) as daemon:
        found = ModelState()

        def said() -> bool:
            nonlocal found
            found = daemon.client.status().status.model
            return holds(found) and any(told in line["message"] for line in daemon.log)

        try:
            eventually(said, told or "what it is to do")
        except AssertionError as error:
            lines = [line["message"] for line in daemon.log[-5:]]
            raise AssertionError(f"{error}; it says {found}, it logs {lines} {daemon.errors}") from None
        for message in islice(daemon.client.detections(), 3):
            assert message.detections.model.sha256 == found.active.sha256
        assert daemon.terminate() == 0
        return found


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
