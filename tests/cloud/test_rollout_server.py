"""Rollouts on a real server over mutual TLS, by the command line: assignments, halts and returns."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cloud.config import CloudConfig
from cloud.fleet import rollout_actions as actions
from cloud.fleet.rollout_report import rollout_lines
from cloud.release.repository import list_releases
from cloud.store import Store
from cloud.store.columns import utc_now
from protos.release_promise import Promise, ShadowFacts
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests import clouds
from tests.clouds import ControlStream, a_hello, connected, conversation, database, serving
from tests.rollout_fleet import delegate, publish
from tests.update_world import model
from tests.waiting import eventually

pytestmark = pytest.mark.services

VANS = [f"van-{number}" for number in range(6)]
STAGES = """
[rollout]
[rollout.thresholds]
min_reports = 2
[[rollout.stages]]
name = "canary"
labels = {ring = "canary"}
wait_s = 0
min_reports = 2
[[rollout.stages]]
name = "all"
wait_s = 0
min_reports = 0
approval = true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cloud"


@pytest.fixture
def config(folder: Path) -> CloudConfig:
    config = clouds.make_cloud(folder, *VANS, extra=STAGES)
    path = folder / "cloud.toml"
    path.write_text(path.read_text().replace("[serve]\n", "[serve]\nrelease_poll_s = 0.05\n"))
    return config


