"""`bench retrain`: a detector that knows one slice learns another, by the pipeline's way and by a plain one.

Each seed splits the drives anew, and each split has its own champion, trained on the pictures of the slice
that is to be kept alone. From there the pipeline's retrain (its mixture and its defaults) and a plain one
(all pictures, Ultralytics' own optimizer) go on for as many epochs. All are judged on the drives that none of
them saw, by the detector that runs on vehicles, with intervals by the gate's paired bootstrap over drives.

The first seed's retrain is done once more as a cloud does it, from samples to a release or its refusal: what
of the wall time is neither training nor evaluation.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

from cloud.config import DatasetConfig, GateConfig, TrainingConfig
from cloud.datasets import CANONICAL, Dataset, LabeledImage, canonical, dataset_sha256, write_dataset
from cloud.datasets.splitting import split_of_drive
from cloud.datasets.writing import LABELS_FILE
from cloud.pipeline.baseline import Baseline
from cloud.pipeline.evaluation_coco import Matches
from cloud.pipeline.gate_slices import Ranked, SliceFigures, measure
from cloud.pipeline.manifest import Entry
from cloud.pipeline.mixing import pick_old
from cloud.pipeline.training import EpochReport, TrainingPlan, train
from cloud.pipeline.training_record import plan_of
from edge.files import atomic_write
from edge.perception.model_file import ModelFile
from tools.bench.gate.looks import Tell, look
from tools.bench.labeled import pictures_of
from tools.bench.report import Report, Table, Target
from tools.bench.retrain.loop import EVALUATION, TRAINING, Loop, run_loop
from tools.bench.rounds import BenchError
from tools.bench.subject import load_pictures, subject_from_checkpoint

BEFORE, PLAIN, PIPELINE = "before", "plain", "pipeline"
_PAIRS = ((BEFORE, PIPELINE), (BEFORE, PLAIN), (PLAIN, PIPELINE))
_RECORD = "settings.json"  # in the folder of what was trained
_DECIDE = ("imgsz", "first_epochs", "epochs", "slice_by", "kept", "target", "holdout")  # what comes of a seed
_VAL_SHARE = 0.05  # of all drives, to choose the checkpoint by
OTHER_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class RetrainSettings:
    """What to train.

    Attributes:
        data: labelled pictures that are there, of both slices.
        weights: the checkpoint that champions begin from.
        work: keeps what was trained; a run goes on where one of the same settings ended.
        seeds: splits, each with its own trainings.
        imgsz: side of the training picture and of the detector's input, pixels.
        first_epochs, epochs: of a champion, and of each retrain.
        slice_by: an attribute of the pictures.
        kept, target: its values: what the champion is trained on, and what is new to it.
        holdout: share of the drives that is judged on.
        min_boxes: classes with fewer in a slice of the holdout are not averaged there.
        resamples: of the bootstrap.
        threads: of training and inference.
        loop: time the whole loop too.
    """

    data: Path
    weights: Path
    work: Path
    seeds: int = 3
    imgsz: int = 320
    first_epochs: int = 8
    epochs: int = 6
    slice_by: str = "timeofday"
    kept: str = "daytime"
    target: str = "night"
    holdout: float = 0.5
    min_boxes: int = 20
    resamples: int = 1000
    threads: int = 2
    loop: bool = True


@dataclass(frozen=True, slots=True)
class _Split:
    """The pictures of one seed.

    Attributes:
        folder: for all that is made of it.
        sides: side (train, val, test) to its pictures.
    """

    seed: int
    folder: Path
    sides: Mapping[str, Sequence[LabeledImage]]


def bench_retrain(settings: RetrainSettings, tell: Tell = lambda what, done, of: None) -> Report:
    """Train and judge.

    Args:
        settings: what.
        tell: is told what is done, how many of how many.

    Raises:
        BenchError: the data have too little, or the folder keeps what other settings trained.
        TrafficVisionError: the data or the weights cannot be used, or a training failed.
    """
    images = pictures_of(settings.data, settings.slice_by, settings.kept, settings.target)
    splits = [_split(settings, images, seed) for seed in range(settings.seeds)]
    _require_same(settings, images)
    found = {split.seed: _of_seed(settings, split, tell) for split in splits}
    return _report(settings, images, found, _loop(settings, splits[0], tell) if settings.loop else None)


def _loop(settings: RetrainSettings, split: _Split, tell: Tell) -> Loop:
    """The pipeline's retrain of a split, by a cloud whose champion is the split's."""
    tell("the loop, in a cloud", 0, 1)
    checkpoint = _trained(settings, split, tell)[BEFORE]  # it is there
    model = split.folder / f"{BEFORE}.onnx"
    atomic_write(model, _model(checkpoint, settings, split.folder / f"{BEFORE}-export").data)
    judged = _data(split, "judged", (), split.sides["test"])
    sections = {
        "dataset": {"val_share": _VAL_SHARE, "test_share": 0.0},
        "training": {
            "imgsz": settings.imgsz,
            "epochs": settings.epochs,
            "seed": split.seed,
            "threads": settings.threads,
            "device": "cpu",
        },
        "gate": {
            "holdout": [str(judged.absolute())],
            "slice_by": settings.slice_by,
            "targets": [settings.target],
            "min_boxes": settings.min_boxes,
            "resamples": settings.resamples,
        },
    }
    everything = split.folder / "data" / "all"
    new = [image for image in split.sides["train"] if _slice(settings, image) == settings.target]
    baseline = Baseline(model, checkpoint, split.folder / "data" / "kept")
    loop = run_loop(split.folder / "loop", baseline, everything, new, sections)
    tell("the loop, in a cloud", 1, 1)
    return loop


def _require_same(settings: RetrainSettings, images: Sequence[LabeledImage]) -> None:
    """What the folder keeps is of these settings; of others, it may have seen what it would be judged on.

    Raises:
        BenchError: it is of others.
    """
    weights = settings.weights.read_bytes() if settings.weights.is_file() else str(settings.weights).encode()
    asked = {name: getattr(settings, name) for name in _DECIDE}
    asked["data"] = dataset_sha256(Dataset(tuple(images)))
    asked["weights"] = hashlib.sha256(weights).hexdigest()
    record = settings.work / _RECORD
    if not record.is_file():
        settings.work.mkdir(parents=True, exist_ok=True)
        atomic_write(record, json.dumps(asked, indent=2).encode())
        return
    try:
        kept = dict(json.loads(record.read_bytes()))
    except (ValueError, TypeError) as error:
        raise BenchError(f"{str(record)!r} cannot be read ({error}): give another --work") from None
    other = [name for name, value in asked.items() if kept.get(name) != value]
    if other:
        raise BenchError(
            f"{str(settings.work)!r} keeps trainings of other {', '.join(other)}: give another --work"
        )


def _split(settings: RetrainSettings, images: Sequence[LabeledImage], seed: int) -> _Split:
    shares = {
        "train": 1 - settings.holdout - _VAL_SHARE,
        "val": _VAL_SHARE,
        "test": settings.holdout,
    }
    sides: dict[str, list[LabeledImage]] = {side: [] for side in shares}
    for image in images:
        sides[split_of_drive(image.drive, shares, f"bench retrain {seed}")].append(image)
    for side, chosen in sides.items():
        there = Counter(image.attributes[settings.slice_by] for image in chosen)
        if len(there) < 2:
            raise BenchError(
                f"{settings.data}: of {len(images)} pictures the side {side} of seed {seed} has "
                f"{dict(there)}: {settings.kept} and {settings.target} are needed there"
            )
    return _Split(seed, settings.work / f"seed-{seed}", sides)


def _of_seed(
    settings: RetrainSettings, split: _Split, tell: Tell
) -> dict[tuple[str, str], list[SliceFigures]]:
    """Both models of each pair, on each slice."""
    checkpoints = _trained(settings, split, tell)
    gate = GateConfig(
        slice_by=settings.slice_by,
        slices=(settings.slice_by,),
        targets=(settings.target,),
        min_boxes=settings.min_boxes,
        resamples=settings.resamples,
    )
    images = split.sides["test"]
    labeled = {box.category for image in images for box in image.boxes}
    ranked = {}
    for way, checkpoint in checkpoints.items():
        model = _model(checkpoint, settings, split.folder / f"{way}-export")
        judged = [name for name in map(canonical, model.metadata.class_names) if name in labeled]
        boxes = look(
            model,
            images,
            settings.threads,
            settings.work / "found",
            tell,
        )
        ranked[way] = Ranked.of(Matches(images, boxes, model.metadata.class_names, judged), gate)
    return {
        (first, second): list(measure(images, ranked[first], ranked[second], gate, split.seed))
        for first, second in _PAIRS
    }


def _trained(settings: RetrainSettings, split: _Split, tell: Tell) -> dict[str, Path]:
    def fit(way: str, plan: TrainingPlan) -> Path:
        def report(epoch: EpochReport) -> None:
            tell(f"seed {split.seed}, {way}: epoch", epoch.epoch, plan.epochs)

        tell(f"seed {split.seed}, {way}: epoch", 0, plan.epochs)
        return train(plan, report)

    sides, new = split.sides, settings.target
    old = [image for image in sides["train"] if _slice(settings, image) != new]
    known = _data(split, "kept", old, [image for image in sides["val"] if _slice(settings, image) != new])
    everything = _data(split, "all", sides["train"], sides["val"])
    mixed = _data(split, "mixed", _mixed(settings, split, old), sides["val"])
    first = _plain_plan(settings, split, BEFORE, settings.weights, known, settings.first_epochs)
    before = fit(BEFORE, first)
    plain = fit(PLAIN, _plain_plan(settings, split, PLAIN, before, everything, settings.epochs))
    config = TrainingConfig(
        imgsz=settings.imgsz, epochs=settings.epochs, seed=split.seed, threads=settings.threads
    )
    pipeline = fit(PIPELINE, plan_of(config, before, mixed, split.folder, PIPELINE))
    return {BEFORE: before, PLAIN: plain, PIPELINE: pipeline}


def _slice(settings: RetrainSettings, image: LabeledImage) -> str:
    return image.attributes[settings.slice_by]


def _plain_plan(
    settings: RetrainSettings, split: _Split, name: str, start: Path, data: Path, epochs: int
) -> TrainingPlan:
    """Ultralytics' own way, with its own choice of optimizer and learning rate."""
    return TrainingPlan(
        start=str(start),
        data=data / "data.yaml",
        work=split.folder,
        name=name,
        imgsz=settings.imgsz,
        epochs=epochs,
        seed=split.seed,
        threads=settings.threads,
    )


