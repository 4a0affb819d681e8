"""The stages on a small cloud: what they do, that they do it once, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cloud.datasets import Box, read_dataset
from cloud.pipeline import running
from cloud.pipeline.baseline import Baseline, take_baseline
from cloud.pipeline.data_repository import DataRepository
from cloud.pipeline.errors import BusyError, NotYetError, PipelineError
from cloud.pipeline.job import Pipeline, StageEvent
from cloud.pipeline.lineage import lineage, to_text
from cloud.pipeline.opening import opened
from cloud.pipeline.running import run_stage
from cloud.pipeline.tracking import Tracking
from cloud.release import key_admin
from cloud.release.keys import load_keys
from cloud.release.locking import locked
from cloud.release.repository import list_releases
from cloud.release.role_files import current_role
from cloud.store.models import Dataset, Label, Release, Run, Sample, Verdict
from cloud.store.states import RunState, SampleState, VerdictKind
from tests import models_factory as factory
from tests.retrains import (
    HW,
    RED,
    SETTINGS,
    VEHICLE,
    Scripted,
    add_samples,
    as_if_trained,
    as_if_validated,
    begin,
    make_retrain_cloud,
    night,
    red_picture,
    retrain_cloud,
    write_data,
)


def states(pipeline: Pipeline) -> dict[str, tuple[str, str]]:
    with pipeline.store.reading() as session:
        return {s.picture: (s.state.value, s.state_detail) for s in session.scalars(select(Sample))}


def count(pipeline: Pipeline, table: type[Any]) -> int:
    with pipeline.store.reading() as session:
        return len(session.scalars(select(table)).all())


def test_from_samples_to_a_release_each_stage_once(tmp_path: Path) -> None:
    """The whole chain; a finder of red rectangles takes the place of the training's candidate."""
    events: list[StageEvent] = []
    with retrain_cloud(tmp_path, listen=events.append) as pipeline:
        run_id = begin(pipeline)
        lines = {name: run_stage(pipeline, name, run_id) for name in ("label", "purity", "dataset")}
        assert lines["label"]["labeled"] == 4 and lines["label"]["refused"] == {}
        assert lines["purity"]["kept"] == 4 and lines["purity"]["boxes"] == {"red": 4}
        assert lines["dataset"]["version"] == "v2" and lines["dataset"]["parent"] == "v1"
        assert lines["dataset"]["lists"] == {
            "train": {"daytime": 4, "night": 4},
            "val": {"daytime": 2},
            "test": {},
        }
        with pytest.raises(PipelineError, match="the stage train is not done"):
            run_stage(pipeline, "validate", run_id)
        candidate = as_if_trained(pipeline, run_id, factory.rectangles_model(HW, version="2"))
        validated = run_stage(pipeline, "validate", run_id)
        assert validated["verdict"] == "pass", validated
        assert validated["holdout"]["images"] == 8 and validated["holdout"]["drives"] == 4
        deployed = run_stage(pipeline, "deploy", run_id)
        assert deployed["released"] and deployed["release_counter"] == 1

        # Again: nothing is done, and each says so.
        (release,) = list_releases(pipeline.config.folders.repository)
        assert release.facts.model_sha256 == candidate
        before = {**lines, "validate": validated, "deploy": deployed}
        for name, line in before.items():
            assert run_stage(pipeline, name, run_id) == {**line, "already_done": True}
        assert list_releases(pipeline.config.folders.repository) == [release]
        assert [count(pipeline, table) for table in (Label, Dataset, Verdict, Release)] == [4, 2, 1, 1]
        assert DataRepository(pipeline.config.folders.data).tags() == ["v1", "v2"]

        # The vehicle's own server sees the counter, and the record tells the whole chain.
        with pipeline.store.reading() as session:
            ended = session.get_one(Run, run_id)
            assert (ended.state, ended.state_detail) == (RunState.RELEASED, "release 1")
        tracking = Tracking(pipeline.config.folders.mlruns)
        assert tracking.aliases() == {"champion": candidate}
        chain = lineage(pipeline.store, candidate[:10])
        assert chain["vehicles"] == [VEHICLE]
        assert [event["id"] for event in chain["drift_events"]] == ["event-1"]
        assert [len(group["ids"]) for group in chain["samples"]] == [4]
        assert chain["dataset"]["version"] == "v2" and chain["dataset"]["dvc_md5"].endswith(".dir")
        assert chain["run"]["id"] == run_id and chain["run"]["mlflow_run"] == ended.mlflow_run_id
        assert chain["run"]["code_commit"] == ended.code_commit
        assert [verdict["verdict"] for verdict in chain["verdicts"]] == ["pass"]
        assert [release["counter"] for release in chain["releases"]] == [1]
        assert [parent["version"] for parent in chain["ancestors"]] == ["1"]
        words = [line.split()[0] for line in to_text(chain).splitlines()]
        assert words == [
            *("vehicle", "drift", "samples", "dataset", "code", "run"),
            *("verdict", "model", "release", "trained"),
        ]
        assert lineage(pipeline.store, "champion") == chain == lineage(pipeline.store, "2")
        # The next retrain goes on from the release, and these samples are not new any more.
        with pytest.raises(PipelineError, match="there are no new samples"):
            run_stage(pipeline, "label", begin(pipeline))
    kinds = [(event.stage, event.kind) for event in events if event.kind in ("begun", "done")]
    stages = ("label", "purity", "dataset", "validate", "deploy")
    assert kinds[: 2 * len(stages)] == [(name, kind) for name in stages for kind in ("begun", "done")]


