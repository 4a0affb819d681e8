from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.drift.feature import Feature, Invariance
from edge.drift.features import FEATURES, NAMES, ORIGINS, SHARED_US, extract
from edge.drift.state import Origin
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.model_file import read_model_file
from tools.bench.subject import MODELS
from tools.drives.conditions import Conditions
from tools.drives.light import light
from tools.drives.render import render

NOTHING = np.zeros((0, 6), np.float32)
EMBEDDING = {name for name, origin in zip(NAMES, ORIGINS, strict=True) if origin is Origin.EMBEDDING}
DETECTIONS = {name for name, origin in zip(NAMES, ORIGINS, strict=True) if origin is Origin.DETECTIONS}


CLASSES = ("car", "Person", "lorry", "traffic_light", "bike")
OF_CLASSES = {"vulnerable_share", "heavy_share"}


def of(image: np.ndarray, boxes: np.ndarray = NOTHING, class_names: tuple[str, ...] = ()) -> dict[str, float]:
    return dict(zip(NAMES, extract(image, boxes, class_names=class_names).tolist(), strict=True))


def boxes(*rows: tuple[float, float, float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 6)


@lru_cache(maxsize=1)
def drawn() -> np.ndarray:
    return render(7, 3.0, size=(1920, 1080)).image


def scene(width: int, height: int) -> np.ndarray:
    """A street as a camera of that resolution would see it."""
    return cv2.resize(drawn(), (width, height), interpolation=cv2.INTER_AREA)


def test_each_feature_is_defined_once_and_says_what_it_is() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(feature.doc and feature.least < feature.most for feature in FEATURES)
    assert SHARED_US + sum(feature.cost_us for feature in FEATURES) <= 1000


def test_without_detections_only_their_count_is_to_be_had() -> None:
    found = of(scene(640, 360))
    assert found["count"] == 0
    assert {name for name, value in found.items() if math.isnan(value)} == (
        DETECTIONS - {"count"}
    ) | EMBEDDING


def test_without_names_there_is_no_mix_of_classes() -> None:
    rows = boxes((0, 0, 9, 9, 0.9, 0), (5, 5, 30, 40, 0.5, 1))
    unknown = of(scene(320, 180), rows)
    assert {name for name, value in unknown.items() if math.isnan(value)} == OF_CLASSES | EMBEDDING
    known = of(scene(320, 180), rows, CLASSES)
    assert {name for name, value in known.items() if math.isnan(value)} == EMBEDDING


@pytest.mark.parametrize("size", [1, 3, 4, 6])
def test_the_embedding_is_watched_as_far_as_the_model_gives_one(size: int) -> None:
    given = np.linspace(-2, 3, size).astype(np.float32)
    found = extract(scene(320, 180), NOTHING, embedding=given)[
        [NAMES.index(name) for name in sorted(EMBEDDING)]
    ]
    np.testing.assert_array_equal(found[:size], given[:4])
    assert np.isnan(found[size:]).all()


def test_the_mix_of_classes_goes_by_their_names_however_a_dataset_spells_them() -> None:
    rows = boxes(*((0, 0, 9, 9, 0.9, number) for number in (0, 0, 0, 1, 2, 3, 4, 1)))
    found = of(scene(320, 180), rows, CLASSES)
    assert found["vulnerable_share"] == pytest.approx(3 / 8)
    assert found["heavy_share"] == pytest.approx(1 / 4)
    nobody = of(scene(320, 180), boxes((0, 0, 9, 9, 0.9, 3)), CLASSES)
    assert nobody["vulnerable_share"] == 0 and math.isnan(nobody["heavy_share"])


def test_cars_that_are_all_replaced_by_lorries_are_seen() -> None:
    cars = [(0.0, 0.0, 9.0, 9.0, 0.9, 0.0)] * 6
    lorries = [(0.0, 0.0, 9.0, 9.0, 0.9, 2.0)] * 6
    before, after = (of(scene(320, 180), boxes(*rows), CLASSES) for rows in (cars, lorries))
    assert {name for name in set(NAMES) - EMBEDDING if before[name] != after[name]} == {"heavy_share"}


def test_the_features_of_detections_are_means_over_them() -> None:
    found = of(np.zeros((100, 200, 3), np.uint8), boxes((0, 0, 100, 100, 0.9, 1), (0, 50, 50, 100, 0.3, 0)))
    assert found["count"] == 2
    assert found["mean_confidence"] == pytest.approx(0.6)
    assert found["low_confidence_share"] == 0.5
    assert found["mean_size"] == pytest.approx((math.sqrt(0.5) + math.sqrt(0.125)) / 2)
    assert found["mean_height"] == pytest.approx((0.5 + 0.75) / 2)
    assert found["class_diversity"] == pytest.approx(0.5)
    assert found["top_confidence"] == pytest.approx(0.9)
    assert found["mean_x"] == pytest.approx((0.25 + 0.125) / 2)


def test_a_grey_picture_has_its_level_and_nothing_else() -> None:
    found = of(np.full((360, 640, 3), 77, np.uint8))
    assert [found[name] for name in ("brightness", "dark_tail", "bright_tail")] == pytest.approx([77] * 3)
    assert [found[name] for name in ("contrast", "colourfulness", "sharpness")] == pytest.approx([0] * 3)


def test_the_tails_are_means_of_the_darkest_and_the_brightest_pixels() -> None:
    image = np.full((100, 100, 3), 100, np.uint8)
    image[:5] = 0
    image[-1:] = 255
    found = of(image)
    assert found["dark_tail"] == pytest.approx(50, abs=0.1)
    assert found["bright_tail"] == pytest.approx((255 + 100) / 2, abs=0.1)


def test_colourfulness_is_that_of_the_paper() -> None:
    image = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    blue, green, red = (plane.astype(float) for plane in cv2.split(image[::2, ::2]))
    rg, yb = red - green, (red + green) / 2 - blue
    expected = math.hypot(rg.std(), yb.std()) + 0.3 * math.hypot(rg.mean(), yb.mean())
    assert of(image)["colourfulness"] == pytest.approx(expected, rel=1e-4)


# Of 1280x720.
BOXES = boxes((100, 200, 300, 400, 0.9, 0), (600, 350, 700, 420, 0.4, 1), (700, 300, 1000, 600, 0.7, 2))
# What may differ though nothing has: a share of the value, and of those about 0 so much.
RELATIVE, ABSOLUTE = 0.06, {"warmth": 0.02, "clipped_share": 0.003, "vanishing_x": 0.0, "vanishing_y": 0.0}


def altered(invariance: Invariance, image: np.ndarray) -> list[np.ndarray]:
    """The picture of 1280x720 as it looks after such a change."""
    if invariance is Invariance.RESOLUTION:
        return [resized(image, size) for size in ((1920, 1080), (640, 360), (960, 540), (400, 225))]
    if invariance is Invariance.JPEG:
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
        return [cv2.imdecode(encoded, cv2.IMREAD_COLOR)]
    if invariance is Invariance.GAIN:
        return [(image * 0.5).astype(np.uint8)]
    return [np.ascontiguousarray(image[:, ::-1])]


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    smaller = size[0] < image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)


