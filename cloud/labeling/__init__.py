"""Labelling services: who says what is in a sample."""

from cloud.labeling.service import Answer, Labels, LabelSource, UnlabeledSample
from cloud.labeling.simulated import SimulatedService, open_label_source
from cloud.labeling.truth import NoTruthError, Truth

__all__ = [
    "Answer",
    "LabelSource",
    "Labels",
    "NoTruthError",
    "SimulatedService",
    "Truth",
    "UnlabeledSample",
    "open_label_source",
]
