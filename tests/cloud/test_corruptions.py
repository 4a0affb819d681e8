"""Pictures made worse: by steps, the same by the same seed, and nothing else touched."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.pipeline.corruptions import KINDS, SEVERITIES, corrupted

kinds = st.sampled_from(KINDS)
severities = st.sampled_from(SEVERITIES)


@lru_cache
def street(width: int = 320, height: int = 180) -> npt.NDArray[np.uint8]:
    """Something with an even ground, edges, texture and a light."""
    rng = np.random.default_rng(0)
    image = np.full((height, width, 3), (150, 140, 130), np.uint8)
    image[height // 2 :] = 90
    for _ in range(12):
        x, y = int(rng.integers(width)), int(rng.integers(height // 3, height))
        colour = rng.integers(0, 256, 3).tolist()
        cv2.rectangle(image, (x, y), (x + width // 8, y + height // 6), colour, -1)
    image[:20, :20] = 255
    texture = rng.normal(0, 4, image.shape)
    return np.clip(image + texture, 0, 255).astype(np.uint8)


def off(kind: str, severity: int) -> float:
    picture = street(960, 540)
    return float(np.abs(corrupted(picture, kind, severity, (7,)).astype(float) - picture).mean())


@settings(deadline=None, max_examples=60)
@given(
    kind=kinds,
    severity=severities,
    seed=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3),
    height=st.integers(1, 90),
    width=st.integers(1, 120),
)
def test_any_picture_stays_one_of_its_size_and_comes_out_the_same_again(
    kind: str, severity: int, seed: list[int], height: int, width: int
) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = picture.copy()
    made = corrupted(picture, kind, severity, seed)
    assert (made.shape, made.dtype) == (picture.shape, np.uint8)
    np.testing.assert_array_equal(made, corrupted(picture, kind, severity, seed))
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("kind", KINDS)
def test_each_step_makes_it_worse(kind: str) -> None:
    steps = [off(kind, severity) for severity in SEVERITIES]
    assert steps[0] > 1.0
    assert steps == sorted(steps) and len(set(steps)) == len(steps)


@pytest.mark.parametrize("kind", ["noise", "rain"])
def test_what_is_left_to_chance_goes_by_the_seed(kind: str) -> None:
    one, other = (corrupted(street(), kind, 3, (seed,)) for seed in (1, 2))
    assert (one != other).mean() > 0.01


def luma(picture: npt.NDArray[np.uint8]) -> float:
    return float(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).mean())


def sharpness(picture: npt.NDArray[np.uint8]) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.CV_64F).std())


def test_each_kind_is_what_it_is_called() -> None:
    picture, plain = street(), luma(street())
    made = {kind: corrupted(picture, kind, 3) for kind in KINDS}
    # Three stops in light of gamma 2.2.
    assert made["underexposure"][0, 0] == pytest.approx(picture[0, 0] * 2 ** (-3 / 2.2), abs=1)
    assert luma(made["overexposure"]) > 1.5 * plain
    assert sharpness(made["blur"]) < 0.5 * sharpness(picture)
    assert sharpness(made["noise"]) > 2 * sharpness(picture)
    assert made["contrast"].std() == pytest.approx(0.25 * picture.std(), rel=0.05)
    assert luma(made["contrast"]) == pytest.approx(plain, abs=1)
    assert made["rain"].std() < picture.std()
    blocks = np.abs(np.diff(made["jpeg"].astype(float), axis=1)).mean(axis=(0, 2))
    # At the edges of blocks of 16 pixels the picture jumps.
    assert blocks[15::16].mean() > 1.3 * blocks.mean()


def test_a_larger_picture_is_made_as_bad() -> None:
    large = cv2.resize(street(), (960, 540), interpolation=cv2.INTER_LINEAR)
    small = corrupted(street(), "blur", 4).astype(float)
    made = corrupted(np.asarray(large, np.uint8), "blur", 4)
    again = cv2.resize(made, (320, 180), interpolation=cv2.INTER_AREA)
    assert np.abs(small - again).mean() < 0.3 * off("blur", 4)


@pytest.mark.parametrize(("kind", "severity"), [("snow", 1), ("rain", 0), ("rain", 6)])
def test_what_there_is_not_is_named(kind: str, severity: int) -> None:
    with pytest.raises(ValueError, match=f"{kind}.*severity {severity}; there are underexposure"):
        corrupted(street(), kind, severity)
