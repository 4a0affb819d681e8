"""`bench gate`: candidates of known worth, and what the release gate says of them on many holdouts."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from cloud.config import GateConfig
from cloud.datasets import LabeledImage, canonical
from cloud.pipeline.evaluation_coco import Matches, RankedClass
from cloud.pipeline.gate import demands_of
from cloud.pipeline.gate_power import PowerReport, power_of
from cloud.pipeline.gate_slices import CLASS, Ranked, SliceFigures, measure
from cloud.pipeline.gate_text import power_text
from cloud.store.states import VerdictKind
from edge.perception.model_file import ModelFile, read_model_file
from tools.bench.gate.candidates import calibrated
from tools.bench.gate.holdouts import Population, Trial, judged
from tools.bench.gate.looks import Tell, look
from tools.bench.labeled import pictures_of
from tools.bench.report import Report, Table, Target
from tools.bench.rounds import BenchError
from tools.bench.subject import default_model, load_pictures, subject_from_checkpoint

WORSE, EQUAL, BETTER = "worse", "equal", "better"
OF = 20  # released of so many, as the targets have it
MOST_WRONG, LEAST_RIGHT = 1.0, 15.0

_ROUND = 10  # drives
_MOST_DRIVES = 20_000


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What to simulate.

    Attributes:
        data: labelled pictures that are there, by day and by night.
        model: the champion, a model file or a checkpoint; None: the shipped one.
        challenger: makes the second look; None: the champion, on mirrored pictures.
        input_hw: of a checkpoint's export, pixels.
        slice_by: an attribute of the pictures.
        kept, target: its values: what a candidate must not be worse on, and what it must be better on.
        loss, gain: of the simulated candidates, mAP50.
        drives: sizes of the holdouts; none: half of the data, all, and what the power report says is enough.
        trials: holdouts of each size for each candidate.
        min_boxes, resamples: of the gate.
        threads, workers: of the inference; processes that judge.
        seed: another one makes and draws others.
        cache: keeps what models found.
    """

    data: Path
    model: Path | None = None
    challenger: Path | None = None
    input_hw: tuple[int, int] = (384, 640)
    slice_by: str = "timeofday"
    kept: str = "daytime"
    target: str = "night"
    loss: float = 0.02
    gain: float = 0.04
    drives: tuple[int, ...] = ()
    trials: int = 200
    min_boxes: int = 100
    resamples: int = 500
    threads: int = 2
    workers: int = 2
    seed: int = 0
    cache: Path | None = None

    def gate(self) -> GateConfig:
        """The gate as configured by default, less slices that cannot be simulated: sizes of boxes."""
        return GateConfig(
            slice_by=self.slice_by,
            slices=(self.slice_by, CLASS),
            targets=(self.target,),
            effect=self.gain,
            margin=self.loss,
            min_boxes=self.min_boxes,
            resamples=self.resamples,
        )

    def aims(self) -> dict[str, dict[str, float]]:
        """The candidates: what each is better by, by slice. The worse one is better at what is looked for."""
        return {
            WORSE: {self.kept: -self.loss, self.target: self.gain},
            EQUAL: {self.kept: 0.0, self.target: 0.0},
            BETTER: {self.kept: 0.0, self.target: self.gain},
        }


def bench_gate(settings: GateSettings, tell: Tell = lambda what, done, of: None) -> Report:
    """Simulate.

    Args:
        settings: what.
        tell: is told what is done, how many of how many.

    Raises:
        BenchError: the data have too little of a slice.
        TrafficVisionError: the data or a model cannot be used.
    """
    images = pictures_of(settings.data, settings.slice_by, settings.kept, settings.target)
    champion, challenger = _looks(settings, images, tell)
    population = _population(settings, images, champion, challenger)
    gate = settings.gate()
    truths = {name: _figures(population, name, gate, settings.seed) for name in population.candidates}
    power = power_of(
        demands_of(gate, truths[BETTER], gate.targets), truths[BETTER], gate.targets, gate.effect
    )
    sizes = _sizes(settings, power, len({image.drive for image in images}))
    results = _trials(settings, population, gate, sizes, tell)
    return _report(settings, images, truths, power, sizes, results)


