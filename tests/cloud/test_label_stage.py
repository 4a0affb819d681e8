"""The stage label with people: it waits without a process, goes on, runs out of time, and survives a kill."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from cloud.fleet.ingest import Ingest, Upload
from cloud.pipeline.errors import NotYetError
from cloud.pipeline.job import Pipeline
from cloud.pipeline.opening import opened
from cloud.pipeline.runner import run_once, watch
from cloud.pipeline.running import run_stage
from cloud.pipeline.runs import reopen_run
from cloud.pipeline.stages import label
from cloud.status import read_status
from cloud.store.columns import utc_now
from cloud.store.models import Label, Run, Sample, StageRecord
from cloud.store.states import RunState, SampleState, StageState
from protos.traffic_vision.v1 import common_pb2 as common
from tests.clouds import ROOT
from tests.fake_label_studio import FakeLabelStudio, fake_label_studio
from tests.label_studio_contract import choice, region
from tests.retrains import (
    RED,
    SETTINGS,
    VEHICLE,
    Scripted,
    a_sample,
    add_baseline,
    add_samples,
    begin,
    make_retrain_cloud,
    night,
    red_picture,
    retrain_cloud,
)

PEOPLE = (
    SETTINGS
    + """
[labels]
services = ["label-studio"]
[labels.label_studio]
url = "{url}"
token_file = "../token"
"""
)
# A red box as the page hands it in, percent of `RED`'s picture.
RED_REGION = region(100 * 10 / 96, 100 * 10 / 64, 100 * 30 / 96, 100 * 40 / 64, "red")
NIGHT = choice("timeofday", "night")


@pytest.fixture
def world() -> Iterator[FakeLabelStudio]:
    with fake_label_studio() as fake:
        yield fake


@pytest.fixture
def people(world: FakeLabelStudio, tmp_path: Path) -> Iterator[Pipeline]:
    """A cloud whose samples people label; the vehicle's model saw something in the first."""
    (tmp_path / "token").write_text(world.legacy_token)
    (tmp_path / "token").chmod(0o600)
    with opened(make_retrain_cloud(tmp_path, PEOPLE.format(url=world.url))) as pipeline:
        add_baseline(pipeline, tmp_path)
        seen = a_sample("new1-0", red_picture(100), "new1", "0.jpg", 0)
        seen.detections.model.CopyFrom(common.ModelRef(name="baseline", version="1"))
        for score, x2 in ((0.7, 40.0), (0.9, 5.0)):
            seen.detections.detections.add(
                x1_px=10, y1_px=10, x2_px=x2, y2_px=50, score=score, class_name="red"
            )
        ingest = Ingest(pipeline.store, pipeline.objects, pipeline.config.limits, pipeline.config.quotas)
        ingest.commit([Upload(VEHICLE, seen)])
        add_samples(pipeline, {f"{number}.jpg": red_picture(100 + number) for number in (1, 2, 3)}, "new2")
        yield pipeline


def by_picture(world: FakeLabelStudio) -> dict[str, int]:
    return {task["data"]["source_picture"]: task["id"] for task in world.tasks.values()}


def record(pipeline: Pipeline, run_id: str) -> StageRecord:
    with pipeline.store.reading() as session:
        return session.get_one(StageRecord, ("label", run_id))


def test_a_retrain_waits_for_people_as_a_state_and_goes_on_with_their_labels(
    people: Pipeline, world: FakeLabelStudio
) -> None:
    waiting = run_once(people, now_by_hand=True)
    run_id = waiting["run"]
    page = f"{world.url}/projects/{next(iter(world.projects))}/data"
    assert waiting["state"] == "waiting"
    assert waiting["why"] == (
        f"4 samples of {run_id} still wait for label-studio labels (4: to be labelled at {page})"
    )
    assert record(people, run_id).state is StageState.WAITING
    (line,) = read_status(people.config, people.store).runs
    assert (line.state, line.detail) == ("waiting", waiting["why"])
    # What the vehicle saw is there to begin with, what is no box is not.
    tasks = by_picture(world)
    (prediction,) = world.tasks[tasks["0.jpg"]]["predictions"]
    assert [each["score"] for each in prediction["result"]] == [0.7]
    assert world.tasks[tasks["0.jpg"]]["data"]["suggested_by"] == "baseline 1"
    assert world.tasks[tasks["1.jpg"]]["predictions"] == []

    for picture in ("0.jpg", "1.jpg"):
        world.annotate(tasks[picture], [RED_REGION, NIGHT])
    assert run_once(people)["why"].startswith("2 samples")
    world.annotate(tasks["2.jpg"], [], was_cancelled=True)
    world.annotate(tasks["3.jpg"], [NIGHT])
    line = run_stage(people, "label", run_id)
    assert line["labeled"] == 3 and line["refused"] == {"skipped in Label Studio": 1}
    assert line["service"] == "label-studio" and line["attempt"] == 1 and line["too_late"] == 0
    assert len(world.tasks) == 4
    with people.store.reading() as session:
        labels = session.scalars(select(Label)).all()
        assert {each.service for each in labels} == {"label-studio"}
        assert session.get_one(Run, run_id).state_detail == ""
    for name in ("purity", "dataset"):
        line = run_stage(people, name, run_id)
    assert line["lists"]["train"] == {"daytime": 4, "night": 3}


