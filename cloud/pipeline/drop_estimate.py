"""How far a model's mAP50 falls when what it finds changes: measured before its release, for its vehicles.

The holdout is corrupted in known ways; on each version the vehicle's own features of detections and the mAP50
are measured, by the code that runs there and the evaluation that the gate judges by; the one is regressed on
the other (see `edge.drift.drop` for the papers).
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from cloud.datasets import LabeledImage, canonical
from cloud.datasets.pictures import PictureError
from cloud.pipeline.corruptions import KINDS, SEVERITIES, corrupted
from cloud.pipeline.drop_regression import MetaPoint, fit_drop_model
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.evaluation import evaluation_options, load_picture
from cloud.pipeline.evaluation_coco import Matches
from edge.drift import Origin
from edge.drift.drop import DropModel, estimate
from edge.drift.features import NAMES, ORIGINS, extract
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.model_file import ModelFile

CLEAN = "clean"
FEATURES = tuple(name for name, origin in zip(NAMES, ORIGINS, strict=True) if origin is Origin.DETECTIONS)
MAX_PICTURES = 100
MIN_BOXES = 20

_PLACES = [NAMES.index(name) for name in FEATURES]

Progress = Callable[[Iterable[LabeledImage]], Iterable[LabeledImage]]


class DropError(PipelineError):
    """How accuracy falls cannot be measured by these pictures; the message says why."""


@dataclass(frozen=True, slots=True)
class DropOptions:
    """How to measure.

    Attributes:
        pictures: at most so many; the time grows with them.
        min_boxes: a class with fewer in these pictures is not averaged.
        seed: another one takes others, and corrupts them otherwise.
        threads: of the inference.
        progress: wraps the pictures, to show how far it is.
    """

    pictures: int = MAX_PICTURES
    min_boxes: int = MIN_BOXES
    seed: int = 0
    threads: int = 2
    progress: Progress = iter


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model saw on some pictures, in their order.

    Attributes:
        features: `float[F]` of each, in the order of FEATURES, as the vehicle computes them; NaN: none.
        predictions: `float32[N, 6]` of each, all that count for the evaluation.
    """

    features: list[npt.NDArray[np.float32]] = field(default_factory=list)
    predictions: list[npt.NDArray[np.float32]] = field(default_factory=list)

    def at(self, places: Sequence[int]) -> Seen:
        """What it saw on some of them."""
        return Seen([self.features[place] for place in places], [self.predictions[place] for place in places])

    def means(self) -> dict[str, float]:
        """Mean of each feature over the pictures that have it, as a vehicle's window has it; if any has."""
        rows = np.array(self.features, np.float64).reshape(-1, len(FEATURES))
        there = np.isfinite(rows)
        return {
            name: float(rows[there[:, place], place].mean())
            for place, name in enumerate(FEATURES)
            if there[:, place].any()
        }


class Eyes:
    """A model as the vehicle runs it and as it is evaluated, with one inference for both."""

    def __init__(self, model: ModelFile, threads: int) -> None:
        """Load the model.

        Raises:
            TrafficVisionError: it cannot be run here.
        """
        self._judged = Detector(model, evaluation_options(threads))
        self._driving = Detector(model, DetectorOptions(threads=threads))

    def look(self, picture: npt.NDArray[np.uint8], seen: Seen) -> None:
        """Add what it sees on a picture, `uint8[H, W, 3]` BGR.

        Raises:
            InferenceError: the run failed.
        """
        output = self._judged.raw_output(picture)
        hw = (picture.shape[0], picture.shape[1])
        seen.features.append(extract(picture, self._driving.decode(output, hw))[_PLACES])
        seen.predictions.append(self._judged.decode(output, hw))


@dataclass(frozen=True, slots=True)
class Measurement:
    """How a model's accuracy falls, and what that was told from.

    Attributes:
        drop: what goes with the model.
        images: the pictures.
        clean: as they are.
        points: as they were corrupted.
        judged: classes that are averaged.
        seen: what the model saw on the pictures as they are.
    """

    drop: DropModel
    images: tuple[LabeledImage, ...]
    clean: MetaPoint
    points: tuple[MetaPoint, ...]
    judged: tuple[str, ...]
    seen: Seen

    def to_text(self) -> str:
        """Lay out for a terminal what was measured beside what the fit says of it."""
        lines = [
            self.drop.method,
            f"mAP50 {self.drop.map50:.3f} over {', '.join(self.judged)}; change by severity 1 to 5,"
            " measured (estimated):",
        ]
        for kind in KINDS:
            pairs = [
                (point.map50 - self.clean.map50, estimate(self.drop, point.means, self.clean.means))
                for point in self.points
                if point.kind == kind
            ]
            cells = (f"{was:+.3f} ({'-' if told is None else f'{told:+.3f}'})" for was, told in pairs)
            lines.append(f"  {kind:14s}{'  '.join(f'{cell:16s}' for cell in cells)}".rstrip())
        for one in (self.drop, *self.drop.alternatives):
            slopes = ", ".join(
                f"{name.replace('_', ' ')} {slope:+.3f}"
                for name, slope in zip(one.features, one.slopes, strict=True)
            )
            lines.append(f"slopes: {slopes}; residual on kinds left out {one.residual:.3f}")
        return "\n".join(lines)


