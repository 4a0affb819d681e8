"""Weather and faults of the camera in simulated drives: nothing before they come, then what they are."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.frames.sources import SourceError, open_source
from tests.tools.test_drives import digest
from tools.cli.data import command
from tools.drives import meshes
from tools.drives.camera import View
from tools.drives.conditions import (
    MOST_STOPS,
    MOST_TURN_DEG,
    NOTHING,
    WEATHER_COMES_S,
    Conditions,
    ConditionsError,
)
from tools.drives.light import light
from tools.drives.render import CLASS_NAMES, render, render_things
from tools.drives.visible import TrueBox
from tools.drives.weather import WIPER_S, add_drops, illumination_under
from tools.drives.world import Thing
from tools.drives_labeler import label_simulated_drive

RAIN, FOG = Conditions(weather="rain"), Conditions(weather="fog")
SMEAR = Conditions(lens="smear")
ALL = {
    "rain": RAIN,
    "fog": FOG,
    "smear": SMEAR,
    "turn": Conditions(turn=5.0),
    "exposure": Conditions(exposure=-2.0),
}
LIGHTS = st.sampled_from(["noon", "dusk", "night"])
DRIVES = st.integers(0, 2**40)


def beginning(conditions: Conditions, at: float) -> Conditions:
    """The same, from `at` seconds of drive on."""
    times = {
        "weather_at": conditions.weather != "clear",
        "lens_at": conditions.lens != "clean",
        "turn_at": conditions.turn,
        "exposure_at": conditions.exposure,
    }
    return replace(conditions, **{key: at for key, there in times.items() if there})


CONDITIONS = st.builds(
    Conditions,
    weather=st.sampled_from(["clear", "rain", "fog"]),
    lens=st.sampled_from(["clean", "smear"]),
    turn=st.one_of(st.just(0.0), st.floats(-MOST_TURN_DEG, MOST_TURN_DEG)),
    exposure=st.one_of(st.just(0.0), st.floats(-MOST_STOPS, MOST_STOPS)),
)


@settings(max_examples=25, deadline=None)
@given(DRIVES, st.floats(1, 600), LIGHTS, CONDITIONS, st.floats(1, 600))
def test_before_they_come_a_drive_is_as_it_is_without_and_afterwards_as_if_they_had_always_been(
    seed: int, at: float, name: str, conditions: Conditions, later: float
) -> None:
    coming = beginning(conditions, at)
    sky, size = light(name), (128, 96)
    before = at * 0.99
    plain = render(seed, before, sky, size)
    assert digest(render(seed, before, sky, size, coming)) == digest(plain)
    assert plain.attributes["weather"] == "clear"
    there = at + WEATHER_COMES_S + later
    came, always = (render(seed, there, sky, size, befalls) for befalls in (coming, conditions))
    assert digest(came) == digest(always)


@pytest.mark.parametrize("kind", ALL)
def test_each_changes_the_picture_and_says_so(kind: str) -> None:
    plain, drawn = render(3, 31.0), render(3, 31.0, conditions=ALL[kind])
    assert np.abs(plain.image.astype(int) - drawn.image).mean() > 4
    said = {
        "rain": {"weather": "rainy"},
        "fog": {"weather": "foggy"},
        "smear": {"lens": "smeared"},
        "turn": {"camera": "turned by 5 degrees"},
        "exposure": {"exposure": "off by -2 stops"},
    }
    assert drawn.attributes == plain.attributes | said[kind]


@settings(max_examples=30, deadline=None)
@given(DRIVES, st.floats(0, 3600), LIGHTS, CONDITIONS)
def test_boxes_lie_in_the_picture_whatever_befalls_the_drive(
    seed: int, t: float, name: str, conditions: Conditions
) -> None:
    drawn = render(seed, t, light(name), (320, 180), conditions)
    assert drawn.image.shape == (180, 320, 3) and drawn.image.dtype == np.uint8
    for box in drawn.boxes:
        assert 0 <= box.x1 < box.x2 <= 320 and 0 <= box.y1 < box.y2 <= 180
        assert box.label in CLASS_NAMES
    assert len({box.track for box in drawn.boxes}) == len(drawn.boxes)


def test_a_moment_is_the_same_in_any_process() -> None:
    moments = [(7, 3.25), (8, 100.5)]
    program = (
        "from tests.tools.test_drives_conditions import ALL; from tests.tools.test_drives import digest;"
        "from tools.drives.render import render\n"
        f"for s, t in {moments!r}:\n"
        "    for c in ALL.values(): print(digest(render(s, t, conditions=c)))"
    )
    there = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    ).stdout.split()
    assert [digest(render(s, t, conditions=c)) for s, t in moments for c in ALL.values()] == there


# --- The camera ------------------------------------------------------------------------------------------


def homography(turn_deg: float, size: tuple[int, int]) -> np.ndarray:
    """Return what maps a picture to that of the camera turned on its place, `float64[3, 3]`."""
    view = View.of(size)
    inside = np.array([[view.focal, 0, view.width / 2], [0, view.focal, view.horizon], [0, 0, 1.0]])
    angle = np.radians(turn_deg)
    turn = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
    return inside @ turn @ np.linalg.inv(inside)


@pytest.mark.parametrize("turn", [5.0, -5.0, 12.0])
def test_a_turned_camera_sees_its_picture_through_a_homography(turn: float) -> None:
    size = (640, 360)
    matrix = homography(turn, size)
    inside = cv2.warpPerspective(np.full(size[::-1], 255, np.uint8), matrix, size) == 255
    inside[: int(0.52 * size[1])] = False  # clouds and skyline are a backdrop
    compared = 0
    for seed in (3, 4, 5, 9):
        plain, turned = render(seed, 31.0), render(seed, 31.0, conditions=Conditions(turn=turn))
        expected = cv2.warpPerspective(plain.image, matrix, size)
        apart = np.abs(expected.astype(int) - turned.image)[inside].mean()
        assert apart < 6 < np.abs(plain.image.astype(int) - turned.image)[inside].mean()
        there = {box.track: box for box in turned.boxes if not (box.truncated or box.occluded)}
        for box in plain.boxes:
            if box.track not in there or box.truncated or box.occluded:
                continue
            corners = np.array([[(x, y) for x in (box.x1, box.x2) for y in (box.y1, box.y2)]], np.float64)
            moved = cv2.perspectiveTransform(corners, matrix)[0]
            found = there[box.track]
            middle = np.array([found.x1 + found.x2, found.y1 + found.y2]) / 2
            assert middle == pytest.approx((moved.min(axis=0) + moved.max(axis=0)) / 2, abs=3)
            assert np.sign(box.x1 - found.x1) == np.sign(turn)
            compared += 1
    assert compared >= 5


def test_what_a_turned_camera_loses_at_its_edge_is_clipped_and_then_gone() -> None:
    def boxes(x: float, turn: float) -> tuple[TrueBox, ...]:
        car = Thing(meshes.car(0, 0, False, False), x, 0.0, 9.0, label="car", track=1)
        moment = Conditions(turn=turn).at(0.0)
        sky = illumination_under(1, light("noon")(0.0), moment)
        return render_things([car], 1, 0.0, sky, moment=moment).boxes

    (whole,), (cut,) = boxes(3.2, 0.0), boxes(3.2, -15.0)
    assert not whole.truncated and whole.x2 < 620
    assert cut.truncated and cut.x2 == 640.0 and cut.x1 > whole.x1 + 50
    assert boxes(5.5, 0.0) and boxes(5.5, -15.0) == ()


# --- Exposure --------------------------------------------------------------------------------------------


def linear(picture: np.ndarray) -> np.ndarray:
    """Undo the tone curve of `tools.drives.light.tone`."""
    return -np.log(1 - np.power(np.clip(picture, 0, 254) / 255.0, 2.2)) / 1.7


@pytest.mark.parametrize("stops", [-2.0, -1.0, 1.0])
def test_the_exposure_is_off_in_linear_light(stops: float) -> None:
    plain, off = render(5, 31.0).image, render(5, 31.0, conditions=Conditions(exposure=stops)).image
    told = (plain > 40) & (plain < 200) & (off > 15) & (off < 235)
    ratio = linear(off)[told] / linear(plain)[told]
    assert np.median(ratio) == pytest.approx(2**stops, rel=0.05)


def test_more_exposure_is_brighter_until_all_is_white_and_never_wraps() -> None:
    means = [
        render(5, 31.0, conditions=Conditions(exposure=stops)).image.mean()
        for stops in (-6, -4, -2, 0, 2, 4, 6)
    ]
    assert means == sorted(means)
    assert means[0] < 25 and means[-1] > 235


# --- Weather ---------------------------------------------------------------------------------------------


def board(grey: float) -> meshes.Mesh:
    """A board of 6 m x 4 m that faces the camera."""
    builder = meshes.Builder()
    builder.panel(-3.0, 3.0, 0.0, 4.0, 0.0, (grey, grey, grey))
    return builder.mesh()


def signal(grey: float, z: float, conditions: Conditions) -> float:
    """The mean linear signal of such a board, z metres ahead."""
    moment = conditions.at(0.0)
    sky = illumination_under(1, light("noon")(0.0), moment)
    picture = render_things([Thing(board(grey), 0.0, 0.0, z)], 1, 0.0, sky, moment=moment).image
    view = View.of((640, 360))
    x, y = round(view.width / 2), round(view.horizon - 0.3 * view.focal / z)
    return float(linear(picture[y - 2 : y + 3, x - 2 : x + 3]).mean())


@pytest.mark.parametrize("weather", ["rain", "fog"])
def test_contrast_falls_with_the_distance_as_koschmieder_has_it(weather: str) -> None:
    conditions = Conditions(weather=weather)
    extinction = illumination_under(1, light("noon")(0.0), conditions.at(0.0)).extinction
    # A picture's levels are whole: the boards are as different, and as near, as they can be.
    near, far = (signal(0.7, z, conditions) - signal(0.02, z, conditions) for z in (8.0, 34.0))
    clear_near, clear_far = (signal(0.7, z, NOTHING) - signal(0.02, z, NOTHING) for z in (8.0, 34.0))
    assert (far / near) / (clear_far / clear_near) == pytest.approx(np.exp(-26 * extinction), rel=0.12)


def test_what_the_fog_hides_is_not_marked_and_the_rest_is_as_before() -> None:
    lost = 0
    for seed in range(8):
        clear, foggy = render(seed, 20.0), render(seed, 20.0, conditions=FOG)
        there = {box.track: box for box in clear.boxes}
        assert all(box == there[box.track] for box in foggy.boxes)
        lost += len(clear.boxes) - len(foggy.boxes)
    assert lost > 8


def test_rain_is_dim_flat_and_wet_and_its_drops_are_others_in_each_picture() -> None:
    clear = [render(seed, 20.0).image for seed in range(8)]
    rainy = [render(seed, 20.0, conditions=RAIN).image for seed in range(8)]
    assert np.mean([a.mean() for a in rainy]) < 0.95 * np.mean([a.mean() for a in clear])
    colourful = [[np.abs(np.diff(a.astype(int), axis=2)).mean() for a in group] for group in (rainy, clear)]
    assert np.mean(colourful[0]) < 0.5 * np.mean(colourful[1])

    def changed(conditions: Conditions) -> float:
        one, other = (render(3, t, conditions=conditions).image.astype(int) for t in (20.0, 20.00001))
        return float((np.abs(one - other).max(axis=2) > 8).mean())

    assert changed(RAIN) > 0.02 > changed(NOTHING)


def test_drops_gather_on_the_windscreen_until_the_wiper_passes() -> None:
    sky = illumination_under(1, light("noon")(0.0), RAIN.at(0.0))
    dim = np.repeat(np.linspace(30, 120, 360, dtype=np.uint8)[:, None], 640, axis=1)[..., None].repeat(
        3, axis=2
    )
    wet = []
    for phase in (0.02, 0.5, 0.98, 1.02):
        picture = dim.copy()
        add_drops(picture, 1, (30 + phase) * WIPER_S, sky, 1.0)
        # Drops in the air brighten; one on the windscreen shows below what is above it, darker.
        wet.append(int((picture.astype(int) < dim.astype(int) - 2).any(axis=2).sum()))
    assert wet[0] < wet[1] < wet[2] and wet[3] < wet[1]


def test_a_wet_road_mirrors_the_lamps() -> None:
    head = Thing(meshes.car(0, 0, True, False), -3.5, 0.0, 22.0, -1.0, "car", 1, True)

    def below(conditions: Conditions) -> float:
        """How much brighter the road before the lamps is than beside them."""
        moment = conditions.at(0.0)
        sky = illumination_under(1, light("night")(0.0), moment)
        lit, dark = (render_things(things, 1, 0.0, sky, moment=moment).image for things in ([head], []))
        part = (slice(225, 260), slice(225, 275))
        return float(lit[part].mean() - dark[part].mean())

    assert below(RAIN) > below(NOTHING) + 3


# --- The lens --------------------------------------------------------------------------------------------


def veil(seed: int, t: float) -> np.ndarray:
    """Where in the picture detail is lost: the share of it that is left, coarsely, `float64[9, 16]`."""

    def detail(conditions: Conditions) -> np.ndarray:
        grey = cv2.cvtColor(render(seed, t, conditions=conditions).image, cv2.COLOR_BGR2GRAY)
        edges = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
        return cv2.resize(edges, (16, 9), interpolation=cv2.INTER_AREA)

    return detail(SMEAR) / detail(NOTHING)


def test_a_smear_lies_over_a_part_and_stays_there() -> None:
    one, other = veil(5, 20.0), veil(5, 47.0)
    assert (one < 0.6).mean() > 0.08
    assert (one > 0.85).mean() > 0.25
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.6
    assert np.corrcoef(one.ravel(), veil(6, 20.0).ravel())[0, 1] < 0.6


def test_what_a_smear_dissolves_is_not_marked_and_the_rest_is_as_before() -> None:
    lost = 0
    for seed in range(12):
        clear, smeared = render(seed, 20.0), render(seed, 20.0, conditions=SMEAR)
        assert set(smeared.boxes) <= set(clear.boxes)
        gone = set(clear.boxes) - set(smeared.boxes)
        assert all(min(box.x2 - box.x1, box.y2 - box.y1) < 0.05 * 640 for box in gone)
        lost += len(gone)
    assert lost > 3


# --- Where they are asked for ----------------------------------------------------------------------------

URL = (
    "sim:7?seconds=3&rate=4&start=20&size=128x96&weather=fog&weather_at=20.5&lens=smear&lens_at=21"
    "&turn=-4.5&turn_at=22&exposure=1.5&exposure_at=22.5"
)
ASKED = Conditions("fog", 20.5, "smear", 21.0, -4.5, 22.0, 1.5, 22.5)


def test_a_drive_under_conditions_is_a_source_and_its_truth_is_of_the_same_pictures() -> None:
    with open_source(URL) as source:
        frames = list(source)
    assert source.name == "sim00000007-noon-fog-smear-turn-4.5-exposure1.5"
    words = set()
    for frame in frames:
        drawn = render(7, 20 + frame.sequence / 4, size=(128, 96), conditions=ASKED)
        assert np.array_equal(frame.image, drawn.image)
        truth = label_simulated_drive(URL, f"{source.name}-{frame.sequence:06d}.jpg", frame.captured_ns)
        assert truth.attributes == drawn.attributes
        assert [(box.x1, box.y1, box.x2, box.y2, box.category) for box in truth.boxes] == [
            (box.x1, box.y1, box.x2, box.y2, box.label) for box in drawn.boxes
        ]
        words.add(frozenset(truth.attributes))
    assert len(words) == 4  # none, lens, camera, exposure


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("weather=snow", r"'snow'.*clear, rain, fog"),
        ("lens=dirty", r"'dirty'.*clean, smear"),
        ("turn=90", r"turn must lie between -15 and 15, not 90"),
        ("turn=left", "turn must be a number, not 'left'"),
        ("turn=nan", "turn must be a number, not 'nan'"),
        ("exposure=-9", r"exposure must lie between -6 and 6, not -9"),
        ("weather=rain&weather_at=-1", "weather_at must be a number from 0 up"),
        ("weather_at=5", r"weather_at=5 is of nothing.*give weather"),
        ("lens_at=5", "give lens"),
        ("turn_at=5", "give turn"),
        ("exposure_at=5", "give exposure"),
    ],
)
def test_wrong_conditions_say_what_is_wrong(query: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        open_source(f"sim:7?{query}")


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(ConditionsError, match="lens_at"):
        Conditions(lens="smear", lens_at=float("nan"))


def test_a_dataset_can_be_of_drives_under_conditions(tmp_path) -> None:
    words = ["simulate", "--weather", "rain", "--turn", "-3", "--frames", "2", "--size", "128x96", "-o"]
    done = CliRunner().invoke(command, [*words, str(tmp_path / "rain")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    names = sorted(path.name for path in tmp_path.rglob("*.jpg"))
    assert names == [f"sim00000000-noon-rain-turn-3-{number:06d}.jpg" for number in range(2)]
    text = (tmp_path / "rain" / "det_20.json").read_text()
    assert '"weather":"rainy"' in text.replace(" ", "") and "turned by -3 degrees" in text
    refused = CliRunner().invoke(command, ["simulate", "--lens", "wet", "-o", str(tmp_path / "wet")])
    assert refused.exit_code == 1 and "clean, smear" in str(refused.exception or refused.output)
