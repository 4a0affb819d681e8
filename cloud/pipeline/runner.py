"""The runner: a retrain begins when its rule says so; then its stages in order, here or on Airflow."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cloud.pipeline.champion_alias import champion_sha256, follow_champion
from cloud.pipeline.errors import BusyError, NotYetError, OrchestratorError
from cloud.pipeline.job import Pipeline, StageEvent
from cloud.pipeline.running import STAGES, run_stage
from cloud.pipeline.runs import begin_run, fail_run, reopen_run, running_run
from cloud.pipeline.trigger import decide
from cloud.pipeline.trigger_log import note_waiting
from cloud.pipeline.trigger_situation import observe
from cloud.store.columns import utc_now
from cloud.store.models import Run, StageRecord
from cloud.store.states import RunState, StageState
from edge.errors import TrafficVisionError

# A stage that brought its process down so often will do it again.
MAX_ATTEMPTS = 5
# An orchestrator that does not answer is asked again after up to so long.
MAX_RETRY_S = 60.0

# Is given the retrain, and whether it was taken up again after a failure.
GoThrough = Callable[[Pipeline, str, bool], dict[str, Any]]

_CHANCE = random.SystemRandom()
_LOG = logging.getLogger(__name__)


def run_once(pipeline: Pipeline, *, now_by_hand: bool = False, retry: bool = False) -> dict[str, Any]:
    """Go on with the retrain that is running; else begin one if the rule says so; do its stages.

    With `orchestration.orchestrator = "airflow"` Airflow does the stages: it is told to, and asked how far it
    is.

    Args:
        pipeline: what all stages share.
        now_by_hand: begin whatever the rule says.
        retry: take up the last one again, which failed.

    Returns:
        run (None where none began), state (idle, waiting, or the run's), why, and each stage's line; on
        Airflow, where its run is.

    Raises:
        BusyError: another process runs a stage, or began a retrain first.
        OrchestratorError: Airflow does not answer, or refuses.
        PipelineError: there is no champion to go on from, or none that failed to take up.
    """
    with _orchestrator(pipeline) as go_through:
        if retry:
            reopen_run(pipeline)
        return _once(pipeline, go_through, now_by_hand, again=retry)


def watch(pipeline: Pipeline, stop: threading.Event) -> None:
    """Do as `run_once` does whenever there is something to do, until the stop. A stage is not interrupted.

    A retrain that waits for labels is looked at as often as labels.poll_s says; nothing runs in between.
    """
    told = ""
    pause = usual = pipeline.config.trigger.poll_s
    champion = champion_sha256(pipeline)
    with _orchestrator(pipeline) as go_through:
        while not stop.is_set():
            try:
                champion = follow_champion(pipeline, champion)
                result = _once(pipeline, go_through)
                waits = result["state"] == "waiting"
                pause = usual = pipeline.config.labels.poll_s if waits else pipeline.config.trigger.poll_s
            except BusyError as error:
                result = {"state": "busy", "why": str(error)}
            except OrchestratorError as error:
                result = {"state": "waiting", "why": str(error)}
                pause = min(2 * pause, max(MAX_RETRY_S, usual))
            if result["why"] != told:  # the same again and again is told once
                told = result["why"]
                _LOG.info("retrain %s: %s", result["state"], told)
            jitter = _CHANCE.uniform(0.5, 1.0) if pause > usual else 1.0
            stop.wait(pause * jitter)


@contextmanager
def _orchestrator(pipeline: Pipeline) -> Iterator[GoThrough]:
    if pipeline.config.orchestration.orchestrator == "embedded":
        yield _go_through
        return
    from cloud.airflow.orchestrating import opened_airflow

    with opened_airflow(pipeline.config.orchestration) as go_through:
        yield go_through


def _once(
    pipeline: Pipeline, go_through: GoThrough, now_by_hand: bool = False, again: bool = False
) -> dict[str, Any]:
    now, rule = utc_now(), pipeline.config.trigger
    with pipeline.store.reading() as session:
        running = running_run(session)
        decision = decide(observe(session, now, rule), rule, now)
    if running is not None:
        if go_through is _go_through:
            _LOG.info("%s goes on", running.id)
        return go_through(pipeline, running.id, again)
    if not decision.begin and not now_by_hand:
        note_waiting(pipeline.store, decision, rule)
        return {"run": None, "state": "idle", "why": decision.why, "stages": []}
    begun = decision if decision.begin else decision.by_hand()
    _LOG.info("retrain: %s", begun.why)
    return go_through(pipeline, begin_run(pipeline, begun.to_json()), False)


def _go_through(pipeline: Pipeline, run_id: str, again: bool) -> dict[str, Any]:
    lines: list[dict[str, Any]] = []
    for stage in STAGES:
        problem = _spent(pipeline, stage, run_id)
        if problem:
            return _fail(pipeline, run_id, problem, lines)
        try:
            lines.append(run_stage(pipeline, stage, run_id))
        except NotYetError as error:
            return {"run": run_id, "state": "waiting", "why": str(error), "stages": lines}
        except BusyError:
            raise
        except TrafficVisionError as error:
            return _fail(pipeline, run_id, f"{stage}: {error}", lines)
    with pipeline.store.reading() as session:
        ended = session.get_one(Run, run_id)
    pipeline.listen(StageEvent(run_id, "", "ended", {"state": ended.state.value, "why": ended.state_detail}))
    return {"run": run_id, "state": ended.state.value, "why": ended.state_detail, "stages": lines}


def _spent(pipeline: Pipeline, stage: str, run_id: str) -> str:
    with pipeline.store.reading() as session:
        record = session.get(StageRecord, (stage, run_id))
    if record is None or record.state is not StageState.RUNNING or record.attempts < MAX_ATTEMPTS:
        return ""
    return f"{stage}: was interrupted {record.attempts} times"


def _fail(pipeline: Pipeline, run_id: str, problem: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    if not fail_run(pipeline, run_id, problem):  # forgetting its samples has ended it
        with pipeline.store.reading() as session:
            problem = session.get_one(Run, run_id).state_detail
    return {"run": run_id, "state": RunState.FAILED.value, "why": problem, "stages": lines}
