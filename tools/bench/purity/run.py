"""`bench purity`: a batch with planted faults, checked as any other: what is found, also falsely."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud.config import PurityConfig
from cloud.datasets import Dataset, LabeledImage, read_dataset
from cloud.datasets.sides import read_sides
from cloud.pipeline.purity.checking import Batch, Known, check_purity
from cloud.pipeline.purity.findings import Finding, Kind, PurityReport
from cloud.pipeline.purity.objectlab import overlap
from cloud.pipeline.purity.predicting import predictor
from cloud.pipeline.purity.review import Doubt
from edge.perception.model_file import read_model_file
from tools.bench.purity.planting import NOTHING, Plan, Planted, plant
from tools.bench.report import Report, Table, Target
from tools.bench.subject import MODELS

# Overlap from which a missed object is the one that lost its label.
_SAME_OBJECT = 0.5

Progress = Callable[[int, int], None]
_Predictions = dict[str, npt.NDArray[np.float32] | None]


@dataclass(frozen=True, slots=True)
class Found:
    """Of one kind of fault.

    Attributes:
        planted: so many.
        found: of them.
        false: finds of the kind that were not planted.
    """

    kind: str
    planted: int
    found: int
    false: int

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON-able values."""
        return {"kind": self.kind, "planted": self.planted, "found": self.found, "false": self.false}


@dataclass(frozen=True, slots=True)
class Ranking:
    """How good a list of suspects is to work through from its top.

    Attributes:
        planted: boxes that are wrong on purpose.
        length: of the list.
        among: (n, so many of them among the first n).
        average_precision: 0 to 1; by chance it is the share of wrong boxes.
    """

    planted: int
    length: int
    among: tuple[tuple[int, int], ...]
    average_precision: float


def bench_purity(
    data: Path,
    model: Path | None,
    plan: Plan,
    batches: int = 1,
    threads: int = 2,
    progress: Progress = lambda done, of: None,
) -> Report:
    """Plant faults in labelled data, check them, count.

    Args:
        data: labelled pictures that are right, as far as anybody knows.
        model: that was not trained on them; the shipped baseline unless given.
        plan: what is planted; further batches have the seeds after its.
        batches: how many.
        threads: of the model.
        progress: told how many pictures are looked at, of one batch.

    Raises:
        BenchError: there is too little data for the plan.
        DatasetError: the data cannot be read.
        TrafficVisionError: the model cannot be used.
    """
    dataset = read_dataset(data)
    seen: _Predictions = {}
    bench = _Bench(model or MODELS / "baseline.onnx", threads, progress, seen)
    clean, _, _ = bench.check(dataset, NOTHING)
    found: list[list[Found]] = []
    rankings: list[Ranking] = []
    beside: list[dict[str, int]] = []
    took: list[float] = []
    for number in range(batches):
        started = time.perf_counter()
        report, images, planted = bench.check(dataset, replace(plan, seed=plan.seed + number))
        took.append(time.perf_counter() - started)
        found.append(count_found(report, images, planted))
        rankings.append(rank(report.of_kind(Kind.DOUBT), planted))
        beside.append(_not_planted(report))
    return _report(dataset, plan, clean, found, rankings, beside, took)


@dataclass(slots=True)
class _Bench:
    model: Path
    threads: int
    progress: Progress
    seen: _Predictions

    def check(self, dataset: Dataset, plan: Plan) -> tuple[PurityReport, dict[str, LabeledImage], Planted]:
        with tempfile.TemporaryDirectory(prefix="traffic-vision-purity-") as folder:
            batch = Path(folder) / "batch"
            planted = plant(batch, dataset, plan)
            read = read_dataset(batch)
            model = read_model_file(self.model)
            run = predictor(model, self.threads, lambda step, done, of: self.progress(done, of))

            def predict(images: Sequence[LabeledImage]) -> list[npt.NDArray[np.float32] | None]:
                # The same pictures in every batch, but for the copies, which have their names from it.
                new = [image for image in images if image.name not in self.seen]
                fresh: _Predictions = {}
                if new:
                    fresh.update(zip((image.name for image in new), run(new), strict=True))
                self.seen |= {name: rows for name, rows in fresh.items() if name not in planted.duplicates}
                return [fresh[i.name] if i.name in fresh else self.seen[i.name] for i in images]

            names = model.metadata.class_names
            report = check_purity(
                Batch(read.images, read_sides(batch, read), read.refusals, read.clipped),
                PurityConfig(review_pictures=len(read.images)),
                Known(class_names=names, predict=predict, model_classes=names),
                tell=lambda step, done, of: self.progress(done, of),
            )
        return report, {image.name: image for image in read.images}, planted


