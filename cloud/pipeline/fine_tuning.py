"""Training that goes on from a checkpoint's weights.

`cloud.pipeline.training.train` asks Ultralytics for `pretrained=False`, which from release 8.4 on means a new
network of the checkpoint's architecture: right for a baseline, and a retrain would forget all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloud.pipeline.training import EpochReport, TrainingPlan, train
from cloud.pipeline.ultralytics_boundary import import_ultralytics


def fine_tune(
    plan: TrainingPlan, learning_rate: float, progress: Callable[[EpochReport], None] = lambda _: None
) -> Path:
    """Do as `train` does, from the weights of the checkpoint `plan.start`.

    Args:
        plan: what to train.
        learning_rate: of AdamW, at its highest; Ultralytics' own choice is one for new networks.
        progress: as `train` has it.

    Raises:
        TrainingError: as `train`.
    """
    changed = {
        "pretrained": True,
        "optimizer": "AdamW",
        "lr0": learning_rate,
        "warmup_bias_lr": 0.0,  # as Ultralytics has it for an optimizer of its own choice; else 0.1
    }
    with _training_with(changed):
        return train(plan, progress)


@contextmanager
def _training_with(changed: dict[str, Any]) -> Iterator[None]:
    ultralytics = import_ultralytics()

    class FineTuned(ultralytics.YOLO):  # type: ignore[misc, name-defined]  # untyped
        def train(self, **options: Any) -> Any:
            return super().train(**{**options, **changed})

    # `ultralytics.YOLO` is given out by the module's `__getattr__`: an attribute goes before it.
    ultralytics.YOLO = FineTuned
    try:
        yield
    finally:
        del ultralytics.YOLO
