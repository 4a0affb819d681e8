"""What a commissioning is asked for, and what judges meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from edge.drift.reference import ContextReference, Reference
from edge.drift.state import Origin


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for all cameras.

    Attributes:
        hours: of driving that a context's reference is fitted of.
        target_hours: hours of driving to one false alarm of a camera.
        names, origins: of the features.
        run: of the daemon; no other run has it.
    """

    hours: float
    target_hours: float
    names: tuple[str, ...]
    origins: tuple[Origin, ...]
    run: str


@dataclass(frozen=True, slots=True, eq=False)
class Present:
    """What judges a camera now.

    Attributes:
        model: digest of the model.
        prior: what its file brings.
        rate_hz: at which frames are judged.
    """

    model: str
    prior: Reference | None
    rate_hz: float

    def prior_of(self, context: str) -> ContextReference | None:
        """What the prior knows of a context."""
        return None if self.prior is None else self.prior.context(context)
