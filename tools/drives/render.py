"""`render(seed, t)`: one picture of a simulated drive, with the exact boxes of what can be seen in it.

A painter's algorithm over flat polygons whose brightness is computed in lux, then an exposure, a tone curve,
the glare of lamps and a sensor's noise. The same call gives the same picture in any process, in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from tools.drives import ground, lens, weather, world
from tools.drives.camera import CAMERA_HEIGHT_M, NEAR_M, View
from tools.drives.chance import draws
from tools.drives.conditions import AS_IT_SHOULD_BE, NOTHING, Conditions, Moment
from tools.drives.light import Illumination, Light, light, noise_sigma, time_of_day, tone
from tools.drives.scene import Scene, assemble, glare_of, select, shade
from tools.drives.visible import Outline, TrueBox, crop, visible_boxes
from tools.drives.world import CLASS_NAMES

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

SIZE = (640, 360)
NEAREST_M = 1.2  # what is labelled and nearer is beside the camera, not before it
_SHIFT = 4  # fixed-point bits of a vertex
_OCCLUDERS_M = 60.0  # what carries no label and is farther hides nothing that would be labelled
_SKYLINE_M = 400.0
_DARK_GAIN = 0.5  # of an exposure at which things begin to be lost in the noise
_NOON = light("noon")


@dataclass(frozen=True, slots=True)
class Rendering:
    """One moment of a drive: `image` is `uint8[height, width, 3]`, BGR; `attributes` are BDD100K's."""

    image: Image
    boxes: tuple[TrueBox, ...]
    attributes: dict[str, str]


def render(
    seed: int,
    t: float,
    light: Light = _NOON,
    size: tuple[int, int] = SIZE,
    conditions: Conditions = NOTHING,
) -> Rendering:
    """Draw drive `seed` at time `t`.

    Args:
        seed: which drive; any integer.
        t: seconds from the drive's start.
        light: the sun's elevation over the drive's time, from `tools.drives.light.light`.
        size: width and height of the picture, pixels.
        conditions: weather and faults of the camera over the drive's time.

    Returns:
        The picture and its boxes. A pure function of the arguments.
    """
    moment = conditions.at(t)
    sky = weather.illumination_under(seed, light(t), moment)
    things = world.things(seed, t, sky)
    return render_things(things, seed, t, sky, size, moment)


def render_things(
    things: Iterable[world.Thing],
    seed: int,
    t: float,
    sky: Illumination,
    size: tuple[int, int] = SIZE,
    moment: Moment = AS_IT_SHOULD_BE,
) -> Rendering:
    """Draw `things` on the road of drive `seed` at time `t` under the light `sky`; see `render`.

    `sky` is the light of `moment` (`weather.illumination_under`).
    """
    travelled = world.position(seed, t)
    bend = world.bend(seed, travelled)
    view = View.of(size, turn_deg=moment.turn_deg)
    ahead = [thing for thing in things if thing.z < world.SIGHT_M and _reaches_ahead(thing)]
    oncoming = [(thing.x, thing.z) for thing in ahead if thing.casts]
    shown = [thing for thing in ahead if _may_be_in_view(thing, bend, view)]
    shown.sort(key=lambda thing: -thing.z)
    lamps = list(world.lamps(seed, t))
    picture = np.empty((size[1], size[0], 3), np.uint8)
    _paint_sky(picture, view, seed, travelled, sky, moment)
    paved = world.block_at(seed, travelled + 30).paved
    ground.draw(picture, view, travelled, bend, paved, sky, lamps, oncoming)
    boxes: tuple[TrueBox, ...] = ()
    if shown:
        scene = assemble(shown, bend)
        points = view.turned(scene.vertices)
        screen = view.project(points)
        kept = _in_view(scene, points, screen, view, sky)
        points = points[np.repeat(kept, np.diff(scene.starts))]
        scene, screen = select(scene, screen, kept)
        levels = shade(scene, sky, lamps, bend)
        outlines, owners, values = _paint(picture, scene, screen, shown, levels)
        _add_glare(picture, view, scene, screen, points, sky, owners, values)
        faint = sky.gain > _DARK_GAIN or bool(sky.extinction or moment.stops)
        boxes = visible_boxes(picture, view, outlines, owners, sky, faint=faint)
    if moment.rain:
        weather.add_drops(picture, seed, t, sky, moment.rain)
    if moment.smear:
        lens.smear(picture, seed)
        boxes = lens.still_told(boxes, seed, size)
    _expose(picture, seed, t, sky)
    attributes = {"timeofday": time_of_day(sky.elevation_deg), **moment.attributes(), "scene": "city street"}
    return Rendering(picture, boxes, attributes)


