from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.replay.durations import Durations

spans = st.lists(st.integers(1, 10**13), min_size=1, max_size=200)


@given(spans, st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_the_nearest_rank_within_half_a_percent(spans_ns: list[int], q: float) -> None:
    durations = Durations()
    for span in spans_ns:
        durations.add(span)
    exact = sorted(spans_ns)[max(1, math.ceil(q * len(spans_ns))) - 1]
    assert durations.quantile_ns(q) == pytest.approx(exact, rel=0.0051)
    assert durations.min_ns == min(spans_ns)
    assert durations.max_ns == max(spans_ns)


@given(spans)
def test_the_figures_are_in_order(spans_ns: list[int]) -> None:
    durations = Durations()
    for span in spans_ns:
        durations.add(span)
    figures = durations.as_ms()
    assert list(figures) == ["min", "p50", "p99", "max"]
    assert list(figures.values()) == sorted(figures.values())


def test_memory_does_not_grow_with_the_drive() -> None:
    durations = Durations()
    for span in range(1, 200_000):
        durations.add(span)
    assert len(durations._buckets) < 1300
    assert durations.count == 199_999


def test_of_nothing_there_is_no_quantile() -> None:
    with pytest.raises(ValueError, match="no duration"):
        Durations().quantile_ns(0.5)
