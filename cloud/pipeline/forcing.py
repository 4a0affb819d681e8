"""A release against the gate's verdict: by a person, for a reason, with the gate's key, and on record.

The audit trail has the wish before anything is signed, and the release once it is published: a kill between
the two leaves the wish there, and the same call again finishes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.pipeline.errors import PipelineError
from cloud.pipeline.job import Pipeline
from cloud.pipeline.lineage import find_model
from cloud.pipeline.publishing import publish
from cloud.pipeline.running import alone
from cloud.pipeline.runs import running_run
from cloud.pipeline.tracking import CHAMPION, Tracking
from cloud.release.keys import load_keys
from cloud.store.database import audit
from cloud.store.models import Candidate, Release, Run, Verdict
from cloud.store.releases import release_row
from cloud.store.states import RunState, VerdictKind
from protos.release_facts import ReleaseFacts

MIN_REASON = 10  # characters; less is no reason that a reader of the trail could judge
WISHED, FORCED = "force wished", "forced"


def force_release(pipeline: Pipeline, reason: str, actor: str, model: str | None = None) -> dict[str, Any]:
    """Release a candidate that did not pass the gate.

    Args:
        pipeline: the cloud's.
        reason: for the audit trail, the run and MLflow.
        actor: who forces it.
        model: a model file, the start of its SHA-256, or its version; None: the last retrain's candidate.

    Returns:
        JSON-able: release_counter, target, candidate, verdict, rules (those that were not passed), reason.

    Raises:
        PipelineError: no reason, no such candidate, it was not judged, it passed, or it is released already.
        BusyError: a stage runs.
        ReleaseError: a key is not at hand, the gate's for instance, or the repository cannot be written.
    """
    reason = " ".join(reason.split())
    if len(reason) < MIN_REASON:
        raise PipelineError(
            f"a release against the gate needs a reason for the audit trail, of {MIN_REASON} characters or "
            f"more; {reason!r} is none"
        )
    with alone(pipeline):
        candidate, verdict = _chosen(pipeline, model)
        _check_keys(pipeline)
        against = [rule for rule in verdict.rules if rule["verdict"] != VerdictKind.PASS.value]
        detail = {
            "reason": reason,
            "verdict": verdict.verdict.value,
            "verdict_id": verdict.id,
            "rules": [f"{rule['slice']} {rule['rule']}: {rule['verdict']}" for rule in against],
            "sha256": candidate.sha256,
            "run": candidate.run_id,
        }
        with pipeline.store.writing() as session:
            audit(session, actor, WISHED, candidate.sha256, **detail)
            parent = session.get_one(Run, candidate.run_id).parent_sha256 if candidate.run_id else None
        facts = publish(pipeline, candidate, parent, verdict)
        with pipeline.store.writing() as session:
            _record(session, facts, candidate, actor, detail)
        _track(pipeline, candidate, facts, reason)
    return {
        "release_counter": facts.release_counter,
        "target": facts.target_path,
        "candidate": candidate.sha256,
        "verdict": verdict.verdict.value,
        "rules": against,
        "reason": reason,
    }


def _chosen(pipeline: Pipeline, model: str | None) -> tuple[Candidate, Verdict]:
    with pipeline.store.reading() as session:
        running = running_run(session)
        if running is not None:
            raise PipelineError(f"{running.id} is running: let it end before a release is forced")
        candidate = find_model(session, model) if model is not None else _last(session)
        query = (
            select(Verdict).where(Verdict.candidate_sha256 == candidate.sha256).order_by(Verdict.id.desc())
        )
        verdict = session.scalars(query).first()
        released = _released(session, candidate)
    named = f"{candidate.name} {candidate.version} ({candidate.sha256[:12]})"
    if released is not None:
        raise PipelineError(f"{named} is release {released} already")
    if verdict is None:
        raise PipelineError(f"{named} was never judged: only what the gate has judged can be released")
    if verdict.verdict is VerdictKind.PASS:
        raise PipelineError(f"{named} passed the gate: the stage deploy releases it, without force")
    return candidate, verdict


def _last(session: Session) -> Candidate:
    query = select(Candidate).where(Candidate.run_id.is_not(None)).order_by(Candidate.created.desc())
    found = session.scalars(query).first()
    if found is None:
        raise PipelineError("no retrain has made a candidate yet")
    return found


def _released(session: Session, candidate: Candidate) -> int | None:
    query = select(Release.counter).where(Release.candidate_sha256 == candidate.sha256)
    counters: Sequence[int] = session.scalars(query.order_by(Release.counter.desc())).all()
    return counters[0] if counters else None


def _check_keys(pipeline: Pipeline) -> None:
    """Before anything is on record: without the gate's key nobody forces anything."""
    keys, fleet = load_keys(pipeline.config.folders.keys), pipeline.config.release.fleet
    for name in (
        keys.release_key("gate", fleet),
        keys.release_key("trainer", fleet),
        "snapshot",
        "timestamp",
    ):
        keys.signer(name)


def _record(
    session: Session, facts: ReleaseFacts, candidate: Candidate, actor: str, detail: dict[str, Any]
) -> None:
    newest = session.scalars(select(Release).order_by(Release.counter.desc())).first()
    # Without the verdict: it is none that this release could be grounded on.
    session.add(release_row(facts, parent_counter=newest.counter if newest else None))
    audit(session, actor, FORCED, str(facts.release_counter), **detail)
    if candidate.run_id:
        run = session.get_one(Run, candidate.run_id)
        run.state = RunState.RELEASED
        against = f"release {facts.release_counter}, forced against the verdict {detail['verdict']}"
        run.state_detail = f"{against}: {detail['reason']}"


def _track(pipeline: Pipeline, candidate: Candidate, facts: ReleaseFacts, reason: str) -> None:
    tracking = Tracking(pipeline.config.folders.mlruns)
    tracking.set_alias(CHAMPION, candidate.sha256)
    with pipeline.store.reading() as session:
        run = session.get(Run, candidate.run_id) if candidate.run_id else None
    if run is not None and run.mlflow_run_id:
        tracking.set_tags(run.mlflow_run_id, {"release": facts.release_counter, "forced": reason})
