"""A staged release is put in, by way of its time in shadow, or refused."""

from __future__ import annotations

from edge.backoff import Backoff, BackoffOptions
from edge.errors import TrafficVisionError
from edge.parts import Links
from edge.perception.model_change import ChangeOutcome
from edge.perception.model_file import ModelFileError
from edge.updates.look_schedule import LookSchedule
from edge.updates.models import SlotModels, Work, log_release
from edge.updates.shadow_stage import ShadowStage
from edge.updates.shown import Shown
from edge.updates.slot_content import SlotContent
from edge.updates.watch import BUSY_S, PUT_IN, Watch
from protos.traffic_vision.v1 import common_pb2


class PuttingIn:
    """Puts in one release after the other. For one thread."""

    def __init__(
        self,
        models: SlotModels,
        links: Links,
        shadow_stage: ShadowStage,
        watch: Watch,
        schedule: LookSchedule,
        shown: Shown,
        retry: BackoffOptions,
    ) -> None:
        """Make ready.

        Args:
            models: where releases are staged.
            links: to the daemon, which changes the model.
            shadow_stage: which candidates have been in shadow.
            watch: what runs.
            schedule: of the looks; what is to be tried again is, at the next one.
            shown: where refusals are told.
            retry: between tries, where it is not the model that was in the way.
        """
        self._models = models
        self._links = links
        self._shadow_stage = shadow_stage
        self._watch = watch
        self._schedule = schedule
        self._shown = shown
        self._retry = Backoff(retry)
        self._staged = ""  # the digest that was logged last

    def put_in(self, content: SlotContent) -> None:
        """Put a release in, begin its time in shadow, refuse it, or try again at a later look."""
        if content.digest != self._staged:
            self._staged = content.digest
            self._retry.reset()
            log_release("update_staged", content.release, content.digest, f"is in slot {content.slot}")
        with self._links.keep_frames():
            self._put_in(content)

    def _put_in(self, content: SlotContent) -> None:
        try:
            model = self._models.load(content.slot)
        except ModelFileError as error:  # signed, and no use here
            self._refuse(content, str(error))
            return
        except TrafficVisionError as error:  # damaged since it was staged
            self._models.lose(content.slot, str(error))
            self.try_again()  # which fetches it anew
            return
        if not self._shadow_stage.admits(content, model):
            self._models.show(Work(common_pb2.UPDATE_PHASE_SHADOW, content.release))
            return
        result = self._links.change_model(model)
        if result.outcome in PUT_IN:
            self._models.activated(common_pb2.SLOT_UNSPECIFIED, model)
            self._shadow_stage.is_put_in()
            self._watch.set_aside = ""
            self._retry.reset()
        elif result.outcome is ChangeOutcome.BUSY:
            self._schedule.within(BUSY_S)
        elif result.is_final:
            self._refuse(content, result.detail)
        else:  # nothing is said of the model
            self._models.show(Work(detail=result.detail))
            self.try_again()

    def look_at_shadow(self) -> bool:
        """Look how the candidate in shadow does, and act on it; whether its time there has ended."""
        ended = self._shadow_stage.look()
        if ended is None:
            return False
        if not ended.reason:
            self.put_in(ended.content)
        elif ended.is_final:
            self._refuse(ended.content, ended.reason)
        else:  # the next check begins anew
            self._models.show(Work(detail=ended.reason))
            self.try_again()
        return True

    def try_again(self) -> float:
        """Look after a pause, the longer the more often this was said; its seconds."""
        pause_s = self._retry.next_s()
        self._schedule.within(pause_s)
        return pause_s

    def _refuse(self, content: SlotContent, reason: str) -> None:
        self._models.mark_bad(content, reason)
        self._shadow_stage.gave_up(content.digest)
        self._shown.refusal(content.release, reason)