def _mixed(settings: RetrainSettings, split: _Split, old: Sequence[LabeledImage]) -> list[LabeledImage]:
    """What the pipeline trains on: all that is new, and of the old by its mixture."""
    mixture = DatasetConfig()
    fresh = [image for image in split.sides["train"] if _slice(settings, image) == settings.target]
    room = max(mixture.max_training_images - len(fresh), 0)
    entries = [
        Entry(image.name, image.drive, "train", True, _slice(settings, image), "", "") for image in old
    ]
    picked = pick_old(entries, min(round(mixture.old_per_new * len(fresh)), room), split.seed)
    return [*(image for image in old if image.name in picked), *fresh]


def _data(
    split: _Split, name: str, training: Sequence[LabeledImage], choosing: Sequence[LabeledImage]
) -> Path:
    """Write a folder to train on, if it is not there."""
    folder = split.folder / "data" / name
    if not (folder / LABELS_FILE).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        chosen = {image.name for image in choosing}
        write_dataset(
            folder,
            Dataset((*training, *choosing)),
            CANONICAL,
            split_of=lambda image: "val" if image.name in chosen else "train",
            link=True,
        )
    return folder


def _model(checkpoint: Path, settings: RetrainSettings, folder: Path) -> ModelFile:
    folder.mkdir(parents=True, exist_ok=True)
    size = (settings.imgsz, settings.imgsz)
    return subject_from_checkpoint(checkpoint, size, load_pictures(None), folder).model