def _reaches_ahead(thing: world.Thing) -> bool:
    """Return whether some of a thing lies before the camera; what carries no label goes by its own place."""
    if thing.label is None or thing.z > NEAREST_M:
        return True
    return thing.z + float((thing.mesh.vertices[:, 2] * thing.turn).max()) > NEAREST_M


def _may_be_in_view(thing: world.Thing, bend: float, view: View) -> bool:
    """Return whether a thing of less than 8 m to each side can reach into a 71 degree view."""
    x = thing.x + 0.5 * bend * thing.z * abs(thing.z)
    return (thing.z < 22.0 and thing.label is None) or view.may_show(x, thing.z)


@lru_cache(maxsize=4)
def _clouds(width: int, rows: int) -> FloatArray:
    rng = np.random.Generator(np.random.PCG64(5))
    field = np.zeros((rows, width * 2), np.float32)
    for cells, weight in ((4, 0.5), (9, 0.3), (20, 0.2)):
        coarse = rng.random((cells, cells * 4), np.float32)
        field += weight * cv2.resize(coarse, (width * 2, rows), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip((field - 0.48) * 3.2, 0.0, 1.0), np.float32)


@lru_cache(maxsize=4)
def _sky(view: View, seed: int, elevation_deg: float, moment: Moment) -> tuple[Image, FloatArray]:
    """Return the sky down to the horizon and its colour there; it stays while the sun stands still."""
    sky = weather.illumination_under(seed, elevation_deg, moment)
    rows = min(int(np.ceil(view.horizon)) + 2, view.height)
    amount, shift, tint, *_ = draws(seed, "sky", 0)
    up = np.linspace(1.0, 0.0, rows, dtype=np.float32)[:, None]
    base = sky.sky / np.float32(np.pi) * 1.9
    zenith = base * np.array([1.25, 0.85, 0.55 + 0.2 * tint], np.float32)
    low = base * np.array([1.05, 1.1, 1.12], np.float32)
    if -12 < elevation_deg < 3:
        low = low * np.array([0.6, 1.0, 1.7], np.float32)
    column = tone((low + (zenith - low) * up**0.7) * sky.exposure)
    cloud = tone(base * np.array([1.35, 1.35, 1.35], np.float32) * sky.exposure)
    # A turned camera sees another part of the sky.
    start = min(max(int(shift * view.width - view.aside), 0), view.width)
    cover = _clouds(view.width, rows)[:, start : start + view.width] * np.float32(min(1.0, 0.25 + amount))
    cover = cover[..., None]
    above = column[:, None, :] * (1 - cover) + cloud * cover
    if sky.extinction:
        above = weather.clouded(above, cover, sky, max(moment.rain, moment.fog))
    return above.astype(np.uint8), column[-1]


def _paint_sky(
    picture: Image, view: View, seed: int, travelled: float, sky: Illumination, moment: Moment
) -> None:
    above, low = _sky(view, seed, sky.elevation_deg, moment)
    rows = len(above)
    picture[:rows] = above
    # A distant skyline; it turns slowly as the drive goes on.
    signal = (sky.sky * 0.12 + sky.sun * 0.05) * sky.exposure + (low / 255) ** 2.2 * 0.25
    hazy = tone(weather.through_air(signal, _SKYLINE_M, sky) if sky.extinction else signal)
    colour = (float(hazy[0]), float(hazy[1]), float(hazy[2]))
    for number in range(26):
        place, wide, tall, *_ = draws(seed, "skyline", number)
        x = ((place * 1.6 - travelled / 9000.0) % 1.6 - 0.3) * view.width + view.aside
        top = view.horizon - view.height * (0.015 + 0.10 * tall * tall)
        width = view.width * (0.02 + 0.05 * wide)
        cv2.rectangle(picture, (int(x), int(top)), (int(x + width), rows), colour, -1)


