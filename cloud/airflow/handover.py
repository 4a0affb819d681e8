"""What the first and the last task of Airflow's run do here: a retrain begins for it, and ends with it."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.airflow.client import Airflow
from cloud.airflow.orchestrating import PLACE, Place, note_place, place_of
from cloud.pipeline.errors import OrchestratorError, PipelineError
from cloud.pipeline.job import Pipeline
from cloud.pipeline.runs import begin_run, fail_run, find_run, reopen_if_failed, samples_of
from cloud.pipeline.trigger import DRIFT
from cloud.store.models import Run
from cloud.store.states import SampleState

_LOG = logging.getLogger(__name__)


def begin(pipeline: Pipeline, place: Place, run_id: str | None) -> dict[str, Any]:
    """Give the retrain that a run of Airflow's does; begin one where somebody began that run by hand.

    Again for the same run of Airflow's, it gives the same retrain; one that failed is taken up again.

    Args:
        pipeline: what all stages share.
        place: of Airflow's run.
        run_id: the retrain that the cloud began it for; None or empty: none.

    Returns:
        run, state, samples, drift_samples, vehicles, parent, why: what the retrain goes on from.

    Raises:
        PipelineError: the cloud's retrains are not Airflow's, another one is running, or there is none of
            this id.
    """
    if pipeline.config.orchestration.orchestrator != "airflow":
        raise PipelineError(
            "this cloud goes through its retrains by itself: with orchestration.orchestrator = "
            '"airflow" in cloud.toml, Airflow does'
        )
    with pipeline.store.writing() as session:
        retrain = find_run(session, run_id) if run_id else _at(session, place)
        if retrain is not None and place_of(retrain) != place:
            note_place(session, retrain.id, place)
    if retrain is None:
        why = f"by hand, at Airflow ({place.run})"
        run_id = begin_run(pipeline, {"by": "hand", "why": why, PLACE: asdict(place)})
        _say_which(pipeline, place, run_id)
    else:
        run_id = retrain.id
        reopen_if_failed(pipeline, run_id)
    with pipeline.store.reading() as session:
        return _facts(session, session.get_one(Run, run_id))


def end(pipeline: Pipeline, place: Place, why: str) -> dict[str, Any]:
    """End the retrain of a run of Airflow's that has failed; one that has ended is left as it is.

    Returns:
        run (None: it began none), state, why.
    """
    with pipeline.store.reading() as session:
        retrain = _at(session, place)
    if retrain is None:
        return {"run": None, "state": None, "why": "no retrain was begun"}
    fail_run(pipeline, retrain.id, f"{why}: {place.url}")
    with pipeline.store.reading() as session:
        ended = session.get_one(Run, retrain.id)
    return {"run": ended.id, "state": ended.state.value, "why": ended.state_detail}


def _at(session: Session, place: Place) -> Run | None:
    for retrain in session.scalars(select(Run).order_by(Run.started.desc())):
        known = place_of(retrain)
        if known is not None and (known.dag, known.run) == (place.dag, place.run):
            return retrain
    return None


def _say_which(pipeline: Pipeline, place: Place, run_id: str) -> None:
    """Note the retrain on the page of Airflow's run; that is a service to people, and can fail."""
    try:
        with Airflow(pipeline.config.orchestration) as airflow:
            airflow.set_note(place.dag, place.run, f"Traffic Vision {run_id}: begun by hand")
    except OrchestratorError as error:
        _LOG.warning("the page of Airflow's run has no note: %s", error)


def _facts(session: Session, retrain: Run) -> dict[str, Any]:
    samples = session.scalars(samples_of(retrain, SampleState.STORED, SampleState.LABELED)).all()
    return {
        "run": retrain.id,
        "state": retrain.state.value,
        "samples": len(samples),
        "drift_samples": sum(DRIFT in sample.reasons for sample in samples),
        "vehicles": sorted({sample.vehicle for sample in samples}),
        "parent": retrain.parent_sha256,
        "why": retrain.trigger.get("why", ""),
    }
