"""What a demonstration can end with."""

from __future__ import annotations

from edge.errors import TrafficVisionError


class DemoError(TrafficVisionError):
    """The demonstration cannot run, or its loop did not close; the message says why."""
