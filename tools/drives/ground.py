"""The road's surface and the light on it: one texture through a pinhole, times a map of illuminance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from tools.drives import weather
from tools.drives.camera import View
from tools.drives.light import Illumination, tone
from tools.drives.street import LAMP_ARM_M, LAMP_HEIGHT_M
from tools.drives.world import KERB_LEFT_X, KERB_RIGHT_X

FloatArray = npt.NDArray[np.float32]

LAMP_CANDELA = 1_150.0
BEAM_CANDELA = 16_000.0
BEAM_HEIGHT_M = 0.65
PERIOD_M = 24.0
_TEXEL_X_M, _TEXEL_Z_M, _REACH_M = 0.05, 0.1, 26.0
_COARSE = 4  # the map of illuminance is this much smaller than the picture


@lru_cache(maxsize=4)
def _texture(paved: bool) -> npt.NDArray[np.uint8]:
    """Return the surface from above, as root-encoded albedo: a period along the road, then its mean."""
    rng = np.random.Generator(np.random.PCG64(20 + paved))
    columns = np.arange(-_REACH_M, _REACH_M, _TEXEL_X_M) + _TEXEL_X_M / 2
    rows = round(PERIOD_M / _TEXEL_Z_M)
    ground = np.empty((rows, len(columns), 3), np.float32)
    ground[:] = (0.075, 0.075, 0.078)
    side = (columns > KERB_RIGHT_X) | (columns < KERB_LEFT_X)
    beyond = (columns > KERB_RIGHT_X + 3.2) | (columns < KERB_LEFT_X - 3.2)
    ground[:, side] = (0.20, 0.21, 0.22)
    ground[:, beyond] = (0.19, 0.20, 0.20) if paved else (0.03, 0.11, 0.07)
    along = np.arange(rows) * _TEXEL_Z_M
    joints = (along % 2.0) < 0.12
    ground[np.ix_(joints, side & ~beyond)] *= 0.7
    for kerb in (KERB_RIGHT_X, KERB_LEFT_X):
        ground[:, np.abs(columns - kerb) < 0.12] = (0.34, 0.34, 0.34)
    for track in (-0.75, 0.75, -4.25, -2.75):
        ground[:, np.abs(columns - track) < 0.25] *= 0.86
    coarse = np.tile(rng.normal(1.0, 0.16, (rows // 6, len(columns) // 6)).astype(np.float32), (3, 1))
    patches = cv2.resize(coarse, (len(columns), 3 * rows), interpolation=cv2.INTER_CUBIC)[
        rows : 2 * rows, :, None
    ]
    ground *= np.clip(patches + rng.normal(0.0, 0.10, patches.shape), 0.5, 1.6).astype(np.float32)
    paint = (0.52, 0.54, 0.54)
    dashes = (along % 12.0) < 4.0
    ground[np.ix_(dashes, np.abs(columns + 1.75) < 0.07)] = paint
    for edge in (1.78, -5.28):
        ground[:, np.abs(columns - edge) < 0.06] = paint
    walk = np.cumsum(rng.normal(0.0, 0.02, rows))
    crack = walk - walk[-1] * np.arange(1, rows + 1) / rows + 0.3
    ground[np.arange(rows), np.clip(((crack + _REACH_M) / _TEXEL_X_M).astype(int), 0, len(columns) - 1)] *= (
        0.45
    )
    # One row more than the period lets the last one blend into the first.
    full = np.concatenate([ground, ground[:1], np.repeat(ground.mean(axis=0, keepdims=True), 4, axis=0)])
    return np.asarray(np.sqrt(np.clip(full, 0, 1)) * 255, np.uint8)


@dataclass(frozen=True, slots=True)
class _Grid:
    top: int
    # Metres ahead of the camera: of each row below the horizon, [rows, 1], or pixel, [rows, columns].
    z: FloatArray
    x: FloatArray  # [rows, columns], metres right of the vehicle's axis
    coarse_z: FloatArray
    coarse_x: FloatArray
    beam: FloatArray  # [coarse rows, coarse columns], lux of the own headlights


@lru_cache(maxsize=8)
def _grid(view: View) -> _Grid:
    top = int(np.ceil(view.horizon)) + 1
    z, x = view.on_the_road(
        np.arange(top, view.height) + np.float32(0.5), np.arange(view.width) + np.float32(0.5)
    )
    rows = np.linspace(top + 0.5, view.height - 0.5, max(2, (view.height - top) // _COARSE)).astype(
        np.float32
    )
    columns = ((np.arange(view.width // _COARSE) + 0.5) * _COARSE).astype(np.float32)
    coarse_z, coarse_x = view.on_the_road(rows, columns)
    points = np.stack([coarse_x, np.zeros_like(coarse_x), np.broadcast_to(coarse_z, coarse_x.shape)], axis=-1)
    beam = headlights(points.reshape(-1, 3)).reshape(coarse_x.shape)
    beam *= BEAM_HEIGHT_M / np.maximum(coarse_z, 2.0)
    return _Grid(top, z, x, coarse_z, coarse_x, beam.astype(np.float32))


def headlights(points: FloatArray) -> FloatArray:
    """Return the illuminance (lux, on a surface facing the lamps) of the own low beam at `points` `[N, 3]`.

    A low beam as UN Regulation 112 shapes it: a horizontal cut-off, brightest just below it and ahead.
    """
    x, y, z = points[:, 0], points[:, 1] - BEAM_HEIGHT_M, np.maximum(points[:, 2] + 1.5, 1.0)
    azimuth, elevation = np.arctan2(x, z), y / z
    cut = 0.02 + 0.98 / (1.0 + np.exp(np.minimum((elevation + 0.006) / 0.007, 40.0)))
    down = np.exp(-((np.minimum(elevation, 0.0) / 0.16) ** 2))
    wide = 0.88 * np.exp(-((azimuth / 0.22) ** 2)) + 0.12 * np.exp(-((azimuth / 0.6) ** 2))
    return np.asarray(BEAM_CANDELA * cut * down * wide / (x * x + y * y + z * z), np.float32)


def draw(
    picture: npt.NDArray[np.uint8],
    view: View,
    travelled_m: float,
    bend: float,
    paved: bool,
    sky: Illumination,
    lamps: Sequence[tuple[float, float, float]],
    oncoming: Sequence[tuple[float, float]],
) -> None:
    """Paint the ground below the horizon into `picture` (`uint8[H, W, 3]`, BGR), lit.

    Args:
        picture: changed in place.
        view: the camera.
        travelled_m: the camera's place along the road, metres.
        bend: the road's curvature, 1/m.
        paved: what lies beyond the pavement: stone, or grass.
        sky: the light.
        lamps: side, x, z of the street lamps in reach.
        oncoming: x, z of the vehicles whose headlights light the road towards the camera.
    """
    grid = _grid(view)
    texture = _texture(paved)
    period = round(PERIOD_M / _TEXEL_Z_M)
    across = (grid.x - 0.5 * bend * grid.z**2 + _REACH_M) * np.float32(1 / _TEXEL_X_M)
    # Modulo first: metres of a long drive are too coarse in the grid's float32.
    along = np.mod(travelled_m % PERIOD_M + grid.z, PERIOD_M) / _TEXEL_Z_M
    # Far rows see the mean of a period: one texel there is less than a pixel.
    along = np.where(grid.z > 45.0, np.float32(period + 2.5), np.minimum(along, period - 0.01)).astype(
        np.float32
    )
    along = np.ascontiguousarray(np.broadcast_to(along, across.shape))
    surface = cv2.remap(texture, across, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    target = picture[grid.top :]
    flat = sky.sky + sky.sun * sky.sun_direction[1]
    levels = np.arange(256, dtype=np.float32)
    clear = not (sky.wet or sky.extinction)
    if clear and not sky.lamps_on and not sky.headlights_on:
        # By day the light is even: one table per channel does it all.
        table = np.stack([tone((levels / 255) ** 2 * e * sky.exposure) for e in flat], axis=-1)
        cv2.LUT(surface, table.astype(np.uint8)[None], dst=target)
        return
    light = np.empty((*grid.coarse_x.shape, 3), np.float32)
    light[:] = flat
    if sky.headlights_on:
        light += grid.beam[..., None] * np.array([0.9, 1.0, 1.0], np.float32)
        for x, z in oncoming:
            spread = ((grid.coarse_x - x - 0.5 * bend * z * z) / 2.2) ** 2 + (
                (grid.coarse_z - z + 9.0) / 6.5
            ) ** 2
            light += (9.0 * np.exp(-spread))[..., None]
    if sky.lamps_on:
        pools = np.zeros(grid.coarse_x.shape, np.float32)
        for side, x, z in lamps:
            dx = grid.coarse_x - (x - side * LAMP_ARM_M + 0.5 * bend * z * z)
            r2 = dx * dx + (grid.coarse_z - z) ** 2
            pools += LAMP_CANDELA * LAMP_HEIGHT_M / (LAMP_HEIGHT_M**2 + r2) ** 1.5
        light += pools[..., None] * sky.lamp_colour
    root = np.sqrt(light * sky.exposure)
    root = cv2.resize(root, (view.width, view.height - grid.top), interpolation=cv2.INTER_LINEAR)
    if clear:
        encoded = cv2.multiply(surface, root, scale=0.5, dtype=cv2.CV_8U)
    else:
        linear = np.square(cv2.multiply(surface, root, scale=1 / 255, dtype=cv2.CV_32F))
        if sky.wet:
            film = cv2.remap(weather.film(*texture.shape[:2], period), across, along, cv2.INTER_LINEAR)
            linear = weather.wetted(linear, np.asarray(film, np.uint8), grid.x, grid.z, sky)
        linear = weather.through_air(linear, grid.z[..., None], sky)
        encoded = np.asarray(np.minimum(127.5 * np.sqrt(linear), 255.0), np.uint8)
    table = tone((levels / 127.5) ** 2).astype(np.uint8)
    cv2.LUT(encoded, table, dst=target)
