"""COCO's detection evaluation over in-memory boxes, for the whole and for any part of the images.

Boxes are matched once for each image and class; the score of a slice, or of a resample of the images, then
only accumulates the matches of its images.

Source: T.-Y. Lin et al., Microsoft COCO: Common Objects in Context, 2014; pycocotools is its reference code.
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud.datasets.classes import UNSURE, canonical
from cloud.datasets.dataset import LabeledImage

MAX_DETECTIONS = 300
# COCO's: areas of boxes in pixels of the picture, both ends included.
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
_RECALLS = np.linspace(0.0, 1.0, 101)  # COCO's


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How well one class is found.

    Attributes:
        boxes: labelled, without crowds.
        ap50: average precision at IoU 0.5, None without labelled boxes.
        ap: the mean over IoU 0.5, 0.55 ... 0.95, None without labelled boxes.
    """

    boxes: int
    ap50: float | None
    ap: float | None


@dataclass(frozen=True, slots=True)
class Score:
    """How well a detector does on some images.

    Attributes:
        images, boxes: that were judged.
        map50: mean over the classes with labelled boxes of their AP at IoU 0.5; None if there is none.
        map50_95: the same over IoU 0.5 to 0.95.
        classes: every class that was judged.
    """

    images: int
    boxes: int
    map50: float | None
    map50_95: float | None
    classes: Mapping[str, ClassScore]

    def to_json(self) -> dict[str, object]:
        """Give the score as JSON-able values."""
        return {
            "images": self.images,
            "boxes": self.boxes,
            "map50": self.map50,
            "map50_95": self.map50_95,
            "classes": {
                name: {"boxes": score.boxes, "ap50": score.ap50, "ap": score.ap}
                for name, score in self.classes.items()
            },
        }


