"""Rain and fog: what they do to the light and the air, and the drops that the camera sees.

Both are in the light before it becomes a picture: an overcast sky without shadows, air that hides what is far
(Koschmieder 1924), a road that darkens as it gets wet (Lekner & Dorf 1988) and mirrors the sky at a grazing
angle. What remains to be drawn are the drops: streaks in the air, as in Garg & Nayar (2007), and, between
two strokes of the wiper, lenses of water on the windscreen.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from tools.drives.camera import CAMERA_HEIGHT_M
from tools.drives.chance import draws
from tools.drives.conditions import Moment
from tools.drives.light import Illumination, exposed, illumination, tone

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

# What is farther than this stands out by less than the 5 % of contrast that an eye needs (WMO), metres.
FOG_VISIBILITY_M = (45.0, 110.0)
RAIN_VISIBILITY_M = (280.0, 700.0)  # of heavy rain, with the spray of the traffic
_HIDES = 3.0  # optical depth at which 5 % is left
_SUN_LEFT = 0.03  # behind such clouds
_SKY_LEFT = {"rain": 0.34, "fog": 0.6}
_LAMPS_IN_AIR = {"rain": 0.5, "fog": 1.6}  # airlight of the street lamps and headlights, albedo * lux
WIPER_S = 1.3


@lru_cache(maxsize=64)
def illumination_under(seed: int, elevation_deg: float, moment: Moment) -> Illumination:
    """Return the light of drive `seed` under what holds at `moment`; see `light.illumination`."""
    sky = illumination(seed, elevation_deg)
    amount = max(moment.rain, moment.fog)
    if amount:
        sky = _overcast(sky, seed, moment, amount)
    if moment.stops:
        sky = replace(sky, exposure=sky.exposure * 2.0**moment.stops)
    return sky


def _overcast(sky: Illumination, seed: int, moment: Moment, amount: float) -> Illumination:
    thick, *_ = draws(seed, "weather", 0)
    kind, (least, most) = ("rain", RAIN_VISIBILITY_M) if moment.rain else ("fog", FOG_VISIBILITY_M)
    sun = sky.sun * np.float32(1 - (1 - _SUN_LEFT) * amount)
    grey = sky.sky.mean() * np.array([1.03, 1.0, 0.97], np.float32)
    above = (sky.sky + (grey - sky.sky) * np.float32(amount)) * np.float32(1 - (1 - _SKY_LEFT[kind]) * amount)
    lamps_on = sky.lamps_on
    exposure, gain = exposed(float(above.mean()), float(sun.mean()), lamps_on, sky.key)
    if moment.rain:
        # The control keeps to the bright sky and its mirror in the road: the rest is dim.
        exposure *= 1 - 0.3 * amount
    lit = sky.lamp_colour * np.float32(_LAMPS_IN_AIR[kind] if lamps_on else 0.0)
    return replace(
        sky,
        sun=sun.astype(np.float32),
        sky=above.astype(np.float32),
        headlights_on=sky.headlights_on or amount >= 0.5,
        exposure=exposure,
        gain=gain,
        extinction=amount * _HIDES / (least + (most - least) * thick),
        airlight=(above * np.float32(1.9 / np.pi) + lit).astype(np.float32),
        wet=moment.rain,
    )


def transmission(ahead: npt.NDArray[np.floating], sky: Illumination) -> npt.NDArray[np.floating]:
    """Return the share of the light that comes through the air from so many metres `ahead`."""
    return np.asarray(np.exp(-sky.extinction * np.maximum(ahead, 0.0)))


def through_air(
    signal: npt.NDArray[np.floating], ahead: npt.NDArray[np.floating] | float, sky: Illumination
) -> FloatArray:
    """Return the linear `signal` `[..., 3]` of what is so many metres `ahead`, `[..., 1]`."""
    left = transmission(np.asarray(ahead, np.float32), sky)
    return np.asarray(signal * left + (1 - left) * (sky.airlight * sky.exposure), np.float32)


def halo(sky: Illumination) -> float:
    """Return how much of a lamp's light the air spreads around it, beyond what the lens does."""
    return 0.2 * min(sky.extinction / 0.05, 1.0)


