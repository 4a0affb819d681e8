"""Which things a careful person would mark in a picture, and where exactly they are in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tools.drives.camera import View
from tools.drives.light import Illumination, noise_sigma

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
Corner = Sequence[float]  # x, y

REFERENCE_WIDTH = 640  # the limits below are pixels of a picture this wide
MIN_WIDTH, MIN_HEIGHT, MIN_LONG_SIDE = 4, 6, 9
MIN_VISIBLE_SHARE = 0.25  # of the part inside the picture
MIN_INSIDE_SHARE = 0.12  # of the whole, but for
LARGE_SHARE = 0.01  # of the picture: what covers more is marked however much of it is outside


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
    """What one labelled thing covers when it has just been painted, before anything nearer is.

    Attributes:
        label, track: of the thing.
        value: its number in the map of owners.
        low, high: corners of its box, with what is hidden and what is outside, pixels.
        inside: share of that box that lies in the picture.
        painted: pixels that show it, before anything nearer hides some.
    """

    label: str
    track: int
    value: int
    low: tuple[float, float]
    high: tuple[float, float]
    inside: float
    painted: int

    @classmethod
    def of(
        cls, label: str, track: int, value: int, low: Corner, high: Corner, owners: npt.NDArray[np.uint8]
    ) -> Outline:
        """Measure the thing between the corners `low` and `high`, which was painted last."""
        height, width = owners.shape
        inside_x = max(min(high[0], width) - max(low[0], 0.0), 0.0) / max(high[0] - low[0], 1e-6)
        inside_y = max(min(high[1], height) - max(low[1], 0.0), 0.0) / max(high[1] - low[1], 1e-6)
        painted = 0
        if inside_x * inside_y > 0.0:
            painted = cv2.countNonZero(cv2.inRange(crop(owners, low, high), value, value))
        return cls(label, track, value, (low[0], low[1]), (high[0], high[1]), inside_x * inside_y, painted)


def crop(picture: npt.NDArray[np.uint8], low: Corner, high: Corner) -> npt.NDArray[np.uint8]:
    """Return the part of a picture that holds the box between two corners, and a pixel around it."""
    left, top = max(int(low[0]) - 1, 0), max(int(low[1]) - 1, 0)
    return picture[top : max(int(high[1]) + 2, 0), left : max(int(high[0]) + 2, 0)]


def visible_boxes(
    picture: Image,
    view: View,
    outlines: Sequence[Outline],
    owners: npt.NDArray[np.uint8],
    sky: Illumination,
    *,
    faint: bool,
) -> tuple[TrueBox, ...]:
    """Return the boxes of what is large enough, uncovered enough, and told from the dark.

    Args:
        picture: as painted, without noise yet.
        view: the camera.
        outlines: the labelled things.
        owners: `uint8[H, W]`, the value of the thing that each pixel shows.
        sky: the light.
        faint: things may be hard to see; what does not stand out of the noise is not marked.
    """
    # A person does not mark three pixels, in however small a picture.
    scale = max(view.width / REFERENCE_WIDTH, 0.5)
    noise = noise_sigma(sky.gain)
    boxes = []
    for outline in outlines:
        if not outline.painted:
            continue
        shown, (x1, y1, x2, y2) = _visible_part(outline, owners)
        share = shown / outline.painted
        large = shown > LARGE_SHARE * owners.size
        if share < MIN_VISIBLE_SHARE or (outline.inside < MIN_INSIDE_SHARE and not large):
            continue
        if not _large_enough(x2 - x1, y2 - y1, scale):
            continue
        if faint:
            part = picture[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))]
            if not _stands_out(part, noise):
                continue
        boxes.append(
            TrueBox(
                *(x1, y1, x2, y2),
                label=outline.label,
                track=outline.track,
                occluded=share < 0.9,
                truncated=outline.inside < 0.98,
            )
        )
    return tuple(boxes)


def _visible_part(
    outline: Outline, owners: npt.NDArray[np.uint8]
) -> tuple[int, tuple[float, float, float, float]]:
    """Return how many pixels show a thing, and the box around them, pixels.

    A side of the box lies where the geometry has it; where the pixels end more than one before, they count:
    something hides the rest, or it is outside the picture.
    """
    pixels = cv2.inRange(crop(owners, outline.low, outline.high), outline.value, outline.value)
    shown = cv2.countNonZero(pixels)
    if not shown:
        return 0, (0.0, 0.0, 0.0, 0.0)
    column, row, width, height = cv2.boundingRect(pixels)
    left = column + max(int(outline.low[0]) - 1, 0)
    top = row + max(int(outline.low[1]) - 1, 0)
    seen = (left, top, left + width, top + height)
    exact = (*outline.low, *outline.high)
    x1, y1, x2, y2 = (
        wanted if abs(wanted - pixel) <= 1.0 else float(pixel)
        for wanted, pixel in zip(exact, seen, strict=True)
    )
    frame_height, frame_width = owners.shape
    return shown, (max(x1, 0.0), max(y1, 0.0), min(x2, float(frame_width)), min(y2, float(frame_height)))


def _large_enough(width: float, height: float, scale: float) -> bool:
    sides_ok = width >= MIN_WIDTH * scale and height >= MIN_HEIGHT * scale
    return sides_ok and max(width, height) >= MIN_LONG_SIDE * scale


def _stands_out(crop: Image, noise: FloatArray) -> bool:
    """Return whether what is in `crop`, which has no noise yet, stands out of the noise that will come.

    Args:
        crop: `uint8[h, w, 3]`.
        noise: `float32[256]`, the noise's standard deviation at each level.
    """
    mean, spread = cv2.meanStdDev(crop)
    return float(spread.max()) > 3.0 + 0.55 * float(noise[int(mean.mean())])
