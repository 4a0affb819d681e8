"""Somebody takes the model back that runs: the last good one comes, or the factory's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge.errors import TrafficVisionError
from edge.perception.model_change import ChangeResult
from edge.perception.model_file import ModelFile
from edge.updates import slot_state
from edge.updates.inbox import Answer
from edge.updates.models import SlotModels
from edge.updates.watch import PUT_IN

REASON = "taken back by hand"
LAST_GOOD, FACTORY = "last_good", "factory"  # what a wish may say

Change = Callable[[ModelFile], ChangeResult]


def grant(given: Path, models: SlotModels, change_model: Change | None) -> Answer:
    """Do what a wish in the inbox says, once: a kill or a power cut may have left it there after it was done.

    Args:
        given: the wish.
        models: the slots, which remember it by its name.
        change_model: as in `roll_back`.

    Raises:
        OSError: it cannot be read.
    """
    wish, text = given.stem[: slot_state.MAX_WISH], given.read_text(errors="replace").strip()
    if wish in models.slots.state.wishes:
        return Answer(True, "it was taken back before, and stays so")
    if text not in (LAST_GOOD, FACTORY):
        return Answer(False, f"the wish is damaged: it says neither {LAST_GOOD} nor {FACTORY}")
    return roll_back(models, change_model, to_factory=text == FACTORY, wish=wish)


def roll_back(models: SlotModels, change_model: Change | None, *, to_factory: bool, wish: str = "") -> Answer:
    """Put the model before it in the active one's place, and call that one bad: it is not fetched again.

    In this order, a kill in between leaves the slots as they were, and nothing was promised yet.

    Args:
        models: the slots.
        change_model: exchanges the model that runs; None: none runs, and the next start takes the other one.
        to_factory: to the factory's model, whatever was good before.
        wish: the name of the inbox's wish that this grants; empty: it came another way.
    """
    try:
        back = slot_state.rolled_back(models.slots.state, REASON, to_factory=to_factory).active
        model = models.load(back)
        if change_model is not None:
            result = change_model(model)
            if result.outcome not in PUT_IN:
                said = result.detail or "another change of model is under way; try again"
                return Answer(False, f"nothing is changed: {said}")
        models.roll_back(REASON, to_factory=to_factory, wish=wish)
    except TrafficVisionError as error:
        return Answer(False, str(error))
    named = f"{model.metadata.name} {model.metadata.version} ({model.digest[:12]}, slot {back})"
    how = "runs now" if change_model is not None else "runs from the daemon's next start on"
    return Answer(True, f"{named} {how}; what it replaces is not fetched again")
