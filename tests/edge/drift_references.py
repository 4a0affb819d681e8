"""A reference of two contexts, and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.drift import DriftReferenceError, Reference, combine, fit
from tests.edge.drift_streams import ar1

NAMES = ["light", "noise", "cars"]
ORIGINS = ["picture", "picture", "detections"]


def made(seed: int = 0, context: str = "day", level: float = 0.0, drives: int = 6) -> Reference:
    rng = np.random.default_rng(seed)
    series = [ar1(rng, 0.7, 200, 3) + rng.normal(level, 1.0, 3) for _ in range(drives)]
    return fit(series, 2.0, NAMES, origins=ORIGINS, context=context)


REFERENCE = combine(made(), made(1, "night", -20.0))
DATA = REFERENCE.to_bytes()
# As a model file of the first version brings it.
OLD_FILE = Path(__file__).parent / "drift_reference_v1.json"


def refused(data: bytes) -> str:
    with pytest.raises(DriftReferenceError) as caught:
        Reference.from_bytes(data)
    return str(caught.value)
