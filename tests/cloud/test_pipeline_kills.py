"""kill -9 in the middle of each stage, in a real process; then again, and it ends as it would have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cloud.pipeline.data_repository import DataRepository
from cloud.pipeline.job import Job, Outcome, Pipeline, StageEvent
from cloud.pipeline.runner import run_once
from cloud.pipeline.running import STAGES, run_stage
from cloud.pipeline.stages import label, train
from cloud.pipeline.tracking import Tracking
from cloud.release.repository import list_releases
from cloud.store.models import Candidate, DatasetSample, Label, Release, Run, StageRecord, Verdict
from cloud.store.states import RunState, StageState, VerdictKind
from tests import models_factory as factory
from tests.clouds import ROOT
from tests.retrains import HW, as_if_trained, as_if_validated, begin, retrain_cloud


def killed(folder: Path, pipeline: Pipeline, stage: str, run_id: str, where: str) -> None:
    """Do a stage in a process that dies there."""
    config = folder / "cloud" / "cloud.toml"
    command = [sys.executable, "-m", "tests.cloud.retrain_kills", config, stage, run_id, where]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, timeout=280, check=False, capture_output=True, text=True
    )
    assert done.returncode == -9, done.stderr
    with pipeline.store.reading() as session:
        assert session.get_one(StageRecord, (stage, run_id)).state is StageState.RUNNING


class KilledError(BaseException):
    """In the place of SIGKILL, where what was written is all that matters: nothing of ours catches it."""


def trained_at_once(job: Job) -> Outcome:
    """The stage train with a finder of red rectangles in the place of a training's candidate."""
    model = factory.loaded(factory.rectangles_model(HW, version="2"))
    key = job.pipeline.objects.put(model.data)
    tracking = Tracking(job.pipeline.config.folders.mlruns)
    mlflow_id = tracking.begin(job.run_id, {}, {})
    tracking.register(model.digest, job.pipeline.objects.path(key), mlflow_id, {})

    def commit(session: Session) -> None:
        session.get_one(Run, job.run_id).mlflow_run_id = mlflow_id
        facts = {"class_names": list(model.metadata.class_names)}
        candidate = Candidate(sha256=model.digest, run_id=job.run_id, object_key=key, facts=facts)
        candidate.name, candidate.version = model.metadata.name, model.metadata.version
        session.add(candidate)

    return Outcome({}, commit)


@pytest.mark.services
def test_a_runner_that_dies_before_and_after_each_stage_yields_one_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "run", trained_at_once)
    deaths = [("", "started"), *((stage, kind) for stage in STAGES for kind in ("begun", "done"))]

    def listen(event: StageEvent) -> None:
        if deaths and (event.stage, event.kind) == deaths[0]:
            del deaths[0]
            raise KilledError

    with retrain_cloud(tmp_path, listen=listen) as pipeline:
        for _ in range(len(deaths)):
            with pytest.raises(KilledError):
                run_once(pipeline)
        assert deaths == []
        assert run_once(pipeline)["state"] == "idle"
        assert len(list_releases(pipeline.config.folders.repository)) == 1
        tables = (Run, Candidate, Verdict, Release, Label, DatasetSample)
        assert [count(pipeline, table) for table in tables] == [1, 2, 1, 1, 4, 4]
        assert DataRepository(pipeline.config.folders.data).tags() == ["v1", "v2"]
        with pipeline.store.reading() as session:
            assert session.scalars(select(Run)).one().state is RunState.RELEASED


def count(pipeline: Pipeline, table: type[Any]) -> int:
    with pipeline.store.reading() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_label_goes_on_with_what_has_no_labels(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path, samples=label.BATCH + 3) as pipeline:
        run_id = begin(pipeline)
        killed(tmp_path, pipeline, "label", run_id, f"asked={label.BATCH}")
        assert count(pipeline, Label) == label.BATCH
        line = run_stage(pipeline, "label", run_id)
        assert line["labeled"] == label.BATCH + 3 == count(pipeline, Label) and line["attempt"] == 2
        assert len(pipeline.label_source.asked) == 3


@pytest.mark.parametrize(
    "where",
    [
        "pictures=0",
        "cloud.pipeline.data_repository:shutil.move",
        "cloud.pipeline.stages.dataset:DataRepository.add",
    ],
)
def test_dataset_makes_one_version(tmp_path: Path, where: str) -> None:
    with retrain_cloud(tmp_path) as pipeline:
        run_id = begin(pipeline)
        run_stage(pipeline, "label", run_id)
        run_stage(pipeline, "purity", run_id)
        killed(tmp_path, pipeline, "dataset", run_id, where)
        line = run_stage(pipeline, "dataset", run_id)
        assert line["version"] == "v2" and line["images"] == 10
        data = DataRepository(pipeline.config.folders.data)
        assert data.tags() == ["v1", "v2"]
        assert data.version("v2").dvc_md5 == line["dvc_md5"]
        assert count(pipeline, DatasetSample) == 4


@pytest.mark.parametrize(
    "where",
    [
        "step=gate signs",
        "cloud.release.signing:complete_release",
        "cloud.pipeline.stages.deploy:Tracking.finish",
    ],
)
def test_deploy_releases_once(tmp_path: Path, where: str) -> None:
    with retrain_cloud(tmp_path) as pipeline:
        run_id = begin(pipeline)
        for name in ("label", "purity", "dataset"):
            run_stage(pipeline, name, run_id)
        sha256 = as_if_trained(pipeline, run_id, factory.rectangles_model(HW))
        as_if_validated(pipeline, run_id, sha256, VerdictKind.PASS)
        killed(tmp_path, pipeline, "deploy", run_id, where)
        assert count(pipeline, Release) == 0
        assert run_stage(pipeline, "deploy", run_id)["release_counter"] == 1
        (release,) = list_releases(pipeline.config.folders.repository)
        assert release.facts.model_sha256 == sha256 and count(pipeline, Release) == 1
        with pipeline.store.reading() as session:
            assert session.get_one(Run, run_id).state is RunState.RELEASED


def test_validate_goes_on_with_what_one_model_saw(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path) as pipeline:
        run_id = begin(pipeline)
        for name in ("label", "purity", "dataset"):
            run_stage(pipeline, name, run_id)
        as_if_trained(pipeline, run_id, factory.rectangles_model(HW, version="2"))
        killed(tmp_path, pipeline, "validate", run_id, "model=2")
        kept = list(pipeline.work_folder(run_id).glob("seen-*.npz"))
        assert len(kept) == 1
        written = kept[0].stat().st_mtime_ns
        assert run_stage(pipeline, "validate", run_id)["verdict"] == "pass"
        assert kept[0].stat().st_mtime_ns == written


def test_validate_judges_once_and_its_card_is_whole(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path) as pipeline:
        run_id = begin(pipeline)
        for name in ("label", "purity", "dataset"):
            run_stage(pipeline, name, run_id)
        as_if_trained(pipeline, run_id, factory.rectangles_model(HW, version="2"))
        killed(tmp_path, pipeline, "validate", run_id, "cloud.pipeline.stages.validate:_card")
        assert count(pipeline, Verdict) == 0
        assert run_stage(pipeline, "validate", run_id)["verdict"] == "pass"
        assert count(pipeline, Verdict) == 1
        cards = list((tmp_path / "cloud").rglob("model_card/model_card.html"))
        assert len([card for card in cards if "artifacts" in card.parts]) == 1
