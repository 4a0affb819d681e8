"""Signing and publishing a candidate: trainer and gate, then snapshot and timestamp."""

from __future__ import annotations

from collections.abc import Callable

from cloud.pipeline.job import Pipeline
from cloud.pipeline.promise import promise_of, shadow_of
from cloud.release.keys import load_keys
from cloud.release.releasing import ReleaseTerms, complete_release, propose_release
from cloud.store.models import Candidate, Verdict
from protos.release_facts import ReleaseFacts


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
        ReleaseError: a key is not at hand, or the repository cannot be written.
    """
    folders, release = pipeline.config.folders, pipeline.config.release
    keys = load_keys(folders.keys)
    terms = ReleaseTerms(
        release.hardware_ids,
        release.minimum_daemon_version,
        parent_sha256,
        release.fleet,
        shadow_of(release),
        promise_of(release, verdict.scores.get("detections", {})),
    )
    model = pipeline.objects.get(candidate.object_key)
    tell("trainer signs")
    propose_release(folders.repository, model, terms, keys.signer(keys.release_key("trainer", terms.fleet)))
    tell("gate signs")
    return complete_release(
        folders.repository,
        candidate.sha256,
        keys.signer(keys.release_key("gate", terms.fleet)),
        keys.signer("snapshot"),
        keys.signer("timestamp"),
        fleet=terms.fleet,
        terms=terms,
    )
