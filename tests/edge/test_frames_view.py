from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.frames.frame import Frame
from edge.frames.view import MASK_GREY, View, mask_pixels, region_pixels

share = st.floats(0, 1, allow_nan=False)
sides = st.integers(1, 200)


@st.composite
def regions(draw: st.DrawFn) -> tuple[float, float, float, float]:
    x, y = draw(st.floats(0, 0.99)), draw(st.floats(0, 0.99))
    return x, y, draw(st.floats(0.001, 1 - x)), draw(st.floats(0.001, 1 - y))


@given(regions(), sides, sides)
def test_a_region_is_never_empty_and_never_outside(
    region: tuple[float, float, float, float], height: int, width: int
) -> None:
    x1, y1, x2, y2 = region_pixels(region, height, width)
    assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
    x, y, w, h = region
    assert abs(x1 - x * width) <= 1.5 and abs(x2 - (x + w) * width) <= 1.5
    assert abs(y1 - y * height) <= 1.5 and abs(y2 - (y + h) * height) <= 1.5


@given(regions(), sides, sides, st.data())
def test_boxes_in_the_region_lie_on_the_same_pixels_of_the_whole(
    region: tuple[float, float, float, float], height: int, width: int, data: st.DataObject
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    frame = View(region, ()).apply(Frame("front", 0, 0, 0, image))
    part_height, part_width = frame.part.shape[:2]
    x1 = data.draw(st.integers(0, part_width - 1))
    y1 = data.draw(st.integers(0, part_height - 1))
    x2 = data.draw(st.integers(x1 + 1, part_width))
    y2 = data.draw(st.integers(y1 + 1, part_height))
    boxes = np.array([[x1, y1, x2, y2, 0.5, 3]], np.float32)
    whole = frame.to_whole(boxes)
    left, top, right, bottom = whole[0, :4].astype(int)
    assert np.array_equal(frame.image[top:bottom, left:right], frame.part[y1:y2, x1:x2])
    assert np.array_equal(whole[:, 4:], boxes[:, 4:])
    assert np.array_equal(frame.to_part(whole), boxes)


polygons = st.lists(st.lists(st.tuples(share, share), min_size=3, max_size=6), min_size=1, max_size=3)


@given(polygons, sides, sides)
def test_a_mask_covers_its_polygons_and_nothing_beyond_a_pixel_of_them(
    mask: list[list[tuple[float, float]]], height: int, width: int
) -> None:
    image = np.random.default_rng(2).integers(0, 100, (height, width, 3), np.uint8)
    painted = View(None, mask).apply(Frame("front", 0, 0, 0, image.copy())).image
    covered = mask_pixels(mask, height, width) > 0
    assert (painted[covered] == MASK_GREY).all()
    assert np.array_equal(painted[~covered], image[~covered])
    for y, x in np.argwhere(covered)[:: max(1, covered.sum() // 20)]:
        corners = [np.asarray(one, np.float32) * (width - 1, height - 1) for one in mask]
        distances = [
            cv2.pointPolygonTest(np.asarray(one, np.float32).reshape(-1, 1, 2), (float(x), float(y)), True)
            for one in corners
        ]
        # Beyond a self-intersecting polygon's winding, a pixel that is filled lies in its convex hull.
        hulls = [
            cv2.pointPolygonTest(
                cv2.convexHull(np.asarray(one, np.float32).reshape(-1, 1, 2)), (float(x), float(y)), True
            )
            for one in corners
        ]
        assert max(*distances, *hulls) >= -1.5


def test_a_view_follows_the_pictures_size_and_leaves_what_is_read_only() -> None:
    view = View((0.5, 0.5, 0.5, 0.5), [[(0, 0.9), (1, 0.9), (1, 1), (0, 1)]])
    for height, width in ((100, 200), (50, 60), (100, 200)):
        image = np.zeros((height, width, 3), np.uint8)
        image.flags.writeable = False
        frame = view.apply(Frame("front", 0, 0, 0, image))
        assert not image.any() and frame.image[-1].min() == MASK_GREY and not frame.image[0].any()
        assert frame.part.shape == (height // 2, width // 2, 3)


def test_without_region_and_mask_a_frame_stays_itself() -> None:
    frame = Frame("front", 0, 0, 0, np.zeros((4, 4, 3), np.uint8))
    boxes = np.zeros((1, 6), np.float32)
    assert View(None, ()).apply(frame) is frame
    assert frame.part is frame.image and frame.to_whole(boxes) is boxes and frame.to_part(boxes) is boxes
