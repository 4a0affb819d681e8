"""Which of the signed releases the cloud wants this vehicle to have, and where that is kept over a restart.

An assignment is a choice and no permission: it is not signed, and whoever holds the server's key can make
any. So it can only narrow what the signed metadata, the floors and the list of bad models leave; at its
worst it keeps a vehicle on the model that it has, which whoever holds that key could do by silence as well,
and the status shows it.

It holds until the cloud says another one, also over a restart and without a network: a vehicle that is not
to have a release yet must not take it because it was started anew. A cloud that welcomes the vehicle and
assigns nothing (an older one) ends it, and then the newest release applies. So to withhold assignments
freezes nobody.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edge.files import atomic_write
from protos.release_facts import MAX_COUNTER, ReleaseFacts
from protos.traffic_vision.v1 import fleet_pb2

FILE = "assignment.json"  # beside the slots
MAX_BYTES = 65536
MAX_WITHDRAWN = 64  # of what the cloud lists; a vehicle has one probation at a time
_MAX_NAME = 64

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the cloud said last.

    Attributes:
        release_counter: of the release to have; 0: what the vehicle has.
        rollout: that says so, for people; empty: none.
        pinned: set for this vehicle by hand.
        withdrawn: counters of releases that the owner takes back.
    """

    release_counter: int
    rollout: str = ""
    pinned: bool = False
    withdrawn: frozenset[int] = frozenset()


def from_message(message: fleet_pb2.Assignment) -> Assignment:
    """Read what came over the wire; a counter that no release can have assigns nothing."""
    counter = message.release_counter if message.release_counter <= MAX_COUNTER else 0
    name = "".join(char for char in message.rollout_id[:_MAX_NAME] if char.isprintable())
    withdrawn = frozenset(message.withdrawn_release_counters[:MAX_WITHDRAWN])
    return Assignment(counter, name, message.pinned, withdrawn)


def why_kept(releases: Iterable[ReleaseFacts], assigned: int, hardware_ids: frozenset[str]) -> str:
    """Why a vehicle keeps what it has though a release is assigned that cannot be chosen; for people."""
    if assigned == 0:
        return "the cloud assigns no release: this vehicle keeps what it has"
    for facts in releases:
        if facts.release_counter == assigned:
            return (
                f"release {assigned} is assigned, which is for {', '.join(facts.hardware_ids)};"
                f" this vehicle is {', '.join(sorted(hardware_ids))} and keeps what it has"
            )
    return f"release {assigned} is assigned, and nobody has signed it: this vehicle keeps what it has"


def read(path: Path) -> Assignment | None:
    """Read what `write` left; None where there is none, or none that can be read."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(MAX_BYTES))
        counter, withdrawn = document["release_counter"], document["withdrawn"]
        if not all(type(number) is int and 0 <= number <= MAX_COUNTER for number in (counter, *withdrawn)):
            raise ValueError("a counter is none")
        return Assignment(counter, str(document["rollout"]), bool(document["pinned"]), frozenset(withdrawn))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        _LOG.warning("%s is no assignment, the cloud will say it again: %s", path, error)
        return None


def write(path: Path, assignment: Assignment | None) -> int:
    """Keep it, or that there is none; the bytes written are given back.

    Raises:
        OSError: the disk is full or broken.
    """
    if assignment is None:
        path.unlink(missing_ok=True)
        return 0
    document = {
        "release_counter": assignment.release_counter,
        "rollout": assignment.rollout,
        "pinned": assignment.pinned,
        "withdrawn": sorted(assignment.withdrawn),
    }
    data = json.dumps(document).encode()
    atomic_write(path, data)
    return len(data)
