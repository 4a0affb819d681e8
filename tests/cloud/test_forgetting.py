"""Forgetting samples: nothing of them is left anywhere, whatever kills it on the way, and they stay away."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import select

from cloud.datasets import Box, read_dataset
from cloud.fleet.ingest import Ingest, Upload
from cloud.pipeline import running
from cloud.pipeline.data_repository import DataRepository
from cloud.pipeline.dataset_versions import list_versions
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.exported_data import exported_data
from cloud.pipeline.forgetting import begin_forgetting, finish_forgetting
from cloud.pipeline.forgetting_models import golden_to_take_on
from cloud.pipeline.job import Pipeline
from cloud.pipeline.running import run_stage
from cloud.pipeline.runs import reopen_run
from cloud.pipeline.samples import finish, forget, preview
from cloud.release.locking import locked
from cloud.store.database import audit_entries
from cloud.store.models import Candidate, Dataset, Label, Run, Sample, StageRecord, Vehicle
from cloud.store.states import RunState, SampleState, VerdictKind
from edge.perception.metadata import GoldenFrame
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests import models_factory as factory
from tests.clouds import ROOT, sha256
from tests.retrains import (
    HW,
    RED,
    SETTINGS,
    VEHICLE,
    a_sample,
    add_samples,
    as_if_trained,
    as_if_validated,
    begin,
    make_version,
    night,
    red_picture,
    retrain_cloud,
)
from tools.cli.cloud import command

OWN = Box(11, 12, 42, 53, "red")  # no other picture's label
# Its centre in YOLO's words, its corner in the dataset's and in the database's.
OWN_TEXTS = (b"0.276041667 0.507812500", b'"x1":11.0,"y1":12.0', b'"x1": 11, "y1": 12')


class KilledError(BaseException):
    """In the place of SIGKILL: nothing of ours catches it."""


def sample_name(number: int) -> str:
    return f"{VEHICLE}/new1-{number}"


def places_of(folder: Path, *needles: bytes) -> list[str]:
    """The files below a folder that hold one of these."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if any(needle in path.read_bytes() for needle in needles)]


def rows(pipeline: Pipeline, table: type[Any]) -> list[Any]:
    with pipeline.store.reading() as session:
        return list(session.scalars(select(table)))


@pytest.mark.services
def test_a_sample_is_gone_from_every_store_and_stays_away(tmp_path: Path) -> None:
    remote = SETTINGS.replace("test_share = 0.0", 'test_share = 0.0\nremote = "../remote"')
    with retrain_cloud(tmp_path, {"0.jpg": night(OWN)}, settings=remote) as pipeline:
        run_id = make_version(pipeline)
        jpeg = red_picture(100)
        kinds = {Path(place).relative_to(tmp_path).parts[:2] for place in places_of(tmp_path, jpeg)}
        assert kinds >= {("cloud", "objects"), ("cloud", "data"), ("remote", "files")}
        assert all(places_of(tmp_path, text) for text in OWN_TEXTS)
        shown = preview(pipeline, sample_name(0))
        assert (shown["versions"], shown["version_without"]) == (["v2"], "v3")
        assert shown["samples"] == {"labeled": 1} and len(rows(pipeline, Dataset)) == 2

        seen = pipeline.config.folders.work / "teacher" / "a" / f"{sha256(jpeg)}.json"
        seen.parent.mkdir(parents=True)
        seen.write_text("boxes")
        line = forget(pipeline, sample_name(0), "its owner asked", "me")
        assert not seen.exists()
        assert line["state"] == "done" and line["forgotten"] == 1 and line["objects"] == 1
        assert (line["versions"], line["version_without"]) == (["v2"], "v3")
        assert line["retrain_ended"] == run_id
        assert places_of(tmp_path, jpeg, *OWN_TEXTS) == []
        # The others are all there, here and in the remote.
        data = DataRepository(pipeline.config.folders.data, pipeline.config.dataset.remote)
        data.export("v3", tmp_path / "v3")
        images = {image.name: image for image in read_dataset(tmp_path / "v3").images}
        assert len(images) == 9 and f"{sample_name(0)}.jpg" not in images
        assert images[f"{sample_name(1)}.jpg"].boxes == (RED,)
        for md5 in data.files(data.version("v3").dvc_md5).values():
            assert (tmp_path / "remote" / "files" / "md5" / md5[:2] / md5[2:]).is_file()
        # What held it says so.
        with pytest.raises(PipelineError, match="v2 cannot be had any more: 1 of its 10 pictures"):
            exported_data(pipeline, pipeline.work_folder(run_id), "v2")
        assert [(line.version, line.forgotten, line.forgets) for line in list_versions(pipeline.store)] == [
            ("v1", 0, 0),
            ("v2", 1, 0),
            ("v3", 0, 1),
        ]
        with pipeline.store.reading() as session:
            actions = [(entry.actor, entry.action) for entry in audit_entries(session)]
            assert session.get_one(Run, run_id).state is RunState.FAILED
        assert [action for action in actions if action[0] == "me"] == [
            ("me", "forget began"),
            ("me", "forgotten"),
        ]

        # Sent again, it is refused for good; what is forgotten once is not forgotten twice.
        config = pipeline.config
        ingest = Ingest(pipeline.store, pipeline.objects, config.limits, config.quotas)
        (answer,) = ingest.commit([Upload(VEHICLE, a_sample("new1-0", jpeg, "new1", "0.jpg", 0))])
        assert answer.outcome == fleet.UPLOAD_OUTCOME_REFUSED
        assert answer.reason == fleet.REFUSAL_REASON_FORGOTTEN
        again = forget(pipeline, sample_name(0), "again", "me")
        assert (again["state"], again["forgotten"], again["already_forgotten"]) == ("done", 0, 1)
        assert places_of(tmp_path / "cloud", jpeg) == []
        # The next retrain goes on from the version without it.
        add_samples(pipeline, {f"later-{n}.jpg": red_picture(300 + n) for n in range(2)}, drive="new9")
        make_version(pipeline)
        assert list_versions(pipeline.store)[-1].parent == "v3"
        assert len(data.newest_manifest().entries) == 11


