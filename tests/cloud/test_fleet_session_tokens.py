"""Session tokens over a real server: who comes after whom, and a vehicle that is back before it is missed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import select

from cloud.fleet.session_chain import Link
from cloud.fleet.vehicles import VehicleIdentity, list_vehicles
from cloud.store.audit_entry import AuditEntry
from cloud.store.models import Vehicle
from edge.errors import TrafficVisionError
from edge.fleet.identity import Identity
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.traffic_vision.v1 import fleet_pb2_grpc as fleet_grpc
from tests import clouds
from tests.clouds import ControlStream, a_hello, conversation, serving
from tests.identities import Running, assert_served, enrolled
from tools.cli import root

pytestmark = pytest.mark.services


class Disk:
    """What a vehicle has beside its identity; None: its daemon keeps no tokens."""

    def __init__(self, token: bytes | None = b"") -> None:
        self.token = token

    def copy(self) -> Disk:
        return Disk(self.token)

    def hello(self, instance: str) -> fleet.ControlRequest:
        return a_hello(instance, session_token=self.token)


@contextmanager
def connected(
    stub: fleet_grpc.FleetServiceStub, instance: str, disk: Disk, *, confirms: bool = True
) -> Iterator[ControlStream]:
    """A vehicle that is let in, and keeps the token that it is given."""
    with conversation(stub) as stream:
        stream.say(disk.hello(instance))
        welcome = stream.hear().welcome
        assert welcome.protocol_version, "let in"
        assert bool(welcome.session_token) is (disk.token is not None)
        if welcome.session_token:
            disk.token = welcome.session_token
            if confirms:
                kept = fleet.SessionTokenKept(token_sha256=hashlib.sha256(disk.token).digest())
                stream.say(fleet.ControlRequest(session_token_kept=kept))
        speaks(stream)
        yield stream
        stream.say_no_more()
        assert stream.rest() == []


def speaks(stream: ControlStream) -> None:
    """Until the server has heard it."""
    state = common.DriftState(camera="front", verdict=common.DRIFT_VERDICT_ALARM)
    stream.say(fleet.ControlRequest(drift_event=fleet.DriftEvent(id="alive", state=state)))
    assert stream.hear().HasField("drift_event_receipt")


def drives(running: Running, pair: Identity, instance: str, disk: Disk, *, confirms: bool = True) -> None:
    """Connects and goes."""
    with running.as_(pair, instance) as stub, connected(stub, instance, disk, confirms=confirms):
        pass


def line_of(running: Running, vehicle: str) -> VehicleIdentity:
    with clouds.database(running.config) as store:
        (line,) = (line for line in list_vehicles(store) if line.name == vehicle)
    return line


def found(running: Running, vehicle: str) -> str:
    return line_of(running, vehicle).used_twice_how


def command(running: Running, *words: str) -> str:
    config = running.config.folders.pki.parent / "cloud.toml"
    result = CliRunner().invoke(root, ["cloud", "vehicles", *words, "--config", str(config)])
    if isinstance(result.exception, TrafficVisionError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_copy_that_connects_while_the_vehicle_is_away_is_reported_when_that_is_back(
    running: Running,
) -> None:
    pair, own = enrolled(running.config, "was-away"), Disk()
    drives(running, pair, "before", own)
    copied = own.copy()
    drives(running, pair, "the clone", copied)
    assert not line_of(running, "was-away").used_twice, "it could be the vehicle"
    with running.as_(pair, "back") as stub, connected(stub, "back", own):
        assert_served(stub)
    assert found(running, "was-away") == Link.UNKNOWN.value
    with clouds.database(running.config) as store, store.reading() as session:
        (entry,) = session.scalars(
            select(AuditEntry).where(AuditEntry.subject == "was-away", AuditEntry.action == "identity in use")
        )
    said = entry.detail
    assert (said["connected"], said["earlier"]) == ("back", "the clone")
    assert "127.0.0.1" in said["peer"] and "127.0.0.1" in said["earlier_peer"]
    assert said["peer"] != said["earlier_peer"] and said["earlier_seen"]
    assert not running.renews(pair), "who of the two it is, nobody can tell"
    drives(running, pair, "the clone", copied)
    assert found(running, "was-away") == Link.UNKNOWN.value


def test_no_token_is_in_a_log_in_the_database_or_in_a_list(running: Running) -> None:
    pair, own = enrolled(running.config, "secretive"), Disk()
    shown = []
    for instance in ("one", "two"):
        drives(running, pair, instance, own)
        assert own.token
        shown.append(own.token)
    drives(running, pair, "the clone", Disk(shown[0]))
    folder = running.config.folders.pki.parent
    texts = [command(running, "list", "--json").encode(), (folder / "server.log").read_bytes()]
    texts += [path.read_bytes() for path in folder.glob("*.sqlite*")]
    assert len(texts) > 2 and b"secretive" in texts[0] and b"secretive" in texts[1]
    assert Link.UNKNOWN.value.encode() in texts[0] and Link.UNKNOWN.value.encode() in texts[1]
    for token in shown:
        for text in texts:
            assert token not in text and token.hex().encode() not in text


def test_a_vehicle_that_is_back_before_its_old_stream_ended_takes_its_place(running: Running) -> None:
    pair, own = enrolled(running.config, "power-cut"), Disk()
    with running.as_(pair, "before") as old, running.as_(pair, "back") as stub, conversation(old) as silent:
        silent.say(own.hello("before"))
        own.token = silent.hear().welcome.session_token  # on disk, and not confirmed
        with connected(stub, "back", own):
            (asked,) = silent.rest()
            assert asked.command.HasField("status_request"), "whether it still lives"
            assert_served(stub)
    assert not line_of(running, "power-cut").used_twice
    drives(running, pair, "later", own)
    assert not line_of(running, "power-cut").used_twice


@pytest.mark.parametrize("newest", [True, False], ids=["last token", "token before"])
def test_a_copy_of_the_disk_gets_nothing_beside_a_vehicle_that_answers(
    running: Running, newest: bool
) -> None:
    name = f"answers-{newest}".lower()
    pair, own = enrolled(running.config, name), Disk()
    drives(running, pair, "before", own)
    older = own.copy()
    with (
        running.as_(pair, "the vehicle") as stub,
        running.as_(pair, "the clone") as other,
        connected(stub, "the vehicle", own, confirms=newest) as stream,
        conversation(other) as clone,
    ):
        clone.say((own if newest else older).hello("the clone"))
        asked = stream.hear().command
        result = fleet.CommandResult(command_id=asked.id, outcome=fleet.COMMAND_OUTCOME_DONE)
        stream.say(fleet.ControlRequest(command_result=result))
        (refused,) = clone.rest()
        assert refused.problem.code == fleet.PROBLEM_CODE_IDENTITY_IN_USE
        assert line_of(running, name).used_twice, "both were heard from"
        assert_served(stub)
    with clouds.database(running.config) as store, store.reading() as session:
        results = select(AuditEntry).where(AuditEntry.subject == name, AuditEntry.action == "command result")
        assert session.scalars(results).all() == [], "an answer to that question is no row for ever"


def test_a_copy_that_takes_the_place_of_a_vehicle_in_a_tunnel_is_found_when_that_is_back(
    running: Running,
) -> None:
    pair, own = enrolled(running.config, "in-a-tunnel"), Disk()
    with (
        running.as_(pair, "the vehicle") as stub,
        running.as_(pair, "the clone") as other,
        conversation(stub) as silent,
    ):
        silent.say(own.hello("the vehicle"))
        own.token = silent.hear().welcome.session_token
        with connected(other, "the clone", own.copy()) as clone:
            silent.rest()
            with conversation(stub) as back:
                back.say(own.hello("the vehicle"))
                (refused,) = back.rest()
            assert refused.problem.code == fleet.PROBLEM_CODE_IDENTITY_IN_USE
            speaks(clone)
            assert line_of(running, "in-a-tunnel").used_twice
    command(running, "accept", "in-a-tunnel", "--reason", "the clone is gone")
    drives(running, pair, "the vehicle", own)
    assert not line_of(running, "in-a-tunnel").used_twice


@pytest.mark.parametrize("token", [b"", None, b"an older one"])
def test_who_cannot_show_the_last_token_does_not_even_disturb_the_vehicle(
    running: Running, token: bytes | None
) -> None:
    name = f"undisturbed-{len(token or '') if token is not None else 'none'}"
    pair, own = enrolled(running.config, name), Disk()
    with (
        running.as_(pair, "the vehicle") as stub,
        running.as_(pair, "the clone") as other,
        connected(stub, "the vehicle", own) as stream,
    ):
        with conversation(other) as clone:
            clone.say(Disk(token).hello("the clone"))
            (refused,) = clone.rest()
        assert refused.problem.code == fleet.PROBLEM_CODE_IDENTITY_IN_USE
        speaks(stream)  # its receipt is the next that it hears
        assert line_of(running, name).used_twice
    drives(running, pair, "the vehicle again", own)


def test_a_power_cut_before_the_token_was_kept_is_no_report(running: Running) -> None:
    pair, own = enrolled(running.config, "crashes"), Disk()
    for instance in ("first", "second", "third"):
        drives(running, pair, instance, own.copy(), confirms=False)  # what it was given is lost
        if instance != "first":
            drives(running, pair, f"{instance}, again", own, confirms=False)
    assert not line_of(running, "crashes").used_twice


@pytest.mark.parametrize(
    ("left", "how"), [(b"", Link.EMPTY), (b"of a backup", Link.UNKNOWN), (None, Link.SILENT)]
)
def test_lost_state_is_told_for_what_it_is_and_the_owner_vouches_for_it(
    running: Running, left: bytes | None, how: Link
) -> None:
    name = f"lost-{how.name}".lower()
    pair = enrolled(running.config, name)
    drives(running, pair, "before", Disk())
    own = Disk(left)
    drives(running, pair, "after", own)
    assert found(running, name) == how.value and how.value in command(running, "list")
    assert not running.renews(pair)
    assert command(running, "accept", name, "--reason", "a new disk") == f"{name}: accepted\n"
    assert not line_of(running, name).used_twice
    drives(running, pair, "later", own)
    assert not line_of(running, name).used_twice
    if left is not None:
        drives(running, pair, "a clone", Disk(b"of another backup"))
        assert found(running, name) == Link.UNKNOWN.value, "also within the minute of the first report"
        command(running, "accept", name, "--reason", "again")
    assert running.renews(pair)


def test_a_restored_database_is_vouched_for_as_a_whole(running: Running) -> None:
    names = ["restored-1", "restored-2"]
    pairs, disks = [enrolled(running.config, name) for name in names], [Disk(), Disk()]
    for pair, own in zip(pairs, disks, strict=True):
        drives(running, pair, "before", own)
    with clouds.database(running.config) as store, store.writing() as session:
        for name in names:  # as it was some connections ago
            session.get_one(Vehicle, name).session_kept_sha256 = "0" * 64
    assert set(names) <= {
        line.split(":")[0]
        for line in command(running, "accept", "--all", "--reason", "restored").splitlines()
    }
    for name, pair, own in zip(names, pairs, disks, strict=True):
        drives(running, pair, "after", own)
        assert not line_of(running, name).used_twice


def test_a_daemon_from_before_is_served_as_ever_and_so_is_its_update(running: Running) -> None:
    pair, older, own = enrolled(running.config, "updated"), Disk(None), Disk()
    for instance in ("one", "two"):
        drives(running, pair, instance, older)
    for instance in ("three", "four"):
        drives(running, pair, instance, own)
    assert not line_of(running, "updated").used_twice


@pytest.mark.parametrize("keeps_file", [True, False])
def test_a_vehicle_that_is_enrolled_anew_begins_anew(running: Running, keeps_file: bool) -> None:
    name = f"anew-{keeps_file}".lower()
    own = Disk()
    drives(running, enrolled(running.config, name), "before", own)
    fresh = enrolled(running.config, name)
    drives(running, fresh, "after", own if keeps_file else Disk())
    assert not line_of(running, name).used_twice and running.renews(fresh)


def test_the_chain_survives_the_servers_death(running: Running, tmp_path: Path) -> None:
    folder = tmp_path / "cloud"
    config = clouds.make_cloud(folder)
    pair, own = enrolled(config, "goes-on"), Disk()
    with serving(folder) as server:
        drives(Running(config, server), pair, "one", own)
        server.kill()
    with serving(folder) as server:
        again = Running(config, server)
        clone = own.copy()
        drives(again, pair, "two", own)
        assert not line_of(again, "goes-on").used_twice
        drives(again, pair, "three", clone)
        assert found(again, "goes-on") == Link.UNKNOWN.value


def test_whom_to_accept_must_be_said_and_be_there(running: Running) -> None:
    config = str(running.config.folders.pki.parent / "cloud.toml")
    for words in ([], ["one", "--all"]):
        arguments = ["cloud", "vehicles", "accept", *words, "--reason", "x", "--config", config]
        assert CliRunner().invoke(root, arguments).exit_code == 2
    with pytest.raises(TrafficVisionError, match="no vehicle 'nobody'"):
        command(running, "accept", "one", "nobody", "--reason", "x")
    enrolled(running.config, "gone")
    command(running, "revoke", "gone", "--reason", "stolen")
    with pytest.raises(TrafficVisionError, match="'gone' was revoked"):
        command(running, "accept", "gone", "--reason", "x")
    lines = {line["name"]: line for line in json.loads(command(running, "list", "--json"))}
    assert lines["gone"]["revoked"] and lines["one"]["used_twice_how"] == ""
