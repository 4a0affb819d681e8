"""What a feature is: a number of a frame, its range, what it does not depend on, and what it costs."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from edge.drift.look import Look
from edge.drift.state import Origin


class Invariance(str, enum.Enum):
    """What may change about a picture, with the world as it was, and leave a feature where it is."""

    # The camera has 0.2 to 4 times as many pixels each way, 400x225 upward.
    RESOLUTION = "resolution"
    # The frame went through a JPEG of quality 70.
    JPEG = "jpeg"
    # All levels are half of what they were.
    GAIN = "gain"
    # Left and right are exchanged: the country drives on the other side.
    FLIP = "flip"


@dataclass(frozen=True, slots=True)
class Feature:
    """One number that is watched.

    Attributes:
        name: as in references, series and messages; it never changes its meaning.
        origin: `picture`, `detections` or `embedding`: the latter two change their meaning with the model.
        least: of its range.
        most: of its range.
        doc: what it is, and the source of the method.
        of: computes it; NaN where it is not to be had. Of detections, only asked where there are some, but
            for the count.
        cost_us: what it takes on one core beyond what the look shares, microseconds at 1280x720.
        holds_under: what it does not depend on, the model's part in it counted in; a test checks each.
    """

    name: str
    origin: Origin
    least: float
    most: float
    doc: str
    of: Callable[[Look], float]
    cost_us: int
    holds_under: frozenset[Invariance]
