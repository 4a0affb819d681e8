"""The champion: the model that vehicles run and that the next one is trained from and judged against."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.pipeline.errors import PipelineError
from cloud.store.models import Candidate, Release

CHECKPOINT_KEY = "checkpoint_key"  # in a candidate's facts: the checkpoint in the object store


def champion_of(session: Session) -> Candidate:
    """Give the model of the newest release; before the first one, the baseline.

    Raises:
        PipelineError: there is neither.
    """
    newest = session.scalars(select(Release).order_by(Release.counter.desc())).first()
    if newest is not None:
        return session.get_one(Candidate, newest.candidate_sha256)
    baseline = session.scalars(select(Candidate).where(Candidate.run_id.is_(None))).first()
    if baseline is None:
        raise PipelineError("there is no model to go on from: `cloud baseline` takes the first one in")
    return baseline