def test_a_vehicle_is_forgotten_whole_and_nothing_of_its_rows_is_left(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path) as pipeline:
        with pipeline.store.writing() as session:
            session.add(Vehicle(name="car-2"))
        config = pipeline.config
        ingest = Ingest(pipeline.store, pipeline.objects, config.limits, config.quotas)
        # The same picture came from another vehicle too: its bytes are kept for that one.
        ingest.commit([Upload("car-2", a_sample("other", red_picture(100), "far", "0.jpg", 0))])
        assert places_of(tmp_path / "cloud", b"test:drive")
        line = forget(pipeline, VEHICLE, "it was sold", "me")
        assert line["forgotten"] == 4 and line["objects"] == 3 and line["versions"] == []
        left = {sample.vehicle: sample for sample in rows(pipeline, Sample)}
        assert (left[VEHICLE].state, left[VEHICLE].source_id) == (SampleState.FORGOTTEN, "")
        assert left["car-2"].state is SampleState.STORED and pipeline.objects.exists(left["car-2"].object_key)
        assert DataRepository(config.folders.data).tags() == ["v1"]
        forget(pipeline, "other", "it too", "me")
        assert not pipeline.objects.exists(left["car-2"].object_key)
        assert places_of(tmp_path / "cloud", b"test:drive", *(red_picture(100 + n) for n in range(4))) == []


def test_what_is_meant_must_be_clear(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path, samples=1) as pipeline:
        with pipeline.store.writing() as session:
            session.add(Vehicle(name="new1-0"))
        with pytest.raises(PipelineError, match="several things: car-1/new1-0, the vehicle new1-0"):
            preview(pipeline, "new1-0")
        with pytest.raises(PipelineError, match="no sample and no vehicle is called 'car-1/new1-9'"):
            forget(pipeline, f"{VEHICLE}/new1-9", "a slip", "me")
        assert preview(pipeline, f"{VEHICLE}/new1-0.jpg")["samples"] == {"stored": 1}


