"""The purity check's rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.datasets import Box
from cloud.pipeline.purity import (
    ImpureError,
    LabelRules,
    check_labels,
    decode,
    difference_hash,
    drives_on_both_sides,
    near_duplicates,
)
from tests.labelled import jpeg

RULES = LabelRules({"car", "pedestrian"}, box_slack_px=1.0)
HASHES = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (Box(0, 0, 10, 10, "unicorn"), "unknown class"),
        (Box(200, 0, 210, 10, "car"), "box lies outside its image"),
        (Box(-5, 0, 10, 10, "car"), "box reaches out of its picture"),
        (Box(0, 0, 103, 10, "car"), "box reaches out of its picture"),
        (Box(10, 10, 5, 20, "car"), "box is inverted"),
        (Box(0, 0, float("nan"), 5, "car"), "box is not finite"),
        (Box(5, 5, 5, 20, "car"), "box has no area"),
    ],
)
def test_one_bad_box_spoils_a_picture(box: Box, reason: str) -> None:
    with pytest.raises(ImpureError, match=reason):
        check_labels([Box(1, 1, 9, 9, "car"), box], 100, 80, RULES)


def test_boxes_to_the_edge_and_rounding_are_no_fault() -> None:
    check_labels([Box(0, 0, 100, 80, "car"), Box(-0.5, 3, 100.9, 80.4, "pedestrian")], 100, 80, RULES)
    check_labels([], 100, 80, RULES)
    with pytest.raises(ImpureError, match="twice"):
        check_labels([Box(1, 1, 9, 9, "car")] * 2, 100, 80, RULES)


@pytest.mark.parametrize("cut", [1, 2, 40, 200])
def test_a_picture_that_is_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(ImpureError, match="cut short"):
        decode(jpeg()[:-cut], 160, 96)


def test_pictures_must_be_jpegs_of_their_size() -> None:
    assert decode(jpeg(), 160, 96).shape == (96, 160)
    with pytest.raises(ImpureError, match="size"):
        decode(jpeg(), 160, 95)
    with pytest.raises(ImpureError, match="does not decode"):
        decode(b"no picture\xff\xd9", 160, 96)


def test_the_hash_sees_layout_and_not_brightness() -> None:
    scene = np.random.default_rng(1).integers(20, 120, (64, 96), dtype=np.uint8)
    other = np.random.default_rng(2).integers(20, 120, (64, 96), dtype=np.uint8)
    assert difference_hash(scene) == difference_hash(scene + np.uint8(40))
    assert (difference_hash(scene) ^ difference_hash(other)).bit_count() > 10


@given(st.lists(HASHES, max_size=12), st.lists(HASHES, max_size=4), st.integers(0, 64))
def test_near_duplicates_agree_with_the_plain_definition(new: list[int], known: list[int], bits: int) -> None:
    kept, expected = list(known), []
    for value in new:
        expected.append(any((value ^ other).bit_count() <= bits for other in kept))
        kept += [] if expected[-1] else [value]
    assert near_duplicates(new, known, bits) == expected


def test_a_drive_on_two_sides_is_found() -> None:
    assert drives_on_both_sides([("a", "train"), ("b", "val"), ("a", "train")]) == {}
    assert drives_on_both_sides([("a", "train"), ("a", "val")]) == {"a": {"train", "val"}}
