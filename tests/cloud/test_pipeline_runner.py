"""The trigger's decisions, and the runner: begins, waits, fails, goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cloud.config import TriggerConfig
from cloud.labeling import Answer, Labels, UnlabeledSample
from cloud.pipeline.errors import NotYetError, PipelineError
from cloud.pipeline.job import StageEvent
from cloud.pipeline.runner import MAX_ATTEMPTS, run_once, watch
from cloud.pipeline.running import run_stage, run_when_ready
from cloud.pipeline.runs import reopen_run
from cloud.pipeline.trigger import Situation, decide
from cloud.store.models import Run, StageRecord
from cloud.store.states import RunState, StageState
from tests.retrains import SETTINGS, Scripted, begin, night, retrain_cloud

RULE = TriggerConfig(min_samples=50, min_drift_samples=20, cool_down_s=600)


@pytest.mark.parametrize(
    ("situation", "begin", "why"),
    [
        (Situation(50, 20, 2, None), True, "50 new samples of 2 vehicles, 20 of them of drift: enough"),
        (Situation(50, 20, 2, 600), True, "enough"),
        (Situation(49, 20, 1, None), False, "not yet: 49 new samples of 50"),
        (Situation(80, 19, 1, None), False, "19 of 20 samples of drift"),
        (Situation(80, 30, 1, 599), False, "599 s of 600 s since the last retrain began"),
        (Situation(1, 0, 1, 9), False, "1 new samples of 50, 0 of 20 samples of drift, 9 s of 600 s"),
    ],
)
def test_every_decision_says_why(situation: Situation, begin: bool, why: str) -> None:
    decision = decide(situation, RULE)
    assert decision.begin is begin and why in decision.why
    assert decision.to_json()["samples"] == situation.samples


def test_the_runner_waits_for_samples_for_labels_and_ends_what_fails(tmp_path: Path) -> None:
    events: list[StageEvent] = []
    settings = SETTINGS.replace("min_samples = 2", "min_samples = 5")
    answers = {f"{number}.jpg": None for number in range(4)}
    with retrain_cloud(tmp_path, answers, settings=settings, listen=events.append) as pipeline:
        idle = run_once(pipeline)
        assert idle == {"run": None, "state": "idle", "why": "not yet: 4 new samples of 5", "stages": []}
        for _ in range(MAX_ATTEMPTS + 1):  # to wait is not to fail, however often
            waiting = run_once(pipeline, now_by_hand=True)
            assert (waiting["run"], waiting["state"]) == ("retrain-0001", "waiting")
        service = pipeline.label_source
        assert isinstance(service, Scripted)
        service.answers.update({f"{number}.jpg": night() for number in range(4)})
        failed = run_once(pipeline)
        assert failed["state"] == "failed" and "none of 4 samples has a labelled box" in failed["why"]
        assert [line["stage"] for line in failed["stages"]] == ["label"]
        with pipeline.store.reading() as session:
            run = session.get_one(Run, "retrain-0001")
        assert run.state is RunState.FAILED and run.ended is not None
        assert run.trigger["why"] == "by hand; the rule says not yet: 4 new samples of 5"
    assert [event.kind for event in events if not event.stage] == ["started", "ended"]


def test_a_stage_that_always_brings_its_process_down_ends_the_retrain(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path, {"0.jpg": None}) as pipeline:
        run_id = begin(pipeline)
        with pytest.raises(NotYetError):
            run_stage(pipeline, "label", run_id)
        with pipeline.store.writing() as session:
            record = session.get_one(StageRecord, ("label", run_id))
            record.state, record.attempts = StageState.RUNNING, MAX_ATTEMPTS
        failed = run_once(pipeline)
        assert failed["state"] == "failed" and failed["why"] == "label: was interrupted 5 times"
        # Whoever has seen to the cause takes it up again.
        assert reopen_run(pipeline) == run_id
        assert run_once(pipeline)["state"] == "waiting"
        with pytest.raises(PipelineError, match="is running: only a retrain that failed"):
            reopen_run(pipeline)


def test_watching_says_once_why_it_waits_and_stops_when_it_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = SETTINGS.replace("min_samples = 2", "min_samples = 5\npoll_s = 0.01")
    caplog.set_level(logging.INFO, "cloud.pipeline")
    with retrain_cloud(tmp_path, settings=settings) as pipeline:
        stop = CountedStop(3)
        watch(pipeline, stop)
        assert stop.waits == 3
    told = [record.getMessage() for record in caplog.records if "not yet" in record.getMessage()]
    assert told == ["retrain idle: not yet: 4 new samples of 5"]


class LateScripted(Scripted):
    """Knows nothing until it has been asked so often."""

    def __init__(self, truth: Mapping[str, Labels], asks: int) -> None:
        super().__init__(dict.fromkeys(truth))
        self._truth, self._asks = truth, asks

    def label(self, samples: Sequence[UnlabeledSample]) -> Iterator[Answer]:
        self._asks -= 1
        if self._asks == 0:
            self.answers.update(self._truth)
        return super().label(samples)


def test_a_stage_that_is_told_to_wait_asks_as_often_as_the_labels_setting_says(tmp_path: Path) -> None:
    settings = SETTINGS.replace("cool_down_s = 0", "cool_down_s = 0\npoll_s = 3600")
    settings += "\n[labels]\npoll_s = 0.001\n"
    with retrain_cloud(tmp_path, settings=settings) as pipeline:
        run_id = begin(pipeline)
        late = LateScripted({f"{number}.jpg": night() for number in range(4)}, asks=3)
        slow = replace(pipeline, label_source=late)
        with pytest.raises(NotYetError):
            run_when_ready(slow, "label", run_id, 0.0)
        assert run_when_ready(slow, "label", run_id, 60.0)["labeled"] == 4


class CountedStop(threading.Event):
    """Is set after so many waits, which take no time."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self.waits, self._most = 0, waits

    def wait(self, timeout: float | None = None) -> bool:
        self.waits += 1
        if self.waits == self._most:
            self.set()
        return self.is_set()
