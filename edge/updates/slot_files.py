"""The files of one slot, read once and checked: signatures from the shipped root down, hash, suitability."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.updates.trust import Vehicle, check_suits
from protos.release_facts import ReleaseFacts

if TYPE_CHECKING:
    from edge.updates.evidence import Evidence

MODEL, EVIDENCE = "model.onnx", "evidence.json"


@dataclass(frozen=True, slots=True)
class Checked:
    """What a slot's files are.

    Attributes:
        facts: what is signed about the model.
        data: the file's bytes, the very ones that were checked.
        is_signed: by the owner's keys; else somebody put it in by hand, which the vehicle allows.
    """

    facts: ReleaseFacts
    data: bytes
    is_signed: bool


def read_checked(room: Path, shipped_root: bytes, vehicle: Vehicle) -> Checked:
    """Read a slot's files and check them.

    Raises:
        RefusedError: it is not what was signed for this vehicle.
        OSError: they cannot be read.
    """
    data = (room / MODEL).read_bytes()
    proof = (room / EVIDENCE).read_bytes()
    from edge.updates.evidence import Evidence  # imports python-tuf

    evidence = Evidence.from_bytes(proof)
    facts = verified(shipped_root, evidence, data, vehicle)
    check_suits(facts, vehicle)
    return Checked(facts, data, evidence.unsigned is None)


def is_unsigned(room: Path) -> bool:
    """Whether what a slot's folder holds was signed by nobody: the owner put it in by hand."""
    from edge.updates.evidence import UNSIGNED_MARK  # imports python-tuf

    try:
        with (room / EVIDENCE).open("rb") as file:
            return file.read(len(UNSIGNED_MARK)) == UNSIGNED_MARK
    except OSError:
        return False


def verified(shipped_root: bytes, evidence: Evidence, data: bytes, vehicle: Vehicle) -> ReleaseFacts:
    """Check that these bytes were signed for this vehicle's fleet, or may be here though nobody signed them.

    Raises:
        RefusedError: neither.
    """
    from edge.updates.evidence import verify  # imports python-tuf

    return verify(shipped_root, evidence, data, vehicle.fleet, unsigned_allowed=vehicle.unsigned_allowed)
