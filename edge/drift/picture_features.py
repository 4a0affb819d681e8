"""The features of the picture alone: they mean the same under every model.

They see one small copy of the frame, so their cost does not grow with its resolution, and neither does their
value: averaging over areas keeps means, and what is measured of edges is measured at the copy's own scale.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from edge.drift.feature import Feature, Invariance
from edge.drift.look import Look
from edge.drift.state import Origin
from edge.drift.vanishing import FARTHEST, vanishing_point

_DARKEST = 0.10  # share of the pixels that the dark tail looks at
_BRIGHTEST = 0.02
_LOST_LOW, _LOST_HIGH = 4, 250  # levels beyond which nothing is told apart any more
_LEVELS = np.arange(256, dtype=np.float64)
_PATCH = np.ones((7, 7), np.uint8)
_SECOND = np.array([-1, 2, -1], np.float32)


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


def _clipped_share(look: Look) -> float:
    return float(look.histogram[: _LOST_LOW + 1].sum() + look.histogram[_LOST_HIGH:].sum())


def _colourfulness(look: Look) -> float:
    blue, green, red = (np.ascontiguousarray(plane[::2, ::2]) for plane in look.planes)
    difference = cv2.subtract(red, green, dtype=cv2.CV_16S)
    # Twice the yellow-blue of the paper.
    opponent = cv2.subtract(
        cv2.add(red, green, dtype=cv2.CV_16S), cv2.add(blue, blue, dtype=cv2.CV_16S), dtype=cv2.CV_16S
    )
    (mean_rg,), (sigma_rg,) = (value.ravel() for value in cv2.meanStdDev(difference))
    (mean_yb,), (sigma_yb,) = (value.ravel() / 2 for value in cv2.meanStdDev(opponent))
    return math.hypot(sigma_rg, sigma_yb) + 0.3 * math.hypot(mean_rg, mean_yb)


def _warmth(look: Look) -> float:
    blue, _, red, _ = cv2.mean(look.small)
    return math.log((red + 1.0) / (blue + 1.0))


def _sharpness(look: Look) -> float:
    edges = cv2.Laplacian(look.half, cv2.CV_16S, ksize=1)
    sigma = float(cv2.meanStdDev(edges)[1][0, 0])
    # Against the contrast, or a dim picture would count as a blurred one.
    return sigma / (_contrast(look) + 1.0)


def _noise(look: Look) -> float:
    # The difference of two Laplacians is the second difference along both axes, one after the other.
    residual = cv2.sepFilter2D(look.luma, cv2.CV_16S, _SECOND, _SECOND)
    return math.sqrt(math.pi / 2) / 6.0 * cv2.norm(residual, cv2.NORM_L1) / look.luma.size


def _haze(look: Look) -> float:
    blue, green, red = look.planes
    least = cv2.min(cv2.min(blue, green), red)
    size = (max(1, least.shape[1] // 2), max(1, least.shape[0] // 2))
    dark = cv2.erode(cv2.resize(least, size, interpolation=cv2.INTER_AREA), _PATCH)
    return float(cv2.mean(dark)[0]) / (_brightness(look) + 1.0)


def _vanishing_x(look: Look) -> float:
    return vanishing_point(look)[0]


def _vanishing_y(look: Look) -> float:
    return vanishing_point(look)[1]


_EVERY = frozenset(Invariance)
_GAIN, _FLIP = Invariance.GAIN, Invariance.FLIP
_PICTURE = Origin.PICTURE

PICTURE_FEATURES: tuple[Feature, ...] = (
    Feature("brightness", _PICTURE, 0, 255, "Mean luma.", _brightness, 4, _EVERY - {_GAIN}),
    Feature(
        "contrast",
        _PICTURE,
        0,
        127.5,
        "Standard deviation of the luma at 320x180.",
        _contrast,
        5,
        _EVERY - {_GAIN},
    ),
    Feature(
        "dark_tail",
        _PICTURE,
        0,
        255,
        "Mean luma of the darkest tenth of the pixels.",
        _dark_tail,
        14,
        _EVERY - {_GAIN},
    ),
    Feature(
        "bright_tail",
        _PICTURE,
        0,
        255,
        "Mean luma of the brightest fiftieth.",
        _bright_tail,
        10,
        _EVERY - {_GAIN},
    ),
    Feature(
        "colourfulness",
        _PICTURE,
        0,
        300,
        "Hasler & Suesstrunk (2003), M3, at 160x90.",
        _colourfulness,
        74,
        _EVERY - {_GAIN},
    ),
    Feature(
        "sharpness",
        _PICTURE,
        0,
        9,  # the Laplacian enlarges a deviation by 8 at most, by 8.5 in a picture of a few pixels
        "Standard deviation of the Laplacian at 160x90, by the contrast.",
        _sharpness,
        31,
        _EVERY,
    ),
    Feature(
        "clipped_share",
        _PICTURE,
        0,
        1,
        "Share of the pixels at 320x180 with a luma of 250 and more, or 4 and less.",
        _clipped_share,
        5,
        _EVERY - {_GAIN},
    ),
    Feature(
        "warmth",
        _PICTURE,
        -6,
        6,
        "Logarithm of mean red by mean blue: lamps are warm, a blue sky is cold.",
        _warmth,
        9,
        _EVERY,
    ),
    Feature(
        "haze",
        _PICTURE,
        0,
        1,
        "Mean of the dark channel (He, Sun & Tang 2009) in patches of 7 pixels at 160x90, by the mean luma:"
        " air that scatters leaves nothing dark or colourful.",
        _haze,
        24,
        _EVERY,
    ),
    Feature(
        "noise",
        _PICTURE,
        0,
        427,
        "Immerkaer's (1996) estimate at 320x180: grain by night; below the day's, the finest structure is"
        " lost to fog, rain or grease.",
        _noise,
        28,
        frozenset({_FLIP}),
    ),
    Feature(
        "vanishing_x",
        _PICTURE,
        *FARTHEST,
        "Where the road's edges meet, in shares of the width: a camera of 70 degrees that is turned moves it"
        " by .0125 a degree. See `edge.drift.vanishing`.",
        _vanishing_x,
        145,
        _EVERY - {_FLIP},
    ),
    Feature(
        "vanishing_y",
        _PICTURE,
        *FARTHEST,
        "The same in shares of the height, 0 at the top edge: a camera that nods moves it.",
        _vanishing_y,
        1,
        _EVERY,
    ),
)