@lru_cache(maxsize=8)
def street(seed: int, sun: str = "noon") -> np.ndarray:
    return render(seed, 3.0, light(sun), size=(1280, 720)).image


@lru_cache(maxsize=1)
def baseline() -> Detector:
    return Detector(read_model_file(MODELS / "baseline.onnx"), DetectorOptions(threads=1))


def seen(feature: Feature, image: np.ndarray) -> float:
    """The feature as a camera has it: of detections, of those that the shipped baseline finds."""
    if feature.origin is Origin.PICTURE:
        return of(image)[feature.name]
    return of(image, baseline().detect(image).boxes, baseline().class_names)[feature.name]


def moved(feature: Feature, invariance: Invariance, image: np.ndarray) -> bool:
    """Whether the feature is elsewhere after such a change."""
    before = seen(feature, image)
    far = RELATIVE * abs(before) + ABSOLUTE.get(feature.name, 0.0)
    return any(not abs(seen(feature, picture) - before) <= far for picture in altered(invariance, image))


@pytest.mark.parametrize(
    ("feature", "invariance"),
    [
        pytest.param(feature, invariance, id=f"{feature.name}-{invariance.value}")
        for feature in FEATURES
        for invariance in Invariance
        if invariance in feature.holds_under
    ],
)
def test_a_feature_does_not_depend_on_what_it_says_it_does_not(
    feature: Feature, invariance: Invariance
) -> None:
    for seed in (7, 8, 9):
        assert not moved(feature, invariance, street(seed)), seed


