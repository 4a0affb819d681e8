"""The protocol versions that this code speaks, and how two sides agree on one.

A new field needs no new version: readers ignore what they don't know. A change of meaning does.
"""

from __future__ import annotations

from protos.traffic_vision.v1.common_pb2 import ProtocolRange

OLDEST_PROTOCOL = 1
NEWEST_PROTOCOL = 1
# In the metadata of each call of a vehicle: the instance_id of its Hello.
INSTANCE_METADATA = "traffic-vision-instance"


def supported() -> ProtocolRange:
    """Return the versions that this code speaks, both ends included."""
    return ProtocolRange(oldest=OLDEST_PROTOCOL, newest=NEWEST_PROTOCOL)


def agree(ours: ProtocolRange, theirs: ProtocolRange) -> int | None:
    """Return the newest version in both ranges; None where they have none in common.

    A range that is unset, upside down or begins below 1 holds no version.
    """
    oldest, newest = max(ours.oldest, theirs.oldest), min(ours.newest, theirs.newest)
    if min(ours.oldest, theirs.oldest) < 1 or oldest > newest:
        return None
    return newest
