"""Small changes of pictures: what a steady model does not mind, and what an unsteady one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.config import BehaviourConfig, GateConfig
from cloud.datasets import Box, LabeledImage, spread_out
from cloud.pipeline.behaviour import (
    COMPRESSION,
    FLIP,
    KINDS,
    NOISE,
    SHIFT,
    BehaviourFigures,
    behaviour_rules,
    brought_back,
    changed,
    measure_behaviour,
)
from cloud.store.states import VerdictKind
from edge.perception.detector import Detector
from tests import models_factory as factory

CONFIG = BehaviourConfig()
HW = (64, 96)


def holdout(folder: Path, count: int = 8) -> list[LabeledImage]:
    """A red rectangle on each picture; every second by night."""
    images = []
    for number in range(count):
        corners = (10 + number, 10, 50, 40)
        path = folder / f"{number}.jpg"
        path.write_bytes(factory.jpeg(factory.picture(HW, (*corners, "red"))))
        light = {"timeofday": "night" if number % 2 else "daytime"}
        images.append(
            LabeledImage(path.name, path, HW[1], HW[0], (Box(*corners, "red"),), light, f"d{number // 2}")
        )
    return images


def test_a_model_that_sees_the_same_thing_each_time_passes(tmp_path: Path) -> None:
    detector = Detector(factory.loaded(factory.rectangles_model(HW)))
    found = measure_behaviour(detector, holdout(tmp_path), GateConfig())
    assert [(each.kind, each.pictures, each.found) for each in found] == [(kind, 8, 8) for kind in KINDS]
    assert {each.kind for each in found if each.f1 == 1.0} >= {SHIFT, FLIP, NOISE}
    results = behaviour_rules(found)
    assert {result.verdict for result in results} == {VerdictKind.PASS}
    assert [result.slice for result in results] == list(KINDS)


class Unsteady:
    """Sees one thing at the left, whatever is there: on a mirrored picture that is wrong."""

    class_names = ("car",)

    def detect(self, picture: np.ndarray[Any, Any]) -> Any:
        class Found:
            boxes = np.array([[5, 5, 25, 25, 0.9, 0]], np.float32)

        return Found


class Blind(Unsteady):
    def detect(self, picture: np.ndarray[Any, Any]) -> Any:
        class Found:
            boxes = np.zeros((0, 6), np.float32)

        return Found


def test_a_model_that_minds_is_told_which_change(tmp_path: Path) -> None:
    found = measure_behaviour(Unsteady(), holdout(tmp_path), GateConfig())  # type: ignore[arg-type]
    verdicts = {result.slice: result.verdict for result in behaviour_rules(found)}
    assert verdicts[FLIP] is VerdictKind.FAIL and verdicts[NOISE] is VerdictKind.PASS


class LeftMinded(Unsteady):
    """Sees one thing in the middle, unless the left edge is dark."""

    def detect(self, picture: np.ndarray[Any, Any]) -> Any:
        class Found:
            boxes = np.array([[38, 5, 58, 25, 0.9, 0]], np.float32)[: int(picture[:, 0].mean() > 100)]

        return Found


def test_pictures_of_one_drive_are_no_evidence_of_many(tmp_path: Path) -> None:
    """Of two drives one is minded on all of its pictures: another two might both be."""
    images = []
    for number in range(40):
        picture = np.full((*HW, 3), 200, np.uint8)
        picture[:, HW[1] // 2 :] = 0 if number % 2 else 200
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(factory.jpeg(picture))
        images.append(LabeledImage(path.name, path, HW[1], HW[0], (), {}, f"d{number % 2}"))
    found = measure_behaviour(LeftMinded(), images, GateConfig())  # type: ignore[arg-type]
    (flip,) = [each for each in found if each.kind == FLIP]
    assert (flip.low, flip.high) == (0.0, 1.0) and flip.f1 == pytest.approx(2 / 3)
    assert {result.slice: result.verdict for result in behaviour_rules(found)}[FLIP] is (
        VerdictKind.INCONCLUSIVE
    )


def test_where_nothing_is_found_nothing_is_shown(tmp_path: Path) -> None:
    found = measure_behaviour(Blind(), holdout(tmp_path), GateConfig())  # type: ignore[arg-type]
    assert {each.f1 for each in found} == {None}
    assert {result.verdict for result in behaviour_rules(found)} == {VerdictKind.INCONCLUSIVE}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.75, 0.9, VerdictKind.PASS), (0.6, 0.74, VerdictKind.FAIL), (0.7, 0.8, VerdictKind.INCONCLUSIVE)],
)
def test_the_interval_decides(low: float, high: float, verdict: VerdictKind) -> None:
    (result,) = behaviour_rules([BehaviourFigures(SHIFT, 9, 9, (low + high) / 2, low, high, 0.75)])
    assert result.verdict is verdict and result.bound == 0.75 and result.unit == "F1"


@given(st.floats(20, 60), st.floats(10, 40), st.sampled_from([SHIFT, FLIP]))
def test_what_moved_with_its_picture_comes_back_to_its_place(x: float, y: float, kind: str) -> None:
    there = np.array([[x, y, x + 10, y + 10, 0.5, 0]], np.float32)
    moved = there.copy()
    if kind == SHIFT:
        moved[:, [0, 2]] += CONFIG.shift_px
        moved[:, [1, 3]] += CONFIG.shift_px // 2
    else:
        moved[:, [0, 2]] = 96 - there[:, [2, 0]]
    np.testing.assert_allclose(brought_back(moved, kind, CONFIG, 96), there, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_is_small_repeatable_and_leaves_the_picture_alone(kind: str) -> None:
    picture = np.random.default_rng(1).integers(0, 255, (64, 96, 3), np.uint8)
    kept = picture.copy()
    once, again = changed(picture, kind, CONFIG, 3), changed(picture, kind, CONFIG, 3)
    assert (picture == kept).all() and (once == again).all() and once.shape == picture.shape
    assert once.dtype == np.uint8 and (once != picture).any()
    if kind == SHIFT:
        np.testing.assert_array_equal(once[4:, 8:], picture[:-4, :-8])
    if kind in (NOISE, COMPRESSION):
        plain = np.full((64, 96, 3), 120, np.uint8)
        assert np.abs(changed(plain, kind, CONFIG, 3).astype(int) - 120).mean() < 5


def test_pictures_are_of_all_slices_and_of_many_drives() -> None:
    images = [
        LabeledImage(f"{n}.jpg", None, 9, 9, (), {"timeofday": "night" if n < 3 else "daytime"}, f"d{n % 5}")
        for n in range(40)
    ]
    chosen = spread_out(images, 8, "timeofday")
    assert [image.attributes["timeofday"] for image in chosen].count("night") == 3
    assert len({image.drive for image in chosen if image.attributes["timeofday"] == "daytime"}) == 5
    assert chosen == spread_out(images[::-1], 8, "timeofday")
