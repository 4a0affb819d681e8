"""Importing and splitting: read, write, and tell what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cloud.datasets.dataset import Dataset, DatasetError, LabeledImage
from cloud.datasets.digest import dataset_sha256
from cloud.datasets.reading import read_dataset
from cloud.datasets.splitting import split_of_drive
from cloud.datasets.summary import Counts, count, table
from cloud.datasets.writing import write_dataset

Progress = Callable[[Iterable[LabeledImage]], Iterable[LabeledImage]]


@dataclass(frozen=True, slots=True)
class Report:
    """What was written.

    Attributes:
        output: the dataset's folder.
        sha256: of its content, see `cloud.datasets.digest`.
        counts: of what it holds.
        splits: the same for each split.
        refusals: what was left out on reading and on writing, count by reason.
        skipped: labels that were no boxes, count by category.
        left_out: boxes without a YOLO label, count by category.
    """

    output: Path
    sha256: str
    counts: Counts
    refusals: Mapping[str, int]
    skipped: Mapping[str, int]
    left_out: Mapping[str, int]
    splits: Mapping[str, Counts] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Give the report as JSON-able values."""
        return {
            "output": str(self.output),
            "sha256": self.sha256,
            **self.counts.to_json(),
            "splits": {name: counts.to_json() for name, counts in self.splits.items()},
            "refusals": dict(self.refusals),
            "skipped": dict(self.skipped),
            "left_out": dict(self.left_out),
        }

    def to_text(self) -> str:
        """Lay the report out for a terminal."""
        lines = [f"{self.output}: {self.counts.to_text()}; sha256 {self.sha256[:12]}"]
        if self.splits:
            rows = [
                [name, *(f"{n:,}" for n in (counts.images, counts.drives, counts.boxes))]
                for name, counts in self.splits.items()
            ]
            lines += ["", *table(["split", "images", "drives", "boxes"], rows), ""]
        for what, counts in (
            ("refused", self.refusals),
            ("labels without a box", self.skipped),
            ("boxes without a YOLO label", self.left_out),
        ):
            if counts:
                lines.append(f"{what}: " + ", ".join(f"{name} ({n:,})" for name, n in counts.items()))
        return "\n".join(lines).rstrip()


def import_dataset(
    source: Path, output: Path, images: Path | None = None, link: bool = False, progress: Progress = iter
) -> Report:
    """Read a dataset of any known shape and write it in the one that everything here uses.

    Args:
        source: see `read_dataset`; so for `images`.
        output: a new or empty folder.
        images: where the pictures are, if not beside the labels.
        link: hard-link the pictures instead of copying them.
        progress: wraps the images.

    Raises:
        DatasetError: nothing usable to read, or the output is not empty.
    """
    return _write(read_dataset(source, images), output, None, link, progress)


def split_dataset(
    source: Path,
    output: Path,
    fractions: Mapping[str, float],
    salt: str = "",
    images: Path | None = None,
    link: bool = True,
    progress: Progress = iter,
) -> Report:
    """Write a dataset again, with a list of pictures for each split; a drive is on one side only.

    Args:
        source: see `read_dataset`; so for `images`.
        output: a new or empty folder.
        fractions: see `split_of_drive`; so for `salt`.
        salt: another one gives another split of the same drives.
        images: where the pictures are, if not beside the labels.
        link: hard-link the pictures instead of copying them.
        progress: wraps the images.

    Raises:
        DatasetError: nothing usable to read, the output is not empty, or a split got no drive.
    """
    dataset = read_dataset(source, images)
    sides = {image.drive: split_of_drive(image.drive, fractions, salt) for image in dataset.images}
    empty = [name for name, fraction in fractions.items() if fraction and name not in sides.values()]
    if empty:
        raise DatasetError(
            f"{source} has {len(sides)} drives, and none of them falls to {', '.join(empty)}: "
            "give it a larger fraction, another salt, or more drives"
        )
    return _write(dataset, output, lambda image: sides[image.drive], link, progress)


def _write(
    dataset: Dataset,
    output: Path,
    split_of: Callable[[LabeledImage], str] | None,
    link: bool,
    progress: Progress,
) -> Report:
    written = write_dataset(output, dataset, split_of=split_of, link=link, progress=progress)
    result = read_dataset(output)
    splits: dict[str, list[LabeledImage]] = {}
    if split_of:
        for image in result.images:
            splits.setdefault(split_of(image), []).append(image)
    refusals = Counter(refusal.reason for refusal in (*dataset.refusals, *written.refusals))
    return Report(
        output,
        dataset_sha256(result),
        count(result.images),
        dict(refusals.most_common()),
        dict(dataset.skipped),
        dict(written.left_out.most_common()),
        {name: count(images) for name, images in splits.items()},
    )
