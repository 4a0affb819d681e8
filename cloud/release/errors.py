"""What can go wrong with a release."""

from __future__ import annotations

from edge.errors import TrafficVisionError


class ReleaseError(TrafficVisionError):
    """A release cannot be made; the message says why, with the value. What clients see is unchanged."""
