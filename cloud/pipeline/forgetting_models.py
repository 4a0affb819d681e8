"""What forgetting leaves in models: weights that learned from a picture, and golden pictures in files."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy.orm import Session

from cloud.pipeline.job import Pipeline
from cloud.pipeline.model_family import descendants, release_counters, trained
from cloud.release.golden_pictures import GoldenPictureError, normalise
from cloud.store import MissingObjectError
from cloud.store.models import Candidate
from edge.perception.model_file import ModelFile, read_model_file

# In a candidate's facts: SHA-256 of its golden pictures that no later model takes on.
FORGOTTEN_GOLDEN = "forgotten_golden"


def trained_on(session: Session, versions: Collection[str]) -> list[dict[str, Any]]:
    """List the models that were trained on these dataset versions, with their releases."""
    return [
        {
            "version": candidate.version,
            "sha256": candidate.sha256,
            "releases": release_counters(session, candidate.sha256),
        }
        for candidate, _ in trained(session, versions)
    ]


def note_golden_pictures(
    pipeline: Pipeline, versions: Collection[str], object_keys: Sequence[str]
) -> list[str]:
    """Find the models that carry one of these pictures, and let later models not take it on.

    A model file that was judged and signed stays as it is; the picture leaves the vehicles with the release
    that follows it.

    Args:
        pipeline: what all stages share.
        versions: of the data that hold the pictures.
        object_keys: of the pictures, which are there still.

    Returns:
        The models' versions.
    """
    if not versions:
        return []
    digests = {digest for key in object_keys if (digest := _golden_digest(pipeline, key))}
    with pipeline.store.reading() as session:
        own = [candidate for candidate, _ in trained(session, versions)]
        # Golden pictures are handed down.
        candidates = [*own, *descendants(session, [candidate.sha256 for candidate in own])]
    carried = {}
    for candidate in candidates:
        golden = {_sha256(frame.jpeg) for frame in _model(pipeline, candidate).metadata.golden}
        if golden & digests:
            carried[candidate.sha256] = golden & digests
    with pipeline.store.writing() as session:
        for sha256, found in carried.items():
            candidate = session.get_one(Candidate, sha256)
            earlier = candidate.facts.get(FORGOTTEN_GOLDEN, [])
            candidate.facts = {**candidate.facts, FORGOTTEN_GOLDEN: sorted({*earlier, *found})}
    return [candidate.version for candidate in candidates if candidate.sha256 in carried]


def golden_to_take_on(model: ModelFile, facts: dict[str, Any]) -> list[bytes]:
    """Give a champion's golden pictures, without those that were forgotten.

    Args:
        model: the champion's file.
        facts: of its candidate.
    """
    forgotten = set(facts.get(FORGOTTEN_GOLDEN, []))
    return [frame.jpeg for frame in model.metadata.golden if _sha256(frame.jpeg) not in forgotten]


def _golden_digest(pipeline: Pipeline, object_key: str) -> str | None:
    try:
        return _sha256(normalise(pipeline.objects.get(object_key), object_key))
    except (MissingObjectError, GoldenPictureError):
        return None


def _model(pipeline: Pipeline, candidate: Candidate) -> ModelFile:
    return read_model_file(pipeline.objects.path(candidate.object_key))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
