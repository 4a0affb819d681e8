"""The gate's verdict as a step of its own, so that who goes through the stages sees a candidate rejected."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from cloud.pipeline.errors import PipelineError
from cloud.pipeline.job import Pipeline
from cloud.pipeline.running import run_stage
from cloud.pipeline.runs import find_run
from cloud.store.models import Candidate, Verdict
from cloud.store.states import VerdictKind


def pass_verdict(pipeline: Pipeline, run_id: str) -> dict[str, Any]:
    """Tell the verdict on a retrain's candidate; where it is not pass, the retrain ends with it.

    Returns:
        run, candidate, verdict, passed, and the rules with their figures.

    Raises:
        PipelineError: there is no such retrain, or no verdict yet.
        BusyError: another process runs a stage.
    """
    with pipeline.store.reading() as session:
        retrain = find_run(session, run_id)
        query = (
            select(Verdict)
            .join(Candidate, Candidate.sha256 == Verdict.candidate_sha256)
            .where(Candidate.run_id == retrain.id)
            .order_by(Verdict.id.desc())
        )
        verdict = session.scalars(query).first()
    if verdict is None:
        raise PipelineError(f"{run_id}: there is no verdict on its candidate; the stage validate gives it")
    passed = verdict.verdict is VerdictKind.PASS
    if not passed:
        run_stage(pipeline, "deploy", run_id)  # which releases nothing, and ends the retrain
    return {
        "run": retrain.id,
        "candidate": verdict.candidate_sha256,
        "verdict": verdict.verdict.value,
        "passed": passed,
        "rules": verdict.rules,
    }
