"""The stage before a change of model, for releases that ask for it: the candidate runs in shadow first."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edge.config import UpdatesConfig
from edge.perception.model_file import ModelFile
from edge.updates.models import SlotModels
from edge.updates.shadow import Shadow
from edge.updates.shadow_progress import SAVE_EVERY_S, Progress, ShadowProgress
from edge.updates.shadow_rules import shadow_terms
from edge.updates.slot_content import SlotContent
from edge.updates.watch import LOOK_S
from protos.traffic_vision.v1 import common_pb2

_TRIES = 3  # of a shadow that something from outside ends: in the end it is the candidate's fault


@dataclass(frozen=True, slots=True)
class ShadowEnded:
    """How a candidate's time in shadow has ended.

    Attributes:
        content: the candidate.
        reason: why it may not be put in, for people; empty: it may.
        is_final: it is the candidate that failed. False: nothing is said of it, and it may begin anew.
    """

    content: SlotContent
    reason: str
    is_final: bool


class ShadowStage:
    """Which candidate is in shadow, and which has been. For one thread."""

    def __init__(
        self,
        shadow: Shadow,
        models: SlotModels,
        config: UpdatesConfig,
        allows: Callable[[SlotContent], bool],
    ) -> None:
        """No candidate is in shadow, and none has been.

        Args:
            shadow: where candidates run.
            models: where they are staged.
            config: how long and how much a shadow may take.
            allows: whether the cloud still wants a candidate.
        """
        self._shadow = shadow
        self._models = models
        self._config = config
        self._allows = allows
        self._progress = ShadowProgress(models.slots.metadata.parent, models.slots.disk)
        self._kept_s = 0.0  # of the shadow under way, driven as it was kept the last time
        self._passed = ""  # the digest of the candidate that may be put in
        self._troubles = 0  # of the candidate in shadow, that were not called its fault

    @property
    def pause_s(self) -> float:
        """Seconds until the next look."""
        return LOOK_S if self._shadow.digest else math.inf

    def admits(self, content: SlotContent, model: ModelFile) -> bool:
        """Whether a candidate may be put in; one that has to be in shadow first is, from now on."""
        release = content.release
        if self._shadow.digest != content.digest:
            self._break_off("it is no longer the candidate")
        if content.digest != self._passed:
            self.gave_up(self._passed)
        if not self.is_owed(content):
            return True
        assert release is not None and release.shadow is not None
        if not self._shadow.digest:
            terms = shadow_terms(
                release.shadow,
                release.promise,
                most_seconds=self._config.probation_limit_s,
                most_cpu_share=self._config.shadow_cpu_share,
            )
            progress = self._progress.read(content.digest, self._models.slots.active().digest)
            self._kept_s = progress.drive_s
            self._shadow.begin(model, terms, progress)
        return False

    def is_owed(self, content: SlotContent) -> bool:
        """Whether a candidate has to be in shadow before it may be put in. From any thread."""
        release = content.release
        return release is not None and release.shadow is not None and content.digest != self._passed

    def look(self) -> ShadowEnded | None:
        """Look how the candidate in shadow does; None: there is none, or it goes on, or was broken off."""
        digest = self._shadow.digest
        if not digest:
            return None
        content = self._models.slots.candidate()
        if content is None or content.digest != digest:
            self._break_off("it is no longer the candidate")
            return None
        if not self._allows(content):
            self._break_off("the cloud no longer assigns it")
            return None
        progress = self._shadow.progress()
        assert progress is not None
        if progress.active != self._models.slots.active().digest:  # by hand: what it was held against is gone
            self._break_off(reason := "another model is active now")
            return ShadowEnded(content, reason, False)
        verdict = self._shadow.look()
        if verdict is None:
            if progress.drive_s >= self._kept_s + SAVE_EVERY_S:
                self._keep(progress)
            return None
        if not verdict.reason:
            self._passed, self._troubles = digest, 0
            self._keep(progress)  # the daemon may stop before the exchange
            return ShadowEnded(content, "", False)
        if verdict.is_final or self._troubles >= _TRIES:
            self._progress.forget()
            return ShadowEnded(content, verdict.reason, True)
        self._troubles += 1
        return ShadowEnded(content, verdict.reason, False)

    def gave_up(self, digest: str) -> None:
        """A candidate will not be put in, for now at least, after it has passed."""
        if digest and digest == self._passed:
            self._shadow.forget()

    def is_put_in(self) -> None:
        """The candidate is active now."""
        self._progress.forget()

    def stop(self) -> None:
        """The daemon stops; the next start goes on from here."""
        progress = self._shadow.progress()
        if progress is not None:
            self._keep(progress)
        self._break_off("the daemon stops")
        self.gave_up(self._passed)

    def _keep(self, progress: Progress) -> None:
        self._kept_s = progress.drive_s
        self._progress.write(progress)

    def _break_off(self, why: str) -> None:
        self._shadow.end(common_pb2.TRIAL_OUTCOME_BROKEN_OFF, why)
