"""A local client's wish for another model: from the vehicle's own slots alone, never from a path or bytes."""

from __future__ import annotations

import logging

from edge.errors import TrafficVisionError
from edge.logs import Repeated
from edge.messages import model_ref_of
from edge.parts import ModelStore
from edge.perception.model_change import ChangeOutcome, ModelChanger
from edge.perception.model_file import ModelFile
from protos.traffic_vision.v1 import perception_pb2
from protos.words import word

logger = logging.getLogger(__name__)

_OUTCOMES = {
    ChangeOutcome.SWAPPED: perception_pb2.RELOAD_OUTCOME_SWAPPED,
    ChangeOutcome.ALREADY_ACTIVE: perception_pb2.RELOAD_OUTCOME_ALREADY_ACTIVE,
    ChangeOutcome.REFUSED: perception_pb2.RELOAD_OUTCOME_REFUSED,
    ChangeOutcome.BUSY: perception_pb2.RELOAD_OUTCOME_BUSY,
}


class Reloader:
    """Answers `ReloadModel`."""

    def __init__(self, models: ModelStore, changer: ModelChanger) -> None:
        """Over the vehicle's models, and what changes them."""
        self._models = models
        self._changer = changer
        self._wishes = Repeated(logger, logging.INFO)

    def reload(self, request: perception_pb2.ReloadModelRequest) -> perception_pb2.ReloadModelResponse:
        """Read the slot, check its model, and put it between two frames."""
        with self._changer.keep_frames():
            return self._reload(request)

    def _reload(self, request: perception_pb2.ReloadModelRequest) -> perception_pb2.ReloadModelResponse:
        try:
            model = self._models.read(request.slot)
        except TrafficVisionError as error:
            return self._answer(perception_pb2.RELOAD_OUTCOME_REFUSED, str(error))
        if model is None:
            return self._answer(perception_pb2.RELOAD_OUTCOME_NOTHING_THERE, "the slot is empty")
        if request.expected_sha256 not in ("", model.digest):
            detail = f"the slot holds model {model.digest}, not {request.expected_sha256}"
            return self._answer(perception_pb2.RELOAD_OUTCOME_REFUSED, detail)
        result = self._changer.change(model)
        detail = result.detail
        if result.outcome is ChangeOutcome.SWAPPED:
            try:
                self._models.activated(request.slot, model)
            except TrafficVisionError as error:
                detail = f"it runs, and the next start does not know of it: {error}"
        return self._answer(_OUTCOMES[result.outcome], detail, result.active)

    def _answer(
        self, outcome: perception_pb2.ReloadOutcome, detail: str, active: ModelFile | None = None
    ) -> perception_pb2.ReloadModelResponse:
        name = word(perception_pb2.ReloadOutcome, "RELOAD_OUTCOME_", outcome)
        if outcome == perception_pb2.RELOAD_OUTCOME_SWAPPED:
            self._wishes.reset()
        self._wishes.log(
            "a client asked for another model: %s%s",
            name.replace("_", " "),
            f": {detail}" if detail else "",
            extra={"event": "reload", "outcome": name},
            key=name,
        )
        return perception_pb2.ReloadModelResponse(
            outcome=outcome, active=model_ref_of(active or self._changer.active), detail=detail
        )