_Figures = Mapping[tuple[str, str], Sequence[SliceFigures]]


def _report(
    settings: RetrainSettings,
    images: Sequence[LabeledImage],
    found: Mapping[int, _Figures],
    loop: Loop | None,
) -> Report:
    names = {settings.kept: "kept", settings.target: "new"}
    rows, differences = [], []
    for seed, pairs in found.items():
        for name, role in names.items():
            by_pair = {pair: _of_slice(settings, figures, name) for pair, figures in pairs.items()}
            whole, plain = by_pair[BEFORE, PIPELINE], by_pair[BEFORE, PLAIN]
            rows.append(
                (
                    f"{seed}: {name}, {role}",
                    str(whole.images),
                    f"{len(whole.classes)}",
                    *(_fine(value) for value in (whole.champion, whole.challenger, plain.challenger)),
                )
            )
            differences.append(
                (f"{seed}: {name}, {role}", *(_interval(by_pair[pair]) for pair in _PAIRS)),
            )
    means = [
        (f"{name}, {role}", *(_spread(_over_seeds(settings, found, pair, name)) for pair in _PAIRS))
        for name, role in names.items()
    ]
    columns = [f"{second} over {first}" for first, second in _PAIRS]
    confidence = GateConfig().confidence
    tables = [
        Table(
            "mAP50 on drives that no training saw",
            ("seed: slice", "pictures", "classes", BEFORE, PIPELINE, PLAIN),
            rows,
        ),
        Table(
            f"differences, with intervals of {2 * confidence - 1:.0%} over drives",
            ("seed: slice", *columns),
            differences,
        ),
        Table("differences, mean of the seeds and their standard deviation", ("slice", *columns), means),
    ]
    gains = {name: fmean(_over_seeds(settings, found, (BEFORE, PIPELINE), name)) for name in names}
    targets = [
        Target(
            f"{settings.target}: mean gain of the pipeline's retrain, mAP50", gains[settings.target], 0, True
        ),
        Target(
            f"{settings.kept}: mean difference of the pipeline's retrain, mAP50",
            gains[settings.kept],
            -GateConfig().margin,
            True,
        ),
    ]
    notes = []
    if loop is not None:
        beside = loop.wall_s - sum(loop.stages_s.values())
        spent = [*loop.stages_s.items(), ("beside them", beside), ("all", loop.wall_s)]
        timed = [(name, seconds, f"{seconds / loop.wall_s:.1%}") for name, seconds in spent]
        tables.append(Table("the loop, from its command to its end", ("stage", "s", "share"), timed))
        targets.append(
            Target(
                f"share of the loop's wall time that is neither {TRAINING} nor {EVALUATION}",
                round(loop.other_share, 3),
                OTHER_SHARE,
            )
        )
        notes.append(f"the loop's retrain was {loop.state}: {loop.detail}")
    figures = {
        "images": len(images),
        "imgsz": settings.imgsz,
        "epochs": [settings.first_epochs, settings.epochs],
        "loop": None if loop is None else {**asdict(loop), "other_share": round(loop.other_share, 4)},
        "seeds": [
            {
                "seed": seed,
                "pairs": [
                    {"first": first, "second": second, "slices": [each.to_json() for each in figures]}
                    for (first, second), figures in pairs.items()
                ],
            }
            for seed, pairs in found.items()
        ],
    }
    return Report("retrain", figures, targets, tables, notes)


def _of_slice(settings: RetrainSettings, figures: Sequence[SliceFigures], name: str) -> SliceFigures:
    (found,) = (each for each in figures if each.name == name)
    if found.too_little:
        raise BenchError(f"{settings.data}: too little to judge {name}: {found.too_little}")
    return found


def _over_seeds(
    settings: RetrainSettings, found: Mapping[int, _Figures], pair: tuple[str, str], name: str
) -> list[float]:
    return [_of_slice(settings, pairs[pair], name).difference or 0.0 for pairs in found.values()]


def _spread(values: Sequence[float]) -> str:
    return f"{fmean(values):+.3f}" + (f" sd {stdev(values):.3f}" if len(values) > 1 else "")


def _interval(of: SliceFigures) -> str:
    return f"{of.difference:+.3f} ({of.low:+.3f} to {of.high:+.3f})"


def _fine(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