def mirrored_lamps(places: FloatArray, glare: FloatArray, sky: Illumination) -> FloatArray:
    """Return the light that a wet road throws back of lamps, as long smears towards the camera.

    Args:
        places: `float32[rows, columns, 3]`, the energy of the lamps' mirror images where they lie.
        glare: what the lens scatters of the lamps themselves, of the same shape.
        sky: the light.
    """
    long = cv2.GaussianBlur(places, (0, 0), sigmaX=0.9, sigmaY=0.055 * len(places))
    return np.asarray(glare + long * np.float32(0.12 * sky.wet), np.float32)


def clouded(
    above: npt.NDArray[np.floating], cover: FloatArray, sky: Illumination, amount: float
) -> FloatArray:
    """Return a picture of the sky (levels, `[rows, W, 3]`) behind an even deck of clouds, or in fog.

    Args:
        above: without.
        cover: texture of the clouds, `float32[rows, W, 1]`, 0 to 1.
        sky: the light.
        amount: share of the deck that has come.
    """
    up = np.linspace(1.0, 0.0, len(above), dtype=np.float32)[:, None, None]
    uneven = 1.0 - 0.25 * up + (0.16 * sky.wet) * (cover - 0.5) * up
    deck = tone(sky.airlight * sky.exposure * uneven)
    return np.asarray(above + (deck - above) * np.float32(amount), np.float32)


@lru_cache(maxsize=4)
def film(rows: int, columns: int, period: int) -> npt.NDArray[np.uint8]:
    """Return where water lies on a wet road, 0 to 255: all of it is wet, ruts and hollows stand under water.

    Args:
        rows: of the road's texture.
        columns: of the same.
        period: rows after which it begins again; what follows is the mean.
    """
    rng = np.random.Generator(np.random.PCG64(31))
    hollows = np.zeros((period, columns), np.float32)
    for cells, weight in ((10, 0.6), (26, 0.4)):
        coarse = np.tile(rng.random((cells, 2 * cells), np.float32), (3, 1))
        hollows += (
            weight
            * cv2.resize(coarse, (columns, 3 * period), interpolation=cv2.INTER_CUBIC)[period : 2 * period]
        )
    water = np.clip((hollows - 0.42) * 5.0, 0.0, 1.0) * 0.65 + 0.35
    full = np.concatenate([water, water[:1], np.full((rows - period - 1, columns), water.mean(), np.float32)])
    return np.asarray(255 * full, np.uint8)


def wetted(
    linear: FloatArray, water: npt.NDArray[np.uint8], right: FloatArray, ahead: FloatArray, sky: Illumination
) -> FloatArray:
    """Return the signal of a wet road.

    Args:
        linear: of the dry one, `float32[H, W, 3]`.
        water: what `film` has at each pixel.
        right: metres from the camera to each pixel's piece of road.
        ahead: the same.
        sky: the light; its `wet` says how far the road is.
    """
    depth = (water * np.float32(sky.wet / 255))[..., None]
    down = np.float32(CAMERA_HEIGHT_M) / np.sqrt(CAMERA_HEIGHT_M**2 + right**2 + ahead**2)
    # Fresnel's reflection at water, by Schlick's approximation; a rough road mirrors a part of that.
    mirrored = (0.02 + 0.98 * (1 - down) ** 5)[..., None] * np.float32(0.5)
    return np.asarray(
        linear * (1 - 0.5 * np.sqrt(depth)) + depth * mirrored * (sky.airlight * sky.exposure), np.float32
    )


