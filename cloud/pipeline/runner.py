"""The embedded runner: the stages in order, on this machine; what a kill interrupted goes on."""

from __future__ import annotations

import logging
import threading
from typing import Any

from cloud.pipeline.errors import BusyError, NotYetError
from cloud.pipeline.job import Pipeline, StageEvent
from cloud.pipeline.running import STAGES, run_stage
from cloud.pipeline.runs import begin_run, end_run, running_run
from cloud.pipeline.trigger import Decision, decide, observe
from cloud.store.columns import utc_now
from cloud.store.models import Run, StageRecord
from cloud.store.states import RunState, StageState
from edge.errors import TrafficVisionError

# A stage that brought its process down so often will do it again.
MAX_ATTEMPTS = 5

_LOG = logging.getLogger(__name__)


def run_once(pipeline: Pipeline, *, now_by_hand: bool = False) -> dict[str, Any]:
    """Go on with the retrain that is running; else begin one if the rule says so; do its stages.

    Args:
        pipeline: what all stages share.
        now_by_hand: begin whatever the rule says.

    Returns:
        run (None where none began), state (idle, waiting, or the run's), why, and each stage's line.

    Raises:
        BusyError: another process runs a stage.
        PipelineError: there is no champion to go on from.
    """
    with pipeline.store.reading() as session:
        running = running_run(session)
        decision = decide(observe(session, utc_now()), pipeline.config.trigger)
    if running is not None:
        _LOG.info("%s goes on", running.id)
        return _go_through(pipeline, running.id)
    if not decision.begin and not now_by_hand:
        return {"run": None, "state": "idle", "why": decision.why, "stages": []}
    _LOG.info("retrain: %s", decision.why if decision.begin else f"by hand ({decision.why})")
    trigger = decision.to_json() if decision.begin else _by_hand(decision)
    return _go_through(pipeline, begin_run(pipeline, trigger))


def watch(pipeline: Pipeline, stop: threading.Event) -> None:
    """Do as `run_once` does whenever there is something to do, until the stop. A stage is not interrupted."""
    told = ""
    while not stop.is_set():
        try:
            result = run_once(pipeline)
        except BusyError as error:
            result = {"state": "busy", "why": str(error)}
        if result["why"] != told:  # the same again and again is told once
            told = result["why"]
            _LOG.info("retrain %s: %s", result["state"], told)
        stop.wait(pipeline.config.trigger.poll_s)


def _by_hand(decision: Decision) -> dict[str, Any]:
    return {**decision.to_json(), "by": "hand", "why": f"by hand; the rule says {decision.why}"}


def _go_through(pipeline: Pipeline, run_id: str) -> dict[str, Any]:
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
    _LOG.error("%s failed: %s", run_id, problem)
    with pipeline.store.writing() as session:
        end_run(session, run_id, RunState.FAILED, problem)
        mlflow_id = session.get_one(Run, run_id).mlflow_run_id
    if mlflow_id:
        from cloud.pipeline.tracking import Tracking

        Tracking(pipeline.config.folders.mlruns).fail(mlflow_id)
    pipeline.listen(StageEvent(run_id, "", "ended", {"state": RunState.FAILED.value, "why": problem}))
    return {"run": run_id, "state": RunState.FAILED.value, "why": problem, "stages": lines}