@pytest.mark.parametrize("invariance", [Invariance.GAIN, Invariance.FLIP])
def test_and_does_on_the_others(invariance: Invariance) -> None:
    """Each that does not declare it moves in one of the pictures: nothing is declared less than it holds."""
    aside = render(7, 3.0, size=(1280, 720), conditions=Conditions(turn=8.0)).image
    pictures = [street(7), aside, (street(9) * 0.5 + 127).astype(np.uint8), street(9, "night")]
    for feature in FEATURES:
        if feature.origin is Origin.PICTURE and invariance not in feature.holds_under:
            assert any(moved(feature, invariance, picture) for picture in pictures), feature.name


@pytest.mark.parametrize("invariance", list(Invariance))
def test_how_many_are_found_depends_on_the_picture(invariance: Invariance) -> None:
    """Why no feature of detections is said not to: the boxes are not the same."""
    (count,) = (feature for feature in FEATURES if feature.name == "count")
    assert any(moved(count, invariance, street(seed)) for seed in range(50_000, 50_006))


def test_the_same_boxes_are_the_same_in_any_resolution_and_mirrored_but_for_their_side() -> None:
    mirrored, image = BOXES.copy(), np.zeros((720, 1280, 3), np.uint8)
    mirrored[:, [0, 2]] = 1280 - BOXES[:, [2, 0]]
    smaller = BOXES * np.array([400 / 1280, 225 / 720] * 2 + [1, 1], np.float32)
    as_it_was, scaled, exchanged = (
        {name: value for name, value in found.items() if name in DETECTIONS}
        for found in (
            of(image, BOXES, CLASSES),
            of(resized(image, (400, 225)), smaller, CLASSES),
            of(image, mirrored, CLASSES),
        )
    )
    assert scaled == pytest.approx(as_it_was, rel=1e-4)
    assert exchanged.pop("mean_x") == pytest.approx(1 - as_it_was.pop("mean_x"))
    assert exchanged == pytest.approx(as_it_was)


def test_a_blurred_picture_is_less_sharp_and_a_dimmed_one_is_not() -> None:
    image = cv2.GaussianBlur(scene(1280, 720), (0, 0), 1)
    sharp = of(image)["sharpness"]
    assert of(cv2.GaussianBlur(image, (0, 0), 12))["sharpness"] < 0.7 * sharp
    assert of((image * 0.5).astype(np.uint8))["sharpness"] == pytest.approx(sharp, rel=0.1)


def test_clipped_pixels_are_those_in_which_nothing_is_told_apart() -> None:
    image = np.full((100, 100, 3), 100, np.uint8)
    image[:20], image[20:30], image[30:40], image[40:50] = 252, 3, 245, 8
    assert of(image)["clipped_share"] == pytest.approx(0.3, abs=0.001)


@pytest.mark.parametrize(("colour", "warmth"), [((50, 90, 100), math.log(101 / 51)), ((80, 80, 80), 0.0)])
def test_warmth_is_red_by_blue(colour: tuple[int, int, int], warmth: float) -> None:
    image = np.zeros((90, 160, 3), np.uint8)
    image[:] = colour
    assert of(image)["warmth"] == pytest.approx(warmth, abs=1e-6)


def test_haze_grows_with_the_light_that_the_air_scatters() -> None:
    image = scene(1280, 720).astype(np.float32)
    found = [of((image * left + 190 * (1 - left)).astype(np.uint8))["haze"] for left in (1, 0.8, 0.5, 0.2)]
    assert found == sorted(found) and found[-1] > found[0] + 0.1


@pytest.mark.parametrize("sigma", [2.0, 5.0, 12.0])
def test_noise_is_the_standard_deviation_of_grain(sigma: float) -> None:
    rng = np.random.default_rng(3)
    smooth = np.tile(np.linspace(60, 190, 320), (180, 1))[..., None].repeat(3, axis=2)
    grain = rng.normal(0, sigma, (180, 320, 1))  # the same in all colours: so it is in the luma
    assert of(np.clip(smooth + grain, 0, 255).astype(np.uint8))["noise"] == pytest.approx(sigma, rel=0.08)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.3, 0.7), st.floats(0.3, 0.7), st.integers(0, 2**32 - 1))
