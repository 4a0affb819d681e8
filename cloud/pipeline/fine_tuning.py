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


def fine_tune(plan: TrainingPlan, progress: Callable[[EpochReport], None] = lambda _: None) -> Path:
    """Do as `train` does, from the weights of the checkpoint `plan.start`.

    Raises:
        TrainingError: as `train`.
    """
    with _weights_kept():
        return train(plan, progress)


@contextmanager
def _weights_kept() -> Iterator[None]:
    ultralytics = import_ultralytics()

    class FineTuned(ultralytics.YOLO):  # type: ignore[misc, name-defined]  # untyped
        def train(self, **options: Any) -> Any:
            return super().train(**{**options, "pretrained": True})

    # `ultralytics.YOLO` is given out by the module's `__getattr__`: an attribute goes before it.
    ultralytics.YOLO = FineTuned
    try:
        yield
    finally:
        del ultralytics.YOLO
