"""Weighted boxes fusion: the paper's example by hand, and what holds for any boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.datasets import Box
from cloud.labeling import Suggestion
from cloud.labeling.fusion import fuse
from tests.label_contract import suggestion

NAMES = ("car", "bus")
boxes = st.builds(
    lambda x, y, wide, high, name, score: suggestion(x, y, x + wide, y + high, name, score),
    st.floats(0, 90),
    st.floats(0, 90),
    st.floats(1, 60),
    st.floats(1, 60),
    st.sampled_from(NAMES),
    st.floats(0.05, 1),
)
ensembles = st.lists(st.lists(boxes, max_size=6), min_size=1, max_size=4)


def test_two_models_that_agree_make_one_box_between_theirs_nearer_to_the_surer() -> None:
    (fused,) = fuse([[suggestion(0, 0, 10, 10, "car", 0.9)], [suggestion(2, 0, 12, 10, "car", 0.3)]], {})
    assert fused.box == Box(pytest.approx(0.5), 0, pytest.approx(10.5), 10, "car")
    assert fused.score == pytest.approx(0.6) and fused.agreement == 1


def test_what_one_of_three_sees_and_what_two_call_by_other_names_has_little_agreement() -> None:
    first = [suggestion(0, 0, 10, 10, "car"), suggestion(50, 50, 70, 70, "bus")]
    second = [suggestion(50, 50, 70, 70, "car")]
    fused = fuse([first, second, []], {})
    assert [round(each.agreement, 3) for each in fused] == [0.333] * 3
    # A class that two of the models do not know is the third's alone to say.
    bus = next(each for each in fuse([first, second, []], {"bus": 1}) if each.box.category == "bus")
    assert bus.agreement == 1


@given(ensembles)
def test_every_box_goes_into_one_and_nothing_else_comes_out(found: list[list[Suggestion]]) -> None:
    fused = fuse(found, {})
    every = [each for model in found for each in model]
    assert len(fused) <= len(every)
    assert {each.box.category for each in fused} == {each.box.category for each in every}
    for each in fused:
        same = [one for one in every if one.box.category == each.box.category]
        for corner in ("x1", "y1", "x2", "y2"):
            values = [getattr(one.box, corner) for one in same]
            assert min(values) - 1e-6 <= getattr(each.box, corner) <= max(values) + 1e-6
        assert min(one.score for one in same) - 1e-9 <= each.score <= max(one.score for one in same) + 1e-9
        assert 0 < each.agreement <= 1
    ranks = [each.score * each.agreement for each in fused]
    assert ranks == sorted(ranks, reverse=True)


@given(ensembles)
def test_the_order_of_the_models_does_not_matter(found: list[list[Suggestion]]) -> None:
    scores = [each.score for model in found for each in model]
    if len(set(scores)) < len(scores):
        return  # of equal scores, whoever comes first begins a cluster
    one, other = fuse(found, {}), fuse(found[::-1], {})
    assert len(one) == len(other)
    np.testing.assert_allclose(
        sorted((each.box.x1, each.box.y2, each.score) for each in one),
        sorted((each.box.x1, each.box.y2, each.score) for each in other),
    )


@given(st.lists(boxes, max_size=6), st.integers(2, 4))
def test_a_model_beside_itself_changes_nothing_of_boxes_that_are_apart(
    found: list[Suggestion], models: int
) -> None:
    alone = fuse([found], {})
    if len(alone) < len(found):
        return
    together = fuse([found] * models, {})
    assert all(each.agreement == 1 for each in together)
    np.testing.assert_allclose([each.score for each in together], [each.score for each in alone])
