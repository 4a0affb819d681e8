"""How far a candidate's shadow has come, on disk, so that trips shorter than it add up to one.

One small file, replaced as a whole. What cannot be read, does not check, or is of another candidate or of
another active model says nothing, and the shadow begins anew.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.files import atomic_write
from edge.logs import Repeated
from edge.machine.disk_budget import DiskLane
from edge.perception.agreement import Agreement
from edge.updates.shadow_rules import MOST_CLASSES, ShadowTally
from edge.updates.state_file import CHECKSUM, checksum
from protos.release_facts import MAX_COUNTER

FILE = "shadow.json"  # beside the slots
SCHEMA = 1
MAX_BYTES = 1 << 18
SAVE_EVERY_S = 60.0  # of driving: what a power cut costs at most

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """What one shadow has come to.

    Attributes:
        candidate, active: digests of the two models that are compared.
        drive_s: driven so far, seconds.
        tally: what came of the frames; latencies and drift are of one run of the daemon, and left out.
    """

    candidate: str
    active: str
    drive_s: float = 0.0
    tally: ShadowTally = field(default_factory=ShadowTally)


class ShadowProgress:
    """The file. For one thread."""

    def __init__(self, folder: Path, disk: DiskLane) -> None:
        """In the slots' folder; what is written is counted in `disk`."""
        self._path = folder / FILE
        self._disk = disk
        self._troubles = Repeated(_LOG, logging.WARNING)

    def read(self, candidate: str, active: str) -> Progress:
        """How far these two have come; from the beginning, where nothing says so."""
        found = read(self._path)
        if found is None or (found.candidate, found.active) != (candidate, active):
            return Progress(candidate, active)
        return found

    def write(self, progress: Progress) -> None:
        """Keep it. A disk that takes nothing costs what was driven since the last time, and is told."""
        data = to_bytes(progress)
        try:
            atomic_write(self._path, data)
        except OSError as error:
            self._troubles.log(
                "how far the shadow is cannot be kept: %s", error, extra={"event": "updates_trouble"}
            )
            return
        self._disk.wrote(len(data))

    def forget(self) -> None:
        """No candidate will go on from it. Should a power cut bring it back, it is of one that is known."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            self._troubles.log(
                "how far the last shadow was cannot be removed: %s", error, extra={"event": "updates_trouble"}
            )


def read(path: Path) -> Progress | None:
    """Read what `ShadowProgress.write` left; None where there is none, or none that can be read."""
    try:
        with path.open("rb") as file:
            return from_bytes(file.read(MAX_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _LOG.warning("%s says nothing of a shadow, which begins anew: %s", path, error)
        return None


def to_bytes(progress: Progress) -> bytes:
    """Return a document with a checksum; `from_bytes` reads back the same."""
    tally = progress.tally
    document = {
        "schema": SCHEMA,
        "candidate": progress.candidate,
        "active": progress.active,
        "drive_s": progress.drive_s,
        "compared": tally.compared,
        "errors": tally.errors,
        "over_budget": tally.over_budget,
        "busy": tally.busy,
        "last_error": tally.last_error,
        "drifted": tally.drifted,
        "classes": {
            name: [one.active, one.candidate, one.matched, one.score_difference]
            for name, one in tally.classes.items()
        },
    }
    return json.dumps({**document, CHECKSUM: checksum(document)}).encode()


def from_bytes(data: bytes) -> Progress:
    """Read what `to_bytes` wrote.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is something else.
    """
    document = json.loads(data)
    noted = document.pop(CHECKSUM)
    if document["schema"] != SCHEMA or noted != checksum(document):
        raise ValueError("its checksum or its schema is another")
    classes = document["classes"]
    if len(classes) > MOST_CLASSES:
        raise ValueError(f"{len(classes)} classes")
    tally = ShadowTally(
        compared=_count(document["compared"]),
        errors=_count(document["errors"]),
        over_budget=_count(document["over_budget"]),
        busy=_count(document["busy"]),
        classes={str(name): _agreement(*one) for name, one in classes.items()},
        last_error=str(document["last_error"])[:500],
        drifted=str(document["drifted"])[:500],
    )
    drive_s = _number(document["drive_s"])
    if drive_s < 0:
        raise ValueError(f"{drive_s} s of driving")
    return Progress(str(document["candidate"]), str(document["active"]), drive_s, tally)


def _agreement(active: Any, candidate: Any, matched: Any, score_difference: Any) -> Agreement:
    counts = _count(active), _count(candidate), _count(matched)
    if counts[2] > min(counts[:2]):
        raise ValueError(f"{matched} pairs of {active} and {candidate}")
    return Agreement(*counts, _number(score_difference))


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_COUNTER:
        raise ValueError(f"{value!r} where a count belongs")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{value!r} where a number belongs")
    return float(value)
