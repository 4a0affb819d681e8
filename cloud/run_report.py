"""The retrains, each with how far it is, and where its traces are: here, at Airflow and in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from cloud.config import CloudConfig
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.runs import find_run
from cloud.store import Store
from cloud.store.models import Candidate, Run, StageRecord


@dataclass(frozen=True, slots=True)
class StageLine:
    """A stage: its state, and why it failed."""

    name: str
    state: str
    attempts: int
    started: datetime
    ended: datetime | None
    error: str


@dataclass(frozen=True, slots=True)
class AirflowLine:
    """The run of Airflow's that does a retrain.

    Attributes:
        dag, run, url: where it is.
        state: queued, running, success, failed; empty where it could not be asked.
        trouble: why it could not.
        tasks: id, state, tries, and the page with its log; only where one retrain is asked for.
    """

    dag: str
    run: str
    url: str
    state: str
    trouble: str
    tasks: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class RunReport:
    """A retrain."""

    id: str
    state: str
    detail: str
    started: datetime
    ended: datetime | None
    why: str
    stages: Sequence[StageLine]
    dataset: str
    candidate: str
    verdict: str
    mlflow_run: str
    airflow: AirflowLine | None

    def to_json(self) -> dict[str, Any]:
        """Give JSON-able values; times as ISO 8601, UTC."""

        def plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            return {
                name: value.isoformat() if isinstance(value, datetime) else value for name, value in pairs
            }

        return asdict(self, dict_factory=plain)


def read_runs(config: CloudConfig, store: Store, run_id: str | None, newest: int) -> list[RunReport]:
    """Look retrains up, the newest first.

    Args:
        config: the cloud's.
        store: its database.
        run_id: this one alone, with Airflow's tasks; None: the newest.
        newest: so many of them.

    Raises:
        PipelineError: there is no retrain of this id.
    """
    with store.reading() as session:
        if run_id is not None:
            find_run(session, run_id)
        query = (
            select(Run)
            .options(selectinload(Run.candidates).selectinload(Candidate.verdicts))
            .order_by(Run.started.desc())
            .limit(newest)
        )
        query = query if run_id is None else query.where(Run.id == run_id)
        runs = session.scalars(query).all()
        stages = {run.id: _stages(session, run.id) for run in runs}
    places = _airflow_lines(config, runs, tasks=run_id is not None)
    return [_report(run, stages[run.id], places.get(run.id)) for run in runs]


def _report(run: Run, stages: Sequence[StageLine], airflow: AirflowLine | None) -> RunReport:
    candidates = run.candidates
    return RunReport(
        id=run.id,
        state=run.state.value,
        detail=run.state_detail,
        started=run.started,
        ended=run.ended,
        why=str(run.trigger.get("why", "")),
        stages=stages,
        dataset=run.dataset_version or "",
        candidate=", ".join(candidate.sha256 for candidate in candidates),
        verdict=", ".join(verdict.verdict.value for made in candidates for verdict in made.verdicts[-1:]),
        mlflow_run=run.mlflow_run_id,
        airflow=airflow,
    )


def _stages(session: Session, run_id: str) -> list[StageLine]:
    query = select(StageRecord).where(StageRecord.key == run_id).order_by(StageRecord.started)
    return [
        StageLine(
            record.stage, record.state.value, record.attempts, record.started, record.ended, record.error
        )
        for record in session.scalars(query)
    ]


def _airflow_lines(config: CloudConfig, runs: Sequence[Run], tasks: bool) -> dict[str, AirflowLine]:
    from cloud.airflow.client import Airflow, TaskInstance
    from cloud.airflow.orchestrating import place_of
    from cloud.pipeline.errors import OrchestratorError

    lines: dict[str, AirflowLine] = {}
    trouble = ""  # an Airflow that does not answer is not asked again for each
    with ExitStack() as stack:
        airflow: Airflow | None = None
        for run in runs:
            place = place_of(run)
            if place is None:
                continue
            state = ""
            found: list[TaskInstance] = []
            if not trouble:
                airflow = airflow or stack.enter_context(Airflow(config.orchestration))
                try:
                    dag_run = airflow.dag_run(place.dag, place.run)
                    state = dag_run.state if dag_run is not None else "gone"
                    found = airflow.tasks(place.dag, place.run) if tasks else []
                except OrchestratorError as error:
                    trouble = str(error)
            lines[run.id] = AirflowLine(
                place.dag, place.run, place.url, state, trouble, [asdict(task) for task in found]
            )
    return lines


def read_log(config: CloudConfig, store: Store, run_id: str, task: str) -> list[str]:
    """Give the lines that a task of Airflow's logged in its last try.

    Raises:
        PipelineError: there is no such retrain, Airflow does not do it, or its run has no such task.
    """
    from cloud.airflow.client import Airflow
    from cloud.airflow.orchestrating import place_of

    with store.reading() as session:
        place = place_of(find_run(session, run_id))
    if place is None:
        raise PipelineError(f"{run_id} is not done by Airflow: its log is that of `cloud run`")
    with Airflow(config.orchestration) as airflow:
        tasks = {found.id: found for found in airflow.tasks(place.dag, place.run)}
        if task not in tasks:
            raise PipelineError(f"{run_id} has no task {task!r} at Airflow; there are {', '.join(tasks)}")
        return airflow.log(place.dag, place.run, task, max(tasks[task].tries, 1))


def to_text(reports: Sequence[RunReport]) -> str:
    """Lay retrains out for a terminal."""
    if not reports:
        return "no retrain yet: `cloud run` begins one when its rule says so"
    return "\n\n".join("\n".join(_lines(report)) for report in reports)


def _lines(report: RunReport) -> list[str]:
    ended = f" to {_clock(report.ended)}" if report.ended else ""
    lines = [f"{report.id}  {report.state}  from {_clock(report.started)}{ended}"]
    for name, value in (
        ("why", report.why),
        ("result", report.detail),
        ("dataset", report.dataset),
        ("candidate", report.candidate),
        ("verdict", report.verdict),
        ("mlflow", report.mlflow_run),
    ):
        if value:
            lines.append(_named(name, value))
    for stage in report.stages:
        again = f", attempt {stage.attempts}" if stage.attempts > 1 else ""
        took = f" in {(stage.ended - stage.started).total_seconds():.1f} s" if stage.ended else ""
        error = f": {stage.error}" if stage.error else ""
        lines.append(_named("stage", f"{stage.name} {stage.state}{took}{again}{error}"))
    if report.airflow is not None:
        known = report.airflow.state or f"not known ({report.airflow.trouble})"
        lines.append(_named("airflow", f"{report.airflow.dag} {report.airflow.run}: {known}"))
        lines.append(_named("", report.airflow.url))
        lines += [
            _named(
                "task", f"{task['id']} {task['state'] or 'not begun'}, {task['tries']} tries: {task['url']}"
            )
            for task in report.airflow.tasks
        ]
    return lines


def _named(name: str, value: str) -> str:
    return f"  {name:<10} {value}"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
