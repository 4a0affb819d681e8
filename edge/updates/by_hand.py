"""Installing and taking back by hand: by the daemon where one runs, else into a slot for its next start."""

from __future__ import annotations

from pathlib import Path

from edge.config import EdgeConfig
from edge.errors import TrafficVisionError
from edge.perception.model_file import parse_model_file
from edge.state_folder import StateFolder, StateFolderError
from edge.updates.client import UpdateClient
from edge.updates.errors import UpdateError
from edge.updates.inbox import BUNDLE, ROLLBACK, UNSIGNED, Answer, Inbox
from edge.updates.opening import open_slot_models
from edge.updates.roll_back import FACTORY, LAST_GOOD
from edge.updates.roll_back import roll_back as take_back


def install(config: EdgeConfig, file: Path, *, unsigned: bool, timeout_s: float) -> Answer:
    """Install a bundle, or a model that nobody signed.

    Args:
        config: the vehicle's.
        file: the bundle, or the model file.
        unsigned: it is a model that nobody signed.
        timeout_s: for a running daemon's answer.

    Raises:
        TrafficVisionError: the configuration has no updates, or the daemon does not answer.
    """
    if config.updates is None:
        raise UpdateError("there is no section [updates] in the configuration: models have no slots")
    try:
        folder = StateFolder(config.state_folder)
    except StateFolderError:  # a daemon holds it, or it cannot be used, which `leave` says
        inbox = Inbox(config.state_folder)
        given = inbox.leave(file, UNSIGNED if unsigned else BUNDLE)
        return inbox.wait(given, timeout_s)
    with folder:
        models = open_slot_models(config)
        try:
            client = UpdateClient(None, models.slots)
            result = client.install_unsigned(file) if unsigned else client.install(file)
            if result.staged is None:
                return Answer(result.runs_already, result.detail)
            try:
                parse_model_file(models.slots.load(result.staged.slot).data, str(file))
            except TrafficVisionError as error:
                models.mark_bad(result.staged, str(error))
                return Answer(False, str(error))
            return Answer(True, f"{result.detail}; the daemon's next start tries it, on probation")
        finally:
            models.close()


def roll_back(config: EdgeConfig, *, to_factory: bool, timeout_s: float) -> Answer:
    """Take the active model back.

    Args:
        config: the vehicle's.
        to_factory: to the factory's model, whatever was good before.
        timeout_s: for a running daemon's answer.

    Raises:
        TrafficVisionError: the configuration has no updates, or the daemon does not answer.
    """
    if config.updates is None:
        raise UpdateError("there is no section [updates] in the configuration: models have no slots")
    try:
        folder = StateFolder(config.state_folder)
    except StateFolderError:
        inbox = Inbox(config.state_folder)
        return inbox.wait(inbox.wish(FACTORY if to_factory else LAST_GOOD, ROLLBACK), timeout_s)
    with folder:
        models = open_slot_models(config)
        try:
            return take_back(models, None, to_factory=to_factory)
        finally:
            models.close()
