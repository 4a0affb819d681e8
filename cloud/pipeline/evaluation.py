"""Judging a model file on labelled images, through the very detector that runs on the vehicle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from cloud.datasets import Dataset, LabeledImage, canonical, dataset_sha256, read_dataset
from cloud.datasets.pictures import PictureError, picture_size
from cloud.datasets.progress import progress_bar
from cloud.pipeline.evaluation_coco import MAX_DETECTIONS, Matches, Score
from edge.errors import TrafficVisionError
from edge.perception.detector import Detector, DetectorOptions, InferenceError
from edge.perception.model_file import read_model_file

# As Ultralytics' validation: all candidates count, so that the whole precision-recall curve is there.
SCORE_THRESHOLD = 0.001
IOU_THRESHOLD = 0.7
NO_VALUE = "(none)"


class EvaluationError(TrafficVisionError):
    """A model cannot be judged on these data."""


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """How to evaluate.

    Attributes:
        providers: execution providers by preference; each must be there.
        threads: of the inference.
        images: where the pictures are, if not beside the labels.
        progress: wraps the images, to show how far it is.
    """

    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    threads: int = 2
    images: Path | None = None
    progress: Callable[[Iterable[LabeledImage]], Iterable[LabeledImage]] = field(
        default_factory=lambda: progress_bar("evaluate")
    )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a model does on a dataset.

    Attributes:
        overall: on all images that could be used.
        slices: attribute to value to the score on those images.
        only_in_data: classes that the model does not know, with their boxes; not judged.
        only_in_model: classes without a labelled box; not judged.
        refusals: input that could not be used, count by reason.
        model, data: what was judged and on what, for the record.
    """

    overall: Score
    slices: Mapping[str, Mapping[str, Score]]
    only_in_data: Mapping[str, int]
    only_in_model: tuple[str, ...]
    refusals: Mapping[str, int]
    model: Mapping[str, object] = field(default_factory=dict)
    data: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Give the evaluation as JSON-able values."""
        return {
            "model": dict(self.model),
            "data": dict(self.data),
            "overall": self.overall.to_json(),
            "slices": {
                key: {value: score.to_json() for value, score in values.items()}
                for key, values in self.slices.items()
            },
            "only_in_data": dict(self.only_in_data),
            "only_in_model": list(self.only_in_model),
            "refusals": dict(self.refusals),
            "method": {
                "evaluation": "COCO",
                "score_threshold": SCORE_THRESHOLD,
                "iou_threshold": IOU_THRESHOLD,
                "max_detections": MAX_DETECTIONS,
            },
        }

    def to_text(self) -> str:
        """Lay the evaluation out for a terminal."""
        from cloud.pipeline.evaluation_text import to_text

        return to_text(self)


def evaluate_model_file(
    model_path: Path,
    data: Path,
    slices: Sequence[str] = (),
    options: EvaluationOptions | None = None,
) -> Evaluation:
    """Judge a model file on a dataset.

    Args:
        model_path: a model file.
        data: anything that `cloud.datasets.read_dataset` reads.
        slices: attributes whose values are also judged apart, such as "timeofday".
        options: how.

    Raises:
        EvaluationError: no image can be used, no class is in common, or no image has a slice's attribute.
        DatasetError: the dataset cannot be read.
        ModelFileError: the model file cannot.
        ProviderError: an execution provider is not there.
    """
    options = options or EvaluationOptions()
    model = read_model_file(model_path)
    dataset = read_dataset(data, options.images)
    check_usable(dataset, model.metadata.class_names, slices, str(data))
    detector = Detector(model, evaluation_options(options.threads, options.providers))
    images, predictions, refusals = predict(detector, dataset.images, options.progress)
    refusals.update(refusal.reason for refusal in dataset.refusals)
    if not images:
        raise EvaluationError(
            f"{data}: none of {len(dataset.images)} images could be used: {_listed(refusals)}"
        )
    return evaluate_detections(
        images,
        predictions,
        detector.class_names,
        slices,
        refusals=refusals,
        model={
            "path": str(model_path),
            "name": model.metadata.name,
            "version": model.metadata.version,
            "sha256": model.digest,
            "precision": model.metadata.precision,
            "input_hw": list(model.input_hw),
        },
        data={
            "path": str(data),
            "sha256": dataset_sha256(dataset),
            "images": len(images),
            "drives": len({image.drive for image in images}),
        },
    )


def evaluation_options(
    threads: int, providers: tuple[str, ...] = ("CPUExecutionProvider",)
) -> DetectorOptions:
    """Give the options of a detector whose every candidate counts."""
    return DetectorOptions(
        providers=providers,
        threads=threads,
        score_threshold=SCORE_THRESHOLD,
        iou_threshold=IOU_THRESHOLD,
        max_detections=MAX_DETECTIONS,
        multi_label=True,
    )


def check_usable(dataset: Dataset, class_names: Sequence[str], slices: Sequence[str], where: str) -> None:
    """Refuse, before any inference, what cannot give a result.

    Raises:
        EvaluationError: no labelled box, no class in common, no picture, or an attribute that no image has.
    """
    counts = dataset.class_counts()
    if not counts:
        raise EvaluationError(f"{where}: none of {len(dataset.images)} images has a labelled box")
    if not counts.keys() & {canonical(name) for name in class_names}:
        raise EvaluationError(
            f"{where} and the model have no class in common: the data have {', '.join(sorted(counts))}; "
            f"the model has {', '.join(class_names)}"
        )
    if all(image.path is None for image in dataset.images):
        raise EvaluationError(
            f"{where}: the pictures of its {len(dataset.images)} labelled images were not found; "
            "put them beside the labels or in images/"
        )
    attributes = {key for image in dataset.images for key in image.attributes}
    for key in slices:
        if key not in attributes:
            has = ", ".join(sorted(attributes)) or "none"
            raise EvaluationError(
                f"{where}: no image has the attribute {key!r} to slice by; there are: {has}"
            )


def predict(
    detector: Detector,
    images: Sequence[LabeledImage],
    progress: Callable[[Iterable[LabeledImage]], Iterable[LabeledImage]] = iter,
) -> tuple[list[LabeledImage], list[npt.NDArray[np.float32]], Counter[str]]:
    """Run a detector over labelled images.

    Returns:
        The images that could be used, for each `float32[N, 6]` x1, y1, x2, y2 in pixels, score, class; and
        why the others could not, count by reason.
    """
    used: list[LabeledImage] = []
    predictions: list[npt.NDArray[np.float32]] = []
    refusals: Counter[str] = Counter()
    for image in progress(images):
        try:
            picture = load_picture(image)
        except PictureError as error:
            refusals[str(error)] += 1
            continue
        try:
            detections = detector.detect(picture)
        except InferenceError:
            refusals["inference error"] += 1
            continue
        used.append(image)
        predictions.append(detections.boxes)
    return used, predictions, refusals


def load_picture(image: LabeledImage) -> npt.NDArray[np.uint8]:
    """Read a picture, `uint8[H, W, 3]` BGR.

    Raises:
        PictureError: it is missing, corrupt, or of another size than its labels say.
    """
    if image.path is None:
        raise PictureError("image is missing")
    # OpenCV gives a truncated JPEG with its lower part grey; Pillow says that it is truncated.
    picture_size(image.path, decode=True)
    picture = cv2.imread(str(image.path), cv2.IMREAD_COLOR)
    if picture is None:
        raise PictureError("image is corrupt")
    if image.width is not None and (image.height, image.width) != picture.shape[:2]:
        raise PictureError("image is not of the size that its labels say")
    return np.asarray(picture, np.uint8)


def evaluate_detections(
    images: Sequence[LabeledImage],
    predictions: Sequence[npt.NDArray[np.float32]],
    class_names: Sequence[str],
    slices: Sequence[str] = (),
    *,
    refusals: Mapping[str, int] | None = None,
    model: Mapping[str, object] | None = None,
    data: Mapping[str, object] | None = None,
) -> Evaluation:
    """Judge predictions by COCO's evaluation, matched once and scored for the whole and for each slice.

    Args:
        images: the labels.
        predictions: for each image `float32[N, 6]`: x1, y1, x2, y2 in pixels, score, class.
        class_names: of the predictions' classes, in any spelling.
        slices: attributes whose values are judged apart.
        refusals: taken over into the result; so are the next two.
        model: what made the predictions.
        data: where the labels are from.

    Raises:
        EvaluationError: labels and predictions have no class in common.
    """
    counts = Counter(box.category for image in images for box in image.boxes)
    known = list(dict.fromkeys(canonical(name) for name in class_names))
    judged = [name for name in known if counts[name]]
    if not judged:
        raise EvaluationError(
            f"the images that could be used have no box of a class of the model ({', '.join(known)})"
        )
    matches = Matches(images, predictions, class_names, judged)
    by_slice: dict[str, dict[str, Score]] = {}
    for key in slices:
        places: dict[str, list[int]] = {}
        for number, image in enumerate(images):
            places.setdefault(image.attributes.get(key, NO_VALUE), []).append(number)
        by_slice[key] = {value: matches.score(places[value]) for value in sorted(places)}
    return Evaluation(
        overall=matches.score(),
        slices=by_slice,
        only_in_data={name: count for name, count in counts.most_common() if name not in judged},
        only_in_model=tuple(name for name in known if name not in judged),
        refusals=dict(Counter(refusals).most_common()),
        model=model or {},
        data=data or {},
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} ({count})" for reason, count in Counter(counts).most_common())
