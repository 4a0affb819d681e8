"""The check: everything that is looked for in a batch, in one pass over its pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud.config import PurityConfig
from cloud.datasets.dataset import LabeledImage, Refusal
from cloud.datasets.spreading import spread_out
from cloud.pipeline.purity import looking
from cloud.pipeline.purity.agreement import agreement
from cloud.pipeline.purity.balance import BalanceRules, class_findings, slice_findings
from cloud.pipeline.purity.findings import OF_PICTURES, Finding, Kind, PurityReport, judge
from cloud.pipeline.purity.measuring import Measures, measure_all, read_file
from cloud.pipeline.purity.pictures import FORMATS, ImpureError, LabelRules, known_classes
from cloud.pipeline.purity.review import DoubtRules, Review, review, review_to_json

TELL_EVERY = 16
NO_SLICE = "(none)"

Tell = Callable[[str, int, int], None]
# Of each image `float32[N, 6]`: x1, y1, x2, y2 in pixels, score, class; None of one that cannot be looked at.
Predict = Callable[[Sequence[LabeledImage]], Sequence[npt.NDArray[np.float32] | None]]


@dataclass(frozen=True, slots=True)
class Batch:
    """What is judged.

    Attributes:
        images: with their labels.
        sides: image name to the sides of a split that it is on; empty: there is no split.
        refusals: what could not be read of it.
        clipped: boxes that reached out of their picture when they were read.
        read: gives a picture's file.
        formats: of Pillow's, that pictures may have.
    """

    images: Sequence[LabeledImage]
    sides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    refusals: Sequence[Refusal] = ()
    clipped: Sequence[Refusal] = ()
    read: Callable[[LabeledImage], bytes] = read_file
    formats: Sequence[str] = FORMATS


@dataclass(frozen=True, slots=True)
class Known:
    """What a batch is held against; all of it may be missing.

    Attributes:
        images: earlier data, on disk.
        hashes: image name to the difference hash; those that are not there are computed.
        class_names: further classes that labels may have, a model's.
        holdout: drives that must not be in the batch.
        predict: runs a model that was not trained on the batch's labels; `model_classes` are its.
        model_classes: in the order of the predictions' numbers.
        sources: name to labels of the batch's pictures, by all who have labelled them.
    """

    images: Sequence[LabeledImage] = ()
    hashes: Mapping[str, int] = field(default_factory=dict)
    class_names: Collection[str] = ()
    holdout: frozenset[str] = frozenset()
    predict: Predict | None = None
    model_classes: Sequence[str] = ()
    sources: Mapping[str, Sequence[LabeledImage]] = field(default_factory=dict)


@dataclass(slots=True)
class _Check:
    """What the steps of one check share.

    Attributes:
        measures: of the batch's pictures that can be used, by name.
        sample, sampled: known pictures to compare with, and their measures.
    """

    batch: Batch
    known: Known
    config: PurityConfig
    slice_by: str
    tell: Tell
    measures: dict[str, Measures] = field(default_factory=dict)
    sample: list[LabeledImage] = field(default_factory=list)
    sampled: dict[str, Measures] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    looked_at: dict[Kind, int] = field(default_factory=dict)
    notes: dict[Kind, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def slice_of(self, image: LabeledImage) -> str:
        return image.attributes.get(self.slice_by, NO_SLICE)

    def usable(self) -> list[LabeledImage]:
        """The batch's pictures that were measured."""
        return [image for image in self.batch.images if image.name in self.measures]

    def refused(self) -> set[str]:
        """The pictures that are refused by now."""
        refusing = {kind for kind in OF_PICTURES if getattr(self.config.rules, kind.value).refuse}
        return {finding.where[0] for finding in self.findings if finding.kind in refusing}


def check_purity(
    batch: Batch,
    config: PurityConfig,
    known: Known | None = None,
    slice_by: str = "timeofday",
    tell: Tell = lambda step, done, of: None,
) -> PurityReport:
    """Judge a batch of labelled pictures.

    Each picture is decoded once, and about 2.5 KB of it are kept; a model looks at `config.review_pictures`
    of them at most. Ten thousand pictures of 1280x720 are minutes.

    Args:
        batch: what is judged.
        config: limits and rules.
        known: what it is held against.
        slice_by: the attribute whose values have a norm each.
        tell: is told of each step how much of how much is done.
    """
    check = _Check(batch, known or Known(), config, slice_by, tell)
    _labels(check)
    check.measures = _measured(check, "pictures", batch.images, batch)
    check.sample, check.sampled = _known_sample(check)
    _norms(check)
    _twins(check)
    _splits(check)
    _balance(check)
    _drift(check)
    _review(check)
    _sources(check)
    check.facts = {**_counts(check), **check.facts}
    return judge(check.findings, check.looked_at, config.rules, check.notes, check.facts)


