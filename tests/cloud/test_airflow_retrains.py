"""Retrains that Airflow does: begun there once, ended here when they end there, found from both sides."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cloud.airflow import handover
from cloud.airflow.client import Airflow, AirflowError
from cloud.airflow.orchestrating import Place, keep_going, named_place, place_of
from cloud.config import load_config
from cloud.pipeline.errors import BusyError, PipelineError
from cloud.pipeline.job import Pipeline
from cloud.pipeline.opening import opened
from cloud.pipeline.runner import run_once, watch
from cloud.pipeline.running import run_stage
from cloud.pipeline.runs import begin_run, fail_run
from cloud.pipeline.verdict import pass_verdict
from cloud.run_report import read_log, read_runs, to_text
from cloud.store.models import Candidate, Run
from cloud.store.states import RunState, VerdictKind
from tests import models_factory as factory
from tests.cloud.test_pipeline_runner import CountedStop
from tests.clouds import make_cloud
from tests.fake_airflow import PASSWORD, USER, FakeAirflow, served
from tests.retrains import (
    HW,
    SETTINGS,
    VEHICLE,
    Scripted,
    add_samples,
    as_if_prepared,
    as_if_trained,
    as_if_validated,
    begin,
    mlflow_template,
    red_picture,
)

DAG = "traffic_vision_retrain"
ON_AIRFLOW = f"{SETTINGS}\n[orchestration]\norchestrator = 'airflow'\n"
BY_HAND = f"{DAG}/manual__1"


@pytest.fixture
def fake() -> FakeAirflow:
    return FakeAirflow()


@pytest.fixture
def url(fake: FakeAirflow) -> Iterator[str]:
    """Where every part of the cloud reaches it."""
    with served(fake) as url:
        yield url


@pytest.fixture
def pipeline(tmp_path: Path, url: str) -> Iterator[Pipeline]:
    config = make_cloud(tmp_path / "cloud", VEHICLE, extra=f"{ON_AIRFLOW}url = '{url}'\n")
    passwords = config.orchestration.password_file
    passwords.parent.mkdir()
    passwords.write_text(json.dumps({USER: PASSWORD}))
    with opened(config, label_source=Scripted({})) as pipeline:
        with pipeline.store.writing() as session:
            champion = Candidate(sha256="a" * 64, name="baseline", version="1", object_key="none")
            champion.facts = {}
            session.add(champion)
        add_samples(pipeline, {f"{number}.jpg": red_picture(100 + number) for number in range(4)})
        yield pipeline


def run_of(pipeline: Pipeline, run_id: str = "retrain-0001") -> Run:
    with pipeline.store.reading() as session:
        return session.get_one(Run, run_id)


def at(pipeline: Pipeline, name: str) -> Place:
    return named_place(name, pipeline.config.orchestration)


def test_a_retrain_is_begun_at_airflow_once_however_often_it_is_looked_after(
    pipeline: Pipeline, fake: FakeAirflow, url: str
) -> None:
    results = [run_once(pipeline) for _ in range(3)]
    assert list(fake.runs) == [(DAG, "retrain-0001")]
    begun = fake.runs[DAG, "retrain-0001"]
    run = run_of(pipeline)
    assert begun["conf"] == {"run": "retrain-0001", "began": run.started.isoformat()}
    assert begun["note"].startswith("Traffic Vision retrain-0001: 4 new samples of 1 vehicles")
    assert run.state is RunState.RUNNING
    place = place_of(run)
    assert place == Place(DAG, "retrain-0001", f"{url}/dags/{DAG}/runs/retrain-0001")
    assert {result["state"] for result in results} == {"running"}
    assert results[-1]["airflow"] == {"dag": DAG, "run": "retrain-0001", "url": place.url, "state": "queued"}
    fake.paused = True
    assert "somebody has to unpause it" in run_once(pipeline)["why"]


def test_a_kill_between_both_sides_leaves_one_run(pipeline: Pipeline, fake: FakeAirflow) -> None:
    class Killed(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = fake.handle_request(request)
            if fake.runs:
                raise KeyboardInterrupt
            return response

    run_id = begin(pipeline)
    with Airflow(pipeline.config.orchestration, Killed()) as airflow, pytest.raises(KeyboardInterrupt):
        keep_going(pipeline, airflow, run_id)
    assert place_of(run_of(pipeline)) is None and len(fake.runs) == 1
    run_once(pipeline)
    assert place_of(run_of(pipeline)) is not None and len(fake.runs) == 1


def test_what_fails_at_airflow_has_failed_here_and_is_taken_up_at_both(
    pipeline: Pipeline, fake: FakeAirflow
) -> None:
    run_once(pipeline)
    fake.runs[DAG, "retrain-0001"]["state"] = "failed"
    fake.tasks[DAG, "retrain-0001"] = [
        {"task_id": "ingest", "state": "success"},
        {"task_id": "train", "state": "failed"},
        {"task_id": "validate", "state": "upstream_failed"},
    ]
    failed = run_once(pipeline)
    assert failed["state"] == "failed" and "(failed, at train)" in failed["why"]
    assert run_of(pipeline).state is RunState.FAILED
    again = run_once(pipeline, retry=True)
    assert (again["state"], again["airflow"]["state"]) == ("running", "queued")
    assert run_of(pipeline).state is RunState.RUNNING
    assert f"POST /api/v2/dags/{DAG}/dagRuns/retrain-0001/clear" in fake.asked


def test_what_ended_here_stays_as_it_ended(pipeline: Pipeline, fake: FakeAirflow) -> None:
    run_once(pipeline)
    fail_run(pipeline, "retrain-0001", "its own reason")
    fake.runs[DAG, "retrain-0001"]["state"] = "failed"
    with Airflow(pipeline.config.orchestration, fake) as airflow:
        ended = keep_going(pipeline, airflow, "retrain-0001")
    assert (ended["state"], ended["why"]) == ("failed", "its own reason")


def test_another_clouds_run_is_not_taken_for_ours(pipeline: Pipeline, fake: FakeAirflow) -> None:
    fake.runs[DAG, "retrain-0001"] = {
        "dag_id": DAG,
        "dag_run_id": "retrain-0001",
        "state": "success",
        "conf": {"run": "retrain-0001", "began": "2020-01-01T00:00:00+00:00"},
    }
    with pytest.raises(AirflowError, match="is of another cloud's retrain-0001"):
        run_once(pipeline)
    assert run_of(pipeline).state is RunState.RUNNING


def test_watching_outlasts_an_airflow_that_is_down(pipeline: Pipeline, fake: FakeAirflow) -> None:
    fake.down = True
    pauses: list[float] = []

    class Back(CountedStop):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            fake.down = len(pauses) < 3
            return super().wait(timeout)

    watch(pipeline, Back(4))
    assert list(fake.runs) == [(DAG, "retrain-0001")]
    poll_s = pipeline.config.trigger.poll_s
    assert pauses[0] >= poll_s and pauses[2] > 2 * poll_s and pauses[3] == poll_s


def test_a_run_that_somebody_began_at_airflow_is_one_retrain(pipeline: Pipeline, fake: FakeAirflow) -> None:
    fake.runs[DAG, "manual__1"] = {"dag_id": DAG, "dag_run_id": "manual__1", "state": "running", "conf": {}}
    place = at(pipeline, BY_HAND)
    begun = handover.begin(pipeline, place, "")
    assert begun["run"] == "retrain-0001" and begun["samples"] == 4 and begun["vehicles"] == ["car-1"]
    assert handover.begin(pipeline, place, None) == begun
    assert fake.runs[DAG, "manual__1"]["note"] == "Traffic Vision retrain-0001: begun by hand"
    with pytest.raises(BusyError, match="retrain-0001 is running: one retrain at a time"):
        handover.begin(pipeline, at(pipeline, f"{DAG}/manual__2"), None)
    # It is looked after as those that the cloud began are.
    assert run_once(pipeline)["airflow"]["run"] == "manual__1" and len(fake.runs) == 1


def test_a_note_that_cannot_be_written_keeps_nobody(pipeline: Pipeline, fake: FakeAirflow) -> None:
    fake.down = True
    assert handover.begin(pipeline, at(pipeline, BY_HAND), None)["state"] == "running"


def test_the_last_task_ends_what_the_first_began(pipeline: Pipeline) -> None:
    place = at(pipeline, BY_HAND)
    assert handover.end(pipeline, place, "a task failed")["run"] is None
    run_id = handover.begin(pipeline, place, None)["run"]
    ended = handover.end(pipeline, place, "a task failed")
    assert ended["state"] == "failed" and ended["why"] == f"a task failed: {place.url}"
    assert handover.end(pipeline, place, "another") == ended
    # Whoever clears that task at Airflow goes on with the same retrain.
    assert handover.begin(pipeline, place, None)["run"] == run_id
    assert run_of(pipeline).state is RunState.RUNNING


def test_the_retrain_that_the_cloud_began_gets_its_place(pipeline: Pipeline) -> None:
    run_id = begin(pipeline)
    place = at(pipeline, f"{DAG}/{run_id}")
    assert handover.begin(pipeline, place, run_id)["why"] == "a test"
    assert place_of(run_of(pipeline)) == place
    with pytest.raises(PipelineError, match="there is no retrain 'retrain-0009'"):
        handover.begin(pipeline, place, "retrain-0009")


def test_a_cloud_that_goes_through_its_retrains_itself_says_so(tmp_path: Path) -> None:
    with (
        opened(make_cloud(tmp_path / "cloud")) as pipeline,
        pytest.raises(PipelineError, match=r"with orchestration\.orchestrator"),
    ):
        handover.begin(pipeline, at(pipeline, BY_HAND), None)


@pytest.mark.parametrize("name", ["", "retrain", "/run", "dag/"])
def test_a_place_has_two_names(tmp_path: Path, name: str) -> None:
    (tmp_path / "cloud.toml").write_text("")
    config = load_config(tmp_path / "cloud.toml")
    with pytest.raises(PipelineError, match="expected DAG/RUN"):
        named_place(name, config.orchestration)


@pytest.mark.parametrize("kind", list(VerdictKind))
def test_any_verdict_but_pass_ends_the_retrain(pipeline: Pipeline, kind: VerdictKind) -> None:
    run_id = begin(pipeline)
    with pytest.raises(PipelineError, match="there is no verdict on its candidate"):
        pass_verdict(pipeline, run_id)
    shutil.copyfile(mlflow_template(), pipeline.config.folders.mlruns)
    as_if_prepared(pipeline, run_id)
    sha256 = as_if_trained(pipeline, run_id, factory.rectangles_model(HW))
    as_if_validated(pipeline, run_id, sha256, kind)
    for _ in range(2):
        line = pass_verdict(pipeline, run_id)
        assert (line["verdict"], line["passed"]) == (kind.value, kind is VerdictKind.PASS)
    expected = RunState.RUNNING if kind is VerdictKind.PASS else RunState.REJECTED
    assert run_of(pipeline).state is expected


def test_the_report_tells_both_sides(pipeline: Pipeline, fake: FakeAirflow, url: str) -> None:
    run_once(pipeline)
    run_stage(pipeline, "label", "retrain-0001")
    fake.runs[DAG, "retrain-0001"]["state"] = "running"
    fake.tasks[DAG, "retrain-0001"] = [{"task_id": "label", "state": "running", "try_number": 2}]
    (report,) = read_runs(pipeline.config, pipeline.store, None, 10)
    assert report.airflow is not None and report.airflow.state == "running" and not report.airflow.tasks
    (report,) = read_runs(pipeline.config, pipeline.store, "retrain-0001", 10)
    text = to_text([report])
    assert f"{DAG} retrain-0001: running" in text and "stage      label done in" in text
    assert f"label running, 2 tries: {url}/dags/{DAG}/runs/retrain-0001/tasks/label" in text
    assert json.loads(json.dumps(report.to_json()))["airflow"]["tasks"][0]["id"] == "label"
    fake.logs["label", "2"] = [{"event": "what it did"}]
    assert read_log(pipeline.config, pipeline.store, "retrain-0001", "label") == ["what it did"]
    with pytest.raises(PipelineError, match="has no task 'train' at Airflow; there are label"):
        read_log(pipeline.config, pipeline.store, "retrain-0001", "train")
    fake.down = True
    (report,) = read_runs(pipeline.config, pipeline.store, None, 10)
    assert f"not known (Airflow at {url} does not answer" in to_text([report])
    with pytest.raises(PipelineError, match="there is no retrain 'retrain-0002'"):
        read_runs(pipeline.config, pipeline.store, "retrain-0002", 10)
    assert "no retrain yet" in to_text([])


def test_a_stop_ends_the_watch_at_once(pipeline: Pipeline, fake: FakeAirflow) -> None:
    stop = threading.Event()
    stop.set()
    watch(pipeline, stop)
    assert fake.asked == []


def test_a_newer_retrain_keeps_an_older_one_closed(pipeline: Pipeline) -> None:
    place = at(pipeline, BY_HAND)
    handover.begin(pipeline, place, None)
    handover.end(pipeline, place, "failed")
    newer = begin_run(pipeline, {"by": "hand", "why": "a newer one"})
    with pytest.raises(BusyError, match=f"{newer} is running: one retrain at a time"):
        handover.begin(pipeline, place, None)
