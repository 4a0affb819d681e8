"""What of a camera's picture is looked at: a region of it, and a mask over what is the vehicle's own.

Both are in shares of the picture, so that they hold when a camera comes back with another resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import cv2
import numpy as np

from edge.frames.frame import Frame, Image

MASK_GREY = 114  # what letterboxing pads with: to a detector, nothing

Shares: TypeAlias = tuple[float, float, float, float]
Pixels: TypeAlias = tuple[int, int, int, int]
Polygon: TypeAlias = Sequence[tuple[float, float]]


def region_pixels(region: Shares, height: int, width: int) -> Pixels:
    """A region's x1, y1, x2, y2 in pixels: at least one, all inside.

    Args:
        region: x, y, width, height in shares of the picture.
        height: of the picture, pixels.
        width: of the picture, pixels.
    """
    x, y, w, h = region
    x1, y1 = min(round(x * width), width - 1), min(round(y * height), height - 1)
    x2, y2 = min(round((x + w) * width), width), min(round((y + h) * height), height)
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def mask_pixels(polygons: Sequence[Polygon], height: int, width: int) -> Image:
    """The pixels that polygons cover, those on their edges included: `uint8[height, width]`, 255 or 0.

    Args:
        polygons: corners x, y in shares of the picture; where they overlap, both cover.
        height: of the picture, pixels.
        width: of the picture, pixels.
    """
    mask = np.zeros((height, width), np.uint8)
    for polygon in polygons:
        corners = np.asarray(polygon, np.float64) * (width - 1, height - 1)
        cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], (255,))
    return mask


class View:
    """Applies a camera's mask and region to its frames; what depends on their shape is computed once."""

    def __init__(self, region: Shares | None, mask: Sequence[Polygon]) -> None:
        """Of a camera's section of the configuration; without both, frames stay as they are."""
        self._region = region
        self._polygons = mask
        self._shape = (0, 0)
        self._pixels: Pixels | None = None
        self._covered: Pixels = (0, 0, 0, 0)
        self._mask = self._paint = np.zeros((0, 0), np.uint8)

    def apply(self, frame: Frame) -> Frame:
        """Paint the mask over the frame's own image, and note the region."""
        if self._region is None and not self._polygons:
            return frame
        height, width = frame.image.shape[:2]
        if (height, width) != self._shape:
            self._measure(height, width)
        image = frame.image
        if self._paint.size:
            if not image.flags.writeable:
                image = image.copy()
            x1, y1, x2, y2 = self._covered
            part = image[y1:y2, x1:x2]
            cv2.copyTo(self._paint, self._mask, part)
        return replace(frame, image=image, region=self._pixels)

    def _measure(self, height: int, width: int) -> None:
        self._shape = (height, width)
        self._pixels = None if self._region is None else region_pixels(self._region, height, width)
        if self._polygons:
            mask = mask_pixels(self._polygons, height, width)
            x, y, w, h = cv2.boundingRect(mask)
            self._covered = (x, y, x + w, y + h)
            self._mask = np.ascontiguousarray(mask[y : y + h, x : x + w])
            self._paint = np.full((h, w, 3), MASK_GREY, np.uint8)
