"""Which things a careful person would mark in a picture, and where exactly they are in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tools.drives.ground import View
from tools.drives.light import Illumination, noise_sigma

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

REFERENCE_WIDTH = 640  # the limits below are pixels of a picture this wide
MIN_WIDTH, MIN_HEIGHT, MIN_LONG_SIDE = 4, 6, 9
MIN_VISIBLE_SHARE = 0.25  # of the part inside the picture
MIN_INSIDE_SHARE = 0.12  # of the whole


@dataclass(frozen=True, slots=True)
class TrueBox:
    """One object that can be seen.

    Attributes:
        x1, y1, x2, y2: pixels of the picture, around the visible part.
        label: its class, one of CLASS_NAMES.
        track: the same number for the same object throughout the drive.
        occluded: something nearer hides more than a tenth of it.
        truncated: it reaches out of the picture.
    """

    x1: float
    y1: float
    x2: float
    y2: float
    label: str
    track: int
    occluded: bool
    truncated: bool


@dataclass(frozen=True, slots=True)
class Outline:
    """What one labelled thing covers.

    Attributes:
        label, track: of the thing.
        value: its number in the map of owners.
        low, high: corners of its box, with what is hidden and what is outside, pixels.
        hull: `float32[N, 1, 2]`, its convex hull, pixels.
    """

    label: str
    track: int
    value: int
    low: FloatArray
    high: FloatArray
    hull: FloatArray


def visible_boxes(
    picture: Image,
    view: View,
    outlines: Sequence[Outline],
    owners: npt.NDArray[np.uint8],
    sky: Illumination,
) -> tuple[TrueBox, ...]:
    """Return the boxes of what is large enough, uncovered enough, and told from the dark.

    Args:
        picture: as painted, without noise yet.
        view: the camera.
        outlines: the labelled things.
        owners: `uint8[H, W]`, the value of the thing that each pixel shows.
        sky: the light; in the dark, what does not stand out of the noise is not marked.
    """
    frame = np.array([[0, 0], [view.width, 0], [view.width, view.height], [0, view.height]], np.float32)
    scale = view.width / REFERENCE_WIDTH
    counts = cv2.calcHist([owners], [0], None, [256], [0, 256]).ravel()
    noise = noise_sigma(sky.gain)
    boxes = []
    for outline in outlines:
        x1, y1 = np.maximum(outline.low, 0.0)
        x2, y2 = np.minimum(outline.high, (view.width, view.height))
        if not _large_enough(x2 - x1, y2 - y1, scale):
            continue
        whole = cv2.contourArea(outline.hull)
        inside, _ = cv2.intersectConvexConvex(outline.hull, frame)
        share = counts[outline.value] / max(inside, 1.0)
        if share < MIN_VISIBLE_SHARE or inside < MIN_INSIDE_SHARE * whole:
            continue
        if share < 0.93:
            left, top = int(x1), int(y1)
            crop = owners[top : int(np.ceil(y2)), left : int(np.ceil(x2))]
            column, row, width, height = cv2.boundingRect(cv2.inRange(crop, outline.value, outline.value))
            if not width:
                continue
            x1, x2 = max(x1, left + column), min(x2, left + column + width)
            y1, y2 = max(y1, top + row), min(y2, top + row + height)
            if x2 - x1 < MIN_WIDTH * scale or y2 - y1 < (MIN_HEIGHT - 1) * scale:
                continue
        if sky.gain > 0.5:
            crop = picture[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))]
            if not _told_from_the_dark(crop, noise):
                continue
        boxes.append(
            TrueBox(
                *(float(x1), float(y1), float(x2), float(y2)),
                label=outline.label,
                track=outline.track,
                occluded=bool(share < 0.9),
                truncated=bool(inside < 0.98 * whole),
            )
        )
    return tuple(boxes)


def _large_enough(width: float, height: float, scale: float) -> bool:
    sides_ok = width >= MIN_WIDTH * scale and height >= MIN_HEIGHT * scale
    return sides_ok and max(width, height) >= MIN_LONG_SIDE * scale


def _told_from_the_dark(crop: Image, noise: FloatArray) -> bool:
    """Return whether what is in `crop`, which has no noise yet, stands out of the noise that will come.

    Args:
        crop: `uint8[h, w, 3]`.
        noise: `float32[256]`, the noise's standard deviation at each level.
    """
    mean, spread = cv2.meanStdDev(crop)
    return float(spread.max()) > 3.0 + 0.55 * float(noise[int(mean.mean())])
