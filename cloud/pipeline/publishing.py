"""Signing and publishing a candidate: trainer and gate, here or elsewhere, then snapshot and timestamp."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.pipeline.errors import NotYetError
from cloud.pipeline.job import Pipeline
from cloud.pipeline.promise import promise_of, shadow_of
from cloud.pipeline.running import run_stage
from cloud.pipeline.runs import running_run
from cloud.release.keys import load_keys
from cloud.release.release_file import take_signatures
from cloud.release.releasing import ReleaseTerms
from cloud.release.signing import sign_release
from cloud.store.audit_entry import AuditEntry
from cloud.store.database import audit
from cloud.store.models import Candidate, Release, StageRecord, Verdict
from cloud.store.states import StageState
from protos.release_facts import ReleaseFacts

SIGNED = "release signed"  # in the audit trail


def publish(
    pipeline: Pipeline,
    candidate: Candidate,
    parent_sha256: str | None,
    verdict: Verdict,
    tell: Callable[[str], None] = lambda step: None,
) -> ReleaseFacts:
    """Release a candidate on the configured terms. The same call again finishes, and publishes nothing twice.

    Args:
        pipeline: the cloud's.
        candidate: what is released.
        parent_sha256: what its training went on from.
        verdict: the gate's; what was measured for it goes into the release's promise.
        tell: is told each step.

    Raises:
        WaitsForSignatureError: trainer's or gate's key is on another machine, and has not signed yet.
        ReleaseError: a key is not at hand, or the repository cannot be written.
    """
    folders, release = pipeline.config.folders, pipeline.config.release
    terms = ReleaseTerms(
        release.hardware_ids,
        release.minimum_daemon_version,
        parent_sha256,
        release.fleet,
        shadow_of(release),
        promise_of(release, verdict.scores.get("detections", {})),
    )
    model = pipeline.objects.get(candidate.object_key)
    return sign_release(folders.repository, load_keys(folders.keys), model, terms, tell)


def publish_signed(pipeline: Pipeline, file: Path, actor: str) -> dict[str, Any]:
    """Take over the signatures of a release that was signed elsewhere; with the last one it is published.

    The retrain that waits for it ends by that, as its stage deploy does. After a kill anywhere, the same call
    again finishes.

    Args:
        pipeline: the cloud's.
        file: that came back, see `cloud.release.release_file`.
        actor: who brings it, for the audit trail.

    Returns:
        JSON-able: release_counter, sha256, signed_by, state (released, waiting), why.

    Raises:
        ReleaseError: it is not the release that waits, or a signature is forged.
        BusyError: a stage runs; the signatures are kept.
    """
    folders = pipeline.config.folders
    waiting, brought = take_signatures(folders.repository, folders.keys, file)
    facts = waiting.facts
    with pipeline.store.writing() as session:
        _write_down(session, facts, brought, actor)
        published = session.get(Release, facts.release_counter)
        run = running_run(session)
        record = None if run is None else session.get(StageRecord, ("deploy", run.id))
        query = select(Candidate.sha256).where(Candidate.run_id == (run.id if run else None))
        is_awaited = record is not None and record.state is not StageState.DONE
        run_id = run.id if run and is_awaited and session.scalar(query) == facts.model_sha256 else None
    line = {
        "release_counter": facts.release_counter,
        "sha256": facts.model_sha256,
        "signed_by": waiting.signed_by,
    }
    if published is not None and published.target_sha256 == facts.model_sha256:
        return {**line, "state": "released", "why": "before"}
    if run_id is None:
        why = "; ".join(waiting.change.missing()) or (
            "the server publishes it at its next look if it takes another one back, and `cloud run --retry`"
            " if its retrain has failed"
        )
        return {**line, "state": "waiting", "why": why}
    try:
        run_stage(pipeline, "deploy", run_id)
    except NotYetError as error:
        return {**line, "state": "waiting", "why": str(error)}
    return {**line, "state": "released", "why": ""}


def _write_down(session: Session, facts: ReleaseFacts, brought: Sequence[str], actor: str) -> None:
    """Whose signatures came; once, though a kill may have them brought twice."""
    subject, sha256 = str(facts.release_counter), facts.model_sha256
    query = select(AuditEntry).where(AuditEntry.action == SIGNED, AuditEntry.subject == subject)
    known = {
        key
        for entry in session.scalars(query)
        if entry.detail["sha256"] == sha256
        for key in entry.detail["keys"]
    }
    new = [key for key in brought if key not in known]
    if new:
        audit(session, actor, SIGNED, subject, sha256=sha256, keys=new)
