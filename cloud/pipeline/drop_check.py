"""The label-free estimate held against what is measured, on pictures that it was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cloud.datasets import LabeledImage
from cloud.datasets.pictures import PictureError
from cloud.pipeline.drop_estimate import (
    DropError,
    DropOptions,
    Eyes,
    Seen,
    judged_classes,
    map50_of,
    measure_drop,
)
from cloud.pipeline.evaluation import load_picture
from edge.drift.drop import COUNTS, DropModel, estimate
from edge.perception.model_file import ModelFile


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the pictures.

    Attributes:
        name: of their slice.
        pictures: how many.
        map50: measured by their labels.
        means: of the model's features, each over the pictures that have it, if any has.
    """

    name: str
    pictures: int
    map50: float
    means: dict[str, float]


@dataclass(frozen=True, slots=True)
class Told:
    """What one set of features tells of a change.

    Attributes:
        features: names.
        change: of mAP50 as estimated; None: not all of the features are to be had.
        residual: as the fit says, mAP50.
    """

    features: tuple[str, ...]
    change: float | None
    residual: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """A part against the base: measured by labels, and estimated without.

    Attributes:
        part: the pictures.
        change: of mAP50, measured.
        told: by each set of features; the first is what a vehicle uses, the next where it cannot.
    """

    part: Part
    change: float
    told: tuple[Told, ...]

    def to_json(self) -> dict[str, Any]:
        """Give JSON values."""
        told = [{**asdict(one), "features": list(one.features)} for one in self.told]
        return {"part": asdict(self.part), "change": self.change, "told": told}


@dataclass(frozen=True, slots=True)
class DropCheck:
    """How good the estimate is.

    Attributes:
        drop: what it was estimated by.
        classes: that are averaged.
        base: what all others are compared with.
        comparisons: one for each other part.
    """

    drop: DropModel
    classes: tuple[str, ...]
    base: Part
    comparisons: tuple[Comparison, ...]

    def to_json(self) -> dict[str, Any]:
        """Give JSON values."""
        return {
            "drop": asdict(self.drop),
            "classes": list(self.classes),
            "base": asdict(self.base),
            "comparisons": [one.to_json() for one in self.comparisons],
        }

    def to_text(self) -> str:
        """Lay it out for a terminal."""
        shown = self.drop.features
        lines = [
            f"by {self.drop.method}",
            f"over {', '.join(self.classes)}",
            f"{_told(self.base, shown)}",
        ]
        for one in self.comparisons:
            lines.append(f"{_told(one.part, shown)}; changed by {one.change:+.3f}")
            for told in one.told:
                what = "cannot be estimated"
                if told.change is not None:
                    error = told.change - one.change
                    what = f"estimated {told.change:+.3f} +- {told.residual:.3f}, off by {error:+.3f}"
                lines.append(f"    {what}, by {_listed(told.features)}")
        return "\n".join(lines)


def check_drop(
    model: ModelFile,
    images: Sequence[LabeledImage],
    slice_by: str,
    base: str,
    drop: DropModel | None = None,
    options: DropOptions | None = None,
) -> DropCheck:
    """Compare the slices of labelled pictures with one of them, by labels and without.

    Args:
        model: the model.
        images: labelled pictures.
        slice_by: the attribute that parts them.
        base: its value that all others are compared with: what the model is right on.
        drop: the estimate; None: it is fitted now, on corrupted pictures of `base` alone.
        options: how to measure.

    Raises:
        DropError: there are no pictures of `base` or of anything else, or too few boxes in one.
        TrafficVisionError: the model cannot be run.
    """
    options = options or DropOptions()
    sliced: dict[str, list[LabeledImage]] = {}
    for image in images:
        if image.path is not None and slice_by in image.attributes:
            sliced.setdefault(image.attributes[slice_by], []).append(image)
    if base not in sliced or len(sliced) < 2:
        there = ", ".join(f"{len(found)} with {name}" for name, found in sorted(sliced.items())) or "none"
        raise DropError(
            f"nothing to compare: pictures whose {slice_by} is {base}, and others, are needed; there are"
            f" {there}"
        )
    drop = drop or measure_drop(model, sliced[base], options).drop
    eyes = Eyes(model, options.threads)
    looked = {name: _look(eyes, found, options) for name, found in sorted(sliced.items())}
    judged = judged_in_each(model, [used for used, _ in looked.values()], options.min_boxes)
    if not judged:
        raise DropError(f"no class of the model has {options.min_boxes} boxes in each of {', '.join(looked)}")
    parts = {name: part_of(model, name, *found, judged) for name, found in looked.items()}
    others = tuple(compared(part, parts[base], drop) for name, part in parts.items() if name != base)
    return DropCheck(drop, judged, parts[base], others)


def judged_in_each(
    model: ModelFile, parts: Sequence[Sequence[LabeledImage]], min_boxes: int
) -> tuple[str, ...]:
    """The model's classes that so many boxes of each part are of: those that parts can be compared by."""
    first, *others = (judged_classes(model, images, min_boxes) for images in parts)
    return tuple(name for name in first if all(name in other for other in others))


def part_of(
    model: ModelFile, name: str, images: Sequence[LabeledImage], seen: Seen, judged: Sequence[str]
) -> Part:
    """Measure what a model saw on some pictures."""
    return Part(name, len(images), map50_of(model, images, seen.predictions, judged), seen.means())


def compared(part: Part, base: Part, drop: DropModel) -> Comparison:
    """Hold what each set of features tells against what was measured."""
    told = tuple(
        Told(one.features, estimate(one, part.means, base.means), one.residual)
        for one in (replace(drop, alternatives=()), *drop.alternatives)
    )
    return Comparison(part, part.map50 - base.map50, told)


def _look(
    eyes: Eyes, images: Sequence[LabeledImage], options: DropOptions
) -> tuple[list[LabeledImage], Seen]:
    seen, used = Seen(), []
    for image in options.progress(images):
        try:
            eyes.look(load_picture(image), seen)
        except PictureError:
            continue
        used.append(image)
    return used, seen


def _told(part: Part, shown: Sequence[str]) -> str:
    means = ", ".join(
        f"{name.replace('_', ' ')} {part.means[name]:.{2 if name in COUNTS else 3}f}"
        for name in shown
        if name in part.means
    )
    return f"{part.name}: {part.pictures} pictures, mAP50 {part.map50:.3f}, {means}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names)
