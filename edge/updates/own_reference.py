"""What the drift reference in a model's own file knows of what that model gives."""

from __future__ import annotations

import logging

from edge.drift.reference import DriftReferenceError, Reference
from edge.drift.state import Origin
from edge.perception.model_file import ModelFile

logger = logging.getLogger(__name__)


def known_features(model: ModelFile) -> frozenset[tuple[str, str]]:
    """Give context and name of the model's own features that it knows; none without a reference."""
    prior = model.metadata.drift_prior
    if prior is None:
        return frozenset()
    try:
        reference = Reference.from_bytes(prior.encode())
    except DriftReferenceError as error:
        logger.warning("the drift reference in model %s is not used: %s", model.digest[:12], error)
        return frozenset()
    return frozenset(
        (context.name, feature.name)
        for context in reference.contexts
        for feature in context.features
        if feature.known and feature.origin is not Origin.PICTURE
    )
