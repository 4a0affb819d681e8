"""What can go wrong with a release."""

from __future__ import annotations

from edge.errors import TrafficVisionError


class ReleaseError(TrafficVisionError):
    """A release cannot be made; the message says why, with the value. What clients see is unchanged."""


class UnsignedError(ReleaseError):
    """A release is not signed by all who must."""


class WaitsForSignatureError(ReleaseError):
    """A release waits for the signature of a key that only another machine reaches; nothing has failed."""
