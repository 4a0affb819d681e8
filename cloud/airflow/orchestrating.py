"""Retrains whose stages Airflow does: each is a run of the DAG, which is begun, and asked after.

Either side finds the other: the run of Airflow's has the retrain's id in its configuration and its note, and
the retrain has the place of Airflow's run in its trigger.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.orm import Session

from cloud.airflow.client import FAILED, QUEUED, SUCCESS, Airflow, AirflowError, DagRun, page
from cloud.config import OrchestrationConfig
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.job import Pipeline
from cloud.pipeline.runner import GoThrough
from cloud.pipeline.runs import fail_run
from cloud.store.database import audit
from cloud.store.models import Run
from cloud.store.states import RunState

PLACE = "airflow"  # in a run's trigger: its place


@dataclass(frozen=True, slots=True)
class Place:
    """Where a retrain is at Airflow: a run of a DAG, and its page."""

    dag: str
    run: str
    url: str


def place_of(run: Run) -> Place | None:
    """Give the place of a retrain; None: Airflow never had it."""
    place = run.trigger.get(PLACE)
    return Place(**place) if place else None


def named_place(name: str, config: OrchestrationConfig) -> Place:
    """Give the place that is named `DAG/RUN`.

    Raises:
        PipelineError: it is none.
    """
    dag, _, run = name.partition("/")
    if not dag or not run:
        raise PipelineError(f"{name!r} names no run of Airflow's: expected DAG/RUN")
    return Place(dag, run, page(config.pages_url, dag, run))


@contextmanager
def opened_airflow(config: OrchestrationConfig) -> Iterator[GoThrough]:
    """Give what lets Airflow go through a retrain's stages, and tells how far it is."""
    with Airflow(config) as airflow:

        def go_through(pipeline: Pipeline, run_id: str, again: bool) -> dict[str, Any]:
            return keep_going(pipeline, airflow, run_id, again)

        yield go_through


def keep_going(pipeline: Pipeline, airflow: Airflow, run_id: str, again: bool = False) -> dict[str, Any]:
    """Begin Airflow's run of a retrain if there is none, and end the retrain if that run is over without it.

    However often this is called, and wherever it is interrupted, there is one run of Airflow's.

    Args:
        pipeline: what all stages share.
        airflow: where the stages are done.
        run_id: the retrain.
        again: it failed, and was taken up again: what failed at Airflow is to be done again too.

    Returns:
        As `cloud.pipeline.runner.run_once`, with `airflow`: dag, run, url, state.

    Raises:
        AirflowError: Airflow does not answer, or refuses.
    """
    with pipeline.store.reading() as session:
        retrain = session.get_one(Run, run_id)
    known = place_of(retrain)
    dag_run = _dag_run(pipeline.config.orchestration, airflow, retrain, known)
    if again and dag_run.state == FAILED:
        airflow.clear_failed(dag_run.dag, dag_run.id)
        dag_run = airflow.dag_run(dag_run.dag, dag_run.id) or dag_run
    place = Place(dag_run.dag, dag_run.id, dag_run.url)
    if place != known:
        with pipeline.store.writing() as session:
            note_place(session, run_id, place)
    state, why = retrain.state.value, f"{run_id} is {dag_run.state} at {dag_run.url}"
    if dag_run.state == QUEUED and airflow.is_paused(dag_run.dag):
        why += f": the DAG {dag_run.dag} is paused, and somebody has to unpause it"
    if dag_run.state in (FAILED, SUCCESS):
        state, why = _ended(pipeline, airflow, run_id, dag_run)
    there = {**asdict(place), "state": dag_run.state}
    return {"run": run_id, "state": state, "why": why, "stages": [], PLACE: there}


def _dag_run(config: OrchestrationConfig, airflow: Airflow, retrain: Run, known: Place | None) -> DagRun:
    found = airflow.dag_run(known.dag, known.run) if known is not None else None
    if found is not None:
        return found
    # The time tells apart two clouds that use one Airflow, and number their retrains alike.
    conf = {"run": retrain.id, "began": retrain.started.isoformat()}
    note = f"Traffic Vision {retrain.id}: {retrain.trigger.get('why', '')}"
    begun = airflow.trigger(config.dag, retrain.id, conf, note)
    if any(begun.conf.get(name) != value for name, value in conf.items()):
        raise AirflowError(
            f"{begun.url} is of another cloud's {retrain.id} (begun {begun.conf.get('began', 'by hand')}): "
            "give each a DAG of its own, by TRAFFIC_VISION_DAG where Airflow runs, and orchestration.dag"
        )
    return begun


def _ended(pipeline: Pipeline, airflow: Airflow, run_id: str, dag_run: DagRun) -> tuple[str, str]:
    """End the retrain, if its stages have not."""
    with pipeline.store.reading() as session:
        if session.get_one(Run, run_id).state is RunState.RUNNING:
            failed = [task.id for task in airflow.tasks(dag_run.dag, dag_run.id) if task.state == FAILED]
        else:
            failed = []
    named = f", at {', '.join(failed)}" if failed else ""
    why = f"Airflow's run of it is over ({dag_run.state}{named}), and it is not: {dag_run.url}"
    fail_run(pipeline, run_id, why)
    with pipeline.store.reading() as session:
        retrain = session.get_one(Run, run_id)
    return retrain.state.value, retrain.state_detail


def note_place(session: Session, run_id: str, place: Place) -> None:
    """Note where a retrain is at Airflow, in a transaction."""
    run = session.get_one(Run, run_id)
    run.trigger = {**run.trigger, PLACE: asdict(place)}
    audit(session, "pipeline", "retrain at Airflow", run_id, dag=place.dag, run=place.run)
