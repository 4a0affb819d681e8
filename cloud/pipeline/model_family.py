"""Models by the data that they were trained on, and by the models that they were trained from."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.store.models import Candidate, Release, Run


def trained(session: Session, versions: Collection[str]) -> list[tuple[Candidate, Run]]:
    """Give the models that were trained on these dataset versions, with their retrains, the oldest first."""
    return [(candidate, run) for candidate, run in _retrained(session) if run.dataset_version in versions]


def descendants(session: Session, models: Collection[str]) -> list[Candidate]:
    """Give the models that were trained from one of these, or from a descendant; the oldest first.

    Args:
        session: of the store.
        models: SHA-256 of each; they are not among what is returned.
    """
    family, found = set(models), []
    for candidate, run in _retrained(session):
        if run.parent_sha256 in family and candidate.sha256 not in family:
            family.add(candidate.sha256)
            found.append(candidate)
    return found


def release_counters(session: Session, model: str) -> list[int]:
    """Give the counters of a model's releases, in their order; `model` is its SHA-256."""
    query = select(Release.counter).where(Release.candidate_sha256 == model)
    return list(session.scalars(query.order_by(Release.counter)))


def _retrained(session: Session) -> list[tuple[Candidate, Run]]:
    """All models that a retrain made, a few a week at most, the oldest first."""
    query = select(Candidate, Run).join(Run, Candidate.run_id == Run.id).order_by(Candidate.created)
    return [(candidate, run) for candidate, run in session.execute(query)]
