"""What a replay refuses."""

from __future__ import annotations

from edge.errors import TrafficVisionError


class ReplayError(TrafficVisionError):
    """A replay that cannot be done as asked."""
