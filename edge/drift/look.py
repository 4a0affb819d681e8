"""One frame as the features see it; what several of them need is computed once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Small = npt.NDArray[np.uint8]

# The small copy's area, pixels: 320x180 of a 16:9 camera.
_SMALL_AREA = 320 * 180


class Look:
    """One frame, made small, and what the model found in it."""

    def __init__(
        self,
        image: npt.NDArray[np.uint8],
        boxes: Array,
        class_names: Sequence[str] = (),
        embedding: Array | None = None,
    ) -> None:
        """Take a frame.

        Args:
            image: `uint8[H, W, 3]`, BGR, not empty.
            boxes: `float32[N, 6]` x1, y1, x2, y2 (pixels), score, class.
            class_names: of the model's classes, in their order; empty: they are not known.
            embedding: `float32[k]` of the model; None: it gives none.
        """
        self.height, self.width = image.shape[:2]
        self.boxes = boxes
        self.class_names = tuple(class_names)
        self.embedding = embedding
        self.vanishing: tuple[float, float] | None = None  # once `edge.drift.vanishing` was asked
        self._image = image

    @cached_property
    def small(self) -> Small:
        """The frame at about 320x180, its proportions kept, averaged over areas; never enlarged."""
        image = self._image
        # Halving is the one area average that OpenCV does with vector instructions: a quarter of the time.
        while image.shape[0] * image.shape[1] >= 4 * _SMALL_AREA and min(image.shape[:2]) > 1:
            image = _halved(image)
        scale = math.sqrt(_SMALL_AREA / (image.shape[0] * image.shape[1]))
        if scale >= 1:
            return image
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)

    @cached_property
    def planes(self) -> tuple[Small, Small, Small]:
        """Blue, green and red of `small`."""
        blue, green, red = (np.asarray(plane, np.uint8) for plane in cv2.split(self.small))
        return blue, green, red

    @cached_property
    def luma(self) -> Small:
        """Luma of `small` (ITU-R BT.601), `uint8[h, w]`."""
        return np.asarray(cv2.cvtColor(self.small, cv2.COLOR_BGR2GRAY), np.uint8)

    @cached_property
    def half(self) -> Small:
        """`luma` at half of that: here the way in which the frame was made small leaves 1 %, there 10 %."""
        return _halved(self.luma)

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


def _halved(image: Small) -> Small:
    size = (max(1, image.shape[1] // 2), max(1, image.shape[0] // 2))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
