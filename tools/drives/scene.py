"""All polygons of one moment, gathered from the things in view, and the light that each gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tools.drives import ground, weather
from tools.drives.ground import LAMP_CANDELA
from tools.drives.light import Illumination, tone
from tools.drives.street import LAMP_ARM_M, LAMP_HEIGHT_M
from tools.drives.world import Thing

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scene:
    """All polygons of a frame, in camera coordinates (x right, y up from the road, z ahead)."""

    vertices: FloatArray
    starts: npt.NDArray[np.int64]
    owner: npt.NDArray[np.int64]
    normals: FloatArray
    albedo: FloatArray
    glow: FloatArray
    retro: FloatArray


def select(scene: Scene, screen: FloatArray, kept: npt.NDArray[np.bool_]) -> tuple[Scene, FloatArray]:
    """Return the scene and its projected vertices (`[V, 2]`), less the polygons not `kept`."""
    counts = np.diff(scene.starts)
    vertices = np.repeat(kept, counts)
    smaller = Scene(
        vertices=scene.vertices[vertices],
        starts=np.concatenate([[0], np.cumsum(counts[kept])]),
        owner=scene.owner[kept],
        normals=scene.normals[kept],
        albedo=scene.albedo[kept],
        glow=scene.glow[kept],
        retro=scene.retro[kept],
    )
    return smaller, screen[vertices]


def glare_of(scene: Scene, sky: Illumination) -> FloatArray:
    """Return each polygon's signal above white, `float32[P, 3]`: what glares."""
    signal = scene.glow * sky.exposure
    if sky.extinction:
        signal = signal * weather.transmission(_centres(scene)[:, 2:3], sky)
    return np.asarray(np.clip(signal - 0.6, 0.0, 400.0), np.float32)


def _centres(scene: Scene) -> npt.NDArray[np.floating]:
    counts = np.diff(scene.starts)[:, None]
    return np.asarray(np.add.reduceat(scene.vertices, scene.starts[:-1], axis=0) / counts)


def assemble(things: Sequence[Thing], bend: float) -> Scene:
    """Gather the polygons of `things` (at least one), in their order, on a road of curvature `bend` (1/m)."""
    meshes = [thing.mesh for thing in things]
    vertex_counts = np.array([len(mesh.vertices) for mesh in meshes])
    polygon_counts = np.array([len(mesh.normals) for mesh in meshes])
    turns = np.array([(thing.turn, 1.0, thing.turn) for thing in things], np.float32)
    places = np.array(
        [(thing.x + 0.5 * bend * thing.z * abs(thing.z), thing.y, thing.z) for thing in things], np.float32
    )
    vertices = np.concatenate([mesh.vertices for mesh in meshes])
    vertices = vertices * np.repeat(turns, vertex_counts, axis=0) + np.repeat(places, vertex_counts, axis=0)
    bases = np.concatenate([[0], np.cumsum(vertex_counts)[:-1]])
    starts = np.concatenate([mesh.starts[:-1] for mesh in meshes]) + np.repeat(bases, polygon_counts)
    return Scene(
        vertices=vertices,
        starts=np.concatenate([starts, [len(vertices)]]),
        owner=np.repeat(np.arange(len(things)), polygon_counts),
        normals=np.concatenate([mesh.normals for mesh in meshes]) * np.repeat(turns, polygon_counts, axis=0),
        albedo=np.concatenate([mesh.albedo for mesh in meshes]),
        glow=np.concatenate([mesh.glow for mesh in meshes]),
        retro=np.concatenate([mesh.retro for mesh in meshes]),
    )


def shade(
    scene: Scene, sky: Illumination, lamps: Sequence[tuple[float, float, float]], bend: float
) -> FloatArray:
    """Return each polygon's level in the picture, `float32[P, 3]`, 0 to 255."""
    centre = _centres(scene)
    free = ~scene.normals.any(axis=1)
    facing = np.where(free, 0.45, np.maximum(scene.normals @ sky.sun_direction, 0.0))
    lit = sky.sky * (0.62 + 0.38 * scene.normals[:, 1:2]) + sky.sun * facing[:, None]
    if sky.headlights_on:
        eye = centre - np.array([0.0, ground.BEAM_HEIGHT_M, -1.5], np.float32)
        toward = -(scene.normals * eye).sum(axis=1) / np.linalg.norm(eye, axis=1)
        own = (
            ground.headlights(centre.astype(np.float32))
            * np.where(free, 0.9, np.maximum(toward, 0.0))
            * scene.retro
        )
        lit = lit + own[:, None]
    if sky.lamps_on:
        pools = np.zeros(len(centre), np.float32)
        for side, x, z in lamps:
            away = centre - np.array(
                [x - side * LAMP_ARM_M + 0.5 * bend * z * abs(z), LAMP_HEIGHT_M, z], np.float32
            )
            r2 = (away * away).sum(axis=1) + 1.0
            cosine = -(scene.normals * away).sum(axis=1) / np.sqrt(r2)
            pools += LAMP_CANDELA / r2 * np.where(free, 0.5, np.maximum(cosine, 0.06)) * (away[:, 1] < 0.5)
        lit = lit + pools[:, None] * sky.lamp_colour
    signal = (scene.albedo * lit + scene.glow) * sky.exposure
    # By day the air between brightens what is far.
    haze = 1.0 - np.exp(-np.maximum(centre[:, 2:3], 0.0) / 420.0)
    signal = signal * (1 - haze) + haze * sky.sky * 0.45 * sky.exposure
    if sky.extinction:
        signal = weather.through_air(signal, centre[:, 2:3], sky)
    return tone(signal)
