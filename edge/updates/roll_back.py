"""Somebody takes the model back that runs: the last good one comes, or the factory's."""

from __future__ import annotations

from collections.abc import Callable

from edge.errors import TrafficVisionError
from edge.perception.model_change import ChangeResult
from edge.perception.model_file import ModelFile
from edge.updates import slot_state
from edge.updates.inbox import Answer
from edge.updates.models import SlotModels
from edge.updates.watch import PUT_IN

REASON = "taken back by hand"


def roll_back(
    models: SlotModels, change_model: Callable[[ModelFile], ChangeResult] | None, *, to_factory: bool
) -> Answer:
    """Put the model before it in the active one's place, and call that one bad: it is not fetched again.

    In this order, a kill in between leaves the slots as they were, and nothing was promised yet.

    Args:
        models: the slots.
        change_model: exchanges the model that runs; None: none runs, and the next start takes the other one.
        to_factory: to the factory's model, whatever was good before.
    """
    try:
        back = slot_state.rolled_back(models.slots.state, REASON, to_factory=to_factory).active
        model = models.load(back)
        if change_model is not None:
            result = change_model(model)
            if result.outcome not in PUT_IN:
                said = result.detail or "another change of model is under way; try again"
                return Answer(False, f"nothing is changed: {said}")
        models.roll_back(REASON, to_factory=to_factory)
    except TrafficVisionError as error:
        return Answer(False, str(error))
    named = f"{model.metadata.name} {model.metadata.version} ({model.digest[:12]}, slot {back})"
    how = "runs now" if change_model is not None else "runs from the daemon's next start on"
    return Answer(True, f"{named} {how}; what it replaces is not fetched again")