def test_a_stage_that_runs_is_not_waited_for_and_the_next_one_finishes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LOCK_WAIT_S", 0.01)  # for the test's sake alone: nobody lets go of it
    with retrain_cloud(tmp_path) as pipeline:
        run_id = begin(pipeline)
        run_stage(pipeline, "label", run_id)
        with locked(pipeline.config.folders.work):
            line = forget(pipeline, sample_name(0), "at once", "me")
            assert line["state"] == "waiting" and line["forgotten"] == 1
            # The stage in the other process knows nothing of it, and writes what it has.
            with pipeline.store.writing() as session:
                sample = session.scalars(select(Sample).where(Sample.external_id == "new1-0")).one()
                sample.state, sample.state_detail = SampleState.EXCLUDED, "purity: blurred"
                session.add(Label(sample_id=sample.id, service="late", boxes=[], attributes={}))
        assert run_stage(pipeline, "purity", run_id)["checked"] == 3
        assert places_of(tmp_path / "cloud", red_picture(100)) == []
        assert len(rows(pipeline, Label)) == 3
        (gone,) = [sample for sample in rows(pipeline, Sample) if sample.external_id == "new1-0"]
        assert gone.state is SampleState.FORGOTTEN
        with pipeline.store.reading() as session:
            assert session.get_one(Run, run_id).state is RunState.RUNNING
        assert run_stage(pipeline, "dataset", run_id)["images"] == 9


# After which step it is killed; before the first and after the last is the same as none.
STEPS = (
    "cloud.pipeline.samples:begin_forgetting",
    "cloud.pipeline.forgetting:_prepare",
    "cloud.pipeline.forgetting_data:build",
    "cloud.pipeline.forgetting:reduce",
    "cloud.pipeline.forgetting:purge",
    "cloud.pipeline.forgetting:_delete_objects",
    "cloud.pipeline.forgetting:clear_work",
    "cloud.pipeline.forgetting:clear_reports",
)


@pytest.mark.services
def test_a_kill_after_any_step_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with retrain_cloud(tmp_path, samples=len(STEPS) + 2) as pipeline:
        run_id = make_version(pipeline)
        digest = as_if_trained(pipeline, run_id, factory.rectangles_model(HW))
        as_if_validated(pipeline, run_id, digest, VerdictKind.FAIL)
        run_stage(pipeline, "deploy", run_id)
        for number, step in enumerate(STEPS):
            module, _, name = step.partition(":")
            with monkeypatch.context() as patch, pytest.raises(KilledError):
                patch.setattr(importlib.import_module(module), name, deadly(module, name))
                forget(pipeline, sample_name(number), "a test", "me")
            # From the first step on, nobody sees it any more.
            sample = rows(pipeline, Sample)[number]
            assert sample.state is SampleState.FORGOTTEN, step
            finish(pipeline)
            assert places_of(tmp_path / "cloud", red_picture(100 + number)) == [], step
        tags = DataRepository(pipeline.config.folders.data).tags()
        assert tags == [f"v{number + 1}" for number in range(len(STEPS) + 2)]
        versions = list_versions(pipeline.store)
        assert [line.version for line in versions] == tags
        assert [line.forgets for line in versions[2:]] == [1] * len(STEPS)
        assert [line.forgotten for line in versions] == [0, *range(len(STEPS), -1, -1)]
        assert len(DataRepository(pipeline.config.folders.data).newest_manifest().entries) == 8
        with pipeline.store.reading() as session:
            done = [entry.subject for entry in audit_entries(session) if entry.action == "forgotten"]
        assert done == [sample_name(number) for number in range(len(STEPS))]
        assert finish(pipeline) == []


def deadly(module: str, name: str) -> Any:
    before = getattr(importlib.import_module(module), name)

    def then_die(*arguments: Any, **options: Any) -> None:
        before(*arguments, **options)
        raise KilledError

    return then_die


