"""Pictures made worse in known ways and steps: what a camera gives when light, weather or lens are wrong.

The idea of kinds and five severities is ImageNet-C's (Hendrycks and Dietterich, "Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations", ICLR 2019). The steps here go as far as a road detector
loses nearly everything. Lengths are shares of the picture's width: a larger picture is made as bad.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
_Corruption = Callable[[Picture, int, np.random.Generator], Picture]

SEVERITIES = (1, 2, 3, 4, 5)

_GAMMA = 2.2  # of a camera's picture, about: light doubles with a stop, its levels do not
_FEWER_STOPS = (1.0, 2.0, 3.0, 4.0, 5.0)
_MORE_STOPS = (0.7, 1.4, 2.1, 2.8, 3.5)
_BLUR_SIGMA = (0.0008, 0.0016, 0.0028, 0.0045, 0.007)  # of the width
_NOISE_SIGMA = (8.0, 16.0, 28.0, 45.0, 70.0)  # levels of 255
_CONTRAST_LEFT = (0.6, 0.4, 0.25, 0.15, 0.08)
_DROPS = (60, 150, 300, 500, 800)  # streaks in the picture
_VEIL = (0.10, 0.22, 0.35, 0.48, 0.60)  # share of the light that comes from the rain between
_VEIL_LEVEL = 150.0
_STREAK = (0.02, 0.08)  # of the width, from near to far
_QUALITY = (30, 18, 12, 7, 4)


def _exposed(picture: Picture, stops: float) -> Picture:
    light = (np.arange(256) / 255.0) ** _GAMMA * 2.0**stops
    levels = np.round(255.0 * np.minimum(light, 1.0) ** (1 / _GAMMA)).astype(np.uint8)
    return np.asarray(cv2.LUT(picture, levels), np.uint8)


def _underexposed(picture: Picture, step: int, _: np.random.Generator) -> Picture:
    return _exposed(picture, -_FEWER_STOPS[step])


def _overexposed(picture: Picture, step: int, _: np.random.Generator) -> Picture:
    return _exposed(picture, _MORE_STOPS[step])


def _blurred(picture: Picture, step: int, _: np.random.Generator) -> Picture:
    sigma = max(0.3, _BLUR_SIGMA[step] * picture.shape[1])
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)


def _noisy(picture: Picture, step: int, rng: np.random.Generator) -> Picture:
    noise = rng.standard_normal(picture.shape, np.float32) * np.float32(_NOISE_SIGMA[step])
    return _levels(picture + noise)


def _flat(picture: Picture, step: int, _: np.random.Generator) -> Picture:
    mean = np.float32(picture.mean())
    return _levels(mean + np.float32(_CONTRAST_LEFT[step]) * (picture.astype(np.float32) - mean))


def _rainy(picture: Picture, step: int, rng: np.random.Generator) -> Picture:
    height, width = picture.shape[:2]
    streaks = np.zeros((height, width), np.uint8)
    slant = rng.normal(0.0, 0.15)  # the wind's, and so the same for all
    count = _DROPS[step]
    at = rng.uniform((0, -0.1 * height), (width, height), (count, 2))
    lengths = width * rng.uniform(*_STREAK, count)
    bright = rng.integers(60, 200, count)
    thick = max(1, round(width / 640))
    for (x, y), length, level in zip(at, lengths, bright, strict=True):
        end = (round(x + slant * length), round(y + length))
        cv2.line(streaks, (round(x), round(y)), end, (int(level),), thick, cv2.LINE_AA)
    veil = np.float32(_VEIL[step])
    veiled = picture.astype(np.float32) * (1 - veil) + veil * np.float32(_VEIL_LEVEL)
    shine = streaks[:, :, np.newaxis] / np.float32(255)
    return _levels(veiled + (255 - veiled) * shine)


def _compressed(picture: Picture, step: int, _: np.random.Generator) -> Picture:
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY[step]])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


def _levels(values: npt.NDArray[np.floating]) -> Picture:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


_CORRUPTIONS: MappingProxyType[str, _Corruption] = MappingProxyType(
    {
        "underexposure": _underexposed,
        "overexposure": _overexposed,
        "blur": _blurred,
        "noise": _noisy,
        "contrast": _flat,
        "rain": _rainy,
        "jpeg": _compressed,
    }
)
KINDS = tuple(_CORRUPTIONS)


def corrupted(picture: Picture, kind: str, severity: int, seed: Sequence[int] = (0,)) -> Picture:
    """The picture, made worse; the one given stays as it is.

    Args:
        picture: `uint8[H, W, 3]`, BGR.
        kind: of KINDS.
        severity: of SEVERITIES.
        seed: the same seed, kind and severity give the same picture.

    Raises:
        ValueError: there is no such kind or severity.
    """
    if kind not in _CORRUPTIONS or severity not in SEVERITIES:
        known = ", ".join(KINDS)
        raise ValueError(f"no corruption {kind!r} of severity {severity}; there are {known}, each 1 to 5")
    rng = np.random.default_rng([*seed, KINDS.index(kind), severity])
    return _CORRUPTIONS[kind](picture, severity - 1, rng)
