"""No 24 hours hold more than the budget, whichever they are."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.day_budget import DAY_NS, HOUR_NS, DayBudget

steps = st.lists(
    st.tuples(st.integers(0, 6 * HOUR_NS), st.integers(0, 60)),  # time passes, bytes are asked for
    max_size=60,
)


@settings(deadline=None)
@given(steps, st.integers(0, 100))
def test_no_day_holds_more_than_the_budget(steps: list[tuple[int, int]], limit: int) -> None:
    budget, now, taken = DayBudget(limit), 0, []
    for passed, amount in steps:
        now += passed
        if budget.allows(now, amount):
            budget.spend(now, amount)
            taken.append((now, amount))
    for start, _ in taken:
        assert sum(amount for at, amount in taken if start <= at < start + DAY_NS) <= limit


@settings(deadline=None)
@given(steps, st.integers(1, 100), st.integers(1, 100))
def test_the_wait_that_is_told_is_enough_and_at_most_a_day_and_an_hour(
    steps: list[tuple[int, int]], limit: int, amount: int
) -> None:
    budget, now = DayBudget(limit), 0
    for passed, spent in steps:
        now += passed
        if budget.allows(now, spent):
            budget.spend(now, spent)
    wait = budget.wait_ns(now, amount)
    if amount > limit:
        assert wait is None
        return
    assert wait is not None and 0 <= wait <= DAY_NS + HOUR_NS
    assert (wait == 0) == budget.allows(now, amount)
    assert budget.allows(now + wait, amount)
    if wait:
        assert not budget.allows(now + wait - 1, amount)


@settings(deadline=None)
@given(st.integers(0, 100 * DAY_NS), st.integers(0, 100 * DAY_NS), st.integers(1, 100))
def test_a_clock_that_goes_back_frees_nothing_and_blocks_nothing_for_ever(
    before: int, after: int, limit: int
) -> None:
    budget = DayBudget(limit)
    budget.spend(before, limit)
    after = min(before, after)
    assert not budget.allows(after, 1)
    assert budget.allows(after + DAY_NS + HOUR_NS, limit)


@settings(deadline=None)
@given(steps)
def test_what_was_kept_goes_on(steps: list[tuple[int, int]]) -> None:
    budget, now = DayBudget(1000), 0
    for passed, amount in steps:
        now += passed
        budget.spend(now, amount)
    again = DayBudget(1000)
    again.restore(budget.hours())
    for later in (now, now + 5 * HOUR_NS, now + DAY_NS):
        assert again.spent(later) == budget.spent(later)


def test_without_a_limit_everything_is_allowed() -> None:
    budget = DayBudget(None)
    budget.spend(0, 1 << 60)
    assert budget.allows(0, 1 << 60)
    assert budget.wait_ns(0, 1 << 60) == 0
