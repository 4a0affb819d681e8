"""What can keep a retrain from going on."""

from __future__ import annotations

from edge.errors import TrafficVisionError


class PipelineError(TrafficVisionError):
    """A stage cannot do its work; the message says why, and what to do."""


class NotYetError(PipelineError):
    """A stage waits for someone else, a labelling service for instance: run it again later."""


class BusyError(PipelineError):
    """Another process runs a stage, or began a retrain first; nothing has failed."""


class OrchestratorError(PipelineError):
    """Who goes through the stages does not answer, or refuses; the retrain goes on when it is asked again."""
