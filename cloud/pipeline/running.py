"""Running one stage: once for each run, whole or again, one process at a time."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from sqlalchemy.orm import Session

from cloud.pipeline.errors import BusyError, NotYetError, PipelineError
from cloud.pipeline.forgetting import finish_forgetting
from cloud.pipeline.job import Job, Outcome, Pipeline, StageEvent
from cloud.release.errors import ReleaseError
from cloud.release.locking import locked
from cloud.store.columns import utc_now
from cloud.store.models import Run, StageRecord
from cloud.store.states import RunState, StageState
from edge.errors import TrafficVisionError

# In order: each needs the one before it. Its function `run` is in the module of its name in `stages`.
STAGES = ("label", "purity", "dataset", "train", "validate", "deploy")
LOCK_WAIT_S = 2.0

_LOG = logging.getLogger(__name__)


def run_stage(pipeline: Pipeline, name: str, run_id: str) -> dict[str, Any]:
    """Do one stage of a run; one that is done is not done again.

    Returns:
        The stage's JSON line: stage, run, state, already_done, attempt, seconds, and facts of its own.

    Raises:
        NotYetError: the stage waits for someone else; nothing is lost.
        BusyError: another process runs a stage.
        TrafficVisionError: it cannot be done, and why.
    """
    if name not in STAGES:
        raise PipelineError(f"there is no stage {name!r}; there are {', '.join(STAGES)}")
    with alone(pipeline):
        _finish_forgetting(pipeline, run_id)
        with pipeline.store.writing() as session:
            done = _done_before(session, name, run_id)
            job = None if done is not None else _begin(session, pipeline, name, run_id)
        if job is None:
            assert done is not None
            return {**done, "already_done": True}
        return _work(job)


def run_when_ready(pipeline: Pipeline, name: str, run_id: str, wait_s: float) -> dict[str, Any]:
    """Do as `run_stage` does; a stage that waits for someone else is tried again for so many seconds.

    Raises:
        NotYetError: it still waits.
        TrafficVisionError: as `run_stage`.
    """
    end, told = time.monotonic() + wait_s, ""
    while True:
        try:
            return run_stage(pipeline, name, run_id)
        except NotYetError as error:
            left = end - time.monotonic()
            if left <= 0:
                raise
            if str(error) != told:  # the same again and again is told once
                told = str(error)
                _LOG.info("%s: %s waits: %s", run_id, name, told)
            time.sleep(min(pipeline.config.labels.poll_s, left))


@contextmanager
def alone(pipeline: Pipeline) -> Iterator[None]:
    """Let no other process work on retrains and their data for the block.

    Raises:
        BusyError: another one does.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(pipeline.config.folders.work, LOCK_WAIT_S))
        except ReleaseError:
            raise BusyError(
                f"{pipeline.config.folders.work}: another process runs a stage; this one was not begun"
            ) from None
        yield


def _finish_forgetting(pipeline: Pipeline, run_id: str) -> None:
    """What was to be forgotten must not come into this stage's hands."""
    try:
        finish_forgetting(pipeline)
    except PipelineError as error:
        raise NotYetError(f"{run_id} waits for samples to be forgotten: {error}") from error


def _work(job: Job) -> dict[str, Any]:
    pipeline = job.pipeline
    began = time.monotonic()
    pipeline.listen(StageEvent(job.run_id, job.stage, "begun"))
    function = importlib.import_module(f"cloud.pipeline.stages.{job.stage}").run
    try:
        outcome: Outcome = function(job)
    except NotYetError as error:
        with pipeline.store.writing() as session:  # to wait is no attempt
            record = session.get_one(StageRecord, (job.stage, job.run_id))
            record.attempts, record.state = record.attempts - 1, StageState.WAITING
            session.get_one(Run, job.run_id).state_detail = str(error)
        pipeline.listen(StageEvent(job.run_id, job.stage, "waiting", {"detail": str(error)}))
        raise
    except TrafficVisionError as error:
        with pipeline.store.writing() as session:
            record = session.get_one(StageRecord, (job.stage, job.run_id))
            record.state, record.error, record.ended = StageState.FAILED, str(error), utc_now()
        pipeline.listen(StageEvent(job.run_id, job.stage, "failed", {"detail": str(error)}))
        raise
    with pipeline.store.writing() as session:
        session.get_one(Run, job.run_id).state_detail = ""
        outcome.commit(session)
        record = session.get_one(StageRecord, (job.stage, job.run_id))
        line = {
            "stage": job.stage,
            "run": job.run_id,
            "state": StageState.DONE.value,
            "already_done": False,
            "attempt": record.attempts,
            "seconds": round(time.monotonic() - began, 3),
            **outcome.facts,
        }
        record.state, record.result, record.error, record.ended = StageState.DONE, line, "", utc_now()
    _LOG.info("%s: %s done in %.1f s", job.run_id, job.stage, line["seconds"])
    pipeline.listen(StageEvent(job.run_id, job.stage, "done", line))
    return line


def _done_before(session: Session, name: str, run_id: str) -> dict[str, Any] | None:
    record = session.get(StageRecord, (name, run_id))
    return record.result if record is not None and record.state is StageState.DONE else None


def _begin(session: Session, pipeline: Pipeline, name: str, run_id: str) -> Job:
    run = session.get(Run, run_id)
    if run is None:
        raise PipelineError(f"there is no retrain {run_id!r}; `cloud status` lists them")
    if run.state is not RunState.RUNNING:
        raise PipelineError(f"{run_id} has ended ({run.state.value}): its stage {name} will not be done")
    for before in STAGES[: STAGES.index(name)]:
        if _done_before(session, before, run_id) is None:
            raise PipelineError(f"{run_id}: the stage {before} is not done; run it before {name}")
    record = session.get(StageRecord, (name, run_id))
    if record is None:
        record = StageRecord(stage=name, key=run_id, state=StageState.RUNNING, attempts=1)
        record.started, record.progress, record.result = utc_now(), {}, {}
        session.add(record)
    else:
        if record.state is StageState.RUNNING:
            _LOG.warning("%s: %s was interrupted and goes on (attempt %d)", run_id, name, record.attempts + 1)
        record.attempts += 1
        record.state, record.error, record.started, record.ended = StageState.RUNNING, "", utc_now(), None
    return Job(pipeline, run_id, name, dict(record.progress))