def _in_view(
    scene: Scene, points: FloatArray, screen: FloatArray, view: View, sky: Illumination
) -> npt.NDArray[np.bool_]:
    """Tell which polygons face the camera, lie in the picture and are not too small, `bool[P]`.

    Args:
        scene: the polygons.
        points: their vertices as the camera has them before it, `[V, 3]`.
        screen: where these are in the picture, `[V, 2]`.
        view: the camera.
        sky: the light; a lamp that glares is never too small.
    """
    first = scene.starts[:-1]
    eye = scene.vertices[first] - np.array([0.0, CAMERA_HEIGHT_M, 0.0], np.float32)
    seen = ~scene.normals.any(axis=1) | ((scene.normals * eye).sum(axis=1) < 0)
    seen &= np.maximum.reduceat(points[:, 2], first) > NEAR_M
    low, high = np.minimum.reduceat(screen, first), np.maximum.reduceat(screen, first)
    seen &= (high[:, 0] > 0) & (low[:, 0] < view.width) & (high[:, 1] > 0) & (low[:, 1] < view.height)
    seen &= ((high - low).max(axis=1) > 1.1) | glare_of(scene, sky).any(axis=1)
    return np.asarray(seen)


def _paint(
    picture: Image, scene: Scene, screen: FloatArray, things: Sequence[world.Thing], levels: FloatArray
) -> tuple[list[Outline], npt.NDArray[np.uint8], list[int]]:
    """Paint every polygon, far to near.

    Things come sorted from far to near; within one, the mesh's own order is the order of painting.

    Returns:
        The outline of each labelled thing; the map of which of them each pixel belongs to (0: none); and
        each thing's value in that map.
    """
    fixed = np.round((screen - 0.5) * (1 << _SHIFT)).astype(np.int32)
    starts: list[int] = scene.starts.tolist()
    palette = levels.tolist()
    # What lies flat on the road, a shadow or a stripe, is no part of a thing.
    stands = scene.normals[:, 1] < 0.99
    standing: list[bool] = stands.tolist()
    bounds = [*np.flatnonzero(np.diff(scene.owner, prepend=-1)).tolist(), len(scene.owner)]
    corners = np.where(np.repeat(stands, np.diff(scene.starts))[:, None], screen, np.float32(np.nan))
    groups = scene.starts[bounds[:-1]]
    lows, highs = np.fmin.reduceat(corners, groups), np.fmax.reduceat(corners, groups)
    owners = np.zeros(picture.shape[:2], np.uint8)
    outlines: list[Outline] = []
    values = [0] * len(things)
    for (first, end), low, high in zip(pairwise(bounds), lows.tolist(), highs.tolist(), strict=True):
        thing = things[scene.owner[first]]
        upright = low[0] == low[0]  # NaN where no polygon stands
        value = 0
        if thing.label is not None and upright and len(outlines) < 255:
            value = values[scene.owner[first]] = len(outlines) + 1
        hides = bool(value) or (upright and _hides(thing, owners, low, high))
        for polygon in range(first, end):
            ring = fixed[starts[polygon] : starts[polygon + 1]]
            cv2.fillConvexPoly(picture, ring, palette[polygon], cv2.LINE_AA, _SHIFT)
            if hides and standing[polygon]:
                cv2.fillConvexPoly(owners, ring, value, cv2.LINE_8, _SHIFT)
        if value and thing.label is not None:
            outlines.append(Outline.of(thing.label, thing.track, value, low, high, owners))
    return outlines, owners, values


def _hides(thing: world.Thing, owners: npt.NDArray[np.uint8], low: list[float], high: list[float]) -> bool:
    """Return whether a thing without a label may hide one that has been painted."""
    return thing.z <= _OCCLUDERS_M and cv2.hasNonZero(crop(owners, low, high))


