from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.perception.detector import Detector, DetectorOptions
from edge.perception.golden import TOLERANCES, Tolerance, compare, verify
from edge.perception.metadata import GoldenFrame
from tests import models_factory as factory

NAMES = ("a", "b")
TOLERANCE = Tolerance(iou=0.9, score=0.05)
CLEAR = 0.3
OPEN = 0.6


def rows(*items) -> np.ndarray:
    return np.array(items, np.float32).reshape(-1, 6)


def report(expected, found, open_overlap=OPEN):
    return compare(rows(*expected), rows(*found), TOLERANCE, CLEAR, open_overlap, NAMES)


BOX = (10, 10, 50, 50, 0.8, 0)


def moved(box, by=0.0, score=0.0, label=None):
    x1, y1, x2, y2, own, own_label = box
    return (x1 + by, y1, x2 + by, y2, own + score, own_label if label is None else label)


def test_the_same_passes():
    assert report([BOX, moved(BOX, 60)], [moved(BOX, 60), BOX]).passed


@pytest.mark.parametrize("found", [moved(BOX, 1), moved(BOX, 0, 0.04), moved(BOX, 1, -0.04)])
def test_a_little_off_passes(found):
    result = report([BOX], [found])

    assert result.passed
    assert result.least_iou == pytest.approx(39 / 41 if found[0] == 11 else 1)
    assert result.greatest_score_difference == pytest.approx(abs(found[4] - 0.8), abs=1e-6)


@pytest.mark.parametrize(
    "found", [moved(BOX, 4), moved(BOX, 0, 0.1), moved(BOX, 0, -0.1), moved(BOX, 0, 0, label=1)]
)
def test_another_place_score_or_class_fails_on_both_sides(found):
    result = report([BOX], [found])

    assert not result.passed
    assert len(result.missing) == 1 and len(result.extra) == 1
    assert result.missing[0] == "a 0.80 at (10, 10, 50, 50)"


def test_a_confident_detection_more_or_less_fails():
    assert report([BOX], []).missing
    assert report([], [BOX]).extra


def test_detections_near_the_threshold_may_come_and_go():
    faint = (60, 60, 90, 90, 0.28, 1)

    assert report([BOX, faint], [BOX]).passed
    assert report([BOX], [BOX, faint]).passed


def test_one_detection_cannot_stand_for_two():
    twin = moved(BOX, 1)

    assert len(report([BOX, twin], [BOX], open_overlap=1.0).missing) == 1
    assert len(report([BOX], [BOX, twin], open_overlap=1.0).extra) == 1


def test_of_two_overlapping_boxes_either_may_have_been_suppressed():
    neighbour = moved(BOX, 8)  # IoU 2/3 with the box itself

    assert report([BOX, neighbour], [BOX]).passed
    assert report([BOX], [BOX, neighbour]).passed
    # But not in place of it: nothing that both have explains the difference.
    assert not report([BOX], [neighbour]).passed
    assert not report([BOX, moved(neighbour, label=1)], [BOX]).passed


boxes = st.tuples(
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(0.25, 1, width=32),
    st.integers(0, 1),
).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3], b[4], b[5]))


@settings(deadline=None)
@given(st.lists(boxes, max_size=12), st.randoms())
def test_anything_matches_itself_in_any_order(items, random):
    shuffled = list(items)
    random.shuffle(shuffled)

    assert report(items, shuffled).passed


def loaded(**fields):
    model = factory.loaded(factory.rectangles_model(**fields))
    return model, Detector(model, DetectorOptions(threads=1))


@pytest.mark.parametrize("layout", ["raw", "nms_free"])
def test_a_model_passes_its_own_golden_frames(layout):
    result = verify(*loaded(layout=layout))

    assert result.passed and result.reason == ""
    assert result.confident == 2 and len(result.frames) == 1
    assert result.to_json()["passed"] is True and "ok" in result.to_text()


def test_a_model_that_finds_something_else_fails_and_says_what():
    golden = factory.golden_frame()
    wrong = golden.detections.copy()
    wrong[0, 5] = 1

    result = verify(*loaded(golden=(GoldenFrame(golden.jpeg, wrong),)))

    assert not result.passed
    assert "1 of 1 golden frames failed; frame 0: not found: green 0.90" in result.reason
    assert "unexpected: red 0.90" in result.reason and "FAILED" in result.to_text()
    assert result.to_json()["frames"][0]["missing"]


def test_without_golden_frames_nothing_is_verified():
    assert "no golden frames" in verify(*loaded(golden=())).reason


def test_golden_frames_that_expect_nothing_verify_nothing():
    nothing = GoldenFrame(factory.jpeg(factory.picture((64, 96))), rows())

    assert "expects a detection clear of the threshold" in verify(*loaded(golden=(nothing,))).reason


def test_a_frame_that_cannot_be_inferred_fails():
    bad = [20, 20, 10, 10, float("nan")]
    model = factory.loaded(factory.constant_model([bad], class_names=("a",), golden=(factory_golden(),)))

    result = verify(model, Detector(model, DetectorOptions(threads=1)))

    assert not result.passed and "not finite" in result.reason


def factory_golden() -> GoldenFrame:
    golden = factory.golden_frame()
    detections = golden.detections.copy()
    detections[:, 5] = 0
    return GoldenFrame(golden.jpeg, detections)


def test_only_the_model_itself_at_its_own_thresholds_can_be_verified():
    model, _ = loaded()
    for options in (DetectorOptions(score_threshold=0.5), DetectorOptions(multi_label=True)):
        with pytest.raises(ValueError, match="own thresholds"):
            verify(model, Detector(model, options))
    other, detector = loaded(name="other")
    assert other.digest != model.digest
    with pytest.raises(ValueError, match="own model"):
        verify(model, detector)


def test_every_precision_has_its_tolerance():
    base = factory.metadata()
    for precision in ("fp32", "fp16", "bf16", "int8"):
        assert TOLERANCES[replace(base, precision=precision).precision].score > 0
