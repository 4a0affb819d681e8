"""What is where at time t of drive `seed`: a pure function, so that any moment can be drawn by itself.

Everything beside the road belongs to a numbered place along it, everything that moves to a numbered slot of
a lane that moves as a whole; what a place or slot holds is a hash of its number (`chance.draws`). Blocks of
170 m differ in character (centre, housing, avenue, works), so that scene follows scene over seconds, as on a
road.

Metres; x right of the vehicle's lane centre, z ahead of the camera. Traffic drives on the right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from tools.drives import meshes, street
from tools.drives.chance import draws
from tools.drives.light import Illumination

CLASS_NAMES = ("pedestrian", "car", "truck", "traffic light", "traffic sign")

BLOCK_M = 170.0
SIGHT_M = 130.0
ONCOMING_X, PARKED_RIGHT_X, PARKED_LEFT_X = -3.5, 2.95, -6.45
KERB_RIGHT_X, KERB_LEFT_X = 4.1, -7.6
LEADER_S = 26.0  # how long one vehicle stays ahead in the own lane


@dataclass(frozen=True, slots=True)
class Block:
    """The character of one stretch of road. Shares are chances per place."""

    houses: float
    floors: int
    set_back_m: float
    trees: float
    parked: float
    walkers: float
    signs: float
    lamps: float
    clutter: float
    paved: bool


CENTRE = Block(0.95, 5, 3.4, 0.15, 0.55, 0.34, 0.55, 1.0, 0.5, True)
HOUSING = Block(0.75, 2, 6.5, 0.55, 0.45, 0.16, 0.40, 0.6, 0.3, False)
AVENUE = Block(0.15, 3, 11.0, 0.95, 0.20, 0.14, 0.45, 0.45, 0.2, False)
WORKS = Block(0.55, 3, 8.0, 0.10, 0.30, 0.05, 0.50, 0.5, 0.4, True)
BLOCKS = (CENTRE, CENTRE, HOUSING, HOUSING, AVENUE, WORKS)


@dataclass(frozen=True, slots=True)
class Thing:
    """One object in view.

    Attributes:
        mesh: its shape in its own metres.
        x, y, z: where its origin is; y 0 is the road.
        turn: 1 for a thing seen from behind, -1 for one that faces the camera.
        label: its class, or None for what a detector is not asked for.
        track: the same number for the same object in every frame.
        casts: a head lamp pair that lights the road before it.
    """

    mesh: meshes.Mesh
    x: float
    y: float
    z: float
    turn: float = 1.0
    label: str | None = None
    track: int = 0
    casts: bool = False


def block_at(seed: int, s_m: float) -> Block:
    """Return the character of the road at `s_m` metres from the drive's start."""
    choice, *_ = draws(seed, "block", math.floor(s_m / BLOCK_M))
    return BLOCKS[int(choice * len(BLOCKS))]


def position(seed: int, t: float) -> float:
    """Return how far the camera has come at time t, metres; the speed breathes between 6 and 15 m/s."""
    pace, phase, start, *_ = draws(seed, "ego", 0)
    speed = 8.5 + 4.0 * pace
    return 1000.0 * start + speed * t + 14.0 * math.sin(0.16 * t + 6.3 * phase)


def bend(seed: int, s_m: float) -> float:
    """Return the road's curvature ahead at `s_m`, 1/m."""
    phase, size, *_ = draws(seed, "bend", 0)
    return (0.0004 + 0.0008 * size) * math.sin(s_m / 140.0 + 6.3 * phase)


def _places(s_m: float, spacing_m: float, offset_m: float = 0.0, behind_m: float = 0.0) -> range:
    """Return the numbers of the places every `spacing_m` that are in sight of a camera at `s_m`."""
    first = math.floor((s_m - offset_m - behind_m) / spacing_m)
    return range(first, math.floor((s_m - offset_m + SIGHT_M) / spacing_m) + 1)


def things(seed: int, t: float, sky: Illumination) -> Iterator[Thing]:
    """Yield everything that may be in view at time t of drive `seed`."""
    s = position(seed, t)
    yield from _roadside(seed, s, sky)
    yield from _furniture(seed, s, t, sky)
    yield from _parked(seed, s)
    yield from _traffic(seed, s, t, sky)
    yield from _walkers(seed, s, t)


