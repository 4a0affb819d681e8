"""Samples by hand: what would be forgotten, and forgetting it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sqlalchemy import select

from cloud.pipeline.data_repository import DataRepository
from cloud.pipeline.errors import BusyError
from cloud.pipeline.forgetting import begin_forgetting, choose, finish_forgetting
from cloud.pipeline.forgetting_data import scope_of
from cloud.pipeline.forgetting_models import trained_on
from cloud.pipeline.job import Pipeline
from cloud.pipeline.labeled_samples import picture_name
from cloud.pipeline.running import alone
from cloud.store.models import Dataset


def preview(pipeline: Pipeline, what: str) -> dict[str, Any]:
    """Say what `forget` would do; nothing is changed.

    Raises:
        PipelineError: no such sample or vehicle is known.
    """
    data = DataRepository(pipeline.config.folders.data)
    with pipeline.store.reading() as session:
        choice = choose(session, what)
        names = {picture_name(sample.vehicle, sample.external_id) for sample in choice.samples}
        known = set(session.scalars(select(Dataset.version)))
        scope = scope_of(data, known, names)
        states = Counter(sample.state.value for sample in choice.samples)
        return {
            "what": what,
            "state": "not begun",
            "samples": dict(states),
            "already_forgotten": choice.already,
            "jpeg_bytes": sum(sample.jpeg_bytes for sample in choice.samples),
            "versions": list(scope.versions),
            "version_without": scope.reduced,
            "models_trained_on_them": trained_on(session, scope.versions),
        }


def forget(pipeline: Pipeline, what: str, reason: str, actor: str) -> dict[str, Any]:
    """Forget samples for good, and finish whatever an earlier call began.

    Args:
        pipeline: what all stages share.
        what: a vehicle, VEHICLE/SAMPLE, or a sample's id.
        reason: for the audit trail.
        actor: who wants it.

    Returns:
        What came of it. Its state is waiting where a stage runs in another process: the samples are
        tombstones, and whoever has the stages' lock next does the rest.

    Raises:
        PipelineError: no such sample or vehicle is known, or git, DVC or a remote refuse; what is left stays
            noted.
    """
    key, count, already = begin_forgetting(pipeline, what, reason, actor)
    try:
        finished = finish(pipeline)
    except BusyError as error:
        return {"what": what, "record": key, "state": "waiting", "forgotten": count, "why": str(error)}
    own = next((line for line in finished if line["record"] == key), None)
    line = own or {"what": what, "state": "done", "forgotten": 0}
    earlier = [other["record"] for other in finished if other is not own]
    return {**line, "already_forgotten": already, "earlier_ones_finished": earlier}


def finish(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Do what is left of everything that is to be forgotten.

    Raises:
        BusyError: a stage runs in another process.
        PipelineError: git, DVC or a remote refuse.
    """
    with alone(pipeline):
        return finish_forgetting(pipeline)