def count_found(report: PurityReport, images: dict[str, LabeledImage], planted: Planted) -> list[Found]:
    """Hold what was found against what was planted, kind by kind."""
    doubts = report.of_kind(Kind.DOUBT)
    boxes = {(one.where[0], one.box) for one in doubts if one.reason == Doubt.LOCATED.value}
    missed = [one for one in doubts if one.reason == Doubt.OVERLOOKED.value]
    orphans = _orphans_found(missed, planted)
    twins = [
        set(one.where[:2]) for kind in (Kind.DUPLICATE, Kind.DUPLICATE_ACROSS) for one in report.of_kind(kind)
    ]
    pairs = [{copy, original} for copy, original in planted.duplicates.items()]
    classes = {(one.where[0], one.box) for one in report.of_kind(Kind.CLASS)}
    drives = {images[one.where[0]].drive for one in report.of_kind(Kind.DRIVE)}
    return [
        _counted("boxes that were shuffled", planted.shuffled, boxes),
        Found(
            "objects that lost their label so", len(planted.orphans), len(orphans), len(missed) - len(orphans)
        ),
        _counted("boxes of a renamed class", planted.renamed, classes),
        Found(
            "duplicates",
            len(pairs),
            sum(pair in twins for pair in pairs),
            sum(not any(pair == twin for pair in pairs) for twin in twins),
        ),
        _counted("leaked drives", planted.leaked, drives),
    ]


def rank(doubts: Sequence[Finding], planted: Planted) -> Ranking:
    """See how far up in the list of badly located labels the shuffled ones are."""
    located = [one for one in doubts if one.reason == Doubt.LOCATED.value]
    hits = [(one.where[0], one.box) in planted.shuffled for one in located]
    total = len(planted.shuffled)
    precisions = [(sum(hits[:place]) + 1) / (place + 1) for place, hit in enumerate(hits) if hit]
    marks = [mark for mark in (50, 100, 200, total) if 0 < mark <= max(len(hits), 1)]
    return Ranking(
        total,
        len(hits),
        tuple((mark, sum(hits[:mark])) for mark in dict.fromkeys(marks)),
        sum(precisions) / total if total else 0.0,
    )


def _counted(kind: str, planted: frozenset[Any], found: set[Any]) -> Found:
    return Found(kind, len(planted), len(planted & found), len(found - planted))


def _orphans_found(missed: Sequence[Finding], planted: Planted) -> set[int]:
    found: set[int] = set()
    for number, finding in enumerate(missed):
        there = [corners for name, corners in planted.orphans if name == finding.where[0]]
        if finding.corners is None or not there:
            continue
        common = overlap(np.array([finding.corners], np.float64), np.array(there, np.float64))
        if common.max() >= _SAME_OBJECT:
            found.add(number)
    return found


def _not_planted(report: PurityReport) -> dict[str, int]:
    """What was found of kinds of which nothing is planted."""
    planted = {Kind.DOUBT, Kind.CLASS, Kind.DUPLICATE, Kind.DUPLICATE_ACROSS, Kind.DRIVE}
    return {
        tally.kind.value: tally.found for tally in report.tallies if tally.found and tally.kind not in planted
    }


def _report(
    dataset: Dataset,
    plan: Plan,
    clean: PurityReport,
    found: Sequence[Sequence[Found]],
    rankings: Sequence[Ranking],
    beside: Sequence[dict[str, int]],
    took: Sequence[float],
) -> Report:
    kinds = [
        Found(
            some[0].kind,
            sum(one.planted for one in some),
            sum(one.found for one in some),
            sum(one.false for one in some),
        )
        for some in zip(*found, strict=True)
    ]
    doubted = {tally.kind: tally for tally in clean.tallies}[Kind.DOUBT]
    figures = {
        "pictures": len(dataset.images),
        "boxes": sum(len(image.boxes) for image in dataset.images),
        "plan": {"seed": plan.seed, "shuffled_share": plan.shuffled_share, "duplicates": plan.duplicates},
        "batches": len(found),
        "kinds": [one.to_json() for one in kinds],
        "each_batch": [[one.to_json() for one in some] for some in found],
        "ranking": [
            {
                "planted": one.planted,
                "listed": one.length,
                "among_the_first": {str(mark): hits for mark, hits in one.among},
                "average_precision": round(one.average_precision, 4),
            }
            for one in rankings
        ],
        "clean": {tally.kind.value: tally.found for tally in clean.tallies if tally.found},
        "not_planted": list(beside),
        "check_s": [round(value, 1) for value in took],
    }
    exact = kinds[2:]
    targets = [
        Target(f"{one.kind}: found of planted", one.found / one.planted if one.planted else 1.0, 1.0, True)
        for one in exact
    ] + [Target(f"{one.kind}: false finds", float(one.false), 0.0) for one in exact]
    rows: list[list[str | float | None]] = [
        [one.kind, float(one.planted), float(one.found), float(one.false)] for one in kinds
    ]
    listed: list[list[str | float | None]] = [
        [
            f"seed {plan.seed + number}",
            float(one.planted),
            float(one.length),
            ", ".join(f"{hits} of {mark}" for mark, hits in one.among),
            one.average_precision,
        ]
        for number, one in enumerate(rankings)
    ]
    columns = ["seed", "planted", "listed", "planted among the first", "average precision"]
    return Report(
        "purity",
        figures,
        targets,
        [
            Table("planted and found, all batches", ["fault", "planted", "found", "false"], rows),
            Table("the list of badly located labels, from its top", columns, listed),
        ],
        [
            f"{len(dataset.images):,} pictures with {figures['boxes']:,} boxes, {len(found)} batches; "
            f"a check takes {min(took):.0f} s once the model has seen the pictures",
            f"of the labels as they are, {doubted.found:,} of {doubted.of:,} boxes are doubtful: what counts "
            "as false here is partly right",
        ],
    )
