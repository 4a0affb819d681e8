"""How much worse the detector has become, told without labels from what the monitor sees."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DropModel:
    """How the model's accuracy falls with its features, as measured on labelled pictures.

    Attributes:
        features: names of those that tell.
        slopes: change of mAP50 per unit of each feature's change, in their order.
        residual: standard deviation of what was measured about what the slopes say, mAP50.
        map50: of the model on the pictures as they were, 0 to 1.
        method: how it was fitted, for people.
    """

    features: tuple[str, ...]
    slopes: tuple[float, ...]
    residual: float
    map50: float
    method: str