@dataclass(frozen=True, slots=True, eq=False)
class RankedClass:
    """The detections of one class at IoU 0.5, by falling score: all that its average precision is made of.

    Attributes:
        name: canonical class name.
        images: `int64[n]`, the place of each detection's image in the sequence that was matched.
        hits: `bool[n]`, whether it found a labelled box. Those on crowds are left out.
        boxes: `int64[images]`, labelled, without crowds.
    """

    name: str
    images: npt.NDArray[np.int64]
    hits: npt.NDArray[np.bool_]
    boxes: npt.NDArray[np.int64]

    def ap50(self, times: npt.NDArray[np.int64]) -> float | None:
        """Give COCO's average precision at IoU 0.5, None without labelled boxes.

        Args:
            times: `int64[images]`, how often each image counts.
        """
        score = float(self.ap50s(times[np.newaxis])[0])
        return None if math.isnan(score) else score

    def ap50s(self, times: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Give it for several weightings of the images, NaN without labelled boxes.

        An image that counts several times gives several of each of its detections, one after the other.
        Precision rises along the copies of one that hit, and nobody asks for it between two hits: that after
        the last copy of each hit is enough.

        Args:
            times: `int[weightings, images]`, how often each image counts.

        Returns:
            `float64[weightings]`.
        """
        totals = times @ self.boxes
        scores = np.where(totals > 0, 0.0, np.nan)
        hits = np.flatnonzero(self.hits)
        if not len(hits):
            return scores
        counts = times[:, self.images[: hits[-1] + 1]]
        found = np.cumsum(counts[:, hits], axis=1)
        precision = found / (np.cumsum(counts, axis=1)[:, hits] + np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        for row in np.flatnonzero(totals > 0):
            places = np.searchsorted(found[row] / totals[row], _RECALLS)
            scores[row] = best[row, places[places < len(hits)]].sum() / len(_RECALLS)
        return scores


class Matches:
    """Predictions matched to labels by COCO's rules."""

    def __init__(
        self,
        images: Sequence[LabeledImage],
        predictions: Sequence[npt.NDArray[np.float32]],
        class_names: Sequence[str],
        judged: Sequence[str],
    ) -> None:
        """Match once.

        Args:
            images: the labels.
            predictions: for each image `float32[N, 6]`: x1, y1, x2, y2 in pixels, score, class.
            class_names: of the predictions' classes, in any spelling.
            judged: canonical class names; labels and predictions of others are left out, but for BDD100K's
                unsure ones, which count as crowds of the class that they may be of.
        """
        # COCO's evaluation takes 0 for "not matched" and for "no such", so that all ids begin with 1.
        ids = {name: number for number, name in enumerate(judged, start=1)}
        unsure = {name: ids[of] for name, of in UNSURE.items() if of in ids and name not in ids}
        truth = [
            _annotation(
                number,
                category,
                (box.x1, box.y1, box.x2, box.y2),
                crowd=box.crowd or box.category in unsure,
            )
            for number, image in enumerate(images, start=1)
            for box in image.boxes
            if (category := ids.get(box.category) or unsure.get(box.category)) is not None
        ]
        model_ids = [ids.get(canonical(name)) for name in class_names]
        found = [
            _annotation(number, category, row[:4], score=row[4])
            for number, rows in enumerate(predictions, start=1)
            for row in np.asarray(rows, np.float64).tolist()
            if (category := model_ids[int(row[5])]) is not None
        ]
        self._judged = tuple(judged)
        self._count = len(images)
        self._boxes = np.zeros((len(images), len(judged)), np.int64)
        for annotation in truth:
            if not annotation["iscrowd"]:
                self._boxes[annotation["image_id"] - 1, annotation["category_id"] - 1] += 1
        self._evaluation = _evaluate(len(images), self._judged, truth, found)
        self._by_size: Any = None

    def score(self, images: Iterable[int] | None = None) -> Score:
        """Score some of the images.

        Args:
            images: their places in the sequence given, each as often as it counts; None for all once.
        """
        chosen = list(range(self._count) if images is None else images)
        precision = self._precision(chosen)
        boxes = self._boxes[chosen].sum(axis=0)
        classes = {}
        for number, name in enumerate(self._judged):
            of_class = precision[:, :, number]
            there = boxes[number] > 0
            classes[name] = ClassScore(
                int(boxes[number]),
                float(of_class[0].mean()) if there else None,
                float(of_class.mean()) if there else None,
            )
        return Score(
            len(chosen),
            int(boxes.sum()),
            _mean(score.ap50 for score in classes.values()),
            _mean(score.ap for score in classes.values()),
            classes,
        )

    def ranked(self, size: str | None = None) -> list[RankedClass]:
        """Give the matches class by class, for resampling: a thousand scores cost little then.

        Args:
            size: of `SIZES`, whose boxes alone are asked for; None: all are. As COCO has it, a detection of
                another size counts only if it found such a box.
        """
        if size is None:
            places = self._evaluation.evalImgs
            return [self._ranked(number, places, number * self._count) for number in range(len(self._judged))]
        if self._by_size is None:
            self._by_size = _evaluate_sizes(self._evaluation)
        places, area = self._by_size.evalImgs, list(SIZES).index(size)
        return [
            self._ranked(number, places, (number * len(SIZES) + area) * self._count)
            for number in range(len(self._judged))
        ]

    def _ranked(self, number: int, places: Sequence[Any], first: int) -> RankedClass:
        scores, images, hits = [np.zeros(0)], [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)]
        boxes = np.zeros(self._count, np.int64)
        for image in range(self._count):
            found = places[first + image]
            if found is None:
                continue
            boxes[image] = int(np.count_nonzero(np.asarray(found["gtIgnore"]) == 0))
            counts = ~np.asarray(found["dtIgnore"][0], np.bool_)
            scores.append(np.asarray(found["dtScores"], np.float64)[counts])
            hits.append(np.asarray(found["dtMatches"][0], np.int64)[counts] > 0)
            images.append(np.full(int(counts.sum()), image, np.int64))
        order = np.argsort(-np.concatenate(scores), kind="stable")
        return RankedClass(
            self._judged[number], np.concatenate(images)[order], np.concatenate(hits)[order], boxes
        )

    def _precision(self, chosen: list[int]) -> npt.NDArray[np.float64]:
        """Precision by IoU threshold, recall threshold and class, -1 where a class has no boxes."""
        part = copy.copy(self._evaluation)
        part.evalImgs = [
            self._evaluation.evalImgs[category * self._count + image]
            for category in range(len(self._judged))
            for image in chosen
        ]
        params = copy.copy(self._evaluation.params)
        params.imgIds = list(range(len(chosen)))
        part._paramsEval = params
        with contextlib.redirect_stdout(io.StringIO()):
            part.accumulate(params)
        precision: npt.NDArray[np.float64] = part.eval["precision"]
        return precision[:, :, :, 0, 0]


def _evaluate(
    count: int, judged: Sequence[str], truth: list[dict[str, Any]], found: list[dict[str, Any]]
) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def store(annotations: list[dict[str, Any]]) -> Any:
        coco = COCO()
        coco.dataset = {
            "images": [{"id": number} for number in range(1, count + 1)],
            "categories": [{"id": number, "name": name} for number, name in enumerate(judged, start=1)],
            "annotations": [{**annotation, "id": n} for n, annotation in enumerate(annotations, start=1)],
        }
        coco.createIndex()
        return coco

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(store(truth), store(found), "bbox")
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
    return evaluation


def _evaluate_sizes(whole: Any) -> Any:
    """Match once more for each size, at IoU 0.5 alone."""
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(whole.cocoGt, whole.cocoDt, "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.areaRng = [list(ends) for ends in SIZES.values()]
        evaluation.params.areaRngLbl = list(SIZES)
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
    return evaluation


def _annotation(
    image_id: int,
    category_id: int,
    corners: Sequence[float],
    *,
    crowd: bool = False,
    score: float | None = None,
) -> dict[str, Any]:
    x1, y1, x2, y2 = corners
    annotation: dict[str, Any] = {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": int(crowd),
    }
    if score is not None:
        annotation["score"] = score
    return annotation


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