def _roadside(seed: int, s: float, sky: Illumination) -> Iterator[Thing]:
    for side, kerb in ((-1, KERB_LEFT_X), (1, KERB_RIGHT_X)):
        spacing = 17.0
        for place in _places(s, spacing, behind_m=spacing):
            block = block_at(seed, place * spacing)
            here, shape, size, tall, *_ = draws(seed, f"house {side}", place)
            z = place * spacing - s
            if here < block.houses and z + spacing > 1.0:
                length = 11.0 + 5.5 * round(4 * size) / 4
                floors = max(1, round(block.floors * (0.5 + 0.9 * tall)))
                mesh = street.house(int(shape * 24), side, length, floors, sky.lamps_on, z < 44)
                yield Thing(mesh, kerb + side * block.set_back_m, 0.0, z)
        for place in _places(s, 8.5):
            block = block_at(seed, place * 8.5)
            here, shape, off, row, *_ = draws(seed, f"tree {side}", place)
            if here < block.trees:
                x = kerb + side * (1.3 + (5.0 * row if block.set_back_m > 5 else 0.0))
                yield Thing(street.tree(int(shape * 32)), x, 0.0, place * 8.5 + 3 * off - s)
        for place in _places(s, 13.0):
            block = block_at(seed, place * 13.0)
            here, kind, off, *_ = draws(seed, f"clutter {side}", place)
            if here < block.clutter:
                x = kerb + side * (0.7 + 1.2 * off)
                yield Thing(street.clutter(int(kind * 4)), x, 0.0, place * 13.0 + 6 * off - s)


def lamps(seed: int, t: float) -> Iterator[tuple[float, float, float]]:
    """Yield side, x and z of every street lamp in reach of the view, those just behind included."""
    s = position(seed, t)
    for place in _places(s, 20.0, behind_m=24.0):
        side = 1 if place % 2 else -1
        here, *_ = draws(seed, "lamp", place)
        if here < block_at(seed, place * 20.0).lamps:
            yield float(side), (KERB_RIGHT_X + 0.6 if side > 0 else KERB_LEFT_X - 0.6), place * 20.0 - s


def _furniture(seed: int, s: float, t: float, sky: Illumination) -> Iterator[Thing]:
    colour = (float(sky.lamp_colour[0]), float(sky.lamp_colour[1]), float(sky.lamp_colour[2]))
    for side, x, z in lamps(seed, t):
        yield Thing(street.lamp(int(side), sky.lamps_on, colour), x, 0.0, z)
    for place in _places(s, 31.0):
        here, kind, glyph, off, board, *_ = draws(seed, "sign", place)
        z = place * 31.0 + 12.0 * off - s
        if here < block_at(seed, place * 31.0).signs:
            height, x = (3.4 if kind > 0.75 else 2.3) + 0.5 * glyph, KERB_RIGHT_X + 0.5 + 0.7 * off
            kinds = meshes.SIGN_KINDS
            yield Thing(street.pole(height, 0.0), x, 0.0, z)
            yield Thing(
                meshes.sign(int(kind * kinds), int(glyph * 4)),
                x,
                height,
                z,
                1.0,
                "traffic sign",
                place * 64 + 1,
            )
            if board < 0.3:
                plate = meshes.sign(int(board / 0.3 * kinds), int(glyph * 4))
                yield Thing(plate, KERB_LEFT_X - 0.6, height, z, 1.0, "traffic sign", place * 64 + 2)
                yield Thing(street.pole(height, 0.0), KERB_LEFT_X - 0.6, 0.0, z)
    for place in _places(s, BLOCK_M):
        here, cycle, arm, *_ = draws(seed, "junction", place)
        z = place * BLOCK_M - s
        if z <= 2:
            continue
        yield Thing(street.crossing(), 0.0, 0.0, z - 6.0)
        if here < 0.75:
            phase = (t / 14.0 + cycle) % 1.0
            state = meshes.GREEN if phase < 0.5 else meshes.AMBER if phase < 0.58 else meshes.RED
            heads = [(KERB_RIGHT_X + 0.5, 2.6), (KERB_LEFT_X - 0.4, 2.6)]
            if arm < 0.7:
                heads += [(0.2, 5.2), (-3.0, 5.2)]
                yield Thing(street.pole(6.3, 7.4), KERB_RIGHT_X + 0.5, 0.0, z)
            else:
                yield Thing(street.pole(3.4, 0.0), KERB_RIGHT_X + 0.5, 0.0, z)
            yield Thing(street.pole(3.4, 0.0), KERB_LEFT_X - 0.4, 0.0, z)
            for number, (x, y) in enumerate(heads):
                track = place * 64 + 3 + number
                yield Thing(meshes.traffic_light(state), x, y, z - 0.1, 1.0, "traffic light", track)


def _vehicle(shape: float, paint: float, lit: bool, braking: bool) -> tuple[meshes.Mesh, str, float]:
    """Return a vehicle's mesh, class and half length: one in six is a lorry."""
    if shape > 0.84:
        long = shape > 0.93
        return meshes.truck(int(paint * 5), long, lit, braking), "truck", 4.75 if long else 3.2
    kind = int(shape / 0.84 * 3.9)
    return meshes.car(int(paint * len(meshes.CAR_PAINTS)), kind, lit, braking), "car", 2.4