@pytest.fixture
def killed_in_dataset(tmp_path: Path) -> Iterator[tuple[Pipeline, str]]:
    """A retrain whose stage dataset was killed by SIGKILL after its tag, before its record."""
    with retrain_cloud(tmp_path) as pipeline:
        run_id = begin(pipeline)
        for stage in ("label", "purity"):
            run_stage(pipeline, stage, run_id)
        where = "cloud.pipeline.stages.dataset:DataRepository.add"
        arguments = [tmp_path / "cloud" / "cloud.toml", "dataset", run_id, where]
        done = subprocess.run(
            [sys.executable, "-m", "tests.cloud.retrain_kills", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=280,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == -9, done.stderr
        yield pipeline, run_id


@pytest.mark.services
def test_a_version_that_a_killed_retrain_left_is_taken_back(
    tmp_path: Path, killed_in_dataset: tuple[Pipeline, str]
) -> None:
    pipeline, run_id = killed_in_dataset
    data = DataRepository(pipeline.config.folders.data)
    assert data.tags() == ["v1", "v2"] and len(rows(pipeline, Dataset)) == 1
    line = forget(pipeline, sample_name(3), "a test", "me")
    assert (line["versions"], line["version_without"], line["retrain_ended"]) == ([], "", run_id)
    assert data.tags() == ["v1"]
    assert places_of(tmp_path / "cloud", red_picture(103)) == []
    # Taken up again, it makes its version of what is left.
    reopen_run(pipeline)
    line = run_stage(pipeline, "dataset", run_id)
    assert (line["version"], line["images"]) == ("v2", 9)


def test_models_that_learned_from_it_are_named_and_hand_its_picture_on_no_more(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path) as pipeline:
        run_id = make_version(pipeline)
        golden = [GoldenFrame(red_picture(n), np.empty((0, 6), np.float32)) for n in (101, 102)]
        model = factory.rectangles_model(HW, version="2", golden=tuple(golden))
        digest = as_if_trained(pipeline, run_id, model)
        as_if_validated(pipeline, run_id, digest, VerdictKind.PASS)
        run_stage(pipeline, "deploy", run_id)
        line = forget(pipeline, sample_name(1), "a test", "me")
        assert line["models_trained_on_them"] == [{"version": "2", "sha256": digest, "releases": [1]}]
        assert line["golden_pictures_in"] == ["2"] and line["retrain_ended"] == ""
        with pipeline.store.reading() as session:
            facts = session.get_one(Candidate, digest).facts
        assert golden_to_take_on(factory.loaded(model), facts) == [red_picture(102)]


@pytest.mark.services
def test_pages_and_pictures_of_the_retrains_that_saw_it_go_too(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path, {"0.jpg": "nobody knows"}) as pipeline:
        mlartifacts = pipeline.config.folders.mlruns.parent / "mlartifacts"
        cards = []
        for number in range(2):  # the first sample is in the first retrain's report alone, in no dataset
            if number:
                add_samples(pipeline, {f"{n}-b.jpg": red_picture(200 + n) for n in range(2)}, drive="new2")
            run_id = make_version(pipeline)
            model = factory.rectangles_model(HW, version=str(number + 2))
            as_if_validated(pipeline, run_id, as_if_trained(pipeline, run_id, model), VerdictKind.FAIL)
            with pipeline.store.reading() as session:
                card = mlartifacts / session.get_one(Run, run_id).mlflow_run_id / "artifacts" / "card"
            card.mkdir(parents=True)
            (card / "card.html").write_text("<img>")
            (card / "card.md").write_text("figures")
            (card / "worst.jpg").write_bytes(red_picture(100))
            run_stage(pipeline, "deploy", run_id)
            cards.append(card)
        line = forget(pipeline, sample_name(0), "a test", "me")
        # With the page of the purity check.
        assert (line["versions"], line["reports"]) == ([], 3)
        left = [sorted(path.name for path in card.iterdir()) for card in cards]
        assert left == [["card.md"], ["card.html", "card.md", "worst.jpg"]]
        # One that both trained on goes from both.
        assert forget(pipeline, sample_name(1), "a test", "me")["reports"] == 3
        assert [len(list(card.iterdir())) for card in cards] == [1, 1]


def test_people_forget_by_a_command_that_wants_a_reason(tmp_path: Path) -> None:
    config = str(tmp_path / "cloud" / "cloud.toml")
    runner = CliRunner()
    with retrain_cloud(tmp_path, samples=2) as pipeline:
        refused = runner.invoke(command, ["samples", "forget", sample_name(0), "--config", config])
        assert refused.exit_code == 2 and "--reason is needed" in refused.output
        arguments = ["samples", "forget", sample_name(0), "--dry-run", "--config", config]
        assert json.loads(runner.invoke(command, arguments).output)["samples"] == {"stored": 1}
        assert {sample.state for sample in rows(pipeline, Sample)} == {SampleState.STORED}
        begin_forgetting(pipeline, sample_name(0), "a test", "me")
        done = runner.invoke(command, ["samples", "forget", "--resume", "--config", config])
        assert [line["record"] for line in json.loads(done.output)] == ["forget-0001"]
        assert finish_forgetting(pipeline) == []
        said = runner.invoke(
            command, ["samples", "forget", sample_name(1), "--reason", "asked", "--config", config]
        )
        assert json.loads(said.output)["forgotten"] == 1
        records = [row for row in rows(pipeline, StageRecord) if row.stage == "forget"]
        assert [record.progress["samples"] for record in records] == [
            [f"{sample_name(0)}.jpg"],
            [f"{sample_name(1)}.jpg"],
        ]