def test_the_dataset_is_whole_and_its_old_part_is_kept(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path, {"0.jpg": night(RED, drive="elsewhere")}) as pipeline:
        run_id = begin(pipeline)
        for name in ("label", "purity", "dataset"):
            run_stage(pipeline, name, run_id)
        folder = pipeline.config.folders.data / "dataset"
        images = {image.name: image for image in read_dataset(folder).images}
        assert len(images) == 10
        assert images[f"{VEHICLE}/new1-1.jpg"].boxes == (RED,)
        assert images[f"{VEHICLE}/new1-1.jpg"].attributes == {"timeofday": "night"}
        assert images[f"{VEHICLE}/new1-0.jpg"].drive == "elsewhere"
        listed = (folder / "train.txt").read_text().split()
        assert len(listed) == 8 and f"./images/{VEHICLE}/new1-1.jpg" in listed


def test_bad_labels_are_refused_one_by_one_with_their_reasons(tmp_path: Path) -> None:
    answers = {
        "0.jpg": night(RED, Box(50, 10, 60, 20, "unicorn")),
        "1.jpg": night(RED, Box(80, 10, 120, 20, "blue")),
        "2.jpg": night(Box(30, 10, 20, 20, "red")),
        "3.jpg": "nobody knows",
        "4.jpg": night(drive="hold1"),
        "5.jpg": night(),
    }
    settings = "\n[purity]\nmax_refused_share = 1.0\n[purity.rules]\n"
    settings += "unknown_class = { fail_above = 1.0 }\nbox_out_of_bounds = { fail_above = 1.0 }\n"
    settings += "unreadable_picture = { fail_above = 1.0 }\n"
    with retrain_cloud(tmp_path, answers, settings=SETTINGS + settings, samples=8) as pipeline:
        add_samples(pipeline, {"twin.jpg": red_picture(107), "broken.jpg": red_picture(200)}, drive="new2")
        _break_object(pipeline, "broken.jpg")
        run_id = begin(pipeline)
        assert run_stage(pipeline, "label", run_id)["refused"] == {"nobody knows": 1}
        line = run_stage(pipeline, "purity", run_id)
        assert line["checked"] == 9 and line["kept"] == 3 and line["without_objects"] == 1
        assert line["refused"] == {
            "unknown class": 1,
            "box reaches out of its picture": 1,
            "box is inverted": 1,
            "drive is in the gate's holdout": 1,
            "near-duplicate of another picture": 1,
            "picture is missing": 1,
        }
        found = states(pipeline)
        assert found["3.jpg"] == ("excluded", "label: nobody knows")
        assert found["0.jpg"] == ("excluded", "purity: unknown class")
        assert found["7.jpg"] == ("labeled", "") and found["5.jpg"] == ("labeled", "")
        assert found["twin.jpg"] == ("excluded", "purity: near-duplicate of another picture")


def test_a_rule_that_fails_stops_the_retrain_and_shows_why(tmp_path: Path) -> None:
    renamed = {"0.jpg": night(RED, Box(50, 10, 60, 20, "crimson <b>"))}
    with retrain_cloud(tmp_path, renamed, samples=8) as pipeline:
        run_id = begin(pipeline)
        run_stage(pipeline, "label", run_id)
        with pytest.raises(PipelineError) as refused:
            run_stage(pipeline, "purity", run_id)
        message = str(refused.value)
        assert "boxes of an unknown class (1 of 9 boxes)" in message
        assert "purity.rules.unknown_class" in message
        page = pipeline.work_folder(run_id) / "purity.html"
        assert str(page) in message
        assert "crimson &lt;b&gt;" in page.read_text() and "crimson <b>" not in page.read_text()
        assert set(states(pipeline).values()) == {("labeled", "")}


