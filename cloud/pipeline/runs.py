"""Retrains: beginning one, finding one, ending one, and the samples that one is made of."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from cloud.pipeline.champion import champion_of
from cloud.pipeline.errors import BusyError, PipelineError
from cloud.pipeline.job import Pipeline, StageEvent
from cloud.pipeline.trigger_log import note_begun
from cloud.store.columns import utc_now
from cloud.store.database import audit
from cloud.store.models import DatasetSample, Run, Sample, StageRecord
from cloud.store.states import RunState, SampleState, StageState

_LOG = logging.getLogger(__name__)


def begin_run(pipeline: Pipeline, trigger: dict[str, Any]) -> str:
    """Begin a retrain on the samples that are there now, and note the decision in the trigger's log.

    Args:
        pipeline: what all stages share.
        trigger: `by` and `why`, and a decision's further values (`cloud.pipeline.trigger.Decision.to_json`).

    Returns:
        Its id.

    Raises:
        BusyError: one is running already.
        PipelineError: there is no champion to go on from.
    """
    with pipeline.store.writing() as session:
        running = running_run(session)
        if running is not None:
            raise BusyError(f"{running.id} is running: one retrain at a time")
        champion = champion_of(session)
        number = (session.scalar(select(func.count()).select_from(Run)) or 0) + 1
        run = Run(
            id=f"retrain-{number:04d}",
            state=RunState.RUNNING,
            trigger={**trigger, "last_sample_id": session.scalar(select(func.max(Sample.id))) or 0},
            parent_sha256=champion.sha256,
            code_commit=code_commit(),
            started=utc_now(),
        )
        session.add(run)
        session.flush()
        note_begun(session, run.id, trigger, pipeline.config.trigger)
        audit(session, "pipeline", "retrain began", run.id, trigger=run.trigger)
    _LOG.info("%s: begins: %s", run.id, trigger.get("why", ""))
    pipeline.listen(StageEvent(run.id, "", "started", run.trigger))
    return run.id


def end_run(session: Session, run_id: str, state: RunState, detail: str) -> None:
    """End a retrain, in the transaction of what ended it."""
    run = session.get_one(Run, run_id)
    run.state, run.state_detail, run.ended = state, detail, utc_now()
    audit(session, "pipeline", f"retrain {state.value}", run_id, detail=detail)


def fail_run(pipeline: Pipeline, run_id: str, problem: str) -> bool:
    """End a retrain as failed, here and in MLflow; False: it has ended already, and is left as it is."""
    with pipeline.store.writing() as session:
        run = session.get_one(Run, run_id)
        if run.state is not RunState.RUNNING:
            return False
        end_run(session, run_id, RunState.FAILED, problem)
        mlflow_id = run.mlflow_run_id
    _LOG.error("%s failed: %s", run_id, problem)
    if mlflow_id:
        from cloud.pipeline.tracking import Tracking

        Tracking(pipeline.config.folders.mlruns).fail(mlflow_id)
    pipeline.listen(StageEvent(run_id, "", "ended", {"state": RunState.FAILED.value, "why": problem}))
    return True


def reopen_run(pipeline: Pipeline, run_id: str | None = None) -> str:
    """Take up a retrain that failed; what it did stays done. Give its id.

    Args:
        pipeline: what all stages share.
        run_id: which; None: the last one.

    Raises:
        BusyError: another one is running.
        PipelineError: it did not fail.
    """
    with pipeline.store.writing() as session:
        run = find_run(session, run_id)
        if run.state is not RunState.FAILED:
            raise PipelineError(
                f"{run.id} is {run.state.value}: only a retrain that failed is taken up again"
            )
        running = running_run(session)
        if running is not None:
            raise BusyError(f"{running.id} is running: one retrain at a time")
        run.state, run.state_detail, run.ended = RunState.RUNNING, "", None
        for record in session.scalars(select(StageRecord).where(StageRecord.key == run.id)):
            if record.state is not StageState.DONE:
                record.attempts = 0
        audit(session, "pipeline", "retrain reopened", run.id)
    return run.id


def reopen_if_failed(pipeline: Pipeline, run_id: str) -> None:
    """Take up a retrain again if it has failed; any other is left as it is.

    Raises:
        BusyError: it has, and another one is running.
    """
    with pipeline.store.reading() as session:
        failed = find_run(session, run_id).state is RunState.FAILED
    if failed:
        reopen_run(pipeline, run_id)


def running_run(session: Session) -> Run | None:
    """Give the retrain that is running, if one is."""
    return session.scalars(select(Run).where(Run.state == RunState.RUNNING)).first()


def find_run(session: Session, run_id: str | None) -> Run:
    """Give a retrain: by its id, or the one that is running, or the last.

    Raises:
        PipelineError: there is none.
    """
    if run_id is not None:
        found = session.get(Run, run_id)
        if found is None:
            raise PipelineError(f"there is no retrain {run_id!r}; `cloud status` lists them")
        return found
    found = running_run(session) or session.scalars(select(Run).order_by(Run.started.desc())).first()
    if found is None:
        raise PipelineError(
            "there is no retrain yet: `cloud run` begins one when its rule says so, "
            "and `cloud stage label --new` at once"
        )
    return found


def unused_samples(*states: SampleState) -> Select[Any]:
    """Select the samples of these states that no dataset has, in order."""
    used = select(DatasetSample.sample_id).where(DatasetSample.sample_id == Sample.id).exists()
    return select(Sample).where(Sample.state.in_(states), ~used).order_by(Sample.id)


def samples_of(run: Run, *states: SampleState) -> Select[Any]:
    """Select the samples of these states that a retrain is to add to the data, in order."""
    return unused_samples(*states).where(Sample.id <= run.trigger["last_sample_id"])


def code_commit() -> str:
    """Name the commit of this code, with `-dirty` where it was changed since; empty: not in a repository."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():  # an installed copy inside of someone's own repository
        return ""
    try:
        head = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{head}-dirty" if changed else head


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()
