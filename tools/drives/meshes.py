"""Shapes: flat polygons in metres with what they are made of. x right, y up, z away from the viewer.

Each shape is built once per variant and cached; a frame only moves and projects its vertices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Point = tuple[float, float, float]
Colour = tuple[float, float, float]  # linear albedo, BGR

GLASS: Colour = (0.06, 0.05, 0.045)
TYRE: Colour = (0.015, 0.015, 0.015)
DARK: Colour = (0.03, 0.03, 0.03)
SHADOW: Colour = (0.018, 0.018, 0.018)
NONE: Colour = (0.0, 0.0, 0.0)

# Luminances of lamps, as albedo * lux of a white surface that looks as bright.
TAIL_LIGHT: Colour = (60.0, 60.0, 3_000.0)
BRAKE_LIGHT: Colour = (500.0, 500.0, 38_000.0)
HEAD_LIGHT: Colour = (150_000.0, 160_000.0, 165_000.0)

CAR_PAINTS: tuple[Colour, ...] = (
    (0.72, 0.72, 0.72),
    (0.45, 0.45, 0.44),
    (0.22, 0.21, 0.20),
    (0.03, 0.03, 0.03),
    (0.05, 0.05, 0.38),
    (0.35, 0.12, 0.05),
    (0.16, 0.22, 0.10),
    (0.10, 0.28, 0.42),
    (0.55, 0.62, 0.66),
)


@dataclass(frozen=True, slots=True)
class Mesh:
    """Flat polygons. `starts[i]:starts[i + 1]` are the vertices of polygon i.

    Attributes:
        vertices: `float32[V, 3]`, metres.
        starts: `int32[P + 1]`.
        normals: `float32[P, 3]`; zero for a polygon that is seen from both sides.
        albedo: `float32[P, 3]`, linear BGR.
        glow: `float32[P, 3]`, luminance of its own, in albedo * lux, BGR.
        retro: `float32[P]`, how much more of a viewer's own headlights comes back (road signs, plates).
    """

    vertices: FloatArray
    starts: npt.NDArray[np.int32]
    normals: FloatArray
    albedo: FloatArray
    glow: FloatArray
    retro: FloatArray


class Builder:
    """Collects polygons and makes a Mesh of them; the order is the order of painting."""

    def __init__(self) -> None:
        """Start with no polygon."""
        self._points: list[Point] = []
        self._starts = [0]
        self._normals: list[Point] = []
        self._albedo: list[Colour] = []
        self._glow: list[Colour] = []
        self._retro: list[float] = []

    def add(
        self,
        points: list[Point],
        albedo: Colour,
        *,
        normal: Point = (0.0, 0.0, 0.0),
        glow: Colour = NONE,
        retro: float = 1.0,
    ) -> None:
        """Add one convex polygon."""
        self._points += points
        self._starts.append(len(self._points))
        self._normals.append(normal)
        self._albedo.append(albedo)
        self._glow.append(glow)
        self._retro.append(retro)

    def panel(
        self, x0: float, x1: float, y0: float, y1: float, z: float, albedo: Colour, *, toward: float = -1.0,
        glow: Colour = NONE, retro: float = 1.0,
    ) -> None:  # fmt: skip
        """Add an upright rectangle at depth z that faces `toward` (-1 the viewer, 1 away, 0 both)."""
        points: list[Point] = [(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)]
        self.add(points, albedo, normal=(0.0, 0.0, toward), glow=glow, retro=retro)

    def side(self, x: float, z0: float, z1: float, y0: float, y1: float, albedo: Colour, *, out: float,
             glow: Colour = NONE) -> None:  # fmt: skip
        """Add an upright rectangle along z at x that faces `out` (-1 left, 1 right)."""
        points: list[Point] = [(x, y0, z0), (x, y0, z1), (x, y1, z1), (x, y1, z0)]
        self.add(points, albedo, normal=(out, 0.0, 0.0), glow=glow)

    def flat(self, x0: float, x1: float, z0: float, z1: float, y: float, albedo: Colour) -> None:
        """Add a horizontal rectangle that faces up."""
        points: list[Point] = [(x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)]
        self.add(points, albedo, normal=(0.0, 1.0, 0.0))

    def disc(
        self, x: float, y: float, z: float, radius: float, albedo: Colour, *, corners: int = 12,
        turn: float = 0.0, tall: float = 1.0, glow: Colour = NONE, retro: float = 1.0,
    ) -> None:  # fmt: skip
        """Add an upright regular polygon that faces the viewer."""
        angles = [turn + 2 * math.pi * corner / corners for corner in range(corners)]
        points: list[Point] = [(x + radius * math.cos(a), y + tall * radius * math.sin(a), z) for a in angles]
        self.add(points, albedo, glow=glow, retro=retro)

    def mesh(self) -> Mesh:
        """Return what was added."""
        return Mesh(
            np.asarray(self._points, np.float32),
            np.asarray(self._starts, np.int32),
            np.asarray(self._normals, np.float32),
            np.asarray(self._albedo, np.float32),
            np.asarray(self._glow, np.float32),
            np.asarray(self._retro, np.float32),
        )


def _scaled(colour: Colour, factor: float) -> Colour:
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def _wheel(builder: Builder, x: float, z: float, radius: float, out: float) -> None:
    for size, albedo in ((radius, TYRE), (radius * 0.6, (0.2, 0.2, 0.2))):
        ring: list[Point] = [
            (x + out * 0.01, radius + size * math.sin(a), z + size * math.cos(a))
            for a in (2 * math.pi * corner / 10 for corner in range(10))
        ]
        builder.add(ring, albedo, normal=(out, 0.0, 0.0))


@lru_cache(maxsize=512)
def car(paint: int, shape: int, lights: bool, braking: bool) -> Mesh:
    """Return a car whose rear faces the viewer: shape 0 saloon, 1 hatchback, 2 high wagon, 3 van."""
    colour = CAR_PAINTS[paint % len(CAR_PAINTS)]
    length, width, belt, top = ((4.6, 1.80, 0.92, 1.44), (4.0, 1.74, 0.92, 1.50), (4.6, 1.90, 1.05, 1.72),
                                (5.3, 1.98, 1.20, 2.15))[shape]  # fmt: skip
    w, r, f = width / 2, -length / 2, length / 2
    rear_deck = (0.75, 0.12, 0.10, 0.03)[shape]
    bonnet = (1.25, 1.0, 1.15, 0.85)[shape]
    roof_rear, roof_front = (
        r + rear_deck + (0.65, 0.35, 0.3, 0.06)[shape],
        f - bonnet - (0.75, 0.7, 0.75, 0.6)[shape],
    )
    inset = 0.05 if shape == 3 else 0.14
    b = Builder()
    b.flat(-w - 0.1, w + 0.1, r - 0.15, f + 0.15, 0.0, SHADOW)
    for out in (-1.0, 1.0):
        b.side(out * w, r, f, 0.24, belt, colour, out=out)
        b.side(out * w, r, f, 0.24, 0.36, DARK, out=out)
        cabin: list[Point] = [
            (out * w, belt, r + rear_deck), (out * w, belt, f - bonnet),
            (out * (w - inset), top, roof_front), (out * (w - inset), top, roof_rear),
        ]  # fmt: skip
        b.add(cabin, colour, normal=(out * 0.97, 0.24, 0.0))
        mid = (roof_rear + roof_front) / 2
        for z0, z1, s0, s1 in ((r + rear_deck + 0.12, mid - 0.06, roof_rear + 0.06, mid - 0.06),
                               (mid + 0.06, f - bonnet - 0.15, mid + 0.06, roof_front - 0.05)):  # fmt: skip
            if shape == 3 and z0 < mid - 0.1:
                continue
            below, above = out * (w + 0.01), out * (w - inset + 0.02)
            glass: list[Point] = [(below, belt + 0.03, z0), (below, belt + 0.03, z1),
                                  (above, top - 0.09, s1), (above, top - 0.09, s0)]  # fmt: skip
            b.add(glass, GLASS, normal=(out * 0.97, 0.24, 0.0))
        for z in (r + 0.85, f - 0.85):
            _wheel(b, out * w, z, 0.32, out)
    b.flat(-w, w, r, r + rear_deck, belt, colour)
    b.flat(-w, w, f - bonnet, f, belt - 0.05, colour)
    b.flat(-w + inset, w - inset, roof_rear, roof_front, top, colour)
    for z, normal, deck, roof in ((r, -1.0, r + rear_deck, roof_rear), (f, 1.0, f - bonnet, roof_front)):
        screen: list[Point] = [
            (-w, belt, deck),
            (w, belt, deck),
            (w - inset, top, roof),
            (-w + inset, top, roof),
        ]
        b.add(screen, colour, normal=(0.0, 0.3, normal * 0.95))
        k = 0.88 if shape != 3 or normal > 0 else 0.5
        wide = (w - inset) * k
        pane: list[Point] = [(-w * k, belt + 0.05, deck), (w * k, belt + 0.05, deck),
                             (wide, top - 0.08, roof), (-wide, top - 0.08, roof)]  # fmt: skip
        b.add(pane, GLASS, normal=(0.0, 0.3, normal * 0.95))
        b.panel(-w, w, 0.26, belt, z, colour, toward=normal)
        b.panel(-w * 0.98, w * 0.98, 0.24, 0.46, z + normal * 0.01, _scaled(colour, 0.35), toward=normal)
        for out in (-1.0, 1.0):
            b.panel(
                out * w * 0.85 - 0.11, out * w * 0.85 + 0.11, 0.0, 0.30, z - normal * 0.2, TYRE, toward=normal
            )
        b.panel(-0.26, 0.26, 0.50, 0.62, z + normal * 0.02, (0.6, 0.65, 0.65), toward=normal, retro=5.0)
    for out in (-1.0, 1.0):
        x0, x1 = sorted((out * w * 0.60, out * w * 0.97))
        high = 0.30 if shape >= 2 else 0.16
        tail = BRAKE_LIGHT if braking else TAIL_LIGHT if lights else NONE
        b.panel(x0, x1, belt - 0.06 - high, belt - 0.08, r - 0.02, (0.03, 0.02, 0.30), glow=tail, retro=2.0)
        b.panel(
            x0, x1, 0.58, 0.74, f + 0.02, (0.55, 0.55, 0.55), toward=1.0, glow=HEAD_LIGHT if lights else NONE
        )
    if braking:
        b.panel(-0.2, 0.2, belt + 0.06, belt + 0.1, r + rear_deck - 0.02, (0.03, 0.02, 0.3), glow=BRAKE_LIGHT)
    b.panel(-w * 0.5, w * 0.5, 0.50, 0.68, f + 0.02, DARK, toward=1.0)
    return b.mesh()


@lru_cache(maxsize=256)
def truck(paint: int, long: bool, lights: bool, braking: bool) -> Mesh:
    """Return a lorry with a box body whose rear faces the viewer."""
    box = ((0.70, 0.70, 0.70), (0.55, 0.35, 0.12), (0.12, 0.30, 0.55), (0.25, 0.42, 0.30), (0.4, 0.4, 0.42))[
        paint % 5
    ]
    cab = CAR_PAINTS[paint % len(CAR_PAINTS)]
    length, top = (9.5, 3.7) if long else (6.4, 3.1)
    w, r, f = 1.22, -length / 2, length / 2
    b = Builder()
    b.flat(-w - 0.15, w + 0.15, r - 0.2, f + 0.2, 0.0, SHADOW)
    for out in (-1.0, 1.0):
        b.side(out * w * 0.9, r, f, 0.45, 0.95, DARK, out=out)
        for z in (r + 0.9, r + 2.0, f - 1.0) if long else (r + 1.2, f - 1.0):
            _wheel(b, out * w * 0.95, z, 0.5, out)
        b.side(out * (w - 0.06), f - 1.9, f, 0.5, 2.6, cab, out=out)
        b.side(out * (w - 0.05), f - 1.4, f - 0.3, 1.6, 2.3, GLASS, out=out)
        b.side(out * w, r, f - 2.0, 0.95, top, box, out=out)
        b.side(out * (w + 0.01), r + 0.6, f - 2.8, 1.8, 2.5, _scaled(box, 0.55), out=out)
    b.flat(-w, w, r, f - 2.0, top, box)
    b.panel(-w, w, 0.95, top, f - 2.0, box, toward=1.0)
    b.panel(-w + 0.06, w - 0.06, 0.45, 2.65, f, cab, toward=1.0)
    b.panel(-w + 0.16, w - 0.16, 1.55, 2.35, f + 0.01, GLASS, toward=1.0)
    b.panel(-w * 0.6, w * 0.6, 0.75, 1.3, f + 0.01, DARK, toward=1.0)
    b.panel(-w, w, 0.55, 0.95, r, DARK)
    b.panel(-w, w, 0.95, top, r, box)
    for out in (-1.0, 1.0):
        b.panel(
            out * w * 0.5 - w * 0.44, out * w * 0.5 + w * 0.44, 1.08, top - 0.12, r - 0.01, _scaled(box, 0.8)
        )
        b.panel(out * w * 0.7 - 0.22, out * w * 0.7 + 0.22, 0.0, 0.62, r + 0.3, TYRE)
        x0, x1 = sorted((out * w * 0.74, out * w * 0.98))
        tail = BRAKE_LIGHT if braking else TAIL_LIGHT if lights else NONE
        b.panel(x0, x1, 0.66, 0.86, r - 0.02, (0.03, 0.02, 0.30), glow=tail, retro=3.0)
        b.panel(
            x0, x1, 0.62, 0.82, f + 0.02, (0.5, 0.5, 0.5), toward=1.0, glow=HEAD_LIGHT if lights else NONE
        )
    b.panel(-0.26, 0.26, 0.62, 0.74, r - 0.02, (0.6, 0.65, 0.65), retro=5.0)
    return b.mesh()


COATS: tuple[Colour, ...] = (
    (0.03, 0.03, 0.03),
    (0.25, 0.08, 0.04),
    (0.06, 0.05, 0.35),
    (0.5, 0.5, 0.5),
    (0.05, 0.25, 0.45),
    (0.12, 0.14, 0.1),
    (0.3, 0.3, 0.28),
    (0.15, 0.35, 0.55),
)
SKINS: tuple[Colour, ...] = ((0.35, 0.45, 0.62), (0.16, 0.24, 0.40), (0.05, 0.08, 0.15))
STRIDES = 8


@lru_cache(maxsize=2048)
def pedestrian(coat: int, legs: int, skin: int, stride: int, sideways: int) -> Mesh:
    """Return a walker at one of STRIDES phases; sideways -1 or 1 crosses, 0 walks along the road."""
    swing = math.sin(2 * math.pi * stride / STRIDES) * (0.30 if sideways else 0.10)
    half = 0.16 if sideways else 0.23
    top, trousers, face = (
        COATS[coat % len(COATS)],
        _scaled(COATS[legs % len(COATS)], 0.8),
        SKINS[skin % len(SKINS)],
    )
    b = Builder()
    b.flat(-0.3, 0.3, -0.2, 0.2, 0.0, SHADOW)
    hip = 0.0 if sideways else 0.09
    for leg in (-1.0, 1.0):
        lift = 0.0 if sideways else max(0.0, leg * swing) * 0.8
        x = leg * hip + (leg * swing if sideways else 0.0)
        b.add([(leg * hip - 0.085, 0.85, 0.0), (leg * hip + 0.085, 0.85, 0.0), (x + 0.065, 0.06 + lift, 0.0),
               (x - 0.065, 0.06 + lift, 0.0)], trousers)  # fmt: skip
        b.panel(x - 0.07, x + 0.07 + 0.05 * sideways, lift, 0.08 + lift, 0.0, DARK, toward=0.0)
    for arm in (-1.0, 1.0):
        hand = arm * (half + 0.05) - (arm * swing if sideways else 0.0)
        b.add([(arm * half - 0.05, 1.42, 0.0), (arm * half + 0.05, 1.42, 0.0), (hand + 0.04, 0.82, 0.0),
               (hand - 0.04, 0.82, 0.0)], _scaled(top, 0.85))  # fmt: skip
    b.add(
        [(-half, 1.44, -0.01), (half, 1.44, -0.01), (half * 0.85, 0.80, -0.01), (-half * 0.85, 0.80, -0.01)],
        top,
    )
    b.panel(-0.05, 0.05, 1.42, 1.52, -0.01, face, toward=0.0)
    b.disc(0.0, 1.62, -0.01, 0.105, face, corners=10, tall=1.2)
    b.disc(0.0, 1.68, -0.02, 0.105, _scaled(DARK, 1.5), corners=10, tall=0.75)
    return b.mesh()


RED, AMBER, GREEN = 0, 1, 2
SIGNALS: tuple[Colour, ...] = (
    (1_500.0, 1_500.0, 30_000.0),
    (800.0, 18_000.0, 30_000.0),
    (16_000.0, 28_000.0, 2_500.0),
)


@lru_cache(maxsize=16)
def traffic_light(state: int) -> Mesh:
    """Return the housing of a traffic light with one lamp lit; its foot is at y = 0."""
    b = Builder()
    b.panel(-0.30, 0.30, -0.12, 1.12, 0.0, (0.02, 0.02, 0.02), toward=0.0)
    b.panel(-0.18, 0.18, 0.0, 1.0, -0.01, (0.05, 0.06, 0.05), toward=0.0)
    for lamp in (RED, AMBER, GREEN):
        lit = SIGNALS[lamp] if lamp == state else NONE
        b.disc(0.0, 0.83 - 0.33 * lamp, -0.02, 0.135, (0.03, 0.03, 0.05), corners=12, glow=lit)
    return b.mesh()


SIGN_KINDS = 6


@lru_cache(maxsize=64)
def sign(kind: int, glyph: int) -> Mesh:
    """Return a road sign's plate: speed limit, warning, stop, blue square, direction board or diamond."""
    red, white, blue = (0.04, 0.03, 0.5), (0.8, 0.8, 0.8), (0.5, 0.16, 0.03)
    yellow, green = (0.04, 0.5, 0.7), (0.12, 0.3, 0.04)
    retro = 9.0
    b = Builder()
    if kind == 0:
        b.disc(0.0, 0.0, 0.0, 0.38, red, corners=16, retro=retro)
        b.disc(0.0, 0.0, -0.01, 0.30, white, corners=16, retro=retro)
        for x in (-0.1, 0.08):
            b.panel(x - 0.055, x + 0.055, -0.13, 0.13, -0.02, DARK, toward=0.0)
    elif kind == 1:
        b.disc(0.0, -0.05, 0.0, 0.50, red, corners=3, turn=math.pi / 2, retro=retro)
        b.disc(0.0, -0.05, -0.01, 0.36, white, corners=3, turn=math.pi / 2, retro=retro)
        b.panel(-0.04, 0.04, -0.16, 0.12, -0.02, DARK, toward=0.0)
    elif kind == 2:
        b.disc(0.0, 0.0, 0.0, 0.44, white, corners=8, turn=math.pi / 8, retro=retro)
        b.disc(0.0, 0.0, -0.01, 0.41, red, corners=8, turn=math.pi / 8, retro=retro)
        b.panel(-0.28, 0.28, -0.09, 0.09, -0.02, white, toward=0.0, retro=retro)
    elif kind == 3:
        b.panel(-0.36, 0.36, -0.36, 0.36, 0.0, white, toward=0.0, retro=retro)
        b.panel(-0.33, 0.33, -0.33, 0.33, -0.01, blue, toward=0.0, retro=retro)
        b.panel(-0.12, 0.02, -0.22, 0.22, -0.02, white, toward=0.0, retro=retro)
        b.panel(0.02, 0.14, 0.02, 0.22, -0.02, white, toward=0.0, retro=retro)
    elif kind == 4:
        b.panel(-0.85, 0.85, -0.42, 0.42, 0.0, white, toward=0.0, retro=retro)
        b.panel(-0.81, 0.81, -0.38, 0.38, -0.01, green, toward=0.0, retro=retro)
        for row, share in enumerate((0.5 + 0.1 * glyph, 0.9 - 0.1 * glyph)):
            b.panel(
                -0.7,
                -0.7 + 1.4 * share,
                0.06 - 0.32 * row,
                0.2 - 0.32 * row,
                -0.02,
                white,
                toward=0.0,
                retro=retro,
            )
    else:
        b.disc(0.0, 0.0, 0.0, 0.50, DARK, corners=4, retro=retro)
        b.disc(0.0, 0.0, -0.01, 0.47, yellow, corners=4, retro=retro)
        b.panel(-0.05, 0.05, -0.2, 0.16, -0.02, DARK, toward=0.0)
    return b.mesh()
