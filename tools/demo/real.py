"""The demonstration on real pictures: a baseline fine-tuned by day, a drive of pictures from day into night.

Drives are parted in two by their names. The first part is learned from: its day pictures make the baseline,
its night pictures are driven through and sampled. The second part is judged by, at the gate and in the final
figures, and no training sees it: its day pictures are the drive's day, its night pictures the rest of its
night, under the new model.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cloud.datasets import Dataset, LabeledImage, read_dataset, write_dataset
from cloud.datasets.files import write_file
from cloud.datasets.splitting import split_of_drive
from tools.demo.errors import DemoError
from tools.demo.fine_tune import FineTuning
from tools.demo.plan import Pace, Recipe, Scene
from tools.demo.scoring import SLICE_BY

DAY, NIGHT = "daytime", "night"
RATE_HZ = 2.0  # of the drive: every picture is judged by the drift monitor
PARTS = {"learn": 0.7, "judge": 0.3}
SIDES = {"train": 0.88, "val": 0.12}

IMGSZ = 512
BASELINE_EPOCHS = 10
RECIPE = Recipe(old_per_new=1.0, epochs=8, imgsz=IMGSZ, targets=(NIGHT,))  # day and night in equal parts
SAMPLED_SHARE = 0.85  # of the night pictures to learn from; the first pass before the alarm
# Ten pictures a second, and one in half a minute while the cloud trains, so that some are left for the new
# model. Small pieces of features, so that the cloud has enough of the night to know it again.
PACE = Pace(
    sample_spacing_s=1 / RATE_HZ,
    fast=10 / RATE_HZ,
    slow=1 / (30 * RATE_HZ),
    longest_alarm_s=120.0,
    series_s=5.0,
)
LEARN_S = 15.0  # of the few pictures that there are

_MIN_PICTURES = 20  # of each kind; fewer tell nothing


@dataclass(frozen=True, slots=True)
class Parts:
    """The pictures by what they are for."""

    learn_day: tuple[LabeledImage, ...]
    learn_night: tuple[LabeledImage, ...]
    judge_day: tuple[LabeledImage, ...]
    judge_night: tuple[LabeledImage, ...]


def real_scene(data: Path, weights: str, work: Path) -> Scene:
    """Lay the scene out in a folder: datasets, the drive's pictures, and how the baseline is made.

    Args:
        data: anything that `cloud.datasets.read_dataset` reads, with `timeofday` (daytime, night).
        weights: an Ultralytics checkpoint, or the name of one that it downloads.
        work: an empty folder.

    Raises:
        DemoError: there are too few pictures of a kind.
        DatasetError: the data cannot be read.
    """
    parts = part(read_dataset(data).images)
    training, judging, drive = work / "training", work / "judging", work / "drive"
    write_dataset(training, Dataset(parts.learn_day), split_of=_side, link=True)
    write_dataset(judging, Dataset((*parts.judge_day, *parts.judge_night)), link=True)
    ordered = [*parts.judge_day, *parts.learn_night, *parts.judge_night]
    # Numbered, so that they come in this order. The vehicle drives through the pictures themselves, and the
    # labelling service knows them by their names.
    numbered = tuple(_numbered(number, image) for number, image in enumerate(ordered))
    write_dataset(drive, Dataset(numbered), link=True)
    plan = FineTuning(
        weights=weights,
        data=training,
        work=work / "baseline",
        imgsz=IMGSZ,
        epochs=BASELINE_EPOCHS,
        rate_hz=RATE_HZ,
    )
    write_file(plan.work / "plan.json", json.dumps(plan.to_json()))
    dusk_s = len(parts.judge_day) / RATE_HZ
    return Scene(
        mode="real",
        baseline=plan.model,
        checkpoint=plan.checkpoint,
        data=training,
        holdout=(judging,),
        evaluation=(judging,),
        camera={"url": str(drive / "images"), "still_rate_hz": RATE_HZ},
        dusk_s=dusk_s,
        dark_s=dusk_s,
        recipe=_recipe(parts),
        pace=PACE,
        labels=(drive,),
        learn_s=LEARN_S,
        first=(sys.executable, "-m", "tools.demo.fine_tune", str(plan.work / "plan.json")),
    )


def part(images: Sequence[LabeledImage]) -> Parts:
    """Part the pictures by drive and by time of day; others than day and night are left out.

    Raises:
        DemoError: there are too few of a kind.
    """
    found: dict[tuple[str, str], list[LabeledImage]] = {
        (name, light): [] for name in PARTS for light in (DAY, NIGHT)
    }
    for image in images:
        light = image.attributes.get(SLICE_BY, "")
        if image.path is not None and image.boxes and light in (DAY, NIGHT):
            found[split_of_drive(image.drive, PARTS), light].append(image)
    counts = ", ".join(f"{len(some)} to {name} by {light}" for (name, light), some in found.items())
    if min(map(len, found.values())) < _MIN_PICTURES:
        raise DemoError(
            f"too few labelled pictures: {counts}; at least {_MIN_PICTURES} of each are needed, with an "
            f"attribute {SLICE_BY!r} that is {DAY!r} or {NIGHT!r}"
        )
    return Parts(
        tuple(found["learn", DAY]),
        tuple(found["learn", NIGHT]),
        tuple(found["judge", DAY]),
        tuple(found["judge", NIGHT]),
    )


def _numbered(number: int, image: LabeledImage) -> LabeledImage:
    return replace(image, name=f"{number:05d}-{Path(image.name).name}")


def _side(image: LabeledImage) -> str:
    return split_of_drive(image.drive, SIDES, salt="baseline")


def _recipe(parts: Parts) -> Recipe:
    shapes = {(image.height, image.width) for image in (*parts.learn_day, *parts.learn_night)}
    samples = round(SAMPLED_SHARE * len(parts.learn_night))
    return replace(RECIPE, samples=samples, rectangular=len(shapes) == 1)
