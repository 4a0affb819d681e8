"""Pictures of the holdout on which a candidate did better than the champion, and worse: for its card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from cloud.datasets import LabeledImage, canonical
from cloud.datasets.pictures import PictureError
from cloud.pipeline.evaluation import load_picture
from edge.perception.agreement import Agreement, compare
from edge.perception.metadata import ModelMetadata
from edge.perception.nms import suppress

WIDTH = 560  # pixels, of each of the two side by side
QUALITY = 82
_GAP = 6
_TRUTH, _FOUND = (255, 255, 255), (0, 140, 255)  # BGR

Boxes = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture, as both models see it.

    Attributes:
        name: of its file.
        picture, drive, slice: of the holdout.
        champion_f1, challenger_f1: against the labels, at each file's own threshold.
        jpeg: the champion's view on the left, the challenger's on the right, labels thin and white.
    """

    name: str
    picture: str
    drive: str
    slice: str
    champion_f1: float
    challenger_f1: float
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a model saw of the holdout.

    Attributes:
        metadata: of its file.
        predictions: `float32[N, 6]` of each picture, all that count for the evaluation.
    """

    metadata: ModelMetadata
    predictions: Sequence[Boxes]

    def driving(self, place: int) -> Boxes:
        """What a vehicle would have: above the file's threshold, suppressed by its own limit."""
        rows = self.predictions[place]
        rows = rows[rows[:, 4] > self.metadata.score_threshold]
        if self.metadata.layout != "raw":
            return rows[: self.metadata.max_detections]
        kept = suppress(
            rows[:, :4],
            rows[:, 4],
            rows[:, 5].astype(np.int64),
            self.metadata.iou_threshold,
            self.metadata.max_detections,
        )
        return rows[kept]


def wins_and_losses(
    images: Sequence[LabeledImage],
    champion: View,
    challenger: View,
    judged: Sequence[str],
    slice_by: str,
    count: int,
) -> tuple[list[Shown], list[Shown]]:
    """Choose the pictures that tell the two apart most, one of a drive at most, and draw them.

    Args:
        images: the holdout.
        champion: what the champion saw of it.
        challenger: what the challenger saw of it.
        judged: canonical names of the classes that count.
        slice_by: the attribute that is told beside each.
        count: of wins, and of losses, at most.

    Returns:
        Where the challenger is better, the most first; and where it is worse.
    """
    scores = [
        [_f1(image, view.driving(place), view.metadata, judged) for view in (champion, challenger)]
        for place, image in enumerate(images)
    ]
    gains = np.array([after - before for before, after in scores])
    chosen = []
    for kind, sign in (("win", 1), ("loss", -1)):
        some: list[Shown] = []
        drives: set[str] = set()
        for place in np.argsort(-sign * gains, kind="stable").tolist():
            if len(some) == count or sign * gains[place] <= 0:
                break
            image = images[place]
            if image.drive in drives:
                continue
            try:
                jpeg = _drawn(image, champion, challenger, place, judged)
            except PictureError:
                continue
            drives.add(image.drive)
            value = image.attributes.get(slice_by, "")
            name = f"{kind}-{len(some) + 1}.jpg"
            before, after = scores[place]
            some.append(Shown(name, image.name, image.drive, value, before, after, jpeg))
        chosen.append(some)
    return chosen[0], chosen[1]


def _f1(image: LabeledImage, found: Boxes, metadata: ModelMetadata, judged: Sequence[str]) -> float:
    """Against the labels; 1 where nothing is and nothing was found."""
    names = [canonical(name) for name in metadata.class_names]
    rows = [row for row in found if names[int(row[5])] in judged]
    truth = [
        [box.x1, box.y1, box.x2, box.y2, 1.0, judged.index(box.category)]
        for box in image.boxes
        if box.category in judged and not box.crowd
    ]
    agreement = sum(
        compare(
            np.array(truth, np.float32).reshape(-1, 6),
            np.array(rows, np.float32).reshape(-1, 6),
            judged,
            names,
        ).values(),
        Agreement(),
    )
    return agreement.f1 if agreement.active + agreement.candidate else 1.0


def _drawn(image: LabeledImage, champion: View, challenger: View, place: int, judged: Sequence[str]) -> bytes:
    picture = load_picture(image)
    scale = WIDTH / picture.shape[1]
    size = (WIDTH, max(1, round(picture.shape[0] * scale)))
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    sides = []
    for view in (champion, challenger):
        side = small.copy()
        for box in image.boxes:
            if box.category in judged:
                _rectangle(side, (box.x1, box.y1, box.x2, box.y2), scale, _TRUTH, 1)
        for x1, y1, x2, y2, score, number in view.driving(place).tolist():
            _rectangle(side, (x1, y1, x2, y2), scale, _FOUND, 2)
            words = f"{view.metadata.class_names[int(number)]} {score:.2f}"
            at = (round(x1 * scale), max(9, round(y1 * scale) - 3))
            cv2.putText(side, words, at, cv2.FONT_HERSHEY_SIMPLEX, 0.36, _FOUND, 1, cv2.LINE_AA)
        sides.append(side)
    both = np.hstack([sides[0], np.zeros((size[1], _GAP, 3), np.uint8), sides[1]])
    return cv2.imencode(".jpg", both, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def _rectangle(
    side: npt.NDArray[np.uint8],
    corners: Sequence[float],
    scale: float,
    colour: tuple[int, int, int],
    thick: int,
) -> None:
    x1, y1, x2, y2 = (round(value * scale) for value in corners)
    cv2.rectangle(side, (x1, y1), (x2, y2), colour, thick)
