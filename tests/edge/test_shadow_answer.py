"""What a candidate's process may say of a frame: it has loaded a foreign model, so it may say anything."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.perception.agreement import Agreement
from edge.updates.shadow_answer import AnswerError, read_answer
from protos.traffic_vision.v1 import common_pb2

FEATURES = 3


def packed(*values: float) -> str:
    return b64encode(np.array(values, "<f4").tobytes()).decode()


def answer(**fields: Any) -> dict[str, Any]:
    state = common_pb2.DriftState(camera="front")
    good = {
        "agreement": {"car": [2, 3, 1, -0.5]},
        "inference_ms": 12.5,
        "features": packed(1.0, math.nan, -2.0),
        "drift": b64encode(state.SerializeToString()).decode(),
    }
    return {**good, **fields}


def test_a_good_answer_is_read_as_it_was_meant() -> None:
    said = read_answer(answer(), FEATURES)
    assert said.classes == {"car": Agreement(2, 3, 1, -0.5)} and said.latency_ms == 12.5
    np.testing.assert_array_equal(said.features, np.array([1.0, np.nan, -2.0], np.float32))
    assert said.features.dtype == np.float32
    assert said.drift is not None and said.drift.camera == "front"
    assert read_answer(answer(drift=""), FEATURES).drift is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"features": packed(1.0, 2.0)}, "2 drift features, there are 3"),
        ({"features": packed(*range(26))}, "26 drift features, there are 3"),
        ({"features": ""}, "0 drift features, there are 3"),
        ({"features": packed(1.0, math.inf, 2.0)}, "infinite drift features"),
        ({"features": packed(-math.inf, 1.0, 2.0)}, "infinite drift features"),
        ({"features": packed(1.0, 2.0, 3.0)[:-1]}, "nonsense"),
        ({"features": "*" * 16}, "nonsense"),
        ({"features": "é"}, "nonsense"),
        ({"features": [1.0, 2.0, 3.0]}, "nonsense"),
        ({"features": None}, "nonsense"),
        ({"inference_ms": math.inf}, "no number"),
        ({"inference_ms": math.nan}, "no number"),
        ({"inference_ms": 10**400}, "nonsense"),
        ({"agreement": {"car": [math.inf, 1, 1, 0.0]}}, "nonsense"),
        ({"agreement": {"car": [1, 1]}}, "nonsense"),
        ({"agreement": []}, "nonsense"),
        ({"agreement": {"car": [3, 2, 3, 0.0]}}, "matched 3 of 3 and 2 boxes"),
        ({"agreement": {"car": [1, 1, -5, 0.0]}}, "matched -5"),
        ({"agreement": {"car": [10**30, 1, 1, 0.0]}}, "and 1 boxes"),
        ({"agreement": {"car": [1, 10**30, 1, 0.0]}}, "of 1 and 1000"),
        ({"inference_ms": -5}, "took -5.0 ms"),
        ({"drift": "AAAA"}, "nonsense"),
        ({"drift": 7}, "nonsense"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(AnswerError, match=says):
        read_answer(answer(**wrong), FEATURES)


@pytest.mark.parametrize("field", ["agreement", "inference_ms", "features", "drift"])
def test_nothing_may_be_left_out(field: str) -> None:
    short = answer()
    del short[field]
    with pytest.raises(AnswerError, match=field):
        read_answer(short, FEATURES)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from(["agreement", "inference_ms", "features", "drift", "more"])


@settings(max_examples=50)
@given(st.dictionaries(FIELDS, JSON), st.booleans(), st.lists(st.floats(width=32), max_size=6))
def test_any_json_is_read_or_refused(fields: dict[str, Any], with_good: bool, numbers: list[float]) -> None:
    said = {**(answer(features=packed(*numbers)) if with_good else {}), **fields}
    said = json.loads(json.dumps(said))
    try:
        found = read_answer(said, FEATURES)
    except AnswerError as error:
        assert str(error)
        return
    assert len(found.features) == FEATURES and not np.isinf(found.features).any()
    assert math.isfinite(found.latency_ms)
