"""Labelling services: who says what is in a sample."""

from cloud.labeling.opening import Surroundings, open_label_source
from cloud.labeling.service import (
    Answer,
    Labels,
    LabelServiceError,
    LabelSource,
    ServiceAwayError,
    Suggestion,
    UnlabeledSample,
)
from cloud.labeling.simulated import SimulatedService
from cloud.labeling.truth import NoTruthError, Truth

__all__ = [
    "Answer",
    "LabelServiceError",
    "LabelSource",
    "Labels",
    "NoTruthError",
    "ServiceAwayError",
    "SimulatedService",
    "Suggestion",
    "Surroundings",
    "Truth",
    "UnlabeledSample",
    "open_label_source",
]