def _labels(check: _Check) -> None:
    config, batch = check.config, check.batch
    rules = LabelRules(
        known_classes(check.known.class_names),
        config.box_slack_px,
        config.min_box_px,
        config.max_box_share,
        config.max_box_aspect,
    )
    check.findings += looking.label_findings(batch.images, rules)
    check.findings += looking.reading_findings(batch.refusals, batch.clipped)
    boxes = sum(len(image.boxes) for image in batch.images)
    lost = Counter(looking.kind_of_refusal(refusal.reason) for refusal in batch.refusals)
    check.looked_at[Kind.SCHEMA] = boxes + lost[Kind.SCHEMA]
    for kind in (Kind.CLASS, Kind.BOX, Kind.SIZE):
        check.looked_at[kind] = boxes + lost[kind]
    if check.known.holdout:
        inside = [image for image in batch.images if image.drive in check.known.holdout]
        check.looked_at[Kind.HOLDOUT] = len(batch.images)
        check.findings += [
            Finding(
                Kind.HOLDOUT,
                (image.name,),
                f"drive {image.drive} is what models are judged by",
                "drive is in the gate's holdout",
            )
            for image in inside
        ]
    else:
        check.notes[Kind.HOLDOUT] = "no holdout is configured"


def _measured(
    check: _Check, step: str, images: Sequence[LabeledImage], batch: Batch | None = None
) -> dict[str, Measures]:
    """Measure pictures; of the batch, what cannot be used is found to be so."""
    read, formats = (batch.read, batch.formats) if batch else (read_file, FORMATS)
    measures: dict[str, Measures] = {}
    for number, (image, found) in enumerate(
        zip(images, measure_all(images, read, formats), strict=True), start=1
    ):
        if isinstance(found, Measures):
            measures[image.name] = found
        elif batch is not None:
            check.findings.append(_unreadable(image, found))
        if number % TELL_EVERY == 0 or number == len(images):
            check.tell(step, number, len(images))
    if batch is not None:
        lost = sum(looking.kind_of_refusal(one.reason) is Kind.PICTURE for one in batch.refusals)
        check.looked_at[Kind.PICTURE] = len(images) + lost
    return measures


def _unreadable(image: LabeledImage, error: ImpureError) -> Finding:
    return Finding(error.kind, (image.name,), str(error), str(error))


def _known_sample(check: _Check) -> tuple[list[LabeledImage], dict[str, Measures]]:
    """Known pictures to compare with, one of each drive first; the same of the same data."""
    there = [image for image in check.known.images if image.path is not None]
    sample = spread_out(there, check.config.known_pictures)
    measures = _measured(check, "known pictures", sample)
    return [image for image in sample if image.name in measures], measures


def _norms(check: _Check) -> None:
    here = check.usable()
    everything = [(check.slice_of(image), check.measures[image.name]) for image in here]
    everything += [(check.slice_of(image), check.sampled[image.name]) for image in check.sample]
    findings, norms, judged = looking.norm_findings(
        [(image.name, check.slice_of(image), check.measures[image.name]) for image in here],
        everything,
        check.config.norm_deviations,
        check.config.min_norm_pictures,
    )
    check.findings += findings
    check.facts["norms"] = norms
    if judged:
        check.looked_at[Kind.BLUR] = check.looked_at[Kind.EXPOSURE] = judged
    else:
        why = f"no slice has {check.config.min_norm_pictures} pictures to learn a norm from"
        check.notes[Kind.BLUR] = check.notes[Kind.EXPOSURE] = why


def _twins(check: _Check) -> None:
    refused = check.refused()
    # Of two that are alike, the one that is refused anyway is the later one: the other one is kept.
    here = sorted(check.usable(), key=lambda image: image.name in refused)
    known = [image for image in check.known.images if image.path or image.name in check.known.hashes]
    hashes = {**{name: one.dhash for name, one in check.sampled.items()}, **check.known.hashes}
    missing = [image for image in known if image.name not in hashes]
    hashes |= {name: one.dhash for name, one in _measured(check, "known pictures", missing).items()}
    known = [image for image in known if image.name in hashes]
    check.findings += looking.twin_findings(
        here,
        [check.measures[image.name] for image in here],
        {image.name: check.batch.sides.get(image.name, ()) for image in here},
        known,
        [hashes[image.name] for image in known],
        check.config,
    )
    check.looked_at[Kind.DUPLICATE] = len(here)
    if check.batch.sides:
        check.looked_at[Kind.DUPLICATE_ACROSS] = len(here)
    else:
        check.notes[Kind.DUPLICATE_ACROSS] = "the batch has no split"
    if known:
        check.looked_at[Kind.DUPLICATE_KNOWN] = len(here)
    else:
        check.notes[Kind.DUPLICATE_KNOWN] = "there are no known data"