def _parked(seed: int, s: float) -> Iterator[Thing]:
    for side, x, turn in (("right", PARKED_RIGHT_X, 1.0), ("left", PARKED_LEFT_X, -1.0)):
        for place in _places(s, 7.0):
            here, shape, paint, off, *_ = draws(seed, f"parked {side}", place)
            if here < block_at(seed, place * 7.0).parked:
                mesh, label, _ = _vehicle(shape * 0.88, paint, False, False)
                track = place * 64 + (11 if side == "right" else 12)
                yield Thing(mesh, x + 0.3 * (off - 0.5), 0.0, place * 7.0 + off - s, turn, label, track)


def _traffic(seed: int, s: float, t: float, sky: Illumination) -> Iterator[Thing]:
    speed, density, *_ = draws(seed, "oncoming", 0)
    run = -(8.0 + 5.0 * speed) * t
    for slot in _places(s - run, 24.0):
        here, shape, paint, off, early, *_ = draws(seed, "oncoming slot", slot)
        if here < 0.25 + 0.45 * density:
            lit = sky.headlights_on or (early < 0.12)
            mesh, label, _ = _vehicle(shape, paint, lit, False)
            z = slot * 24.0 + 12 * off + run - s
            yield Thing(mesh, ONCOMING_X + 0.4 * (off - 0.5), 0.0, z, -1.0, label, slot * 64 + 13, lit)
    episode = math.floor(t / LEADER_S)
    age = t - episode * LEADER_S
    here, shape, paint, near, sway, second, brake, off = draws(seed, "leader", episode)
    if here < 0.72:
        away = 1.0 - _smooth(age / 5.0) + _smooth((age - LEADER_S + 5.0) / 5.0)
        z = 9.0 + 26.0 * near + 3.0 * math.sin(0.5 * t + 6.3 * sway) + 110.0 * away
        braking = math.sin(0.55 * t + 6.3 * brake) > 0.6
        mesh, label, half = _vehicle(shape, paint, sky.headlights_on, braking)
        yield Thing(mesh, 0.35 * math.sin(0.3 * t + 6.3 * sway), 0.0, z + half, 1.0, label, episode * 64 + 14)
        if second < 0.6:
            mesh, label, half = _vehicle(1.0 - shape, off, sky.headlights_on, braking)
            x = 0.35 * math.sin(0.27 * t + 6.3 * second)
            yield Thing(mesh, x, 0.0, z + 13.0 + 14.0 * off + half, 1.0, label, episode * 64 + 15)


def _smooth(share: float) -> float:
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)


def _walkers(seed: int, s: float, t: float) -> Iterator[Thing]:
    for side, kerb in ((-1, KERB_LEFT_X), (1, KERB_RIGHT_X)):
        for way in (-1, 1):
            run = way * 1.3 * t
            for slot in _places(s - run, 8.0):
                here, coat, legs, skin, off, lane, step, pair = draws(seed, f"walker {side} {way}", slot)
                z = slot * 8.0 + 6 * off + run - s
                share = block_at(seed, slot * 8.0 + run).walkers
                if here < share:
                    stride = int((t * 1.9 + step) * meshes.STRIDES) % meshes.STRIDES
                    x = kerb + side * (0.6 + 1.8 * lane)
                    mesh = meshes.pedestrian(int(coat * 8), int(legs * 8), int(skin * 3), stride, 0)
                    track = slot * 64 + 20 + 2 * side + way
                    yield Thing(mesh, x, 0.0, z, 1.0, "pedestrian", track)
                    if pair < 0.3:
                        mesh = meshes.pedestrian(
                            int(legs * 8), int(coat * 8), int(skin * 3), (stride + 3) % 8, 0
                        )
                        yield Thing(mesh, x + side * 0.7, 0.0, z + 0.3, 1.0, "pedestrian", track + 8)
    for place in _places(s, BLOCK_M):
        for number in range(3):
            here, coat, legs, skin, off, start, step, _ = draws(seed, f"crossing {number}", place)
            z = place * BLOCK_M - 6.0 + 2.5 * off - s
            if here < block_at(seed, place * BLOCK_M).walkers * 2.2 and 4.0 < z < 90.0:
                way = 1 if start < 0.5 else -1
                x = way * (5.5 - (95.0 - z) * 0.17 - 3.0 * off) - 1.7
                if KERB_LEFT_X - 2 < x < KERB_RIGHT_X + 2:
                    stride = int((t * 1.9 + step) * meshes.STRIDES) % meshes.STRIDES
                    mesh = meshes.pedestrian(int(coat * 8), int(legs * 8), int(skin * 3), stride, -way)
                    yield Thing(mesh, x, 0.0, z, 1.0, "pedestrian", place * 64 + 40 + number)
