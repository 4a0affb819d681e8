from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.drift.features import FEATURES, NAMES, ORIGINS, extract
from edge.drift.state import Origin
from tools.drives.render import render

NOTHING = np.zeros((0, 6), np.float32)
DETECTIONS = {name for name, origin in zip(NAMES, ORIGINS, strict=True) if origin is Origin.DETECTIONS}


def of(image: np.ndarray, boxes: np.ndarray = NOTHING) -> dict[str, float]:
    return dict(zip(NAMES, extract(image, boxes).tolist(), strict=True))


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


def test_without_detections_only_their_count_is_to_be_had() -> None:
    found = of(scene(640, 360))
    assert found["count"] == 0
    assert {name for name, value in found.items() if math.isnan(value)} == DETECTIONS - {"count"}


def test_the_features_of_detections_are_means_over_them() -> None:
    found = of(np.zeros((100, 200, 3), np.uint8), boxes((0, 0, 100, 100, 0.9, 1), (0, 50, 50, 100, 0.3, 0)))
    assert found["count"] == 2
    assert found["mean_confidence"] == pytest.approx(0.6)
    assert found["low_confidence_share"] == 0.5
    assert found["mean_size"] == pytest.approx((math.sqrt(0.5) + math.sqrt(0.125)) / 2)
    assert found["mean_height"] == pytest.approx((0.5 + 0.75) / 2)
    assert found["class_diversity"] == pytest.approx(0.5)


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


@pytest.mark.parametrize("size", [(640, 360), (1280, 720), (960, 540), (400, 225)])
def test_the_resolution_does_not_matter(size: tuple[int, int]) -> None:
    reference = of(scene(1920, 1080))
    for name, value in of(scene(*size)).items():
        if name not in DETECTIONS:
            assert value == pytest.approx(reference[name], rel=0.06), name


def test_neither_does_the_quality_of_a_jpeg_within_reason() -> None:
    image = scene(1280, 720)
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
    before, after = of(image), of(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    for name in ("brightness", "contrast", "dark_tail", "bright_tail", "colourfulness", "sharpness"):
        assert after[name] == pytest.approx(before[name], rel=0.06), name


def test_a_blurred_picture_is_less_sharp_and_a_dimmed_one_is_not() -> None:
    image = cv2.GaussianBlur(scene(1280, 720), (0, 0), 1)
    sharp = of(image)["sharpness"]
    assert of(cv2.GaussianBlur(image, (0, 0), 12))["sharpness"] < 0.7 * sharp
    assert of((image * 0.5).astype(np.uint8))["sharpness"] == pytest.approx(sharp, rel=0.1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(0, 5), st.integers(0, 2**32 - 1), st.booleans())
def test_any_picture_gives_values_in_their_ranges(
    height: int, width: int, count: int, seed: int, extreme: bool
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    if extreme:
        image = np.where(image > 127, np.uint8(255), np.uint8(0))
    corners = np.sort(rng.random((count, 2, 2)), axis=1).reshape(count, 4) * np.tile([width, height], 2)
    found = extract(image, np.column_stack([corners, rng.random(count), np.arange(count) % 3]).astype("f4"))
    assert found.dtype == np.float32
    for feature, value in zip(FEATURES, found, strict=True):
        assert math.isnan(value) or feature.least <= value <= feature.most, feature.name


def test_the_order_of_the_detections_does_not_matter() -> None:
    rows = boxes((0, 0, 9, 9, 0.9, 1), (5, 5, 30, 40, 0.5, 0), (50, 10, 80, 60, 0.4, 2))
    image = scene(320, 180)
    np.testing.assert_allclose(extract(image, rows), extract(image, rows[[2, 0, 1]]), rtol=1e-6)
