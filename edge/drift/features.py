"""What is watched of a frame: one number a feature, of the picture or of what the model found in it.

Each feature is defined once, in FEATURES: a new one is a function of `Look` and an entry there. Picture
features see one small copy of the frame, so their cost does not grow with its resolution, and neither does
their value: averaging over areas keeps means, and sharpness is measured at the small copy's own scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from edge.drift.reference import DriftReferenceError, Reference, align
from edge.drift.state import Origin, Scope

Array = npt.NDArray[np.float32]

# The small copy's area, pixels: 320x180 of a 16:9 camera.
_SMALL_AREA = 320 * 180
_DARKEST = 0.10  # share of the pixels that the dark tail looks at
_BRIGHTEST = 0.02
_LOW_CONFIDENCE = 0.5
_LEVELS = np.arange(256, dtype=np.float64)


class Look:
    """One frame as the features see it; what several need is computed once."""

    def __init__(self, image: npt.NDArray[np.uint8], boxes: Array) -> None:
        """Take `uint8[H, W, 3]` BGR and `float32[N, 6]` x1, y1, x2, y2 (pixels), score, class."""
        self.height, self.width = image.shape[:2]
        self.boxes = boxes
        self._image = image

    @cached_property
    def small(self) -> npt.NDArray[np.uint8]:
        """The frame at about 320x180, its proportions kept, averaged over areas; never enlarged."""
        image = self._image
        # Halving is the one area average that OpenCV does with vector instructions: a quarter of the time.
        while image.shape[0] * image.shape[1] >= 4 * _SMALL_AREA and min(image.shape[:2]) > 1:
            halves = (image.shape[1] // 2, image.shape[0] // 2)
            image = np.asarray(cv2.resize(image, halves, interpolation=cv2.INTER_AREA), np.uint8)
        scale = math.sqrt(_SMALL_AREA / (image.shape[0] * image.shape[1]))
        if scale >= 1:
            return image
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)

    @cached_property
    def luma(self) -> npt.NDArray[np.uint8]:
        """Luma of `small` (ITU-R BT.601), `uint8[h, w]`."""
        return np.asarray(cv2.cvtColor(self.small, cv2.COLOR_BGR2GRAY), np.uint8)

    @cached_property
    def histogram(self) -> npt.NDArray[np.float64]:
        """Share of the pixels at each luma level, `float64[256]`."""
        counts = cv2.calcHist([self.luma], [0], None, [256], [0, 256]).ravel().astype(np.float64)
        return np.asarray(counts / counts.sum(), np.float64)

    @cached_property
    def sides(self) -> Array:
        """Width and height of each box in shares of the frame's, `float32[N, 2]`."""
        sides = self.boxes[:, 2:4] - self.boxes[:, 0:2]
        return np.asarray(sides / np.array([self.width, self.height], np.float32), np.float32)


def _brightness(look: Look) -> float:
    return float(look.histogram @ _LEVELS)


def _contrast(look: Look) -> float:
    mean = look.histogram @ _LEVELS
    return math.sqrt(max(0.0, float(look.histogram @ (_LEVELS - mean) ** 2)))


def _tail_mean(histogram: npt.NDArray[np.float64], levels: npt.NDArray[np.float64], share: float) -> float:
    """Mean level of the first `share` of the pixels, in the order given."""
    before = np.cumsum(histogram) - histogram
    taken = np.clip(share - before, 0.0, histogram)
    return float(taken @ levels / share)


def _dark_tail(look: Look) -> float:
    return _tail_mean(look.histogram, _LEVELS, _DARKEST)


def _bright_tail(look: Look) -> float:
    return _tail_mean(look.histogram[::-1], _LEVELS[::-1], _BRIGHTEST)


def _colourfulness(look: Look) -> float:
    blue, green, red = (np.asarray(plane, np.int16) for plane in cv2.split(look.small[::2, ::2]))
    difference = red - green
    opponent = red + green - 2 * blue  # twice the yellow-blue of the paper
    (mean_rg,), (sigma_rg,) = (value.ravel() for value in cv2.meanStdDev(difference))
    (mean_yb,), (sigma_yb,) = (value.ravel() / 2 for value in cv2.meanStdDev(opponent))
    return math.hypot(sigma_rg, sigma_yb) + 0.3 * math.hypot(mean_rg, mean_yb)


