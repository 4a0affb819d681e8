"""What can go wrong with an update. None of it stops the model that runs."""

from __future__ import annotations

from enum import Enum

from edge.errors import TrafficVisionError


class UpdateError(TrafficVisionError):
    """An update could not be had or used; the message says why, with the value."""


class Refusal(Enum):
    """Why a release, or the metadata that speaks of it, is not believed or not for this vehicle."""

    HARDWARE = "hardware"
    FLEET = "fleet"
    DAEMON_TOO_OLD = "daemon-too-old"
    ROLLBACK = "rollback"
    KNOWN_BAD = "known-bad"
    TOO_LARGE = "too-large"
    EXPIRED = "expired"
    METADATA = "metadata"
    CONTENT = "content"
    UNSIGNED = "unsigned"


class RefusedError(UpdateError):
    """Offered and refused. Asking again helps only when something else is offered.

    Attributes:
        refusal: the rule that it broke.
    """

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal


class TransferError(UpdateError):
    """The server is away, slow or answers nonsense. Worth another try, after a while."""


class PutOffError(UpdateError):
    """A transfer was left because something else comes first. Nothing is wrong; it goes on after that."""


class SlotError(UpdateError):
    """A slot is not what the call needs: empty, busy, or its content does not check."""
