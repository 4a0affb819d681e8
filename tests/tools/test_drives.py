"""Simulated drives: pure, exactly labelled, and dark when it is night."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.frames.sources import Source, SourceError, open_source
from tools.drives import meshes, street
from tools.drives.light import ELEVATION_DEG, LightError, illumination, light
from tools.drives.render import CLASS_NAMES, Rendering, render, render_things
from tools.drives.world import Thing

LIGHTS = st.sampled_from(sorted(ELEVATION_DEG))


def digest(rendering: Rendering) -> str:
    return hashlib.sha256(rendering.image.tobytes() + repr(rendering.boxes).encode()).hexdigest()


def test_a_moment_is_the_same_in_any_order_and_any_process() -> None:
    moments = [(7, 3.25, "noon"), (8, 100.5, "night"), (7, 60.0, "dusk")]
    here = [digest(render(seed, t, light(name))) for seed, t, name in moments]
    again = [digest(render(seed, t, light(name))) for seed, t, name in reversed(moments)]
    program = (
        "from tests.tools.test_drives import digest; from tools.drives.render import render;"
        "from tools.drives.light import light\n"
        f"for s, t, n in {moments!r}: print(digest(render(s, t, light(n))))"
    )
    there = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    ).stdout.split()
    assert here == again[::-1] == there
    assert len(set(here)) == 3


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**40), st.floats(0, 3600), LIGHTS)
def test_boxes_lie_in_the_picture_and_carry_known_classes(seed: int, t: float, name: str) -> None:
    drawn = render(seed, t, light(name))
    assert drawn.image.shape == (360, 640, 3) and drawn.image.dtype == np.uint8
    tracks = [box.track for box in drawn.boxes]
    assert len(tracks) == len(set(tracks))
    for box in drawn.boxes:
        assert 0 <= box.x1 < box.x2 <= 640 and 0 <= box.y1 < box.y2 <= 360
        assert box.label in CLASS_NAMES
        assert max(box.x2 - box.x1, box.y2 - box.y1) >= 4


def shown(things: list[Thing], sun: str = "noon", seed: int = 1) -> tuple[Rendering, np.ndarray]:
    """Draw `things`, and return the rendering and where the picture differs from the empty road."""
    t = 0.0
    sky = illumination(seed, light(sun)(t))
    drawn, empty = render_things(things, seed, t, sky), render_things([], seed, t, sky)
    return drawn, np.abs(drawn.image.astype(int) - empty.image).max(axis=2) > 12


@pytest.mark.parametrize(("x", "y", "z"), [(2.0, 2.4, 12.0), (-3.0, 3.0, 20.0), (5.0, 1.9, 15.5)])
def test_a_box_fits_the_pixels_that_its_object_paints(x: float, y: float, z: float) -> None:
    drawn, changed = shown([Thing(meshes.sign(3, 0), x, y, z, label="traffic sign", track=5)])
    (box,) = drawn.boxes
    rows, columns = np.nonzero(changed)
    painted = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert (box.x1, box.y1, box.x2, box.y2) == pytest.approx(painted, abs=1.6)
    assert (box.label, box.track, box.occluded, box.truncated) == ("traffic sign", 5, False, False)


def test_what_hides_an_object_shrinks_its_box_to_what_is_left_and_then_takes_it_away() -> None:
    behind = Thing(meshes.car(0, 0, False, False), 3.2, 0.0, 24.0, label="car", track=1)
    before = Thing(meshes.truck(0, False, False, False), 0.0, 0.0, 14.0, label="truck", track=2)
    alone = {box.track: box for box in shown([behind])[0].boxes}
    both = {box.track: box for box in shown([behind, before])[0].boxes}
    assert both[1].x1 > alone[1].x1 + 3 and both[1].x2 == pytest.approx(alone[1].x2, abs=1.5)
    assert both[1].occluded and not alone[1].occluded
    hidden = Thing(meshes.car(0, 0, False, False), 0.0, 0.0, 24.0, label="car", track=1)
    assert [box.track for box in shown([hidden, before])[0].boxes] == [2]


def test_an_object_that_leaves_the_picture_is_truncated_and_clipped() -> None:
    drawn, _ = shown([Thing(meshes.car(2, 0, False, False), -3.6, 0.0, 6.2, label="car", track=1)])
    (box,) = drawn.boxes
    assert box.truncated and box.x1 == 0.0


def test_the_same_object_keeps_its_track_and_moves_by_little() -> None:
    moments = [{box.track: box for box in render(12, 40 + step / 30).boxes} for step in range(8)]
    followed = 0
    for earlier, later in pairwise(moments):
        for track in earlier.keys() & later.keys():
            a, b = earlier[track], later[track]
            assert a.label == b.label
            if a.x2 - a.x1 < 60 and not (a.occluded or b.occluded or a.truncated or b.truncated):
                assert abs((a.x1 + a.x2) - (b.x1 + b.x2)) < 24
                followed += 1
    assert followed > 10


def grain(name: str) -> float:
    """Return the noise, in levels: what differs between two moments in which nothing can have moved."""
    one, other = (render(3, t, light(name)).image.astype(int) for t in (20.0, 20.00001))
    return float((one - other).std() / np.sqrt(2))


def test_night_is_dark_noisy_and_labels_less() -> None:
    noon = [render(seed, 20.0) for seed in range(8)]
    night = [render(seed, 20.0, light("night")) for seed in range(8)]
    assert np.mean([d.image.mean() for d in night]) < 0.6 * np.mean([d.image.mean() for d in noon])
    assert grain("night") > 3 * grain("noon")
    assert sum(len(d.boxes) for d in night) < sum(len(d.boxes) for d in noon)
    assert {d.attributes["timeofday"] for d in noon + night} == {"daytime", "night"}


def test_a_falling_light_goes_from_day_through_dusk_to_night() -> None:
    falling = light("noon-night", dusk_s=10.0, fade_s=20.0)
    words = [render(3, t, falling).attributes["timeofday"] for t in (0.0, 10.0, 26.0, 30.0, 90.0)]
    assert words == ["daytime", "daytime", "dawn/dusk", "night", "night"]
    heights = [falling(t) for t in range(60)]
    assert heights == sorted(heights, reverse=True)


def test_an_unknown_light_says_which_are_known() -> None:
    with pytest.raises(LightError, match=r"'midnight'.*noon.*night"):
        light("midnight")


def test_a_simulated_drive_is_a_source() -> None:
    with open_source("sim:7?light=night&seconds=0.5&rate=10&size=320x180&start=5") as source:
        assert isinstance(source, Source)
        frames = list(source)
    assert [frame.sequence for frame in frames] == list(range(5))
    assert [frame.captured_ns for frame in frames] == [round(k * 1e8) for k in range(5)]
    assert np.array_equal(frames[2].image, render(7, 5.2, light("night"), (320, 180)).image)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sim:seven", "seven"),
        ("sim:7?light=midnight", "midnight"),
        ("sim:7?colour=red", "colour"),
        ("sim:7?seconds=-1", "seconds"),
        ("sim:7?seconds=0.01", "hold no frame"),
        ("sim:7?rate=0", "rate"),
        ("sim:7?size=9x9", "9x9"),
        ("sim:7?fade=0&light=noon-night", "fade"),
        ("sim:7?seconds=nan", "nan"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(url: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        open_source(url)


def test_a_hidden_lamp_does_not_shine_through() -> None:
    light_head = Thing(meshes.traffic_light(meshes.GREEN), 0.0, 2.0, 30.0, label="traffic light", track=5)
    lorry = Thing(meshes.truck(0, True, False, False), 0.0, 0.0, 20.0, label="truck", track=1)
    both, alone = (shown(things, "dusk")[0] for things in ([light_head, lorry], [lorry]))
    assert np.array_equal(both.image, alone.image)
    assert shown([light_head], "dusk")[1].any()


@pytest.mark.parametrize("seed", range(4))
def test_boxes_are_where_a_picture_of_four_times_the_size_has_them(seed: int) -> None:
    small, large = (render(seed, 9.0 + seed, size=size).boxes for size in ((640, 360), (2560, 1440)))
    there = {box.track: np.array([box.x1, box.y1, box.x2, box.y2]) / 4 for box in large}
    differences = [
        np.abs(np.array([box.x1, box.y1, box.x2, box.y2]) - there[box.track]).max()
        for box in small
        if box.track in there and not (box.occluded or box.truncated)
    ]
    assert len(differences) >= 2
    assert max(differences) <= 1.0


def test_golden_pictures_decode() -> None:
    from tools.drives.golden import golden_pictures

    for encoded in golden_pictures():
        assert cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR).shape == (720, 1280, 3)


@pytest.mark.parametrize(
    ("before", "x"),
    [
        (Thing(street.pole(6.3, 7.4), 4.6, 0.0, 22.0), 5.2),
        (Thing(street.lamp(1, False, (1.0, 1.0, 1.0)), 4.7, 0.0, 20.0), 6.35),
    ],
    ids=["pole with an arm", "street lamp"],
)
def test_what_stands_under_an_arm_is_not_hidden_by_it(before: Thing, x: float) -> None:
    sign = Thing(meshes.sign(3, 0), x, 3.1, 30.0, label="traffic sign", track=5)
    assert shown([sign, before])[0].boxes == shown([sign])[0].boxes != ()


def test_a_lorry_alongside_stays_until_it_has_left_the_picture() -> None:
    # Seen from its rear end; the picture's right edge is 0.7 m to the right for each metre ahead.
    for z in (3.0, 1.5, 1.1, 0.0, -1.0):
        lorry = Thing(meshes.truck(0, True, False, False), 2.95, 0.0, z, label="truck", track=1)
        drawn, changed = shown([lorry])
        assert changed[:, 600:].mean() > 0.2, z
        assert drawn.boxes and drawn.boxes[0].truncated, z


def test_the_box_of_a_truncated_object_is_of_what_is_inside() -> None:
    drawn, changed = shown([Thing(meshes.car(2, 3, False, False), 2.95, 0.0, 3.6, label="car", track=1)])
    (box,) = drawn.boxes
    rows = np.nonzero(changed.any(axis=1))[0]
    assert box.y1 == pytest.approx(rows.min(), abs=2)


def test_the_road_of_a_long_drive_is_as_sharp_as_at_its_start() -> None:
    # The surface's period divides the way between the two.
    from tools.drives import ground

    pictures = []
    for travelled in (5.03, 5.03 + 24.0 * 2**21):
        picture = np.zeros((360, 640, 3), np.uint8)
        sky = illumination(1, ELEVATION_DEG["noon"])
        ground.draw(picture, ground.View.of((640, 360)), travelled, 0.0, False, sky, [], [])
        pictures.append(picture)
    assert np.array_equal(pictures[0], pictures[1])
