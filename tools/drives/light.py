"""Daylight, lamps and the sensor, in lux and in the sun's elevation.

Illuminances are the usual handbook values (IES Lighting Handbook: full sun 80-100 klx, end of civil
twilight 3 lx, lit streets 5-20 lx). One exposure control with an upper limit turns them into pictures: by
day the gain is at its floor, by night at its ceiling, and the noise goes with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from edge.errors import TrafficVisionError
from tools.drives.chance import draws

FloatArray = npt.NDArray[np.float32]

# A light is the sun's elevation in degrees as a function of the drive's time in seconds.
Light = Callable[[float], float]

ELEVATION_DEG = {"noon": 52.0, "dusk": -3.5, "night": -18.0}

# Elevation (degrees) against the illuminance of the sky without the sun (lux).
_SKY_ELEVATION = (-18.0, -12.0, -6.0, -3.0, 0.0, 5.0, 20.0, 60.0)
_SKY_LUX = (0.0, 0.01, 3.0, 40.0, 500.0, 5_000.0, 9_000.0, 16_000.0)

# Exposures are 1 / (albedo * lux). The highest is a dashcam's longest shutter at its highest gain.
MIN_EXPOSURE, MAX_EXPOSURE = 2e-5, 0.015
GAIN_DECADES = math.log10(0.019 / MIN_EXPOSURE)
SIGNAL_AT_KEY = 0.22  # linear grey that the exposure control aims at


class LightError(TrafficVisionError):
    """A light was asked for that the simulation does not know."""


def light(name: str, *, dusk_s: float = 60.0, fade_s: float = 30.0) -> Light:
    """Return the light called `noon`, `dusk` or `night`, or one that falls: `noon-night`.

    Args:
        name: one of ELEVATION_DEG, or two of them joined by a hyphen.
        dusk_s: when a falling light starts to fall, seconds of drive.
        fade_s: how long it takes from the first to the second, seconds of drive.

    Raises:
        LightError: the name is not one of these.
    """
    parts = name.split("-")
    if not 1 <= len(parts) <= 2 or any(part not in ELEVATION_DEG for part in parts):
        known = ", ".join(ELEVATION_DEG)
        raise LightError(f"unknown light {name!r}: give one of {known}, or two joined by '-' (noon-night)")
    if fade_s <= 0:
        raise LightError(f"the light's fade must be longer than 0 s, not {fade_s:g}")
    start, end = ELEVATION_DEG[parts[0]], ELEVATION_DEG[parts[-1]]

    def elevation(t: float) -> float:
        share = min(max((t - dusk_s) / fade_s, 0.0), 1.0)
        return start + (end - start) * share

    return elevation


def time_of_day(elevation_deg: float) -> str:
    """Return BDD100K's word (daytime, dawn/dusk, night) for the sun's elevation in degrees."""
    if elevation_deg > 0:
        return "daytime"
    return "dawn/dusk" if elevation_deg > -8 else "night"


@dataclass(frozen=True, slots=True)
class Illumination:
    """What shines at one moment of one drive. Colours are BGR; illuminances are lux.

    Attributes:
        sun: direct sun on a surface that faces it, `float32[3]`.
        sun_direction: unit vector towards the sun, `float32[3]` (right, up, forward).
        sky: diffuse light from above, `float32[3]`.
        lamps_on: street lamps and windows are lit.
        headlights_on: vehicles drive with their lights on.
        lamp_colour: BGR tint of the street lamps (sodium or LED, by drive).
        exposure: linear picture signal per (albedo * lux).
        gain: how far the exposure is towards its ceiling, 0 to 1; the noise goes with it.
        elevation_deg: the sun's elevation.
        key: what the exposure control aims at, of SIGNAL_AT_KEY; by drive.
        extinction: of the air, 1/m: `exp(-extinction * z)` of the light comes through z metres (Koschmieder).
        airlight: what the air itself scatters to the camera where it hides all, albedo * lux, `float32[3]`.
        wet: share of the road that a film of water covers.
    """

    sun: FloatArray
    sun_direction: FloatArray
    sky: FloatArray
    lamps_on: bool
    headlights_on: bool
    lamp_colour: FloatArray
    exposure: float
    gain: float
    elevation_deg: float
    key: float
    extinction: float = 0.0
    airlight: FloatArray = field(default_factory=lambda: np.zeros(3, np.float32))
    wet: float = 0.0


@lru_cache(maxsize=64)
def illumination(seed: int, elevation_deg: float) -> Illumination:
    """Return the light of drive `seed` when the sun stands `elevation_deg` above the horizon."""
    overcast, azimuth, height, glow, sodium, key, *_ = draws(seed, "light", 0)
    elevation = elevation_deg + (height - 0.5) * 30 if elevation_deg > 20 else elevation_deg
    clear = 1.0 if overcast < 0.55 else (1.0 - overcast) / 0.6
    sine = max(math.sin(math.radians(elevation)), 0.0)
    warm = np.array([0.55 + 0.45 * sine, 0.85 + 0.15 * sine, 1.0], np.float32)
    sun = np.float32(85_000 * sine**1.15 * clear) * warm
    log_sky = np.interp(elevation, _SKY_ELEVATION, np.log(np.asarray(_SKY_LUX) + 0.005))
    # The glow of a city's own lamps on the sky is what is left at night.
    sky_lux = float(np.exp(log_sky)) + float(
        np.interp(elevation, (-12.0, -6.0), (0.02 + 0.1 * glow, 0.15 + 0.5 * glow))
    )
    blue = np.interp(elevation, (-18, -8, -2, 8), (0.1, 0.45, 0.25, 0.18))
    sky = np.float32(sky_lux) * np.array([1 + blue, 1.0, 1 - blue * 0.6], np.float32)
    around = 2 * math.pi * azimuth
    flat = math.cos(math.radians(max(elevation, 8.0)))
    direction = np.array([flat * math.sin(around), max(sine, 0.14), flat * math.cos(around)], np.float32)
    lamps_on = elevation < 1.5
    lamp = np.array([0.45, 0.78, 1.0] if sodium < 0.45 else [0.95, 1.0, 0.96], np.float32)
    exposure, gain = exposed(sky_lux, float(sun.mean()), lamps_on, 0.8 + 0.5 * key)
    return Illumination(
        sun=sun,
        sun_direction=direction / np.linalg.norm(direction),
        sky=sky,
        lamps_on=lamps_on,
        headlights_on=elevation < 4.0,
        lamp_colour=lamp,
        exposure=exposure,
        gain=gain,
        elevation_deg=elevation_deg,
        key=0.8 + 0.5 * key,
    )


def exposed(sky_lux: float, sun_lux: float, lamps_on: bool, key: float) -> tuple[float, float]:
    """Return the exposure that the control chooses in this light, and its gain; see Illumination."""
    # What it sees on average: a third grey in the sky's and half of the sun's light, and the patches that
    # lamps light.
    seen = 0.22 * (1.5 * sky_lux + 0.33 * sun_lux + (2.2 if lamps_on else 0.0))
    exposure = min(SIGNAL_AT_KEY * key / seen, MAX_EXPOSURE)
    return exposure, min(max(math.log10(exposure / MIN_EXPOSURE) / GAIN_DECADES, 0.0), 1.0)


def tone(signal: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Map linear signal (1 = white) to the 0..255 of a picture: a film-like shoulder, then sRGB's gamma."""
    shoulder = 1.0 - np.exp(-1.7 * np.maximum(signal, 0.0))
    return np.asarray(255.0 * np.power(shoulder, 1 / 2.2), np.float32)


@lru_cache(maxsize=16)
def noise_sigma(gain: float) -> FloatArray:
    """Return the standard deviation of sensor noise at each picture level, `float32[256]`, in levels.

    Shot noise grows with the root of the signal, read noise is constant, and both are lifted by the gain
    (EMVA 1288's linear model), then go through the tone curve's slope.
    """
    levels = np.arange(256, dtype=np.float32)
    linear = -np.log(np.maximum(1.0 - np.power(np.clip(levels, 0, 254.5) / 255.0, 2.2), 1e-6)) / 1.7
    amplification = 10 ** (1.8 * gain)
    sigma = np.sqrt(linear * 6e-6 * amplification**1.35 + (4e-4 * amplification) ** 2 * 0.35 + 1e-7)
    slope = (tone(linear + 2e-3) - tone(linear)) / 2e-3
    return np.asarray(np.clip(sigma * slope, 0.6, 15.0), np.float32)
