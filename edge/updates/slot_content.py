"""What a slot holds, what of it may be loaded, and what a start drives on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge.updates.slot_state import SlotName
from protos.release_facts import ReleaseFacts


@dataclass(frozen=True, slots=True)
class SlotContent:
    """What a slot holds, as its state says; `Slots.load` checks it.

    Attributes:
        slot: its name.
        model_path: the model file.
        digest: SHA-256 of the file, as signed; of the factory's file, as it lies there.
        release: what is signed about it; None for the factory's.
    """

    slot: SlotName
    model_path: Path
    digest: str
    release: ReleaseFacts | None


@dataclass(frozen=True, slots=True)
class CheckedModel:
    """A model that may be loaded.

    Attributes:
        content: where it came from.
        data: the file's bytes, the very ones that were checked: load these.
    """

    content: SlotContent
    data: bytes


@dataclass(frozen=True, slots=True)
class Boot:
    """What a start of the daemon drives on.

    Attributes:
        model: the model to load.
        troubles: why it is not the one that was active before; empty in the usual case.
    """

    model: CheckedModel
    troubles: tuple[str, ...]