def _splits(check: _Check) -> None:
    if not check.batch.sides:
        check.notes[Kind.DRIVE] = "the batch has no split"
        return
    check.findings += looking.drive_findings(check.batch.images, check.batch.sides)
    drives = {image.drive for image in check.batch.images if check.batch.sides.get(image.name)}
    check.looked_at[Kind.DRIVE] = len(drives)


def _balance(check: _Check) -> None:
    config, images = check.config, list(check.batch.images)
    rules = BalanceRules(config.balance_ratio, config.min_expected_boxes, config.min_slice_share)
    check.findings += slice_findings(images, check.slice_by, rules) if images else []
    check.looked_at[Kind.SLICE_BALANCE] = len({check.slice_of(image) for image in images})
    comparisons: dict[str, tuple[list[LabeledImage], list[LabeledImage]]] = {}
    # Of some, nothing but the name and the hash is left.
    labelled = [image for image in check.known.images if image.path or image.boxes or image.attributes]
    if labelled:
        comparisons["against known data"] = images, labelled
    by_side = looking.images_by_side(images, check.batch.sides)
    if len(by_side) > 1:
        largest = max(by_side, key=lambda side: len(by_side[side]))
        for side in by_side.keys() - {largest}:
            comparisons[f"{side} against {largest}"] = by_side[side], by_side[largest]
    if not comparisons:
        check.notes[Kind.CLASS_BALANCE] = "there are neither known data nor a split to compare with"
        return
    figures = {}
    for whose, (new, other) in sorted(comparisons.items()):
        findings, figures[whose] = class_findings(new, other, check.slice_by, rules, whose)
        check.findings += findings
    check.facts["balance"] = figures
    check.looked_at[Kind.CLASS_BALANCE] = sum(len(classes) for classes in figures.values())


def _drift(check: _Check) -> None:
    findings, figures = looking.drift_findings(
        looking.feature_rows(check.usable(), check.measures, check.slice_of),
        looking.feature_rows(check.sample, check.sampled, check.slice_of),
        check.config.drift_distance,
        check.config.drift_p_value,
    )
    if not figures:
        check.notes[Kind.DRIFT] = "no slice has enough drives both in the batch and in known data"
        return
    check.findings += findings
    check.facts["drift"] = figures
    check.looked_at[Kind.DRIFT] = len(figures)


def _review(check: _Check) -> None:
    if check.known.predict is None:
        check.notes[Kind.DOUBT] = "no model was given to look at the pictures"
        return
    if not check.config.review_pictures:
        check.notes[Kind.DOUBT] = "review_pictures is 0"
        return
    unreadable = {one.where[0] for one in check.findings if one.kind is Kind.PICTURE}
    there = [image for image in check.batch.images if image.name not in unreadable]
    chosen = spread_out(there, check.config.review_pictures)
    found = check.known.predict(chosen)
    seen = [(image, rows) for image, rows in zip(chosen, found, strict=True) if rows is not None]
    images = [image for image, _ in seen]
    rules = DoubtRules(check.config.doubt_chance, check.config.doubt_rarity)
    result: Review = review(images, [rows for _, rows in seen], check.known.model_classes, rules)
    check.findings += looking.doubt_findings(images, result)
    check.looked_at[Kind.DOUBT] = result.boxes
    check.facts["review"] = review_to_json(result, images)


def _sources(check: _Check) -> None:
    figures = []
    looked_at = 0
    for (first, mine), (second, theirs) in combinations(sorted(check.known.sources.items()), 2):
        found = agreement(first, mine, second, theirs, check.config.agreement_iou)
        if not found.pictures:
            continue
        figures.append(found.to_json())
        looked_at += found.boxes
        check.findings += looking.disagreement_findings(found)
    if figures:
        check.facts["agreement"] = figures
        check.looked_at[Kind.DISAGREEMENT] = looked_at
    else:
        check.notes[Kind.DISAGREEMENT] = "no picture has labels of a second source"


def _counts(check: _Check) -> dict[str, Any]:
    images = check.batch.images
    return {
        "pictures": len(images),
        "drives": len({image.drive for image in images}),
        "boxes": sum(len(image.boxes) for image in images),
        "slice_by": check.slice_by,
        "slices": dict(Counter(check.slice_of(image) for image in images).most_common()),
        "sides": {
            side: len(found) for side, found in looking.images_by_side(images, check.batch.sides).items()
        },
        "known_pictures": len(check.known.images),
    }
