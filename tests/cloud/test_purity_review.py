"""Doubtful labels, ObjectLab's scores, and how far two sources agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.datasets import Box, LabeledImage
from cloud.pipeline.purity.agreement import agreement
from cloud.pipeline.purity.objectlab import SURE, objectlab, overlap, similarity
from cloud.pipeline.purity.placing import PRIOR, place_log_odds, probability, shapes, support_log_odds
from cloud.pipeline.purity.review import Doubt, DoubtRules, review

NAMES = ("person", "car")
CORNERS = st.tuples(*[st.floats(0, 50)] * 2, *[st.floats(51, 100)] * 2)


def image(name: str, *boxes: Box) -> LabeledImage:
    return LabeledImage(name, None, 1280, 720, boxes, {}, name)


def found(*rows: tuple[float, float, float, float, float, int]) -> npt.NDArray[np.float32]:
    return np.array(rows, np.float32).reshape(-1, 6)


def boxes(*corners: Sequence[float]) -> npt.NDArray[np.float64]:
    return np.array(corners, np.float64).reshape(-1, 4)


@given(st.lists(CORNERS, max_size=4), st.lists(CORNERS, max_size=4))
def test_overlap_is_what_its_definition_says(first: list[list[float]], second: list[list[float]]) -> None:
    def one(a: Sequence[float], b: Sequence[float]) -> float:
        wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
        high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
        return wide * high / (sum(areas) - wide * high)

    expected = np.array([[one(a, b) for b in second] for a in first]).reshape(len(first), len(second))
    assert overlap(boxes(*first), boxes(*second)) == pytest.approx(expected)


def test_objectlab_sees_a_missing_a_misplaced_and_a_swapped_label() -> None:
    here, there, third = (0, 0, 40, 40), (300, 300, 360, 360), (600, 0, 650, 50)
    seen = boxes(here, there, third)
    sureness = np.array([0.97, 0.98, 0.99])
    classes = np.array([0, 1, 1])
    right = objectlab(seen, classes, seen, classes, sureness)
    assert right.quality == pytest.approx(1.0)

    missing = objectlab(seen[:2], classes[:2], seen, classes, sureness)
    assert np.argmin(missing.overlooked) == 2 and missing.overlooked[2] < 0.1
    assert missing.located == pytest.approx([1, 1])

    moved = boxes(here, (320, 320, 380, 380), third)
    misplaced = objectlab(moved, classes, seen, classes, sureness)
    assert np.argmin(misplaced.located) == 1
    assert misplaced.located[1] == pytest.approx(similarity(moved, seen)[1, 1])

    wrong = objectlab(seen, np.array([1, 1, 1]), seen, classes, sureness)
    assert np.argmin(wrong.swapped) == 0 and wrong.swapped[0] < 0.01
    assert max(part.quality for part in (missing, misplaced, wrong)) < 0.9 < right.quality


def test_objectlab_hears_only_a_sure_model_and_takes_pictures_without_either() -> None:
    here = boxes((0, 0, 40, 40))
    unsure = objectlab(boxes(), np.zeros(0, np.int64), here, np.array([0]), np.array([SURE - 0.01]))
    assert np.isnan(unsure.overlooked).all() and unsure.quality == 1.0
    alone = objectlab(here, np.array([0]), boxes(), np.zeros(0, np.int64), np.zeros(0))
    assert (alone.located.tolist(), alone.swapped.tolist(), alone.quality) == ([1.0], [1.0], 1.0)


RULES = DoubtRules(chance=0.2, rarity=0.15)


def crowd_of_pictures() -> tuple[list[LabeledImage], list[npt.NDArray[np.float32]]]:
    """Near cars that the model sees, far people that it does not, and signs that it does not know."""
    images, seen = [], []
    rng = np.random.default_rng(1)
    for number in range(60):
        x, y, far, up = rng.uniform((50, 280, 500, 60), (900, 420, 1200, 200)).tolist()
        near = Box(x, y, x + 200, y + 150, "car")
        walker = Box(far, 350, far + 6, 364, "pedestrian")
        sign = Box(far, up, far + 60, up + 60, "traffic sign")
        images.append(image(f"{number}.jpg", near, walker, sign))
        seen.append(found((x + 2, y, x + 200, y + 152, 0.9, 1)))
    return images, seen


def test_what_the_model_mostly_does_not_see_is_not_doubtful() -> None:
    images, seen = crowd_of_pictures()
    clean = review(images, seen, NAMES, RULES)
    assert clean.doubtful == ()
    assert (clean.boxes, clean.classes) == (180, ("car", "pedestrian"))


def test_the_wrong_boxes_are_the_doubtful_ones() -> None:
    images, seen = crowd_of_pictures()
    images[7] = image("7.jpg", Box(1000, 40, 1200, 190, "car"), *images[7].boxes[1:])
    images[9] = image("9.jpg", replace(images[9].boxes[0], category="pedestrian"), *images[9].boxes[1:])
    images[11] = image("11.jpg", *images[11].boxes[1:])
    # Most people are seen, so that it is rare for one to be seen as a car.
    for number in range(20, 60):
        images[number] = image(f"{number}.jpg", *images[number].boxes, Box(10, 500, 70, 650, "pedestrian"))
        seen[number] = np.vstack([seen[number], found((10, 500, 70, 650, 0.9, 0))])
    doubtful = review(images, seen, NAMES, RULES).doubtful
    assert {(one.image, one.doubt, one.box) for one in doubtful} == {
        (7, Doubt.LOCATED, 0),
        (7, Doubt.OVERLOOKED, None),
        (9, Doubt.SWAPPED, 0),
        (11, Doubt.OVERLOOKED, None),
    }
    texts = [one.to_text() for one in doubtful if one.image in (7, 9)]
    assert any("badly located: car, nothing seen there" in text for text in texts)
    assert any("of another class: pedestrian, a car seen with 0.90" in text for text in texts)


def test_a_box_of_another_ones_shape_is_doubted_where_the_model_tells_nothing() -> None:
    images, _ = crowd_of_pictures()
    images[5] = image("5.jpg", Box(600, 60, 660, 120, "car"), *images[5].boxes[1:])
    places = np.concatenate(
        [shapes(boxes(*((b.x1, b.y1, b.x2, b.y2) for b in one.boxes)), 1280, 720) for one in images]
    )
    classes = np.tile([0, 1, 2], 60)
    odds = place_log_odds(places, classes)
    assert np.argmax(odds) == 15 and odds[15] > 0.3
    assert probability(np.zeros(1))[0] == pytest.approx(PRIOR)
    assert place_log_odds(places[:1], classes[:1]).tolist() == [0.0]


def test_labels_in_the_very_same_place_do_not_count_for_less_than_nothing() -> None:
    """More than are asked for as neighbours: a label's own place may not be among them."""
    places = np.zeros((40, 4))
    classes = np.array([0] * 38 + [1, 1])
    assert np.abs(place_log_odds(places, classes)).max() < 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_more_for_a_label_never_makes_it_likelier_to_be_wrong_than_chance_allows(
    seed: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    support, wrong = rng.uniform(0.3, 1, count), np.zeros(count)
    sizes, classes = rng.integers(0, 4, count), rng.integers(0, 3, count)
    odds = support_log_odds(support, sizes, classes, wrong, rng.permutation(sizes))
    # What wrong labels never have speaks for a label, and all is finite.
    assert np.isfinite(odds).all() and (odds < 0).all()


def test_crowds_and_unsure_labels_excuse_detections_and_are_not_doubted() -> None:
    images, seen = crowd_of_pictures()
    car, *others = images[5].boxes
    images[5] = image(
        "5.jpg", replace(car, category="other vehicle"), Box(0, 0, 50, 50, "car", crowd=True), *others
    )
    assert review(images, seen, NAMES, RULES).doubtful == ()


def test_a_model_that_sees_nothing_accuses_nobody() -> None:
    images, _ = crowd_of_pictures()
    assert review(images, [found()] * len(images), NAMES, RULES).doubtful == ()
    assert review([], [], NAMES, RULES).boxes == 0
    assert review([image("a")], [found()], NAMES, RULES).doubtful == ()


A, B = Box(0, 0, 10, 10, "car"), Box(50, 50, 60, 60, "bus")


def test_a_source_agrees_with_itself() -> None:
    images = [image("a", A, B), image("b"), image("c", A)]
    same = agreement("one", images, "two", images, 0.5)
    assert (same.pictures, same.pairs, same.boxes, same.disagreements) == (3, 3, 3, ())
    assert (same.mean_iou, same.kappa, same.whole.f1) == (1.0, 1.0, 1.0)


def test_differences_are_counted_by_class_and_told() -> None:
    first = [image("a", A, B), image("b", A), image("only here", A)]
    second = [image("a", Box(1, 0, 11, 10, "truck"), B), image("b", B)]
    both = agreement("people", first, "teacher", second, 0.5)
    assert (both.pictures, both.pairs, both.same_class, both.boxes) == (2, 2, 1, 4)
    assert {name: (one.both, one.first_only, one.second_only) for name, one in both.classes.items()} == {
        "bus": (1, 0, 1),
        "car": (0, 2, 0),
        "truck": (0, 0, 1),
    }
    assert [one.to_text("people", "teacher") for one in both.disagreements] == [
        "people says car, teacher says truck",
        "people has a car, teacher has nothing there",
        "teacher has a bus, people has nothing there",
    ]
    assert both.whole.f1 == pytest.approx(2 / 6)
    assert both.to_json()["kappa"] == pytest.approx((0.5 - 0.25) / 0.75, abs=1e-4)


def test_boxes_are_paired_for_the_most_overlap_and_only_one_to_one() -> None:
    first = [image("a", Box(0, 0, 10, 10, "car"), Box(0, 0, 10, 16, "car"))]
    second = [image("a", Box(0, 0, 10, 12, "car"))]
    one = agreement("one", first, "two", second, 0.5)
    assert (one.pairs, one.mean_iou) == (1, pytest.approx(10 / 12))
    nothing = agreement("one", first, "two", [image("b", A)], 0.5)
    assert (nothing.pictures, nothing.to_json()["mean_iou"], nothing.whole.f1) == (0, None, 1.0)
