"""A vehicle's slots, opened as its configuration says."""

from __future__ import annotations

import logging

from edge.config import EdgeConfig, UpdatesConfig
from edge.machine.disk_budget import DiskLane
from edge.status import daemon_version
from edge.updates.errors import RefusedError, SlotError, UpdateError
from edge.updates.hardware import hardware_ids
from edge.updates.models import SlotModels
from edge.updates.slots import Slots
from edge.updates.trust import Vehicle, clock_floor_of

logger = logging.getLogger(__name__)


def open_slot_models(config: EdgeConfig, disk: DiskLane | None = None) -> SlotModels:
    """Open the slots in the state folder, which is there and locked, for a configuration with [updates].

    Raises:
        UpdateError: the shipped root cannot be used, or the slots cannot be opened.
    """
    if config.updates is None:
        raise UpdateError("slots need the root that their content is checked against: section [updates]")
    root = _shipped_root(config)
    vehicle = _vehicle(config, config.updates)
    folder = config.state_folder / "slots"
    try:
        slots = Slots(
            folder, factory_model=config.model.factory, shipped_root=root, vehicle=vehicle, disk=disk
        )
    except OSError as error:
        raise SlotError(f"the slots {str(folder)!r} cannot be used: {error.strerror or error}") from None
    if config.updates.unsigned:
        logger.warning(
            "models that nobody signed are allowed here (updates.unsigned): whoever may write to %s may"
            " choose what this vehicle drives on",
            config.state_folder,
            extra={"event": "unsigned_allowed"},
        )
    return SlotModels(slots)


def _vehicle(config: EdgeConfig, updates: UpdatesConfig) -> Vehicle:
    ids = frozenset(hardware_ids(config.model.providers))
    return Vehicle(
        ids,
        daemon_version(),
        release_floor=updates.release_floor,
        clock_floor=clock_floor_of(updates.clock_floor),
        fleet=updates.fleet,
        unsigned_allowed=updates.unsigned,
    )


def _shipped_root(config: EdgeConfig) -> bytes:
    from edge.updates.evidence import check_root  # imports python-tuf

    assert config.updates is not None
    path = config.updates.root
    if path is None:  # nothing signed checks against it
        return b""
    try:
        data = path.read_bytes()
        check_root(data)
    except OSError as error:
        raise UpdateError(f"updates.root {str(path)!r} cannot be read: {error.strerror}") from None
    except RefusedError as error:
        raise UpdateError(
            f"updates.root {str(path)!r}: {error}; it is the `root.json` that enrolment gave the vehicle"
        ) from None
    return data
