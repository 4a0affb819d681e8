"""Waits stay in their bounds, grow, and begin anew."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.backoff import Backoff, BackoffOptions


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=50))
def test_the_waits_stay_in_their_bounds(chances: list[float]) -> None:
    chance = iter(chances)
    backoff = Backoff(BackoffOptions(0.5, 60.0), uniform=lambda low, high: low + next(chance) * (high - low))
    before = 0.5
    for _ in chances:
        wait = backoff.next_s()
        assert 0.5 <= wait <= min(60.0, 3 * before)
        before = wait


def test_it_reaches_the_limit_and_begins_anew() -> None:
    backoff = Backoff(BackoffOptions(0.5, 60.0), uniform=lambda low, high: high)
    assert [backoff.next_s() for _ in range(6)] == [1.5, 4.5, 13.5, 40.5, 60.0, 60.0]
    backoff.reset()
    assert backoff.next_s() == 1.5


def test_chance_is_in_it() -> None:
    assert len({Backoff().next_s() for _ in range(20)}) > 10
