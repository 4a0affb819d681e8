"""What stands beside the road and carries no label: houses, trees, lamps, poles, bins."""

from __future__ import annotations

import math
from functools import lru_cache

from tools.drives.chance import draws
from tools.drives.meshes import DARK, NONE, Builder, Colour, Mesh, Point

WALLS: tuple[Colour, ...] = ((0.20, 0.24, 0.36), (0.36, 0.42, 0.46), (0.16, 0.20, 0.30), (0.28, 0.28, 0.27),
                             (0.40, 0.46, 0.52), (0.13, 0.14, 0.17), (0.30, 0.36, 0.32))  # fmt: skip
LEAVES: tuple[Colour, ...] = ((0.03, 0.10, 0.05), (0.03, 0.13, 0.08), (0.02, 0.08, 0.04), (0.03, 0.12, 0.14))
GLASS: Colour = (0.07, 0.065, 0.06)
LAMP_HEIGHT_M = 7.5
LAMP_ARM_M = 1.7


@lru_cache(maxsize=1024)
def house(variant: int, side: int, length: float, floors: int, lit: bool, near: bool) -> Mesh:
    """Return a house whose facade lies at x = 0 and looks at the road; side -1 stands left of it, 1 right.

    z runs from 0 to `length` metres. Of a house that is not `near`, each floor's dark windows are one band of
    the same mean colour: nothing jumps to the eye where it comes near.
    """
    shade, bay, glass_share, roof, *_ = draws(variant, "house", 0)
    wall = WALLS[int(shade * len(WALLS))]
    height, depth, out = 1.0 + 3.1 * floors, 9.0, float(-side)
    b = Builder()
    b.panel(min(0.0, side * depth), max(0.0, side * depth), 0.0, height, 0.0, wall)
    b.side(0.0, 0.0, length, 0.0, height, wall, out=out)
    trim = (wall[0] * 0.55, wall[1] * 0.55, wall[2] * 0.55)
    b.side(out * 0.02, 0.0, length, 0.0, 0.6, trim, out=out)
    if roof < 0.5:
        ridge, x = height + 2.2, side * 3.0
        slope: list[Point] = [(0.0, height, 0.0), (0.0, height, length), (x, ridge, length), (x, ridge, 0.0)]
        b.add(slope, (0.06, 0.07, 0.16), normal=(out * 0.6, 0.8, 0.0))
    else:
        b.side(out * 0.15, 0.0, length, height - 0.4, height, trim, out=out)
    bays = max(2, int(length / (2.6 + 1.6 * bay)))
    step = length / bays
    for floor in range(floors):
        low = 1.0 + 3.1 * floor
        shop = floor == 0 and glass_share > 0.55
        margin = step * (0.08 if shop else 0.24)
        y0, y1 = (0.7, 2.9) if shop else (low + 0.2, low + 1.7)
        if not near:
            share = 1.0 - 2.0 * margin / step
            mean = tuple(
                share * pane + (1.0 - share) * stone for pane, stone in zip(GLASS, wall, strict=True)
            )
            b.side(out * 0.03, 0.0, length, y0, y1, (mean[0], mean[1], mean[2]), out=out)
        for number in range(bays):
            chance, warmth, dim, *_ = draws(variant * 131 + floor, "window", number)
            bright = lit and chance < (0.45 if shop else 0.22)
            if not (near or bright):
                continue
            strength = 12.0 + 80.0 * dim * dim
            glow = (strength * (0.35 + 0.4 * warmth), strength * 0.75, strength) if bright else NONE
            z0, z1 = number * step + margin, (number + 1) * step - margin
            b.side(out * 0.04, z0, z1, y0, y1, GLASS, out=out, glow=glow)
    if not near:
        return b.mesh()
    for number in range(3):
        chance, _, dim, *_ = draws(variant, "end window", number)
        x = side * (1.5 + 2.5 * number)
        glow = (12.0, 22.0, 30.0) if lit and chance < 0.2 else NONE
        b.panel(x - 0.5, x + 0.5, 1.3, 2.8, -0.02, GLASS, glow=glow)
        if floors > 1:
            b.panel(x - 0.5, x + 0.5, 4.4, 5.9, -0.02, GLASS)
    return b.mesh()


