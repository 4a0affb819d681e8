from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.perception.letterbox import PAD, Letterbox
from tests.extras import needs_ultralytics

sides = st.integers(1, 3000)
input_sides = st.integers(1, 40).map(lambda count: 32 * count)


@settings(deadline=None)
@given(st.tuples(sides, sides), st.tuples(input_sides, input_sides))
def test_fills_the_limiting_side_and_stays_inside(frame_hw, input_hw):
    box = Letterbox.between(frame_hw, input_hw)

    assert 1 <= box.resized_hw[0] <= input_hw[0] and 1 <= box.resized_hw[1] <= input_hw[1]
    assert box.resized_hw[0] == input_hw[0] or box.resized_hw[1] == input_hw[1]
    assert abs(2 * box.top - (input_hw[0] - box.resized_hw[0])) <= 1
    assert abs(2 * box.left - (input_hw[1] - box.resized_hw[1])) <= 1


@settings(deadline=None)
@given(st.tuples(sides, sides), st.tuples(input_sides, input_sides))
def test_takes_the_resized_area_back_to_the_whole_frame(frame_hw, input_hw):
    box = Letterbox.between(frame_hw, input_hw)
    (height, width), (top, left) = box.resized_hw, (box.top, box.left)
    area = np.array([[left, top, left + width, top + height]], np.float32)
    middle = np.array([[left + width / 2, top + height / 2] * 2], np.float32)

    assert box.boxes_to_frame(area) == pytest.approx(np.array([[0, 0, frame_hw[1], frame_hw[0]]]), abs=0.01)
    expected = np.array([[frame_hw[1] / 2, frame_hw[0] / 2] * 2])
    assert box.boxes_to_frame(middle) == pytest.approx(expected, abs=0.01)


def test_clips_boxes_to_the_frame():
    box = Letterbox.between((360, 640), (640, 640))

    around = box.boxes_to_frame(np.array([[-50, -50, 900, 900]], np.float32))

    assert around.tolist() == [[0, 0, 640, 360]]
    assert around.dtype == np.float32


@pytest.mark.parametrize("frame_hw", [(48, 64), (100, 333), (64, 64), (1, 500), (33, 31)])
def test_writes_every_pixel_of_the_output(frame_hw):
    box = Letterbox.between(frame_hw, (64, 96))
    image = np.random.default_rng(1).integers(0, 100, (*frame_hw, 3), np.uint8)
    before = np.full((64, 96, 3), 255, np.uint8)

    out = box.apply(image, before)

    assert out is before and out.max() <= PAD
    (height, width), (top, left) = box.resized_hw, (box.top, box.left)
    outside = np.ones((64, 96), bool)
    outside[top : top + height, left : left + width] = False
    assert (out[outside] == PAD).all()
    assert out[~outside].max() < 100


def test_a_frame_without_pixels_has_no_letterbox():
    with pytest.raises(ValueError, match="no letterbox"):
        Letterbox.between((0, 640), (640, 640))


@needs_ultralytics
@pytest.mark.parametrize(
    "frame_hw",
    [(720, 1280), (1080, 1920), (717, 1279), (333, 500), (500, 333), (96, 96), (37, 91), (641, 640)],
)
def test_gives_the_very_picture_of_ultralytics_validation(frame_hw, tmp_path):
    from cloud.pipeline.ultralytics_boundary import import_ultralytics

    import_ultralytics()
    from ultralytics.data.augment import LetterBox
    from ultralytics.data.base import BaseDataset

    image = cv2.resize(np.random.default_rng(2).integers(0, 255, (20, 30, 3), np.uint8), frame_hw[::-1])
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), image)
    dataset = SimpleNamespace(
        ims=[None],
        im_files=[str(path)],
        npy_files=[Path(tmp_path / "none.npy")],
        cache=None,
        imgsz=320,
        cv2_flag=cv2.IMREAD_COLOR,
        augment=False,
        channels=3,
        prefix="",
    )
    loaded, original, resized = BaseDataset.load_image(dataset, 0)
    expected = LetterBox(new_shape=320, scaleup=False)(image=loaded)

    box = Letterbox.between(frame_hw, (320, 320))
    ours = box.apply(image, np.empty((320, 320, 3), np.uint8))

    assert (original, resized) == (frame_hw, box.resized_hw)
    assert np.array_equal(ours, expected)