def rollout(folder: Path, *arguments: str, fails: bool = False) -> str:
    done = subprocess.run(
        clouds.command_line("cloud", "rollout", *arguments, "--config", folder / "cloud.toml"),
        capture_output=True,
        text=True,
        env=clouds.environment(),
        timeout=clouds.WAIT_S,
        check=False,
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout


def release(config: CloudConfig, version: str) -> int:
    return publish(config, model(version), version)


class Van:
    """A vehicle's control stream, and the model that it says it runs."""

    def __init__(self, stream: ControlStream) -> None:
        self.stream = stream
        stream.say(a_hello())
        assert stream.hear().welcome.assigns_releases
        self.assigned = self.assignment()

    def assignment(self) -> fleet.Assignment:
        """The next one that comes."""
        while not (said := self.stream.hear()).HasField("assignment"):
            pass
        return said.assignment

    def until(self, counter: int) -> fleet.Assignment:
        while self.assigned.release_counter != counter:
            self.assigned = self.assignment()
        return self.assigned

    def report(self, version: str, counter: int, **fields: Any) -> None:
        fields.setdefault("phase", common.UPDATE_PHASE_CONFIRMED)
        active = common.ModelRef(sha256=clouds.sha256(model(version)))
        state = common.ModelState(active=active, release_counter=counter, **fields)
        self.stream.say(fleet.ControlRequest(model_state=state))

    def fail(self, version: str) -> None:
        bad = clouds.sha256(model(version))
        self.report("1", 1, phase=common.UPDATE_PHASE_REVERTED, bad_sha256=[bad])


@pytest.fixture
def vans(folder: Path, config: CloudConfig) -> Iterator[dict[str, Van]]:
    """All connected; release 1 was there before, and two of them are canaries."""
    release(config, "1")
    with database(config) as store:
        for name in VANS[1:3]:
            actions.label(store, name, {"ring": "canary"}, "ann")
    assert rollout(folder, "label", "van-0", "ring=canary") == "van-0: ring=canary\n"
    with ExitStack() as stack:
        server = stack.enter_context(serving(folder))
        opened = {}
        for name in VANS:
            stub = stack.enter_context(connected(folder, server.address, name))
            opened[name] = Van(stack.enter_context(conversation(stub)))
        rollout(folder, "approve", "--force")
        for van in opened.values():
            van.until(1)
            van.report("1", 1)
        yield opened


def needs_a_person(store: Store) -> bool:
    with store.reading() as session:
        return "when a person approves it" in rollout_lines(session, utc_now())[0].next


def lines(folder: Path) -> dict[int, dict[str, Any]]:
    document = json.loads(rollout(folder, "status", "--json"))
    return {line["release"]: line for line in document["rollouts"]}


def test_a_release_comes_to_the_canaries_and_after_an_approval_to_all(
    folder: Path, config: CloudConfig, vans: dict[str, Van]
) -> None:
    release(config, "2")
    canaries = [vans[name] for name in VANS[:3]]
    for van in canaries:
        assert van.until(2).rollout_id == "release-2"
        van.report("2", 2)
    assert "not running" in rollout(folder, "approve", "--release", "1", fails=True)
    with database(config) as store:
        eventually(lambda: needs_a_person(store), "three reports")
    rollout(folder, "approve")
    for name in VANS:
        vans[name].until(2)
    shown = clouds.command_line("cloud", "status", "--config", folder / "cloud.toml")
    text = subprocess.run(shown, capture_output=True, text=True, env=clouds.environment(), check=True).stdout
    assert "rollouts" in text


def test_rollbacks_halt_it_and_a_signed_release_brings_the_model_before_it_back(
    folder: Path, config: CloudConfig, vans: dict[str, Van]
) -> None:
    release(config, "2")
    canaries = [vans[name] for name in VANS[:3]]
    for van in canaries:
        van.until(2)
        van.report("2", 1, phase=common.UPDATE_PHASE_PROBATION)
    for van in canaries[:2]:
        van.fail("2")
    back = canaries[2].until(3)
    assert list(back.withdrawn_release_counters) == [2]
    newest = list_releases(config.folders.repository)[-1].facts
    assert (newest.release_counter, newest.model_sha256) == (3, clouds.sha256(model("1")))
    found = lines(folder)
    assert found[2]["state"] == "returned"
    assert "2 of 3 vehicles rolled back" in found[2]["next"]
    assert found[3]["stage"] == "takes back 2"
    assert vans["van-5"].assigned.release_counter == 1, "who was not in is not in what brings it back"


def test_without_the_offline_keys_the_way_back_waits_for_them(
    folder: Path, config: CloudConfig, vans: dict[str, Van]
) -> None:
    release(config, "2")
    vans["van-0"].until(2)
    away = config.folders.keys / "trainer.pem"
    key = away.read_bytes()
    away.unlink()
    told = rollout(folder, "return", "--reason", "it is wrong", fails=True)
    assert "release 2 is not taken back yet" in told and "trainer" in told
    assert list(vans["van-0"].until(1).withdrawn_release_counters) == [2], "probations end all the same"
    assert lines(folder)[2]["state"] == "returning"
    away.write_bytes(key)
    assert "release 2: taken back" in rollout(folder, "return", "--reason", "the key is here")
    vans["van-0"].until(3)


def test_a_return_in_a_fleet_is_signed_for_that_fleet_on_the_terms_of_the_model_before(
    folder: Path, config: CloudConfig, vans: dict[str, Van]
) -> None:
    delegate(config, "trucks")
    clouds.enrol_vehicle(config, "truck", fleet="trucks")
    promise = Promise(drive_s=60, errors_permille=1)
    before = {"fleet": "trucks", "shadow": ShadowFacts(drive_s=300), "promise": promise}
    with (
        serving(folder) as server,
        connected(folder, server.address, "truck") as stub,
        conversation(stub) as stream,
    ):
        truck = Van(stream)
        assert truck.assigned.release_counter == 0, "release 1 is not for it"
        for counter, terms in ((2, before), (3, {"fleet": "trucks"})):
            assert publish(config, model(str(counter)), str(counter), **terms) == counter
            with database(config) as store:
                eventually(lambda store=store: needs_a_person(store), "its first stage, with nobody in it")
            rollout(folder, "approve", "--release", str(counter))
            truck.until(counter)
        assert release(config, "4") == 4
        rollout(folder, "return", "--release", "3", "--reason", "it is wrong")
        truck.until(5)
    newest = list_releases(config.folders.repository)[-1].facts
    assert (newest.release_counter, newest.fleet) == (5, "trucks")
    assert newest.model_sha256 == clouds.sha256(model("2"))
    assert (newest.shadow, newest.promise) == (None, promise)
    assert lines(folder)[5]["fleet"] == "trucks"


def test_a_pin_reaches_its_vehicle_and_wins(folder: Path, config: CloudConfig, vans: dict[str, Van]) -> None:
    rollout(folder, "pin", "van-0", "1", "--for", "1h", "--reason", "a customer's test")
    while not vans["van-0"].assignment().pinned:
        pass
    release(config, "2")
    vans["van-1"].until(2)
    rollout(folder, "unpin", "van-0")
    assert not vans["van-0"].until(2).pinned
    assert "expected a number and s, m, h or d" in rollout(
        folder, "pin", "van-0", "1", "--for", "soon", "--reason", "x", fails=True
    )


def test_a_server_that_was_killed_goes_on_where_it_was(folder: Path, config: CloudConfig) -> None:
    release(config, "1")
    with serving(folder) as server, connected(folder, server.address, "van-0") as stub:
        with conversation(stub) as stream:
            Van(stream)
        server.kill()
    before = lines(folder)
    with (
        serving(folder) as server,
        connected(folder, server.address, "van-0") as stub,
        conversation(stub) as stream,
    ):
        Van(stream)
    after = lines(folder)
    assert {key: line["stage"] for key, line in before.items()} == {
        key: line["stage"] for key, line in after.items()
    }