@lru_cache(maxsize=128)
def tree(variant: int) -> Mesh:
    """Return a broad-leaved tree, 5 to 9 m tall."""
    tall, wide, hue, *_ = draws(variant, "tree", 0)
    height, leaf = 5.0 + 4.0 * tall, LEAVES[int(hue * len(LEAVES))]
    b = Builder()
    b.panel(-0.14, 0.14, 0.0, height * 0.55, 0.0, (0.05, 0.07, 0.09), toward=0.0)
    for blob in range(6):
        around, up, size, tint, *_ = draws(variant, "leaves", blob)
        angle = 2 * math.pi * around
        reach = (0.8 + 0.9 * wide) * (0.3 if blob == 5 else 0.85)
        y = height * (0.62 + 0.22 * up)
        shade = (0.55 + 0.5 * up) * (0.85 + 0.3 * tint)
        b.disc(reach * math.cos(angle), y, -0.01 * blob, 1.0 + 0.7 * size, (leaf[0] * shade, leaf[1] * shade,
               leaf[2] * shade), corners=9, turn=angle, tall=0.85)  # fmt: skip
    return b.mesh()


@lru_cache(maxsize=8)
def lamp(side: int, lit: bool, colour: tuple[float, float, float]) -> Mesh:
    """Return a street lamp whose arm reaches over the road."""
    b = Builder()
    b.panel(-0.08, 0.08, 0.0, LAMP_HEIGHT_M, 0.0, (0.12, 0.12, 0.12), toward=0.0)
    arm = -side * LAMP_ARM_M
    b.panel(
        min(0.0, arm),
        max(0.0, arm),
        LAMP_HEIGHT_M - 0.06,
        LAMP_HEIGHT_M + 0.06,
        0.0,
        (0.12, 0.12, 0.12),
        toward=0.0,
    )
    glow = (colour[0] * 90_000, colour[1] * 90_000, colour[2] * 90_000) if lit else NONE
    b.panel(
        arm - 0.3,
        arm + 0.3,
        LAMP_HEIGHT_M - 0.16,
        LAMP_HEIGHT_M,
        -0.01,
        (0.3, 0.3, 0.3),
        toward=0.0,
        glow=glow,
    )
    return b.mesh()


@lru_cache(maxsize=32)
def pole(height_m: float, arm_m: float) -> Mesh:
    """Return a thin pole, with an arm to the left where a signal hangs over the road."""
    b = Builder()
    b.panel(-0.05, 0.05, 0.0, height_m, 0.02, (0.18, 0.18, 0.18), toward=0.0)
    if arm_m > 0:
        b.panel(-arm_m, 0.0, height_m - 0.08, height_m, 0.02, (0.15, 0.15, 0.15), toward=0.0)
    return b.mesh()


@lru_cache(maxsize=16)
def clutter(kind: int) -> Mesh:
    """Return a bin, a cabinet, an advertising board or a bollard: no traffic, though it may look like it."""
    b = Builder()
    if kind == 0:
        b.panel(-0.3, 0.3, 0.0, 1.05, 0.0, (0.05, 0.12, 0.05), toward=0.0)
        b.panel(-0.33, 0.33, 1.0, 1.12, -0.01, DARK, toward=0.0)
    elif kind == 1:
        b.panel(-0.55, 0.55, 0.0, 1.3, 0.0, (0.30, 0.32, 0.32), toward=0.0)
        b.panel(-0.02, 0.02, 0.1, 1.2, -0.01, DARK, toward=0.0)
    elif kind == 2:
        b.panel(-0.65, 0.65, 0.5, 2.3, 0.0, DARK, toward=0.0)
        b.panel(-0.58, 0.58, 0.6, 2.2, -0.01, (0.35, 0.3, 0.5), toward=0.0, glow=(30.0, 25.0, 35.0))
    else:
        b.panel(-0.1, 0.1, 0.0, 0.9, 0.0, (0.1, 0.1, 0.1), toward=0.0)
        b.panel(-0.1, 0.1, 0.7, 0.8, -0.01, (0.7, 0.7, 0.7), toward=0.0, retro=4.0)
    return b.mesh()


@lru_cache(maxsize=1)
def crossing() -> Mesh:
    """Return the stripes of a pedestrian crossing over both lanes, its near edge at z = 0."""
    b = Builder()
    for stripe in range(12):
        x = -7.2 + stripe * 0.95
        points: list[Point] = [(x, 0.01, 0.0), (x + 0.5, 0.01, 0.0), (x + 0.5, 0.01, 3.0), (x, 0.01, 3.0)]
        b.add(points, (0.5, 0.5, 0.5), normal=(0.0, 1.0, 0.0))
    return b.mesh()
