"""Stage deploy: a candidate that passed the gate is signed and published; any other ends the retrain here.

The server finds the new release in the store and nudges the vehicles over their control streams.
"""

from __future__ import annotations

import shutil
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.pipeline.errors import NotYetError, PipelineError
from cloud.pipeline.job import Job, Outcome
from cloud.pipeline.publishing import publish
from cloud.pipeline.runs import end_run
from cloud.pipeline.tracking import CHAMPION, Tracking
from cloud.release.errors import WaitsForSignatureError
from cloud.store.database import audit
from cloud.store.models import Candidate, Release, Run, Verdict
from cloud.store.releases import release_row
from cloud.store.states import RunState, VerdictKind
from protos.release_facts import ReleaseFacts


def run(job: Job) -> Outcome:
    """Release, or end the retrain without. A second attempt publishes nothing twice.

    Raises:
        NotYetError: a key of a release is on another machine, and has not signed yet.
        ReleaseError: a key is not at hand, or the repository cannot be written.
    """
    with job.pipeline.store.reading() as session:
        retrain = session.get_one(Run, job.run_id)
        candidate = session.scalars(select(Candidate).where(Candidate.run_id == job.run_id)).one()
        query = (
            select(Verdict).where(Verdict.candidate_sha256 == candidate.sha256).order_by(Verdict.id.desc())
        )
        verdict = session.scalars(query).first()
    if verdict is None:
        raise PipelineError(f"{job.run_id}: there is no verdict on its candidate")
    tracking = Tracking(job.pipeline.config.folders.mlruns)
    if verdict.verdict is not VerdictKind.PASS:
        return _reject(job, retrain, verdict, tracking)
    try:
        facts = publish(
            job.pipeline, candidate, retrain.parent_sha256, verdict, lambda step: job.tell(step=step)
        )
    except WaitsForSignatureError as error:
        raise NotYetError(str(error)) from None
    tracking.set_alias(CHAMPION, candidate.sha256)
    tracking.finish(
        retrain.mlflow_run_id, {"verdict": verdict.verdict.value, "release": facts.release_counter}
    )
    shutil.rmtree(job.work, ignore_errors=True)

    def commit(session: Session) -> None:
        newest = session.scalars(select(Release).order_by(Release.counter.desc())).first()
        session.add(
            release_row(facts, verdict_id=verdict.id, parent_counter=newest.counter if newest else None)
        )
        subject = str(facts.release_counter)
        audit(session, "pipeline", "released", subject, sha256=candidate.sha256, run=job.run_id)
        end_run(session, job.run_id, RunState.RELEASED, f"release {facts.release_counter}")

    return Outcome(_line(verdict, candidate, facts), commit)


def _reject(job: Job, retrain: Run, verdict: Verdict, tracking: Tracking) -> Outcome:
    tracking.finish(retrain.mlflow_run_id, {"verdict": verdict.verdict.value})
    shutil.rmtree(job.work, ignore_errors=True)

    def commit(session: Session) -> None:
        end_run(session, job.run_id, RunState.REJECTED, f"the gate's verdict: {verdict.verdict.value}")

    facts = {"released": False, "verdict": verdict.verdict.value, "candidate": verdict.candidate_sha256}
    return Outcome(facts, commit)


def _line(verdict: Verdict, candidate: Candidate, facts: ReleaseFacts) -> dict[str, Any]:
    return {
        "released": True,
        "verdict": verdict.verdict.value,
        "candidate": candidate.sha256,
        "release_counter": facts.release_counter,
        "target": facts.target_path,
    }
