"""Releases whose trainer's and gate's keys are not on the server: signed elsewhere, in two steps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from cloud.config import RolloutConfig
from cloud.fleet import rollout_actions as actions
from cloud.fleet.rollout_return import take_back
from cloud.pipeline.errors import NotYetError
from cloud.pipeline.job import Pipeline
from cloud.pipeline.opening import opened
from cloud.pipeline.publishing import publish_signed
from cloud.pipeline.runner import run_once
from cloud.pipeline.running import run_stage
from cloud.pipeline.runs import fail_run
from cloud.release import release_file
from cloud.release.errors import ReleaseError, WaitsForSignatureError
from cloud.release.keys import load_keys
from cloud.release.releasing import ReleaseTerms
from cloud.release.repository import list_releases
from cloud.release.signing import sign_release
from cloud.store.audit_entry import AuditEntry
from cloud.store.models import Release, Run, StageRecord, Vehicle
from cloud.store.states import RolloutState, RunState, StageState, VerdictKind
from protos.release_promise import Promise, ShadowFacts
from protos.traffic_vision.v1 import common_pb2
from tests import models_factory as factory
from tests.clouds import make_cloud
from tests.key_commands import done
from tests.retrains import HW, as_if_prepared, as_if_trained, as_if_validated, begin, retrain_cloud
from tests.rollout_fleet import HARDWARE, Fleet, publish, quick
from tests.update_world import check, open_world
from tools.cli.cloud import command

MODEL = factory.rectangles_model(HW, version="2")
KEYS = ("trainer", "gate")


def release(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, ["release", *map(str, arguments)])


def told(*arguments: str | Path) -> str:
    result = release(*arguments)
    assert result.exit_code == 0, result.output or repr(result.exception)
    return result.output


def uri_of(name: str, tmp_path: Path) -> str:
    return f"file2:{tmp_path / name / name}.pem"


def leave(folder: Path, stick: Path, *names: str) -> None:
    """Private keys go to sticks of their own."""
    for name in names:
        (stick / name).mkdir(parents=True)
        (folder / "keys" / f"{name}.pem").rename(stick / name / f"{name}.pem")
        done(folder, "move", name, "offline:")


@contextmanager
def validated(tmp_path: Path, *offline: str) -> Iterator[tuple[Pipeline, str, Path]]:
    """A cloud with a retrain that passed the gate, and keys that are elsewhere; its folder too."""
    with retrain_cloud(tmp_path) as pipeline:
        folder = pipeline.config.folders.repository.parent
        leave(folder, tmp_path, *offline)
        run_id = begin(pipeline)
        as_if_prepared(pipeline, run_id)
        as_if_validated(pipeline, run_id, as_if_trained(pipeline, run_id, MODEL), VerdictKind.PASS)
        yield pipeline, run_id, folder


def trail(pipeline: Pipeline) -> list[tuple[str, list[str] | None]]:
    with pipeline.store.reading() as session:
        entries = session.scalars(select(AuditEntry).order_by(AuditEntry.id))
        wanted = ("release signed", "released")
        return [(entry.action, entry.detail.get("keys")) for entry in entries if entry.action in wanted]


def test_a_release_that_is_signed_in_two_steps_elsewhere_reaches_a_vehicle(tmp_path: Path) -> None:
    model = tmp_path / "judged.onnx"
    model.write_bytes(MODEL)
    with validated(tmp_path, *KEYS) as (pipeline, run_id, folder):
        config, file = folder / "cloud.toml", tmp_path / "release.json"
        went = run_once(pipeline)
        assert went["state"] == "waiting" and "0/2 keys" in went["why"]
        with pipeline.store.reading() as session:
            assert session.get_one(StageRecord, ("deploy", run_id)).state is StageState.WAITING
            assert session.get_one(Run, run_id).state is RunState.RUNNING
        assert run_once(pipeline)["state"] == "waiting", "as often as one likes"
        shown = told("prepare", file, "--config", config)
        assert "release 1: rectangles 2" in shown and "models needs 2 more" in shown
        assert "PRIVATE" not in file.read_text()
        kept = tmp_path / "root.json"
        shutil.copy(folder / "repository" / "metadata" / "1.root.json", kept)
        for name, left in (("trainer", "needs 1 more"), ("gate", "all have signed")):
            here = ("--uri", uri_of(name, tmp_path), "--root", kept, "--model", model)
            assert "Aborted" in release("sign", file, *here).output, "who signs is asked"
            assert left in told("sign", file, *here, "--yes")
        with _served(folder) as world:
            vehicle = world.slots(tmp_path / "vehicle")
            assert check(world, vehicle).phase == common_pb2.UPDATE_PHASE_IDLE
            line = json.loads(told("publish", file, "--config", config))
            assert (line["state"], line["signed_by"]) == ("released", ["gate", "trainer"])
            found = check(world, vehicle)
            assert found.phase == common_pb2.UPDATE_PHASE_STAGED
            assert found.release is not None and found.release.release_counter == 1
            assert vehicle.activate().digest == factory.loaded(MODEL).digest
        with pipeline.store.reading() as session:
            assert session.scalars(select(Release.counter)).all() == [1]
            assert session.get_one(Run, run_id).state is RunState.RELEASED
        assert trail(pipeline) == [("release signed", ["gate", "trainer"]), ("released", None)]
        strange = json.loads(file.read_text())
        strange["after"]["models"]["signatures"] = [{"keyid": "f" * 64, "sig": "00"}]
        file.write_text(json.dumps(strange))
        again = json.loads(told("publish", file, "--config", config))
        assert (again["state"], again["signed_by"]) == ("released", ["gate", "trainer"])
        assert len(trail(pipeline)) == 2, "published once"


def test_each_signature_may_come_by_itself_and_a_key_that_is_here_signs_here(tmp_path: Path) -> None:
    with validated(tmp_path, "trainer") as (pipeline, run_id, folder):
        with pytest.raises(NotYetError, match="release 1 is not signed by all"):
            run_stage(pipeline, "deploy", run_id)
        file = tmp_path / "release.json"
        told("prepare", file, "--config", folder / "cloud.toml")
        told("sign", file, "--uri", uri_of("trainer", tmp_path), "--yes")
        assert publish_signed(pipeline, file, "ann")["state"] == "released"
    with validated(tmp_path / "other", *KEYS) as (pipeline, run_id, folder):
        with pytest.raises(NotYetError):
            run_stage(pipeline, "deploy", run_id)
        for name, state in (("gate", "waiting"), ("trainer", "released")):
            copy = tmp_path / f"{name}.json"
            told("prepare", copy, "--config", folder / "cloud.toml")
            told("sign", copy, "--uri", uri_of(name, tmp_path / "other"), "--yes")
            assert publish_signed(pipeline, copy, "ann")["state"] == state
        assert trail(pipeline) == [
            ("release signed", ["gate"]), ("release signed", ["trainer"]), ("released", None)
        ]  # fmt: skip


def test_a_wrong_key_and_a_model_that_nobody_judged_sign_nothing(tmp_path: Path) -> None:
    with validated(tmp_path, *KEYS) as (pipeline, run_id, folder):
        with pytest.raises(NotYetError):
            run_stage(pipeline, "deploy", run_id)
        file = tmp_path / "release.json"
        told("prepare", file, "--config", folder / "cloud.toml")
        before = file.read_bytes()
        targets = f"file2:{folder / 'keys' / 'targets.pem'}"
        assert "has nothing to sign" in str(release("sign", file, "--uri", targets, "--yes").exception)
        trainer = ("--uri", uri_of("trainer", tmp_path))
        named = release("sign", file, *trainer, "--key", "gate", "--yes")
        assert "private key 'gate' is not at" in str(named.exception)
        other = tmp_path / "other.onnx"
        other.write_bytes(factory.rectangles_model(HW, version="3"))
        refused = release("sign", file, *trainer, "--model", other, "--yes")
        assert "is not what" in str(refused.exception)
        assert file.read_bytes() == before
        assert publish_signed(pipeline, file, "ann")["state"] == "waiting"
        assert list_releases(pipeline.config.folders.repository) == []


def test_who_signs_is_shown_what_the_release_asks_and_promises_and_no_file_from_before_the_kept_root(
    tmp_path: Path,
) -> None:
    config = make_cloud(tmp_path / "cloud")
    folder, repository = tmp_path / "cloud", config.folders.repository
    leave(folder, tmp_path, *KEYS)
    terms = ReleaseTerms(("x86_64-cpu",), shadow=ShadowFacts(3600), promise=Promise(errors_permille=7))
    with pytest.raises(WaitsForSignatureError):
        sign_release(repository, load_keys(config.folders.keys), MODEL, terms)
    file = tmp_path / "release.json"
    shown = told("prepare", file, "--config", folder / "cloud.toml")
    assert 'trial in shadow: {"drive_s": 3600' in shown and '"errors_permille": 7' in shown
    done(folder, "rotate", "targets")  # root's own keys stay, so root 1 is signed as root 2 demands
    sign = ("sign", file, "--uri", uri_of("gate", tmp_path), "--yes", "--root")
    refused = release(*sign, repository / "metadata" / "2.root.json")
    assert "begins with root 1, older than root 2" in str(refused.exception)
    assert "needs 1 more" in told(*sign, repository / "metadata" / "1.root.json")


def test_a_file_that_was_changed_is_signed_nowhere_and_taken_back_nowhere(tmp_path: Path) -> None:
    with validated(tmp_path, *KEYS) as (pipeline, run_id, folder):
        with pytest.raises(NotYetError):
            run_stage(pipeline, "deploy", run_id)
        file, copy = tmp_path / "release.json", tmp_path / "copy.json"
        told("prepare", file, "--config", folder / "cloud.toml")
        whole = json.loads(file.read_text())

        def signed(document: Any) -> Any:
            return document["after"]["models"]["signed"]

        def facts(document: Any) -> Any:
            (target,) = signed(document)["targets"].values()
            return target["custom"]["traffic_vision"]

        def to_trucks(document: Any) -> None:
            facts(document).update(fleet="trucks")
            (target,) = signed(document)["targets"].values()
            signed(document)["targets"] = {"models/trucks/rectangles-1.onnx": target}

        more: dict[str, Callable[[Any], None]] = {
            "another version": lambda document: signed(document).update(version=9),
            "a century": lambda document: signed(document).update(expires="2126-01-01T00:00:00Z"),
            "no release": lambda document: signed(document)["targets"].clear(),
            "two": lambda document: signed(document)["targets"].update(
                {"models/b.onnx": next(iter(signed(document)["targets"].values()))}
            ),
            "keys": lambda document: document["after"].update(targets=document["before"]["targets"]),
            "a counter of before": lambda document: facts(document).update(release_counter=0),
            "words that nobody is shown": lambda document: signed(document).update(aside="and so on"),
            "another fleet's": to_trucks,
            "a role elsewhere on the disk": lambda document: document.update(
                json.loads(json.dumps(document).replace('"models"', '"../models"'))
            ),
        }
        for name, change in more.items():
            document = json.loads(json.dumps(whole))
            change(document)
            copy.write_text(json.dumps(document))
            for tried in (
                release("sign", copy, "--uri", uri_of("gate", tmp_path), "--yes"),
                release("publish", copy, "--config", folder / "cloud.toml"),
            ):
                assert isinstance(tried.exception, ReleaseError), name
        # One that could be signed, and is not what waits here.
        document = json.loads(json.dumps(whole))
        facts(document).update(minimum_daemon_version="7")
        copy.write_text(json.dumps(document))
        for name in KEYS:
            told("sign", copy, "--uri", uri_of(name, tmp_path), "--yes")
        with pytest.raises(ReleaseError, match=r"this is not the release 1 that is under way .* altered"):
            publish_signed(pipeline, copy, "ann")
        forged = json.loads(json.dumps(whole))
        gate = load_keys(folder / "keys").public("gate").keyid
        forged["after"]["models"]["signatures"] = [{"keyid": gate, "sig": "00" * 64}]
        copy.write_text(json.dumps(forged))
        with pytest.raises(ReleaseError, match="is forged"):
            publish_signed(pipeline, copy, "ann")
        assert list_releases(pipeline.config.folders.repository) == [] and trail(pipeline) == []


def test_a_file_whose_counter_another_release_took_is_refused_and_the_next_one_has_a_new(
    tmp_path: Path,
) -> None:
    with validated(tmp_path, *KEYS) as (pipeline, run_id, folder):
        with pytest.raises(NotYetError):
            run_stage(pipeline, "deploy", run_id)
        config, file = folder / "cloud.toml", tmp_path / "release.json"
        told("prepare", file, "--config", config)
        for name in KEYS:
            told("sign", file, "--uri", uri_of(name, tmp_path), "--yes")
        done(folder, "delegate", "trucks", "--own-keys")
        keys, repository = load_keys(folder / "keys"), pipeline.config.folders.repository
        truck = factory.rectangles_model(HW, version="truck")
        terms = ReleaseTerms(("x86_64-cpu",), fleet="trucks")
        assert sign_release(repository, keys, truck, terms).release_counter == 1
        line = publish_signed(pipeline, file, "ann")
        assert line["state"] == "waiting", "its counter was taken: it is proposed anew"
        with pytest.raises(ReleaseError, match="this is not the release 2 that is under way"):
            publish_signed(pipeline, file, "ann")
        told("prepare", file, "--config", config)
        for name in KEYS:
            told("sign", file, "--uri", uri_of(name, tmp_path), "--yes")
        assert publish_signed(pipeline, file, "ann")["release_counter"] == 2
        assert [one.facts.release_counter for one in list_releases(repository)] == [1, 2]


@pytest.mark.parametrize("cut", ["take_signatures", "run_stage"])
def test_a_kill_between_the_steps_is_mended_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    from cloud.pipeline import publishing

    with validated(tmp_path, *KEYS) as (pipeline, run_id, folder):
        with pytest.raises(NotYetError):
            run_stage(pipeline, "deploy", run_id)
        file = tmp_path / "release.json"
        release_file.prepare(pipeline.config.folders.repository, folder / "keys", file)
        for name in KEYS:
            told("sign", file, "--uri", uri_of(name, tmp_path), "--yes")
        whole = getattr(publishing, cut)

        def killed(*given: Any) -> None:
            whole(*given)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(publishing, cut, killed)  # a kill leaves what was done until then
            publish_signed(pipeline, file, "ann")
        publish_signed(pipeline, file, "ann")
        assert len(list_releases(pipeline.config.folders.repository)) == 1
        assert trail(pipeline) == [("release signed", ["gate", "trainer"]), ("released", None)]
        with pipeline.store.reading() as session:
            assert session.get_one(Run, run_id).state is RunState.RELEASED


def test_the_way_back_from_a_release_is_signed_elsewhere_too(tmp_path: Path) -> None:
    config = make_cloud(tmp_path / "cloud", "van-0")
    folder, keys = tmp_path / "cloud", config.folders.keys
    for version in ("1", "2"):
        publish(config, factory.rectangles_model(version=version), version)
    with opened(config) as pipeline:
        fleet = Fleet(pipeline.store, quick(automatic=False))
        with pipeline.store.writing() as session:
            session.get_one(Vehicle, "van-0").hardware_ids = [HARDWARE]
        fleet.look()
        actions.start(pipeline.store, 2, RolloutConfig(), "ann", fleet.now)
        fleet.look()
        actions.take_back(pipeline.store, 2, "it is wrong", "ann", fleet.now)
        leave(folder, tmp_path, *KEYS)
        (trouble,) = take_back(pipeline.store, config, "server", fleet.now)
        assert "release 2 is not taken back yet: release 3 is not signed by all" in trouble
        file = tmp_path / "release.json"
        told("prepare", file, "--config", folder / "cloud.toml")
        for name in KEYS:
            told("sign", file, "--uri", uri_of(name, tmp_path), "--yes")
        assert "the server publishes it at its next look" in publish_signed(pipeline, file, "ann")["why"]
        assert take_back(pipeline.store, config, "server", fleet.now) == []
        assert fleet.state(2) is RolloutState.RETURNED
        newest = list_releases(config.folders.repository)[-1].facts
        assert (newest.release_counter, newest.model_version) == (3, "1")
        assert load_keys(keys).keys["gate"].uri == "offline:"


def test_what_is_signed_after_its_retrain_failed_is_released_by_a_retry(tmp_path: Path) -> None:
    """As on Airflow, whose task deploy does not wait."""
    with validated(tmp_path, *KEYS) as (pipeline, run_id, folder):
        with pytest.raises(NotYetError):
            run_stage(pipeline, "deploy", run_id)
        fail_run(pipeline, run_id, "the task deploy failed")
        file = tmp_path / "release.json"
        told("prepare", file, "--config", folder / "cloud.toml")
        for name in KEYS:
            told("sign", file, "--uri", uri_of(name, tmp_path), "--yes")
        assert "`cloud run --retry`" in publish_signed(pipeline, file, "ann")["why"]
        assert run_once(pipeline, retry=True)["state"] == "released"


@contextmanager
def _served(folder: Path) -> Iterator[Any]:
    world = open_world(folder)
    try:
        yield world
    finally:
        world.close()
