from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.replay.annotate import Style, annotate, broken, class_colour
from tools.replay.video import fitted

coordinates = st.floats(-50, 500, width=32)
rows = st.tuples(coordinates, coordinates, coordinates, coordinates, st.floats(0, 1), st.integers(0, 2))


@settings(max_examples=40, deadline=None)
@given(st.lists(rows, max_size=12), st.integers(1, 300), st.integers(1, 300), st.text(max_size=80))
def test_any_boxes_on_any_picture_can_be_drawn(
    boxes: list[tuple[float, ...]], height: int, width: int, caption: str
) -> None:
    image = np.full((height, width, 3), 90, np.uint8)
    found = np.array(boxes, np.float32).reshape(-1, 6)
    drawn = annotate(image, found, ["one", "two", "three"], caption)
    assert drawn.shape == image.shape
    assert (image == 90).all(), "the frame itself is untouched"


def test_labels_of_boxes_on_top_of_each_other_do_not_cover_each_other() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    boxes = np.array([[100, 100, 160, 160, 0.9, 0], [102, 100, 162, 160, 0.8, 1]], np.float32)
    both = annotate(image, boxes, ["one", "two"], "")
    for index in (0, 1):
        alone = annotate(image, boxes[index : index + 1], ["one", "two"], "")
        colour = (alone == class_colour(index)).all(axis=2)
        filled = [y for y in range(240) if colour[y].sum() > 40 and not 98 <= y <= 162]
        assert ((both == class_colour(0)) | (both == class_colour(1))).all(axis=2)[filled].any()
    above, below = both[80:98].max(axis=(0, 1)), both[164:180].max(axis=(0, 1))
    assert tuple(above) == class_colour(0)
    assert tuple(below) == class_colour(1)


def test_neighbouring_classes_have_different_colours() -> None:
    colours = [class_colour(index) for index in range(12)]
    distances = [np.abs(np.subtract(a, b)).max() for i, a in enumerate(colours) for b in colours[:i]]
    assert min(distances) > 30


@pytest.mark.parametrize(("small", "large"), [((360, 640), (1080, 1920)), ((720, 1280), (2160, 3840))])
def test_sizes_grow_with_the_picture(small: tuple[int, int], large: tuple[int, int]) -> None:
    one, other = Style.for_picture(*small), Style.for_picture(*large)
    assert one.line < other.line
    assert one.text < other.text


def test_a_broken_frame_is_dark() -> None:
    image = np.full((96, 160, 3), 240, np.uint8)
    assert broken(image, "frame 3")[:40].max() <= 80
    assert (image == 240).all()


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 100), st.integers(1, 100))
def test_a_fitted_picture_has_the_asked_size_and_keeps_its_aspect(
    height: int, width: int, half_height: int, half_width: int
) -> None:
    size = (2 * half_width, 2 * half_height)
    result = fitted(np.full((height, width, 3), 255, np.uint8), size)
    assert result.shape == (size[1], size[0], 3)
    ys, xs = np.nonzero(result[..., 0])
    own_height, own_width = np.ptp(ys) + 1, np.ptp(xs) + 1
    scale = min(size[0] / width, size[1] / height)
    assert own_height == pytest.approx(height * scale, abs=1)
    assert own_width == pytest.approx(width * scale, abs=1)