def _looks(
    settings: GateSettings, images: Sequence[LabeledImage], tell: Tell
) -> tuple[list[RankedClass], list[RankedClass]]:
    with tempfile.TemporaryDirectory() as folder:
        first = _model(settings.model or default_model(), settings, Path(folder) / "champion")
        second = first
        if settings.challenger is not None:
            second = _model(settings.challenger, settings, Path(folder) / "challenger")
        names = [canonical(name) for name in first.metadata.class_names]
        labeled = {box.category for image in images for box in image.boxes}
        judged_classes = [name for name in dict.fromkeys(names) if name in labeled]
        if not judged_classes:
            raise BenchError(f"{settings.data}: no box of a class of {first.metadata.name}")
        found = []
        for model, mirrored in ((first, False), (second, settings.challenger is None)):
            boxes = look(model, images, settings.threads, settings.cache, tell, mirrored=mirrored)
            found.append(Matches(images, boxes, model.metadata.class_names, judged_classes).ranked())
    return found[0], found[1]


def _model(path: Path, settings: GateSettings, folder: Path) -> ModelFile:
    if path.suffix != ".pt":
        return read_model_file(path)
    folder.mkdir()
    return subject_from_checkpoint(path, settings.input_hw, load_pictures(None), folder).model


def _population(
    settings: GateSettings,
    images: Sequence[LabeledImage],
    champion: Sequence[RankedClass],
    challenger: Sequence[RankedClass],
) -> Population:
    slices = {
        value: np.array(
            [place for place, image in enumerate(images) if image.attributes[settings.slice_by] == value]
        )
        for value in (settings.kept, settings.target)
    }
    drives = [image.drive for image in images]
    made = {
        name: calibrated(
            champion,
            challenger,
            slices,
            aims,
            drives,
            max(1, settings.min_boxes // 4),
            settings.seed + number,
        )
        for number, (name, aims) in enumerate(settings.aims().items())
    }
    return Population(images, champion, made)


def _figures(population: Population, candidate: str, gate: GateConfig, seed: int) -> tuple[SliceFigures, ...]:
    """What is true, and how far holdouts as large as the population spread around it."""
    pair = Ranked(population.champion, {}), Ranked(population.candidates[candidate], {})
    figures = measure(population.images, *pair, gate, seed)
    for each in figures:
        if each.too_little and each.kind in ("", gate.slice_by):
            raise BenchError(f"the data have too little: {each.name}: {each.too_little}")
    return figures


def _sizes(settings: GateSettings, power: PowerReport, there: int) -> tuple[int, ...]:
    if settings.drives:
        return tuple(sorted(set(settings.drives)))
    sizes = {there // 2, there}
    if power.needed_drives is not None and power.needed_drives <= _MOST_DRIVES:
        sizes.add(-(-power.needed_drives // _ROUND) * _ROUND)
    return tuple(sorted(sizes))


_WORK: dict[str, Any] = {}  # of a worker


def _begin_worker(population: Population, gate: GateConfig, seed: int) -> None:
    _WORK.update(population=population, gate=gate, seed=seed)


def _work(task: tuple[str, int, int]) -> tuple[str, int, Trial]:
    name, drives, number = task
    place = list(_WORK["population"].candidates).index(name)
    trial = judged(_WORK["population"], name, drives, (_WORK["seed"], place, drives, number), _WORK["gate"])
    return name, drives, trial


def _trials(
    settings: GateSettings, population: Population, gate: GateConfig, sizes: Sequence[int], tell: Tell
) -> dict[tuple[str, int], list[Trial]]:
    tasks = [
        (name, drives, number)
        for drives in sizes
        for number in range(settings.trials)
        for name in population.candidates
    ]
    results: dict[tuple[str, int], list[Trial]] = {}
    for done, (name, drives, trial) in enumerate(_each(settings, population, gate, tasks)):
        results.setdefault((name, drives), []).append(trial)
        tell("holdouts", done + 1, len(tasks))
    return results


def _each(
    settings: GateSettings, population: Population, gate: GateConfig, tasks: Sequence[tuple[str, int, int]]
) -> Iterator[tuple[str, int, Trial]]:
    if settings.workers == 1:
        _begin_worker(population, gate, settings.seed)
        yield from map(_work, tasks)
        return
    # Not by fork: the inference's threads are still there.
    pool = ProcessPoolExecutor(
        settings.workers, get_context("spawn"), _begin_worker, (population, gate, settings.seed)
    )
    with pool:
        yield from pool.map(_work, tasks, chunksize=4)


def _report(
    settings: GateSettings,
    images: Sequence[LabeledImage],
    truths: Mapping[str, tuple[SliceFigures, ...]],
    power: PowerReport,
    sizes: Sequence[int],
    results: Mapping[tuple[str, int], Sequence[Trial]],
) -> Report:
    words = {
        WORSE: f"{settings.kept} -{settings.loss:g}, {settings.target} +{settings.gain:g}",
        EQUAL: "equal on both",
        BETTER: f"{settings.kept} equal, {settings.target} +{settings.gain:g}",
    }
    rows = [_row(words[name], drives, trials) for (name, drives), trials in sorted(results.items())]
    enough = [] if power.needed_drives is None else [each for each in sizes if each >= power.needed_drives]
    targets = [
        Target(f"{words[WORSE]}: released of {OF}", _most(results, WORSE, sizes), MOST_WRONG),
        Target(f"{words[EQUAL]}: released of {OF}", _most(results, EQUAL, sizes), MOST_WRONG),
    ]
    notes = [power_text(power.to_json(), [settings.target])]
    if enough:
        least = min(_released(results[BETTER, drives]) for drives in enough)
        name = f"{words[BETTER]}: released of {OF} with {min(enough):,} drives, which are enough"
        targets.append(Target(name, least, LEAST_RIGHT, at_least=True))
    else:
        notes.append("no size that was simulated is enough by the power report: give more --drives")
    tables = [
        Table(
            f"the gate's verdicts, {settings.trials} holdouts each",
            (
                "candidate",
                "drives",
                "released",
                "refused",
                "undecided",
                f"released of {OF}",
                "enough by its own report",
            ),
            rows,
        ),
        Table(
            f"what is true, on all {len(images):,} pictures",
            ("candidate", "slice", "champion", "candidate", "difference", "spread"),
            [
                (
                    words[name],
                    each.name,
                    each.champion,
                    each.challenger,
                    _fine(each.difference),
                    _fine(each.spread),
                )
                for name, figures in truths.items()
                for each in figures
                if each.kind in ("", settings.slice_by)
            ],
        ),
    ]
    figures = {
        "images": len(images),
        "trials": settings.trials,
        "power": power.to_json(),
        "truth": {name: [each.to_json() for each in figures] for name, figures in truths.items()},
        "verdicts": [
            {"candidate": name, "drives": drives, **_counts(trials), "released_share": _released(trials) / OF}
            for (name, drives), trials in sorted(results.items())
        ],
    }
    return Report("gate", figures, targets, tables, notes)


def _fine(value: float | None) -> str | None:
    return None if value is None else f"{value:+.4f}"


def _counts(trials: Sequence[Trial]) -> dict[str, int]:
    counts = Counter(trial.verdict for trial in trials)
    own = sum(trial.enough for trial in trials)
    return {**{kind.value: counts[kind] for kind in VerdictKind}, "enough": own}


def _row(words: str, drives: int, trials: Sequence[Trial]) -> tuple[str | float, ...]:
    counts = _counts(trials)
    verdicts = [str(counts[kind.value]) for kind in VerdictKind]
    return words, str(drives), *verdicts, f"{_released(trials):.2f}", str(counts["enough"])


def _released(trials: Sequence[Trial]) -> float:
    return OF * sum(trial.verdict is VerdictKind.PASS for trial in trials) / len(trials)


def _most(results: Mapping[tuple[str, int], Sequence[Trial]], name: str, sizes: Sequence[int]) -> float:
    return max(_released(results[name, drives]) for drives in sizes)