def test_a_server_that_goes_away_is_waited_for(people: Pipeline, world: FakeLabelStudio) -> None:
    run_id = begin(people)
    with pytest.raises(NotYetError):
        run_stage(people, "label", run_id)
    world.annotate(by_picture(world)["0.jpg"], [RED_REGION])
    world.status = 503
    with pytest.raises(NotYetError, match=r"4 samples .*Label Studio at .* does not answer .*503"):
        run_stage(people, "label", run_id)
    world.status = 0
    with pytest.raises(NotYetError, match="3 samples"):
        run_stage(people, "label", run_id)


def test_a_refused_token_fails_the_retrain_until_somebody_has_seen_to_it(
    people: Pipeline, world: FakeLabelStudio, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("f" * 40)
    failed = run_once(people, now_by_hand=True)
    assert failed["state"] == "failed" and "refuses the token" in failed["why"]
    assert "f" * 40 not in failed["why"]
    (tmp_path / "token").write_text(world.personal_token)
    reopen_run(people)
    assert run_once(people)["state"] == "waiting" and len(world.tasks) == 4


def test_when_the_time_is_up_it_goes_on_with_what_there_is_or_fails_and_waits_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS + "\n[labels]\nmax_wait_hours = 48.0\n"
    answers = {f"{number}.jpg": None for number in range(4)}
    began = utc_now()
    with retrain_cloud(tmp_path, answers, settings=settings) as pipeline:
        service = pipeline.label_source
        assert isinstance(service, Scripted)

        def after(hours: float) -> None:
            monkeypatch.setattr(label, "utc_now", lambda: began + timedelta(hours=hours))

        service.answers["0.jpg"] = night(RED)
        after(0)
        assert run_once(pipeline, now_by_hand=True)["state"] == "waiting"
        after(47)
        assert run_once(pipeline)["state"] == "waiting"
        after(48)
        failed = run_once(pipeline)
        assert failed["state"] == "failed"
        assert "only 1 have any after 48 h (labels.max_wait_hours)" in failed["why"]
        # Taken up again, it waits as long again.
        run_id = reopen_run(pipeline)
        after(90)
        assert run_once(pipeline)["state"] == "waiting"
        service.answers["1.jpg"] = night(RED)
        after(138)
        line = run_stage(pipeline, "label", run_id)
        assert (line["labeled"], line["too_late"], line["refused"]) == (2, 2, {})
        with pipeline.store.reading() as session:
            late = session.scalars(select(Sample).where(Sample.state == SampleState.STORED)).all()
            assert [sample.picture for sample in late] == ["2.jpg", "3.jpg"]
        # What came later is the next retrain's.
        for name in ("purity", "dataset"):
            run_stage(pipeline, name, run_id)
        with pipeline.store.writing() as session:
            session.get_one(Run, run_id).state = RunState.REJECTED
        service.answers.update({"2.jpg": night(RED), "3.jpg": night(RED)})
        assert run_stage(pipeline, "label", begin(pipeline))["labeled"] == 2


def test_the_runner_looks_for_labels_now_and_then_and_runs_nothing_in_between(tmp_path: Path) -> None:
    settings = SETTINGS.replace("cool_down_s = 0", "cool_down_s = 0\npoll_s = 2.0")
    settings += "\n[labels]\npoll_s = 600.0\n"
    waits: list[float | None] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            self.set()
            return True

    with retrain_cloud(tmp_path, {"0.jpg": None}, settings=settings) as pipeline:
        watch(pipeline, Stop())
    assert waits == [600.0]


@pytest.mark.parametrize(
    "where",
    [
        "cloud.labeling.label_studio.project:_make",
        "cloud.labeling.label_studio.service:make_tasks",
    ],
)
def test_a_killed_stage_makes_nothing_twice(people: Pipeline, world: FakeLabelStudio, where: str) -> None:
    run_id = begin(people)
    config = people.config.store.objects.parent / "cloud.toml"
    command = [
        sys.executable,
        "-m",
        "tests.cloud.retrain_kills",
        config,
        "label",
        run_id,
        where,
        "configured",
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -9, done.stderr
    with pytest.raises(NotYetError, match="4 samples"):
        run_stage(people, "label", run_id)
    assert len(world.projects) == 1 and len(world.tasks) == 4
    for task_id in by_picture(world).values():
        world.annotate(task_id, [RED_REGION])
    line = run_stage(people, "label", run_id)
    assert line["labeled"] == 4 and line["attempt"] == 2
