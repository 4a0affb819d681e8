"""What a retrain begins from: the champion's checkpoint, or another architecture's weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cloud.config import TrainingConfig
from cloud.pipeline.champion import CHECKPOINT_KEY
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.job import Pipeline
from cloud.pipeline.ultralytics_boundary import architecture_of, find_weights
from cloud.store.models import Candidate


@dataclass(frozen=True, slots=True)
class Start:
    """A checkpoint to train from.

    Attributes:
        object_key: of it in the object store.
        architecture: such as `yolov8n`.
        of_champion: it is the champion's.
    """

    object_key: str
    architecture: str
    of_champion: bool


def start_of(pipeline: Pipeline, champion: Candidate, config: TrainingConfig) -> Start:
    """Choose the checkpoint; another architecture's weights are kept in the object store, for the record.

    Raises:
        WeightsError: the weights are not here and cannot be had, or are no detector's.
        PipelineError: they are of another architecture than the configured one.
    """
    own_key = champion.facts[CHECKPOINT_KEY]
    own = architecture_of(pipeline.objects.path(own_key))
    wanted = config.model or own
    if wanted == own:
        return Start(own_key, own, True)
    weights: Path = find_weights(config.weights or f"{wanted}.pt")
    found = architecture_of(weights)
    if found != wanted:
        raise PipelineError(f"training.weights: {weights} is a {found}, and training.model is {wanted}")
    return Start(pipeline.objects.put(weights.read_bytes()), wanted, False)