def measure_drop(
    model: ModelFile, images: Sequence[LabeledImage], options: DropOptions | None = None
) -> Measurement:
    """Corrupt pictures, look at them, and regress the loss of mAP50 on the change of the features.

    The same model, pictures and options give the same result.

    Args:
        model: the model.
        images: labelled, of drives that it was not trained on; an even choice of them is used.
        options: how.

    Raises:
        DropError: there are too few boxes, or the model finds too little for anything to be told.
        TrafficVisionError: the model cannot be run.
    """
    options = options or DropOptions()
    chosen = spread(images, options.pictures, options.seed)
    _require_boxes(model, chosen, options)
    eyes = Eyes(model, options.threads)
    versions = [(CLEAN, 0), *((kind, severity) for kind in KINDS for severity in SEVERITIES)]
    seen = {version: Seen() for version in versions}
    used: list[LabeledImage] = []
    for image in options.progress(chosen):
        try:
            picture = load_picture(image)
        except PictureError:
            continue
        used.append(image)
        seed = (options.seed, zlib.crc32(image.name.encode()))
        for kind, severity in versions:
            shown = picture if kind == CLEAN else corrupted(picture, kind, severity, seed)
            eyes.look(shown, seen[kind, severity])
    judged = _require_boxes(model, used, options)
    points = []
    for (kind, severity), found in seen.items():
        map50 = map50_of(model, used, found.predictions, judged)
        points.append(MetaPoint(kind, severity, found.means(), map50))
    clean, *worse = points
    drop = fit_drop_model(clean, worse, _method(len(used)))
    if drop is None:
        raise DropError("how accuracy falls is not measured: the model finds too little on these pictures")
    return Measurement(drop, tuple(used), clean, tuple(worse), judged, seen[CLEAN, 0])


def _require_boxes(model: ModelFile, images: Sequence[LabeledImage], options: DropOptions) -> tuple[str, ...]:
    judged = judged_classes(model, images, options.min_boxes)
    if not judged:
        raise DropError(
            f"how accuracy falls is not measured: no class of the model has {options.min_boxes} boxes in"
            f" {len(images)} pictures"
        )
    return judged


def spread(images: Sequence[LabeledImage], count: int, seed: int = 0) -> list[LabeledImage]:
    """Some of the pictures that there are files of, by chance, as many of one drive as of another."""
    generator = np.random.default_rng(seed)
    by_drive: dict[str, list[LabeledImage]] = defaultdict(list)
    for image in sorted(images, key=lambda image: image.name):
        if image.path is not None:
            by_drive[image.drive].append(image)
    drives = [by_drive[drive] for drive in sorted(by_drive)]
    mixed = [
        [drives[place][number] for number in generator.permutation(len(drives[place])).tolist()]
        for place in generator.permutation(len(drives)).tolist()
    ]
    in_turn = [image for turn in zip_longest(*mixed) for image in turn if image is not None]
    return sorted(in_turn[:count], key=lambda image: image.name)


def judged_classes(model: ModelFile, images: Sequence[LabeledImage], min_boxes: int) -> tuple[str, ...]:
    """The model's classes that so many boxes of the pictures are of, canonical."""
    counts = Counter(box.category for image in images for box in image.boxes)
    names = dict.fromkeys(map(canonical, model.metadata.class_names))
    return tuple(name for name in names if counts[name] >= max(1, min_boxes))


def map50_of(
    model: ModelFile,
    images: Sequence[LabeledImage],
    predictions: Sequence[npt.NDArray[np.float32]],
    judged: Sequence[str],
) -> float:
    """MAP50 over the classes that are judged, each of which has a box; 0 to 1."""
    matches = Matches(images, predictions, model.metadata.class_names, judged)
    return matches.score().map50 or 0.0


def _method(pictures: int) -> str:
    return (
        f"ridge regression over {len(KINDS)} corruptions ({', '.join(KINDS)}) of {len(SEVERITIES)} severities"
        f" of {pictures} labelled pictures: AutoEval (Deng and Zheng, 2021) on differences of confidence"
        " (Guillory et al., 2021)"
    )
