"""What each picture of a dataset version is: its drive, its side, whether it is trained on. Under git."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from cloud.pipeline.errors import PipelineError

SIDES = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture.

    Attributes:
        name: in the dataset.
        drive: the recording that it is from.
        side: of the split: train, val or test. A drive is on one side alone.
        used: it is in its side's list; of the old pictures of `train` each version takes a part.
        slice: the value of the attribute that the gate judges by.
        dhash: 16 hex digits.
        origin: the version that brought it.
    """

    name: str
    drive: str
    side: str
    used: bool
    slice: str
    dhash: str
    origin: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A dataset version, picture by picture."""

    entries: tuple[Entry, ...] = ()

    def to_text(self) -> str:
        """Write it, a line for each picture, so that a difference of versions can be read."""
        return "".join(f"{json.dumps(asdict(entry), sort_keys=True)}\n" for entry in self.entries)

    @staticmethod
    def from_text(text: str) -> Manifest:
        """Read what `to_text` wrote.

        Raises:
            PipelineError: it is no manifest.
        """
        try:
            return Manifest(tuple(Entry(**json.loads(line)) for line in text.splitlines()))
        except (ValueError, TypeError) as error:
            raise PipelineError(f"the data repository's manifest cannot be read: {error}") from None

    def hashes(self) -> Iterator[int]:
        """Give the pictures' difference hashes."""
        return (int(entry.dhash, 16) for entry in self.entries)

    def sides(self) -> dict[str, str]:
        """Give each drive's side."""
        return {entry.drive: entry.side for entry in self.entries}

    def counts(self) -> dict[str, dict[str, int]]:
        """Count the pictures of each side's list, by slice."""
        return {
            side: dict(sorted(Counter(e.slice for e in self.entries if e.side == side and e.used).items()))
            for side in SIDES
        }