def test_the_purity_report_is_kept_with_what_two_services_say(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path) as pipeline:
        run_id = begin(pipeline)
        run_stage(pipeline, "label", run_id)
        with pipeline.store.writing() as session:
            first = session.scalars(select(Sample)).first()
            assert first is not None
            elsewhere = {"x1": 60, "y1": 10, "x2": 90, "y2": 50, "category": "blue"}
            session.add(Label(sample_id=first.id, service="teacher", boxes=[elsewhere], attributes={}))
        line = run_stage(pipeline, "purity", run_id)
        assert line["verdict"] == "warn"
        document = json.loads(pipeline.objects.get(line["report"]["json"]))
        assert pipeline.objects.get(line["report"]["html"]).startswith(b"<!doctype html>")
        assert {tally["kind"]: tally["found"] for tally in document["tallies"] if tally["found"]} == line[
            "found"
        ]
        (agreed,) = document["facts"]["agreement"]
        assert (agreed["first"], agreed["second"], agreed["pictures"]) == ("scripted", "teacher", 1)
        assert (agreed["objects"], agreed["pairs"]) == (2, 0)
        assert document["facts"]["known_pictures"] == 6
        # The champion, which finds a red thing where there is none, has looked at the labels.
        assert document["facts"]["review"]["pictures"] == 4


def _break_object(pipeline: Pipeline, picture: str) -> None:
    with pipeline.store.reading() as session:
        sample = session.scalars(select(Sample).where(Sample.picture == picture)).one()
    pipeline.objects.path(sample.object_key).write_bytes(b"rotten")


def test_a_batch_without_a_box_or_with_too_much_refused_stops_the_retrain(tmp_path: Path) -> None:
    empty = {f"{number}.jpg": night() for number in range(4)}
    with retrain_cloud(tmp_path, empty) as pipeline:
        run_id = begin(pipeline)
        run_stage(pipeline, "label", run_id)
        with pytest.raises(PipelineError, match="none of 4 samples has a labelled box"):
            run_stage(pipeline, "purity", run_id)
        with pipeline.store.writing() as session:
            for label in session.scalars(select(Label)):
                label.boxes = [{"x1": 1, "y1": 1, "x2": 5, "y2": 5, "category": "unicorn"}]
        with pytest.raises(PipelineError, match=r"4 of 4 samples are refused.*unknown class \(4\)"):
            run_stage(pipeline, "purity", run_id)
        # Nothing was excluded: whoever corrects the labels can go on.
        assert set(states(pipeline).values()) == {("labeled", "")}


def test_labels_may_come_later_and_a_service_that_knows_nothing_excludes_nothing(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path, {"2.jpg": None, "3.jpg": "never"}) as pipeline:
        run_id = begin(pipeline)
        with pytest.raises(NotYetError, match="1 samples of retrain-0001 still wait for scripted labels"):
            run_stage(pipeline, "label", run_id)
        assert [state for state, _ in states(pipeline).values()].count(SampleState.LABELED.value) == 2
        service = pipeline.label_source
        assert isinstance(service, Scripted)
        service.asked.clear()
        service.answers["2.jpg"] = night(RED)
        line = run_stage(pipeline, "label", run_id)
        assert line["labeled"] == 3 and line["refused"] == {"never": 1} and line["attempt"] == 1
        assert service.asked == ["2.jpg", "3.jpg"]
    with retrain_cloud(tmp_path / "other", {f"{n}.jpg": "unknown source" for n in range(4)}) as pipeline:
        with pytest.raises(PipelineError, match=r"no sample has labels: unknown source \(4\)"):
            run_stage(pipeline, "label", begin(pipeline))
        assert set(states(pipeline).values()) == {("stored", "")}


@pytest.mark.parametrize("verdict", [VerdictKind.FAIL, VerdictKind.INCONCLUSIVE])
def test_what_did_not_pass_is_not_released(tmp_path: Path, verdict: VerdictKind) -> None:
    with retrain_cloud(tmp_path) as pipeline:
        run_id = begin(pipeline)
        for name in ("label", "purity", "dataset"):
            run_stage(pipeline, name, run_id)
        as_if_validated(
            pipeline, run_id, as_if_trained(pipeline, run_id, factory.rectangles_model(HW)), verdict
        )
        line = run_stage(pipeline, "deploy", run_id)
        assert line["released"] is False and line["verdict"] == verdict.value
        assert list_releases(pipeline.config.folders.repository) == []
        assert count(pipeline, Release) == 0
        with pipeline.store.reading() as session:
            assert session.get_one(Run, run_id).state is RunState.REJECTED
        with pytest.raises(PipelineError, match="there is no retrain"):
            run_stage(pipeline, "label", "retrain-0099")