def _add_glare(
    picture: Image,
    view: View,
    scene: Scene,
    screen: FloatArray,
    points: FloatArray,
    sky: Illumination,
    owners: npt.NDArray[np.uint8],
    values: Sequence[int],
) -> None:
    """Add the light that the lens scatters: a narrow and a wide blur of everything brighter than white.

    A lamp that something labelled hides gives none.
    """
    glare = glare_of(scene, sky)
    lights = np.flatnonzero(glare.any(axis=1)).tolist()
    if not lights:
        return
    coarse = 4
    small = np.zeros((view.height // coarse, view.width // coarse, 3), np.float32)
    mirrored = np.zeros_like(small)
    for lamp in lights:
        corners = slice(scene.starts[lamp], scene.starts[lamp + 1])
        across, down = screen[corners].mean(axis=0).tolist()
        x, y = across / coarse, down / coarse
        # Energy is luminance times area, whatever the size of the pixels that it falls on.
        area = max(float(cv2.contourArea(screen[corners])), 0.02) / coarse**2
        column, row = int(x), int(y)
        if not (0.0 <= x < small.shape[1] and 0.0 <= y < small.shape[0]):
            continue
        if owners[int(down), int(across)] == values[scene.owner[lamp]]:
            small[row, column] += glare[lamp] * min(area, 6.0)
            if sky.wet:
                foot = view.horizon + view.focal * CAMERA_HEIGHT_M / float(points[corners, 2].mean())
                below = int((2 * foot - down) / coarse)
                if below < len(mirrored):
                    mirrored[below, column] += glare[lamp] * min(area, 6.0)
    narrow = cv2.GaussianBlur(small, (0, 0), 0.9) * 0.05 + cv2.GaussianBlur(small, (0, 0), 3.2) * 0.02
    wide = cv2.resize(small, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    # Fog scatters forward: each lamp gets a wide halo.
    far = 0.03 + weather.halo(sky) if sky.extinction else 0.03
    narrow += cv2.resize(cv2.GaussianBlur(wide, (0, 0), 7.0) * far, (small.shape[1], small.shape[0]))
    if sky.wet:
        narrow = weather.mirrored_lamps(mirrored, narrow, sky)
    level = np.power(1.0 - np.exp(-narrow), np.float32(1 / 1.9)) * 235.0
    veil = cv2.resize(level, (view.width, view.height), interpolation=cv2.INTER_LINEAR)
    cv2.add(picture, veil, dst=picture, dtype=cv2.CV_8U)


@lru_cache(maxsize=4)
def _grain(height: int, width: int) -> npt.NDArray[np.int16]:
    """Return a field of noise of standard deviation about 1, in 1/256, larger than the picture."""
    rng = np.random.Generator(np.random.PCG64(11))
    fine = rng.standard_normal((height + 97, width + 131, 3), np.float32)
    # Chroma noise of a demosaiced sensor is coarser than its luma noise.
    coarse = cv2.GaussianBlur(rng.standard_normal(fine.shape, np.float32), (0, 0), 1.0) * 2.2
    return np.asarray(np.rint(256.0 * (0.8 * fine + 0.5 * coarse)), np.int16)


def _expose(picture: Image, seed: int, t: float, sky: Illumination) -> None:
    """Blur a little, as a lens and a shutter do, and add the sensor's noise."""
    cv2.GaussianBlur(picture, (3, 3), 0.55, dst=picture)
    height, width = picture.shape[:2]
    down, right, flip, *_ = draws(seed, "grain", round(t * 1e6))
    row, column = int(down * 97), int(right * 131)
    grain = _grain(height, width)[row : row + height, column : column + width]
    # 16-bit integers take half the memory traffic of floats: sigma in 1/16, grain in 1/256.
    table = np.rint(noise_sigma(sky.gain) * (16.0 if flip < 0.5 else -16.0)).astype(np.int16)
    noise = cv2.multiply(cv2.LUT(picture, table), grain, scale=1 / 4096)
    cv2.add(picture, noise, dst=picture, dtype=cv2.CV_8U)


__all__ = ["CLASS_NAMES", "SIZE", "Rendering", "TrueBox", "render"]
