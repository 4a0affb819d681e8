from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.perception.nms import suppress


def plain(xyxy, scores, classes, threshold, most):
    """The definition, box by box."""
    kept = []
    for index in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if all(
            classes[index] != classes[other] or iou(xyxy[index], xyxy[other]) <= threshold for other in kept
        ):
            kept.append(index)
    return kept[:most]


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inside = width * height
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def arrays(boxes):
    xyxy = np.array([[x, y, x + w, y + h] for x, y, w, h, _, _ in boxes], np.float32).reshape(-1, 4)
    scores = np.array([score for *_, score, _ in boxes], np.float32)
    classes = np.array([label for *_, label in boxes], np.int64)
    return xyxy, scores, classes


# Whole pixels and a threshold that no ratio of such small areas comes near: rounding decides nothing.
THRESHOLD = 0.4501237
boxes = st.tuples(
    st.integers(-40, 60),
    st.integers(-40, 60),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 20).map(lambda n: n / 20),
    st.integers(0, 3),
)


@settings(deadline=None)
@given(st.lists(boxes, max_size=40), st.integers(1, 50))
def test_keeps_what_the_definition_keeps(items, most):
    xyxy, scores, classes = arrays(items)

    kept = suppress(xyxy, scores, classes, THRESHOLD, most)

    assert kept.tolist() == plain(xyxy.tolist(), scores.tolist(), classes.tolist(), THRESHOLD, most)


def test_boxes_left_of_the_picture_do_not_meet_another_class():
    # A class offset made from the largest coordinate alone would lay these two on each other.
    xyxy = np.array([[0, 0, 99, 10], [-101, 0, -2, 10]], np.float32)

    assert suppress(xyxy, np.array([0.9, 0.8], np.float32), np.array([0, 1]), 0.5, 10).tolist() == [0, 1]


def test_many_candidates_give_the_same_as_the_definition():
    random = np.random.default_rng(3)
    corner = random.integers(0, 300, (3000, 2))
    xyxy = np.hstack([corner, corner + random.integers(20, 60, (3000, 2))]).astype(np.float32)
    scores = random.permutation(3000).astype(np.float32) / 3000 + 0.001
    classes = random.integers(0, 2, 3000)
    expected = plain(xyxy.tolist(), scores.tolist(), classes.tolist(), THRESHOLD, 3000)
    assert len(expected) > 200

    assert suppress(xyxy, scores, classes, THRESHOLD, 3000).tolist() == expected
    assert suppress(xyxy, scores, classes, THRESHOLD, 100).tolist() == expected[:100]


def test_nothing_gives_nothing():
    empty = np.empty((0, 4), np.float32)

    assert suppress(empty, np.empty(0, np.float32), np.empty(0, np.int64), 0.5, 10).shape == (0,)
