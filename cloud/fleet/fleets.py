"""Fleets whose vehicles take releases of their own."""

from __future__ import annotations

from cloud.config import CloudConfig
from cloud.release.errors import ReleaseError
from cloud.release.role_files import current_role
from edge.errors import TrafficVisionError
from protos.release_facts import FactsError, role_of_fleet


class FleetError(TrafficVisionError):
    """There is no such fleet."""


def check_fleet(config: CloudConfig, fleet: str) -> None:
    """Check that somebody may sign a fleet's releases, before a vehicle is told to take no others.

    Raises:
        FleetError: nobody may, or no fleet can be called so.
    """
    try:
        current_role(config.folders.repository, role_of_fleet(fleet))
    except (ReleaseError, FactsError) as error:
        raise FleetError(f"there is no fleet {fleet!r}: {error}") from None