def test_lines_meet_where_they_were_drawn_to(x: float, y: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = np.full((360, 640, 3), 120, np.uint8)
    start = np.array([x * 640, y * 360])
    for angle in np.radians([25, 40, 60, 120, 140, 155, 205, 230, 310, 335]) + rng.normal(0, 0.03, 10):
        along = np.array([math.cos(angle), math.sin(angle)])
        ends = [tuple(int(v) for v in np.round((start + far * along) * 16)) for far in (60, 700)]
        cv2.line(image, ends[0], ends[1], (30, 30, 30), 3, cv2.LINE_AA, 4)
    found = of(image)
    assert (found["vanishing_x"], found["vanishing_y"]) == pytest.approx((x, y), abs=0.02)


def test_a_picture_without_slanting_edges_has_no_vanishing_point() -> None:
    for image in (np.full((360, 640, 3), 77, np.uint8), scene(640, 360)[:1, :1]):
        assert math.isnan(of(image)["vanishing_x"]) and math.isnan(of(image)["vanishing_y"])
    stripes = np.zeros((360, 640, 3), np.uint8)
    stripes[::20] = stripes[1::20] = 200
    assert math.isnan(of(stripes)["vanishing_x"])


@pytest.mark.parametrize("turn", [-5.0, 5.0])
def test_a_turned_camera_moves_the_vanishing_point_and_a_nod_moves_it_down(turn: float) -> None:
    by_turn, by_nod = [], []
    for seed in range(6):
        plain = render(seed, 20.0).image
        before = of(plain)
        turned = of(render(seed, 20.0, conditions=Conditions(turn=turn)).image)
        by_turn.append(turned["vanishing_x"] - before["vanishing_x"])
        shifted = cv2.warpAffine(plain, np.array([[1, 0, 0], [0, 1, 36.0]]), (640, 360), None, 1, 1)
        by_nod.append(of(shifted)["vanishing_y"] - before["vanishing_y"])
    assert np.median(by_turn) == pytest.approx(-0.714 * math.tan(math.radians(turn)), abs=0.02)
    assert np.median(by_nod) == pytest.approx(0.1, abs=0.02)


# What the features that stand for an effect must show of it: which way, and by how many deviations at least.
SHOWN = {
    "night": {"brightness": -4, "noise": 8, "haze": -4, "warmth": 2},
    "rain": {"noise": -2, "haze": 2, "sharpness": -1.5, "bright_tail": -1.5},
    "fog": {"noise": -4, "haze": 4, "sharpness": -2.5, "dark_tail": 2},
    "smear": {"noise": -1.5, "haze": 0.7},
    "turn": {"vanishing_x": -4},
    "bright": {"brightness": 4, "clipped_share": 8},
    "dark": {"brightness": -3, "bright_tail": -4},
}


def test_each_effect_moves_the_features_that_stand_for_it() -> None:
    conditions = {
        "night": Conditions(),
        "rain": Conditions(weather="rain"),
        "fog": Conditions(weather="fog"),
        "smear": Conditions(lens="smear"),
        "turn": Conditions(turn=5.0),
        "bright": Conditions(exposure=2.0),
        "dark": Conditions(exposure=-2.0),
    }
    moments = [(seed, 20.0 + 7 * number) for seed in range(8) for number in range(3)]

    def features(kind: str, befalls: Conditions) -> np.ndarray:
        sun = light("night" if kind == "night" else "noon")
        return np.array([extract(render(s, t, sun, conditions=befalls).image, NOTHING) for s, t in moments])

    usual = features("day", Conditions())
    sigma = usual.std(axis=0) + 1e-6
    for kind, befalls in conditions.items():
        shift = dict(zip(NAMES, (features(kind, befalls) - usual).mean(axis=0) / sigma, strict=True))
        for name, least in SHOWN[kind].items():
            assert shift[name] * np.sign(least) >= abs(least), (kind, name, shift[name])
        if kind == "turn":
            others = [
                abs(shift[name])
                for name in set(NAMES) - DETECTIONS - EMBEDDING - {"vanishing_x", "vanishing_y"}
            ]
            assert max(others) < 0.7


def test_the_order_of_the_detections_does_not_matter() -> None:
    rows = boxes((0, 0, 9, 9, 0.9, 1), (5, 5, 30, 40, 0.5, 0), (50, 10, 80, 60, 0.4, 2))
    image = scene(320, 180)
    np.testing.assert_allclose(extract(image, rows), extract(image, rows[[2, 0, 1]]), rtol=1e-6)
