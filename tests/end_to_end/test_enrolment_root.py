"""The root that a new vehicle checks releases by: its installation's or its ticket's, never the server's.

Real processes, mutual TLS: the ticket is made by the command line, before the server is stolen.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from cloud.config import CloudConfig
from cloud.release.repository import current_root
from cloud.store.audit_entry import AuditEntry
from edge.errors import TrafficVisionError
from protos.enrolment import ticket_to_text
from protos.traffic_vision.v1.common_pb2 import UPDATE_PHASE_REFUSED
from protos.traffic_vision.v1.enrolment_pb2 import EnrolmentTicket
from tests import clouds
from tests.fresh_vehicles import OWN_HARDWARE, cloud_of_tickets, enrolled, run, ticket_for, until
from tests.key_commands import done
from tests.models_factory import loaded, rectangles_model
from tests.rollout_fleet import publish

pytestmark = pytest.mark.services


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudConfig]:
    with cloud_of_tickets(tmp_path / "cloud") as config:
        yield config


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "vehicle"


def steal(config: CloudConfig, folder: Path) -> None:
    """Who has the server, its TLS keys and none that is offline puts a repository of his own there."""
    thief = clouds.make_cloud(folder).folders
    for stolen, his in ((config.folders.repository, thief.repository), (config.folders.keys, thief.keys)):
        shutil.rmtree(stolen)
        shutil.copytree(his, stolen)
    publish(config, rectangles_model(version="evil"), "evil", OWN_HARDWARE)


def of_before(ticket: EnrolmentTicket) -> EnrolmentTicket:
    """As it was when tickets named no root."""
    ticket.ClearField("root_version")
    ticket.ClearField("root_sha256")
    return ticket


def enrolments(config: CloudConfig) -> int:
    with clouds.database(config) as store, store.reading() as session:
        return len(list(session.scalars(select(AuditEntry).where(AuditEntry.action == "enrolled"))))


def refusal(ticket: EnrolmentTicket, folder: Path) -> str:
    with pytest.raises(TrafficVisionError) as refused:
        run("edge", "enrol", "-", folder, given=ticket_to_text(ticket) + "\n")
    assert not list(folder.rglob("client.pem")) and not (folder / "edge.toml").exists()
    return str(refused.value)


@pytest.mark.parametrize("shipped", [False, True])
def test_a_stolen_server_gives_no_other_root_than_the_tickets(
    cloud: CloudConfig, own: Path, tmp_path: Path, shipped: bool
) -> None:
    ticket, honest = ticket_for(cloud), current_root(cloud.folders.repository)
    steal(cloud, tmp_path / "thief")
    if shipped:
        own.mkdir()
        (own / "root.json").write_bytes(honest)
    assert "the root that the cloud gives is not the one that the ticket names" in refusal(ticket, own)
    assert (own / "root.json").exists() == shipped
    assert not shipped or (own / "root.json").read_bytes() == honest


def test_a_root_that_is_there_is_never_the_servers_to_exchange(
    cloud: CloudConfig, own: Path, tmp_path: Path
) -> None:
    """Also where the ticket names none. What the thief signs is refused, and the vehicle drives on."""
    ticket, honest = of_before(ticket_for(cloud)), current_root(cloud.folders.repository)
    steal(cloud, tmp_path / "thief")
    own.mkdir()
    (own / "root.json").write_bytes(honest)
    path = enrolled(ticket, own)
    assert (own / "root.json").read_bytes() == honest
    found = until(path, lambda model: model.phase == UPDATE_PHASE_REFUSED)
    assert "metadata does not check" in found.detail
    assert found.active.sha256 == loaded(rectangles_model(version="factory")).digest


def test_a_ticket_of_before_needs_a_root_that_is_there(cloud: CloudConfig, own: Path) -> None:
    told = refusal(of_before(ticket_for(cloud)), own)
    assert "the ticket names no root" in told and str(own / "root.json") in told
    assert enrolments(cloud) == 0, "the cloud was not asked"


def test_a_ticket_of_before_some_roots_leads_to_todays_releases(cloud: CloudConfig, own: Path) -> None:
    """The vehicle gets the root of its ticket, and follows the chain from there by itself."""
    ticket, first = ticket_for(cloud), current_root(cloud.folders.repository)
    for subject in ("root", "timestamp", "root"):
        done(cloud.folders.pki.parent, "rotate", subject)
    publish(cloud, rectangles_model(version="1"), "1", OWN_HARDWARE)
    path = enrolled(ticket, own)
    assert (own / "root.json").read_bytes() == first
    assert until(path, lambda model: model.release_counter == 1).active.version == "1"
    later = ticket_for(cloud)
    assert later.root_version == 4
    run("edge", "enrol", "-", own, given=ticket_to_text(later) + "\n")
    assert (own / "root.json").read_bytes() == first, "what is there stays"


def test_a_root_of_another_owner_is_told_before_the_ticket_is_used(
    cloud: CloudConfig, own: Path, tmp_path: Path
) -> None:
    ticket = ticket_for(cloud)
    others = current_root(clouds.make_cloud(tmp_path / "other").folders.repository)
    own.mkdir()
    for there, told in ((others, "is another root 1 than"), (b"{}", "no root metadata")):
        (own / "root.json").write_bytes(there)
        assert told in refusal(ticket, own)
        assert (own / "root.json").read_bytes() == there
    assert enrolments(cloud) == 0
    (own / "root.json").unlink()
    enrolled(ticket, own)
    assert (own / "root.json").read_bytes() == current_root(cloud.folders.repository)


def test_a_root_that_edge_toml_names_elsewhere_is_the_one(cloud: CloudConfig, own: Path) -> None:
    (own / "trust").mkdir(parents=True)
    (own / "edge.toml").write_text('vehicle = "van-1"\n[updates]\nroot = "trust/first.json"\n')
    ask = ("edge", "enrol", "-", own)
    run(*ask, given=ticket_to_text(ticket_for(cloud)) + "\n")
    assert not (own / "root.json").exists()
    assert (own / "trust/first.json").read_bytes() == current_root(cloud.folders.repository)


def test_a_root_that_the_cloud_does_not_have_uses_no_ticket_up(cloud: CloudConfig, own: Path) -> None:
    ticket = ticket_for(cloud)
    ticket.root_version = 7
    assert "there is no root 7 here" in refusal(ticket, own)
    assert enrolments(cloud) == 0
