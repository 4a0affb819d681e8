"""Checking a dataset that lies on the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cloud.config import PurityConfig
from cloud.datasets import Dataset, DatasetError, LabeledImage, read_dataset
from cloud.datasets.sides import read_sides
from cloud.datasets.summary import table
from cloud.pipeline.purity.checking import Batch, Known, Tell, check_purity
from cloud.pipeline.purity.findings import Finding, PurityReport, Verdict
from cloud.pipeline.purity.measuring import read_file
from cloud.pipeline.purity.page import TITLES, render_page
from edge.perception.model_file import ModelFile, read_model_file

THIS = "this"


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What a dataset is checked by.

    Attributes:
        images: where its pictures are, if not with the labels.
        known: earlier data that it is held against.
        apart: other data that must have no drive and no picture of it, a holdout for instance.
        labels: name to a dataset with other labels of the same pictures.
        model: that looks at the pictures; it was not trained on these labels.
        config: limits and rules.
        slice_by: the attribute whose values have a norm each.
        threads: of the model.
        tell: is told how much of each step is done.
    """

    images: Path | None = None
    known: Path | None = None
    apart: Path | None = None
    labels: Mapping[str, Path] = field(default_factory=dict)
    model: Path | None = None
    config: PurityConfig = field(default_factory=PurityConfig)
    slice_by: str = "timeofday"
    threads: int = 2
    tell: Tell = lambda step, done, of: None


@dataclass(frozen=True, slots=True)
class DatasetCheck:
    """A check and what it was of.

    Attributes:
        report: what came of it.
        name: the dataset's.
        images: by name, the dataset's and those that it was held against.
    """

    report: PurityReport
    name: str
    images: Mapping[str, LabeledImage]

    def to_html(self) -> str:
        """Lay it out as a page with pictures of the offenders."""
        return render_page(self.report, self.name, self.images, read_file)

    def to_text(self) -> str:
        """Lay it out for a terminal."""
        return to_text(self.report, self.name)


def check_dataset(path: Path, options: CheckOptions) -> DatasetCheck:
    """Read a dataset of any known shape, and check it.

    Args:
        path: see `cloud.datasets.read_dataset`; the sides of its split are those of its data.yaml.
        options: by what.

    Raises:
        DatasetError: the dataset, or one that it is held against, cannot be read; or other labels have the
            name of its own, or are of none of its pictures.
        ModelFileError: the model cannot.
    """
    dataset = read_dataset(path, options.images)
    known = read_dataset(options.known) if options.known else None
    model = read_model_file(options.model) if options.model else None
    sides = read_sides(path, dataset)
    images = list(dataset.images)
    if options.apart is not None:
        other = _apart(read_dataset(options.apart), {image.name for image in images})
        sides = {image.name: sides.get(image.name, (THIS,)) for image in images}
        sides |= dict.fromkeys((image.name for image in other), (_side_of(options.apart, sides),))
        images += other
    sources = {name: read_dataset(place).images for name, place in options.labels.items()}
    if sources:
        own = path.resolve().name
        if own in sources:
            raise DatasetError(f"{own} is the name of {path}'s own labels: give the others another name")
        sources = {own: dataset.images, **sources}
        _check_sources(path, sources)
    report = check_purity(
        Batch(images, sides, dataset.refusals, dataset.clipped),
        options.config,
        _known(known, model, sources, options),
        options.slice_by,
        options.tell,
    )
    everything = [*(known.images if known else ()), *images]
    return DatasetCheck(report, path.resolve().name, {image.name: image for image in everything})


def _known(
    known: Dataset | None,
    model: ModelFile | None,
    sources: Mapping[str, Sequence[LabeledImage]],
    options: CheckOptions,
) -> Known:
    found = Known(images=known.images if known else (), sources=sources)
    if model is None:
        return found
    from cloud.pipeline.purity.predicting import predictor

    names = model.metadata.class_names
    return replace(
        found, class_names=names, predict=predictor(model, options.threads, options.tell), model_classes=names
    )


def _apart(other: Dataset, taken: set[str]) -> list[LabeledImage]:
    """Their pictures under names that are not taken: the same picture has the same name in both."""
    return [
        replace(image, name=f"apart/{image.name}") if image.name in taken else image for image in other.images
    ]


def _side_of(apart: Path, sides: Mapping[str, tuple[str, ...]]) -> str:
    """Name the side of the other data: its folder's name, unless the dataset has a side of that name."""
    name = apart.resolve().name
    return f"apart/{name}" if any(name in those for those in sides.values()) else name


def _check_sources(path: Path, sources: Mapping[str, Sequence[LabeledImage]]) -> None:
    mine = {image.name for image in next(iter(sources.values()))}
    for name, images in sources.items():
        if not mine & {image.name for image in images}:
            raise DatasetError(
                f"{name} has labels of none of {path}'s {len(mine)} pictures: names such as "
                f"{images[0].name} must be the same in both"
            )


def to_text(report: PurityReport, name: str) -> str:
    """Lay a report out for a terminal: a line a kind, and the worst findings of each that does not pass."""
    facts = report.facts
    lines = [
        f"{name}: {report.verdict.value.upper()}; {facts['pictures']:,} pictures, "
        f"{facts['drives']:,} drives, {facts['boxes']:,} boxes",
        "",
    ]
    rows = []
    for tally in report.tallies:
        if tally.note and not tally.found:
            rows.append([TITLES[tally.kind], "", "", "not judged", tally.note])
            continue
        left_out = "left out of the training" if tally.refuses and tally.found else ""
        share = f"{tally.found:,} of {tally.of:,} {tally.unit}"
        rows.append([TITLES[tally.kind], share, f"{tally.share:.1%}", tally.verdict.value, left_out])
    lines += table(["looked for", "found", "share", "verdict", ""], rows, left=(0, 3, 4))
    for tally in report.tallies:
        if tally.verdict is not Verdict.PASS:
            lines += ["", f"{TITLES[tally.kind]}:"]
            lines += [f"  {_line(finding)}" for finding in report.of_kind(tally.kind)[:3]]
            more = len(report.of_kind(tally.kind)) - 3
            lines += [f"  and {more:,} more"] if more > 0 else []
    for one in facts.get("agreement", []):
        lines += ["", f"{one['first']} and {one['second']}: F1 {one['f1']} over {one['objects']:,} objects"]
    return "\n".join(lines)


def _line(finding: Finding) -> str:
    where = ", ".join(finding.where[:2])
    return f"{where}: {finding.what}" if where else finding.what