def test_a_fleets_release_is_signed_by_its_own_keys_and_is_for_it_alone(tmp_path: Path) -> None:
    settings = SETTINGS + '[release]\nfleet = "trucks"\n'
    with retrain_cloud(tmp_path, settings=settings) as pipeline:
        run_id = begin(pipeline)
        for name in ("label", "purity", "dataset"):
            run_stage(pipeline, name, run_id)
        sha256 = as_if_trained(pipeline, run_id, factory.rectangles_model(HW))
        as_if_validated(pipeline, run_id, sha256, VerdictKind.PASS)
        with pytest.raises(Exception, match="there is no role 'models-trucks'"):
            run_stage(pipeline, "deploy", run_id)
        key_admin.delegate(pipeline.config, "trucks", "owner", own_keys=True)
        assert run_stage(pipeline, "deploy", run_id)["target"].startswith("models/trucks/")
        (release,) = list_releases(pipeline.config.folders.repository)
        assert release.facts.fleet == "trucks"
        keys = load_keys(pipeline.config.folders.keys)
        signed = current_role(pipeline.config.folders.repository, "models-trucks").signatures
        assert set(signed) == {keys.public(name).keyid for name in ("trucks-trainer", "trucks-gate")}


def test_a_release_needs_the_gates_key(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path) as pipeline:
        run_id = begin(pipeline)
        for name in ("label", "purity", "dataset"):
            run_stage(pipeline, name, run_id)
        sha256 = as_if_trained(pipeline, run_id, factory.rectangles_model(HW))
        as_if_validated(pipeline, run_id, sha256, VerdictKind.PASS)
        gate = load_keys(pipeline.config.folders.keys).folder / "gate.pem"
        gate.rename(tmp_path / "gate.pem")
        with pytest.raises(Exception, match="the private key 'gate' is not at"):
            run_stage(pipeline, "deploy", run_id)
        assert list_releases(pipeline.config.folders.repository) == [] and count(pipeline, Release) == 0
        (tmp_path / "gate.pem").rename(gate)
        assert run_stage(pipeline, "deploy", run_id)["released"]


def test_one_process_at_a_time_and_one_retrain_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LOCK_WAIT_S", 0.01)  # for the test's sake alone: nobody lets go of it
    with retrain_cloud(tmp_path) as pipeline:
        run_id = begin(pipeline)
        with locked(pipeline.config.folders.work), pytest.raises(BusyError, match="another process"):
            run_stage(pipeline, "label", run_id)
        with pytest.raises(PipelineError, match="retrain-0001 is running"):
            begin(pipeline)
        with pytest.raises(PipelineError, match="no stage 'bake'; there are label, purity"):
            run_stage(pipeline, "bake", run_id)


def test_the_baseline_is_taken_once_and_a_torn_split_is_refused(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path, samples=0) as pipeline:
        model, checkpoint = tmp_path / "baseline.onnx", tmp_path / "baseline.pt"
        again = take_baseline(pipeline, Baseline(model, checkpoint, tmp_path / "old"))
        assert again["already_done"] and again["dataset"] == "v1" and again["images"] == 6
        chain = lineage(pipeline.store, str(model))
        assert chain["dataset"]["version"] == "v1" and chain["run"] is None and chain["samples"] == []
        other = tmp_path / "other.onnx"
        other.write_bytes(factory.rectangles_model(HW))
        with pytest.raises(PipelineError, match="this cloud began with rectangles 1"):
            take_baseline(pipeline, Baseline(other, checkpoint, tmp_path / "old"))
        with pytest.raises(PipelineError, match="no model 'v7' is known here"):
            lineage(pipeline.store, "v7")
    torn = write_data(tmp_path / "torn", ("a", "b"), "daytime", first=50)
    (torn / "val.txt").write_text("./images/a-0.jpg\n./images/b-0.jpg\n")

    with opened(make_retrain_cloud(tmp_path / "second")) as pipeline:
        with pytest.raises(PipelineError, match="the drive a is in train and in val"):
            take_baseline(pipeline, Baseline(model, checkpoint, torn))
        with pytest.raises(PipelineError, match="`cloud baseline` takes the first one in"):
            begin(pipeline)
