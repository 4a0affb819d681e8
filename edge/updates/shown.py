"""How a check ended, as it is shown over how the slots stand, and told once in the log."""

from __future__ import annotations

import logging

from edge.updates.client import UpdateResult
from edge.updates.errors import Refusal
from edge.updates.models import SlotModels, Work, log_release
from protos.release_facts import ReleaseFacts
from protos.traffic_vision.v1 import common_pb2


class Shown:
    """For one thread."""

    def __init__(self, models: SlotModels) -> None:
        """Over these models' state; no refusal was told yet."""
        self._models = models
        self._told = ""  # the reason of the latest refusal

    def result(self, result: UpdateResult, set_aside: str) -> None:
        """Show how a check ended. What failed here before is shown with what it failed by.

        Args:
            result: of the check.
            set_aside: why the slots' active model does not run, shown where nothing went wrong; or empty.
        """
        state, offered = self._models.slots.state, result.release
        known = {entry.sha256: entry for entry in state.bad}
        failed = known.get(offered.model_sha256) if offered is not None else None
        if result.refusal is None or (failed is not None and failed == state.reverted):
            self._models.show(Work(detail=result.detail if result.retry else set_aside))
        elif result.refusal is Refusal.KNOWN_BAD and failed is not None:
            self.refusal(offered, failed.reason)
        else:
            self.refusal(offered, result.detail)

    def refusal(self, release: ReleaseFacts | None, reason: str) -> None:
        """Show that a release is refused, and why."""
        self._models.show(Work(common_pb2.UPDATE_PHASE_REFUSED, release, detail=reason))
        if reason != self._told:  # not at each check that finds the same
            self._told = reason
            digest = release.model_sha256 if release else ""
            log_release("update_refused", release, digest, f"is refused: {reason}", logging.WARNING)
