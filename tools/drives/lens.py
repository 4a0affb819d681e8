"""A smeared lens: grease that somebody wiped over a part of it, where it stays."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from tools.drives.chance import draws
from tools.drives.visible import TrueBox

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

_COARSE = 4  # the smear is drawn on a picture this much smaller
_STROKES = 5
_BLUR = 0.016  # standard deviation of what grease does to a point, of the picture's width
_MOST = 0.9  # share of the light that grease scatters where it is thickest
_EVERYWHERE = 0.05
_DISSOLVED = 0.45  # behind more of it, what is smaller than the blur cannot be told


@lru_cache(maxsize=4)
def _grease(seed: int, height: int, width: int) -> FloatArray:
    """Return the share of the light that is scattered, `float32[height, width]`: strokes of a cloth."""
    rng = np.random.Generator(np.random.PCG64(seed & (2**64 - 1)))
    thickness = np.zeros((height, width), np.float32)
    middle_x, middle_y, lean, *_ = draws(seed, "smear", 0)
    for number in range(_STROKES):
        x, y, turn, size, *_ = draws(seed, "smear stroke", number)
        stroke = np.zeros_like(thickness)
        centre = (
            int(width * (0.22 + 0.5 * middle_x + 0.22 * (x - 0.5))),
            int(height * (0.25 + 0.45 * middle_y + 0.3 * (y - 0.5)) + 0.55 * height),
        )
        axes = (int(width * (0.22 + 0.1 * size)), int(height * (0.5 + 0.12 * size)))
        angle = 40 * (lean - 0.5) + 20 * (turn - 0.5)
        cv2.ellipse(stroke, centre, axes, angle, 205, 335, 1.0, max(1, int(height * 0.13)), cv2.LINE_AA)
        thickness += cv2.GaussianBlur(stroke, (0, 0), 0.012 * width) * np.float32(0.35 + 0.3 * size)
    # The threads of the cloth leave lines along its way.
    fine = rng.random((height, width), np.float32)
    threads = cv2.GaussianBlur(fine, (0, 0), sigmaX=0.045 * width, sigmaY=0.003 * width)
    threads = (threads - threads.mean()) / (threads.std() + 1e-6)
    thickness *= np.clip(1.0 + 0.28 * threads, 0.2, 1.8)
    return np.asarray(_EVERYWHERE + (_MOST - _EVERYWHERE) * (1 - np.exp(-1.6 * thickness)), np.float32)


def smear(picture: Image, seed: int) -> None:
    """Blur and veil the smeared part of `picture`, in place; it is the same part in the whole drive.

    Grease scatters: what it lets through comes out of focus, and light from all of the scene lies over it.
    """
    height, width = picture.shape[:2]
    size = (max(width // _COARSE, 1), max(height // _COARSE, 1))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    blurred = cv2.GaussianBlur(small, (0, 0), _BLUR * size[0])
    tiny = cv2.resize(small, (16, 9), interpolation=cv2.INTER_AREA)
    around = cv2.resize(cv2.GaussianBlur(tiny, (0, 0), 3.0), size, interpolation=cv2.INTER_LINEAR)
    scattered = 0.62 * blurred + 0.42 * around + 4.0
    share = _grease(seed, size[1], size[0])[..., None]
    kept = cv2.resize(1 - share, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    added = cv2.resize(scattered * share, (width, height), interpolation=cv2.INTER_LINEAR)
    picture[:] = np.minimum(picture * kept + added, 255.0).astype(np.uint8)


def still_told(boxes: tuple[TrueBox, ...], seed: int, size: tuple[int, int]) -> tuple[TrueBox, ...]:
    """Return those of the `boxes` that a person can still mark in a picture that `smear` changed."""
    width, height = size
    share = _grease(seed, max(height // _COARSE, 1), max(width // _COARSE, 1))
    told = []
    for box in boxes:
        rows = slice(int(box.y1 / _COARSE), max(int(box.y2 / _COARSE), int(box.y1 / _COARSE) + 1))
        columns = slice(int(box.x1 / _COARSE), max(int(box.x2 / _COARSE), int(box.x1 / _COARSE) + 1))
        behind = share[rows, columns]
        small = min(box.x2 - box.x1, box.y2 - box.y1) < 2.5 * _BLUR * width
        if not (small and behind.size and float(behind.mean()) > _DISSOLVED):
            told.append(box)
    return tuple(told)
