"""How a signed release stands in the database."""

from __future__ import annotations

from cloud.store.models import Release
from protos.release_facts import ReleaseFacts


def release_row(
    facts: ReleaseFacts, *, verdict_id: int | None = None, parent_counter: int | None = None
) -> Release:
    """The row of a release; the candidate with its model's digest is there already.

    Args:
        facts: as signed.
        verdict_id: of the gate; None: it came by hand.
        parent_counter: of the release before it; None: there was none.
    """
    return Release(
        counter=facts.release_counter,
        candidate_sha256=facts.model_sha256,
        verdict_id=verdict_id,
        parent_counter=parent_counter,
        target_path=facts.target_path,
        target_sha256=facts.model_sha256,
        custom=facts.to_custom(),
    )
