"""A release against the gate: only with a reason, with the gate's key, once, and on record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from cloud.pipeline import forcing
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.forcing import FORCED, WISHED, force_release
from cloud.pipeline.job import Pipeline
from cloud.pipeline.running import run_stage
from cloud.pipeline.tracking import Tracking
from cloud.release.keys import load_keys
from cloud.release.repository import list_releases
from cloud.store.audit_chain import verify_chain
from cloud.store.database import audit_entries
from cloud.store.models import Release, Run, StageRecord, Verdict
from cloud.store.states import RunState, StageState, VerdictKind
from tests import models_factory as factory
from tests.retrains import HW, as_if_trained, begin, retrain_cloud
from tools.cli import root

REASON = "the customer tested it on the road"
RULE = {"rule": "not worse", "slice": "daytime", "bound": -0.02, "verdict": "inconclusive", "why": "few"}


@contextmanager
def rejected(folder: Path, verdict: VerdictKind = VerdictKind.INCONCLUSIVE) -> Iterator[tuple[Pipeline, str]]:
    """A cloud whose last retrain's candidate did not pass; gives the candidate's SHA-256 too."""
    with retrain_cloud(folder) as pipeline:
        run_id = begin(pipeline)
        with pipeline.store.writing() as session:
            for name in ("label", "purity", "dataset"):
                record = StageRecord(stage=name, key=run_id, state=StageState.DONE)
                record.progress, record.result = {}, {"stage": name}
                session.add(record)
        sha256 = as_if_trained(pipeline, run_id, factory.rectangles_model(HW, version="2"))
        with pipeline.store.writing() as session:
            session.add(Verdict(candidate_sha256=sha256, verdict=verdict, rules=[RULE], scores={}))
            record = StageRecord(stage="validate", key=run_id, state=StageState.DONE)
            record.progress, record.result = {}, {"stage": "validate"}
            session.add(record)
        run_stage(pipeline, "deploy", run_id)
        yield pipeline, sha256


def trail(pipeline: Pipeline) -> list[tuple[str, str, str, dict[str, Any]]]:
    with pipeline.store.reading() as session:
        verify_chain(audit_entries(session))
        return [
            (entry.actor, entry.action, entry.subject, dict(entry.detail))
            for entry in audit_entries(session)
            if entry.action in (WISHED, FORCED)
        ]


def releases(pipeline: Pipeline) -> int:
    return len(list_releases(pipeline.config.folders.repository))


@pytest.mark.parametrize("verdict", [VerdictKind.FAIL, VerdictKind.INCONCLUSIVE])
def test_it_is_signed_published_and_on_record(tmp_path: Path, verdict: VerdictKind) -> None:
    with rejected(tmp_path, verdict) as (pipeline, sha256):
        line = force_release(pipeline, f"  {REASON}\n", "ann")
        assert (line["release_counter"], line["candidate"], line["verdict"]) == (1, sha256, verdict.value)
        assert line["rules"] == [RULE]
        (release,) = list_releases(pipeline.config.folders.repository)
        assert release.facts.model_sha256 == sha256
        wished, forced = trail(pipeline)
        assert wished[:3] == ("ann", WISHED, sha256) and forced[:3] == ("ann", FORCED, "1")
        for *_, detail in (wished, forced):
            assert detail["reason"] == REASON and detail["verdict"] == verdict.value
            assert detail["rules"] == ["daytime not worse: inconclusive"] and detail["sha256"] == sha256
        with pipeline.store.reading() as session:
            row = session.scalars(select(Release)).one()
            assert row.verdict_id is None and row.counter == 1
            run = session.scalars(select(Run)).one()
            assert run.state is RunState.RELEASED and REASON in run.state_detail
        assert Tracking(pipeline.config.folders.mlruns).aliases()["champion"] == sha256
        with pytest.raises(PipelineError, match=r"rectangles 2 .* is release 1 already"):
            force_release(pipeline, REASON, "ann", sha256[:10])
        assert releases(pipeline) == 1


def test_without_a_reason_or_a_candidate_to_force_nothing_happens(tmp_path: Path) -> None:
    with rejected(tmp_path) as (pipeline, _):
        for none in ("", "   ", "because"):
            with pytest.raises(PipelineError, match="needs a reason"):
                force_release(pipeline, none, "ann")
        with pytest.raises(PipelineError, match="no model 'v9' is known here"):
            force_release(pipeline, REASON, "ann", "v9")
        with pytest.raises(PipelineError, match="was never judged"):
            force_release(pipeline, REASON, "ann", "champion")
        assert trail(pipeline) == [] and releases(pipeline) == 0


def test_what_passed_needs_no_force_and_a_running_retrain_none_either(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path) as pipeline:
        with pytest.raises(PipelineError, match="no retrain has made a candidate yet"):
            force_release(pipeline, REASON, "ann")
        run_id = begin(pipeline)
        sha256 = as_if_trained(pipeline, run_id, factory.rectangles_model(HW, version="2"))
        with pipeline.store.writing() as session:
            session.add(Verdict(candidate_sha256=sha256, verdict=VerdictKind.PASS, rules=[], scores={}))
        with pytest.raises(PipelineError, match="retrain-0001 is running"):
            force_release(pipeline, REASON, "ann")
        with pipeline.store.writing() as session:
            session.get_one(Run, run_id).state = RunState.FAILED
        with pytest.raises(PipelineError, match="passed the gate: the stage deploy releases it"):
            force_release(pipeline, REASON, "ann")


def test_it_needs_the_gates_key(tmp_path: Path) -> None:
    with rejected(tmp_path) as (pipeline, _):
        gate = load_keys(pipeline.config.folders.keys).folder / "gate.pem"
        gate.rename(tmp_path / "gate.pem")
        with pytest.raises(Exception, match="the private key 'gate' is not at"):
            force_release(pipeline, REASON, "ann")
        assert trail(pipeline) == [] and releases(pipeline) == 0
        (tmp_path / "gate.pem").rename(gate)
        assert force_release(pipeline, REASON, "ann")["release_counter"] == 1


def test_cut_off_after_the_signing_it_finishes_with_one_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rejected(tmp_path) as (pipeline, _):

        def cut(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(forcing, "_record", cut)
        with pytest.raises(KeyboardInterrupt):
            force_release(pipeline, REASON, "ann")
        assert [action for _, action, *_ in trail(pipeline)] == [WISHED] and releases(pipeline) == 1
        monkeypatch.undo()
        assert force_release(pipeline, REASON, "ann")["release_counter"] == 1
        assert [action for _, action, *_ in trail(pipeline)] == [WISHED, WISHED, FORCED]
        assert releases(pipeline) == 1


def test_the_command_prints_one_line_or_says_in_one_why_not(tmp_path: Path) -> None:
    with rejected(tmp_path):
        pass
    config = str(tmp_path / "cloud" / "cloud.toml")

    def call(reason: str) -> Result:
        command = ["cloud", "release", "--force", "--reason", reason, "--config", config]
        return CliRunner().invoke(root, command)

    refused = call("because")
    assert isinstance(refused.exception, PipelineError) and refused.stdout == ""
    assert str(refused.exception).startswith("a release against the gate needs a reason")
    done = call(REASON)
    assert done.exit_code == 0, done.output
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["release_counter"] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--force", "--config", "x"], "--force needs --reason and --config"),
        (["--reason", REASON, "--config", "x"], "the rest takes --force"),
        (["--force", "bundle", "out", "--config", "x"], "before a command go with none"),
    ],
)
def test_half_a_command_is_refused_as_one(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(root, ["cloud", "release", *arguments])
    assert result.exit_code == 2 and says in result.output