def _sharpness(look: Look) -> float:
    # At half of the small copy: there the way in which the frame was made small leaves 1 % (at the small copy
    # itself 10 %).
    height, width = look.luma.shape
    half = (max(1, width // 2), max(1, height // 2))
    edges = cv2.Laplacian(cv2.resize(look.luma, half, interpolation=cv2.INTER_AREA), cv2.CV_16S, ksize=1)
    sigma = float(cv2.meanStdDev(edges)[1][0, 0])
    # Against the contrast, or a dim picture would count as a blurred one.
    return sigma / (_contrast(look) + 1.0)


def _count(look: Look) -> float:
    return float(len(look.boxes))


def _mean_confidence(look: Look) -> float:
    return float(look.boxes[:, 4].mean())


def _low_confidence_share(look: Look) -> float:
    return float((look.boxes[:, 4] < _LOW_CONFIDENCE).mean())


def _mean_size(look: Look) -> float:
    return float(np.sqrt(np.clip(look.sides.prod(axis=1), 0.0, 1.0)).mean())


def _mean_height(look: Look) -> float:
    return float((look.boxes[:, 1] + look.boxes[:, 3]).mean() / 2 / look.height)


def _class_diversity(look: Look) -> float:
    _, counts = np.unique(look.boxes[:, 5], return_counts=True)
    return float(1.0 - np.square(counts / counts.sum()).sum())


@dataclass(frozen=True, slots=True)
class Feature:
    """One number that is watched.

    Attributes:
        name: as in references, series and messages; it never changes its meaning.
        origin: `picture` or `detections`: the latter change their meaning with the model.
        least, most: its range.
        doc: what it is and what it does not depend on.
        of: computes it; of detections, only asked where there are some, but for the count.
    """

    name: str
    origin: Origin
    least: float
    most: float
    doc: str
    of: Callable[[Look], float]


FEATURES: tuple[Feature, ...] = (
    Feature(
        "brightness", Origin.PICTURE, 0, 255, "Mean luma. Any resolution, any JPEG quality.", _brightness
    ),
    Feature("contrast", Origin.PICTURE, 0, 127.5, "Standard deviation of the luma at 320x180.", _contrast),
    Feature("dark_tail", Origin.PICTURE, 0, 255, "Mean luma of the darkest tenth of the pixels.", _dark_tail),
    Feature("bright_tail", Origin.PICTURE, 0, 255, "Mean luma of the brightest fiftieth.", _bright_tail),
    Feature(
        "colourfulness",
        Origin.PICTURE,
        0,
        300,
        "Hasler & Suesstrunk (2003), M3, at 160x90. Any JPEG quality.",
        _colourfulness,
    ),
    Feature(
        "sharpness",
        Origin.PICTURE,
        0,
        1024,
        "Standard deviation of the Laplacian at 160x90, by the contrast. Any resolution, any gain.",
        _sharpness,
    ),
    Feature("count", Origin.DETECTIONS, 0, math.inf, "Detections in the frame.", _count),
    Feature("mean_confidence", Origin.DETECTIONS, 0, 1, "Mean score.", _mean_confidence),
    Feature(
        "low_confidence_share", Origin.DETECTIONS, 0, 1, "Share that scores below 0.5.", _low_confidence_share
    ),
    Feature("mean_size", Origin.DETECTIONS, 0, 1, "Mean root of a box's share of the frame.", _mean_size),
    Feature(
        "mean_height", Origin.DETECTIONS, 0, 1, "Mean of the centres' y, 0 at the top edge.", _mean_height
    ),
    Feature(
        "class_diversity",
        Origin.DETECTIONS,
        0,
        1,
        "Chance that two detections drawn with replacement differ in class (Gini-Simpson).",
        _class_diversity,
    ),
)
NAMES = tuple(feature.name for feature in FEATURES)
ORIGINS = tuple(feature.origin for feature in FEATURES)


def watched_reference(reference: Reference) -> Reference:
    """The reference as one of these features; see `align`.

    Raises:
        DriftReferenceError: it has none of them.
    """
    return align(reference, NAMES, ORIGINS)


def fleet_prior(text: str) -> Reference:
    """The reference that a model file brings, as one of these features: of the fleet's other cameras.

    A file that does not say whose it is keeps its digest where it would promise nothing anyway.

    Raises:
        DriftReferenceError: it is no reference, or has none of the features.
    """
    prior = watched_reference(Reference.from_bytes(text.encode()))
    return prior.scoped(Scope.FLEET) if any(prior.promises(one.name) for one in prior.contexts) else prior


def require_features(reference: Reference) -> Reference:
    """Give the reference back, if it is of these features and no others: what is made now must be.

    Raises:
        DriftReferenceError: it is of others.
    """
    if (reference.names, reference.origins) != (NAMES, ORIGINS):
        raise DriftReferenceError(
            f"the reference is of {', '.join(reference.names)}; the daemon's features are"
            f" {', '.join(NAMES)}: make it anew with `traffic-vision drift fit`"
        )
    return reference


def extract(image: npt.NDArray[np.uint8], boxes: Array) -> Array:
    """Compute all features of one frame, in the order of FEATURES.

    Args:
        image: `uint8[H, W, 3]`, BGR, not empty.
        boxes: `float32[N, 6]` x1, y1, x2, y2 (pixels of the image), score, class.

    Returns:
        `float32[F]`; NaN where a feature is not to be had: means over detections where there are none.
    """
    look = Look(image, boxes)
    empty = len(boxes) == 0
    return np.array(
        [
            math.nan
            if empty and feature.origin == Origin.DETECTIONS and feature.of is not _count
            else feature.of(look)
            for feature in FEATURES
        ],
        np.float32,
    )