@lru_cache(maxsize=8)
def _streaks(height: int, width: int, slant: int) -> npt.NDArray[np.int16]:
    """Return a field of streaks, larger than the picture: opacity of each pixel in 1/255.

    Near drops are few, long and out of focus, far ones many and short.
    """
    rng = np.random.Generator(np.random.PCG64(40 + slant))
    field = np.zeros((height + 97, width + 131), np.uint8)
    unit = height / 360
    for count, length, thick, opacity, blur in (
        (520, (5, 13), 0.6, 46, 0.5), (130, (16, 38), 1.0, 44, 0.8), (12, (60, 130), 4.0, 40, 2.2),
    ):  # fmt: skip
        layer = np.zeros_like(field)
        for x, y, size, lean in rng.random((count, 4)):
            long = unit * (length[0] + (length[1] - length[0]) * size)
            angle = math.radians(slant * 4 + 5 * (lean - 0.5))
            start = np.array([x * layer.shape[1], y * (layer.shape[0] + long) - long])
            end = start + long * np.array([math.sin(angle), math.cos(angle)])
            cv2.line(
                layer,
                np.round(start * 16).astype(int).tolist(),
                np.round(end * 16).astype(int).tolist(),
                opacity,
                max(1, round(thick * unit)),
                cv2.LINE_AA,
                4,
            )
        field = np.maximum(field, cv2.GaussianBlur(layer, (0, 0), blur * unit))
    return field.astype(np.int16)


def add_drops(picture: Image, seed: int, t: float, sky: Illumination, amount: float) -> None:
    """Draw the rain's drops into `picture`, in place: those in the air, and those on the windscreen."""
    height, width = picture.shape[:2]
    down, right, *_ = draws(seed, "drops", round(t * 1e6))
    slant = int(5 * draws(seed, "wind", 0)[0]) - 2
    row, column = int(down * 97), int(right * 131)
    field = _streaks(height, width, slant)[row : row + height, column : column + width]
    opacity = np.repeat((field * amount).astype(np.int16)[..., None], 3, axis=2)
    bright = np.empty_like(picture)
    bright[:] = np.minimum(tone(sky.airlight * sky.exposure * 1.3), 255)
    cv2.add(
        picture,
        cv2.multiply(cv2.subtract(bright, picture, dtype=cv2.CV_16S), opacity, scale=1 / 255),
        dst=picture,
        dtype=cv2.CV_8U,
    )
    _windscreen(picture, seed, t, amount)


def _windscreen(picture: Image, seed: int, t: float, amount: float) -> None:
    """Draw the drops that have fallen on the windscreen since the wiper passed: each a small lens.

    Too near to be in focus, a drop shows the scene behind it small, upside down and blurred.
    """
    height, width = picture.shape[:2]
    stroke, since = divmod(t, WIPER_S)
    quarter = cv2.resize(picture, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    small = np.asarray(cv2.GaussianBlur(quarter, (0, 0), 2), np.uint8)
    for number in range(round(26 * amount)):
        x, y, size, fallen, tall, *_ = draws(seed, f"windscreen {int(stroke)}", number)
        if fallen * WIPER_S > since:
            continue
        radius = width * (0.006 + 0.016 * size**3)
        _lens_of_water(picture, small, x * width, y * height, radius, 1.0 + 0.5 * tall)


def _lens_of_water(picture: Image, small: Image, x: float, y: float, radius: float, tall: float) -> None:
    height, width = picture.shape[:2]
    left, right = max(int(x - 1.3 * radius), 0), min(int(x + 1.3 * radius) + 2, width)
    top, bottom = max(int(y - 1.3 * tall * radius), 0), min(int(y + 1.3 * tall * radius) + 2, height)
    if left >= right or top >= bottom:
        return
    across = ((np.arange(left, right) + 0.5 - x) / radius)[None, :].astype(np.float32)
    along = ((np.arange(top, bottom) + 0.5 - y) / (radius * tall))[:, None].astype(np.float32)
    away = np.sqrt(across**2 + along**2)
    wide = 0.16 * width / 4
    columns = np.clip(x / 4 - wide * across, 0, small.shape[1] - 1) + np.zeros_like(along)
    rows = np.clip(y / 4 - wide * along, 0, small.shape[0] - 1) + np.zeros_like(across)
    seen = cv2.remap(small, columns, rows, cv2.INTER_LINEAR).astype(np.float32)
    seen *= (1.08 - 0.35 * np.minimum(away, 1.0) ** 4)[..., None]
    opacity = (0.8 * np.clip((1.15 - away) / 0.35, 0.0, 1.0))[..., None]
    part = picture[top:bottom, left:right]
    part[:] = np.minimum(part + (seen - part) * opacity, 255).astype(np.uint8)
