"""Both models on pictures that no training saw: mAP50 by slice with intervals, and pictures that show it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from cloud.datasets import LabeledImage, canonical, read_dataset
from cloud.pipeline.bootstrap import paired_bootstrap
from cloud.pipeline.evaluation import evaluation_options, predict
from cloud.pipeline.evaluation_coco import Matches, RankedClass
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.model_file import ModelFile
from tools.demo.errors import DemoError
from tools.demo.findings import Detected, Labelled, objects_found
from tools.demo.record import SLICES, Comparison, Score

SLICE_BY = "timeofday"
_VALUES = {"day": "daytime", "night": "night"}
_CONFIDENCE = 0.95
_RESAMPLES = 500
_COMPARISONS = 6

Boxes = npt.NDArray[np.float32]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Scores:
    """What both came to.

    Attributes:
        baseline, candidate: by slice.
        classes: by slice, those with enough boxes to be averaged.
        comparisons: night pictures.
    """

    baseline: Mapping[str, Score]
    candidate: Mapping[str, Score]
    classes: Mapping[str, tuple[str, ...]]
    comparisons: tuple[Comparison, ...]


def score(
    baseline: ModelFile,
    candidate: ModelFile,
    data: Sequence[Path],
    *,
    min_boxes: int,
    threads: int = 2,
    progress: Progress = lambda what, done, of: None,
) -> Scores:
    """Evaluate by COCO's rules through the vehicle's own detector; intervals by a bootstrap over drives.

    Args:
        baseline: the model before.
        candidate: the model after, of the same classes.
        data: labelled data.
        min_boxes: classes with fewer boxes in a slice are not averaged there.
        threads: of the inference.
        progress: told what is done, how many pictures of how many.

    Raises:
        DemoError: a slice has no class with enough boxes, or a picture cannot be used.
        DatasetError: the data cannot be read.
    """
    images = [image for path in data for image in read_dataset(path).images if image.path is not None]
    labeled = {box.category for image in images for box in image.boxes}
    judged = [name for name in map(canonical, baseline.metadata.class_names) if name in labeled]
    found = {
        name: _predict(name, model, images, threads, progress)
        for name, model in (("baseline", baseline), ("candidate", candidate))
    }
    ranked = {
        name: Matches(images, boxes, model.metadata.class_names, judged).ranked()
        for (name, boxes), model in zip(found.items(), (baseline, candidate), strict=True)
    }
    both = {name: _slice(name, images, ranked["baseline"], ranked["candidate"], min_boxes) for name in SLICES}
    return Scores(
        baseline={name: pair[0] for name, pair in both.items()},
        candidate={name: pair[1] for name, pair in both.items()},
        classes={name: pair[2] for name, pair in both.items()},
        comparisons=_comparisons(baseline, candidate, images, found, threads),
    )


def _predict(
    name: str, model: ModelFile, images: Sequence[LabeledImage], threads: int, progress: Progress
) -> list[Boxes]:
    def telling(items: Iterable[LabeledImage]) -> Iterator[LabeledImage]:
        for number, item in enumerate(items):
            progress(f"evaluating the {name}", number, len(images))
            yield item

    used, boxes, refusals = predict(Detector(model, evaluation_options(threads)), images, telling)
    if len(used) != len(images):
        raise DemoError(f"pictures of the evaluation cannot be used: {dict(refusals)}")
    return boxes


def _slice(
    name: str,
    images: Sequence[LabeledImage],
    baseline: Sequence[RankedClass],
    candidate: Sequence[RankedClass],
    min_boxes: int,
) -> tuple[Score, Score, tuple[str, ...]]:
    chosen = [n for n, image in enumerate(images) if image.attributes.get(SLICE_BY) == _VALUES[name]]
    enough = [n for n, ranked in enumerate(baseline) if int(ranked.boxes[chosen].sum()) >= min_boxes]
    if not enough:
        raise DemoError(f"the evaluation has no class with {min_boxes} boxes by {name}")
    drives = [image.drive for image in images]
    pair = paired_bootstrap(
        [baseline[n] for n in enough], [candidate[n] for n in enough], drives, chosen, _RESAMPLES
    )
    low, high = np.quantile(pair.resamples, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2], axis=0)
    there = len(chosen), len({drives[n] for n in chosen})
    first, second = (
        Score(value, float(low[place]), float(high[place]), *there)
        for place, value in enumerate((pair.champion, pair.challenger))
    )
    return first, second, tuple(baseline[n].name for n in enough)


def _comparisons(
    baseline: ModelFile,
    candidate: ModelFile,
    images: Sequence[LabeledImage],
    found: Mapping[str, Sequence[Boxes]],
    threads: int,
) -> tuple[Comparison, ...]:
    """The night pictures on which the candidate finds the most that the baseline does not, a drive's one."""
    gains = []
    for number, image in enumerate(images):
        if image.attributes.get(SLICE_BY) != _VALUES["night"]:
            continue
        hits = [
            _found(image, boxes[number], model)
            for boxes, model in ((found["baseline"], baseline), (found["candidate"], candidate))
        ]
        gains.append((hits[1] - hits[0], hits[1], number))
    best: dict[str, int] = {}
    for _, _, number in sorted(gains, key=lambda gain: (-gain[0], -gain[1], gain[2])):
        best.setdefault(images[number].drive, number)
    detectors = [Detector(model, DetectorOptions(threads=threads)) for model in (baseline, candidate)]
    return tuple(_compare(images[number], detectors) for number in list(best.values())[:_COMPARISONS])


def _found(image: LabeledImage, boxes: Boxes, model: ModelFile) -> int:
    """Count the labelled objects that a model finds above its own threshold."""
    names = model.metadata.class_names
    sure = boxes[boxes[:, 4] >= model.metadata.score_threshold]
    return objects_found(_rows(sure, names), _truth(image))


def _compare(image: LabeledImage, detectors: Sequence[Detector]) -> Comparison:
    assert image.path is not None
    jpeg = image.path.read_bytes()
    picture = np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)
    before, after = (_rows(detector.detect(picture).boxes, detector.class_names) for detector in detectors)
    return Comparison(image.name, jpeg, before, after, _truth(image))


def _rows(boxes: Boxes, names: Sequence[str]) -> list[Detected]:
    return [
        (float(x1), float(y1), float(x2), float(y2), float(sure), names[int(kind)])
        for x1, y1, x2, y2, sure, kind in boxes
    ]


def _truth(image: LabeledImage) -> list[Labelled]:
    return [(box.x1, box.y1, box.x2, box.y2, box.category) for box in image.boxes]
