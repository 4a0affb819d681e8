from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.frames.pace import SLIP_NS, Schedule
from edge.frames.rate_limit import RateLimit
from edge.frames.recent import Recent
from edge.perception.crashes import RESTART, CrashRules

SECOND_NS = 1_000_000_000


@given(
    st.floats(0.5, 60),
    st.lists(st.floats(-0.24, 0.24), min_size=2, max_size=200),
    st.floats(0, 0.2),
)
def test_a_camera_that_keeps_its_limit_loses_nothing(rate: float, jitter: list[float], slower: float) -> None:
    """Frames come up to a quarter of a period early or late, at the limit or a little below."""
    limit = RateLimit(rate)
    period = 1 / rate * (1 + slower)
    times = [round((index + early) * period * 1e9) for index, early in enumerate(jitter)]
    assert all(limit.passes(time_ns) for time_ns in times)


@given(st.floats(0.5, 60), st.lists(st.integers(0, SECOND_NS // 10), min_size=1, max_size=300))
def test_no_more_than_the_limit_passes(rate: float, gaps: list[int]) -> None:
    limit = RateLimit(rate)
    now = passed = 0
    for gap in gaps:
        now += gap
        passed += limit.passes(now)
    assert passed <= rate * now / 1e9 + RateLimit.CAPACITY + 1e-3


def test_a_limit_holds_what_is_too_much_and_starts_anew_when_time_does() -> None:
    limit = RateLimit(10)
    assert sum(limit.passes(index * SECOND_NS // 30) for index in range(300)) in (100, 101)
    assert limit.passes(0)
    assert all(RateLimit(None).passes(0) for _ in range(3))


def test_a_recording_is_let_out_at_its_own_times() -> None:
    schedule = Schedule(2.0)
    assert schedule.due_ns(500, 1000) == 1000
    assert schedule.due_ns(1500, 1000) == 1500


def test_time_that_was_slept_through_is_not_caught_up_with() -> None:
    schedule = Schedule(1.0)
    schedule.due_ns(0, 0)
    late = 5 * SECOND_NS
    assert schedule.due_ns(SECOND_NS, late) == late
    assert schedule.due_ns(2 * SECOND_NS, late) == late + SECOND_NS
    # A little late is caught up with.
    assert schedule.due_ns(3 * SECOND_NS, late + 2 * SECOND_NS + SLIP_NS // 2) == late + 2 * SECOND_NS


def test_the_last_seconds_are_counted_and_ranked() -> None:
    recent = Recent(window_s=2.0)
    start = recent._started_ns
    for index in range(100):
        recent.add(index, now_ns=start + index * SECOND_NS // 10)
    now = start + 99 * SECOND_NS // 10
    assert recent.rate_hz(now_ns=now) == 10.5  # both ends of the window
    assert recent.percentile(0.5, now_ns=now) == 89
    assert recent.percentile(1.0, now_ns=now) == 99
    assert recent.percentile(0.5, now_ns=now + 10 * SECOND_NS) == 0


def test_three_crashes_within_a_minute_call_for_another_model() -> None:
    rules = CrashRules()
    assert [rules.crashed(now)[1] for now in (0, 10, 20)] == [False, False, True]
    assert [rules.crashed(now)[1] for now in (30, 40, 50)] == [False, False, True]


def test_crashes_far_apart_do_not() -> None:
    rules = CrashRules()
    results = [rules.crashed(now) for now in (0, 50, 100, 200, 300)]
    assert [too_many for _, too_many in results] == [False] * 5
    assert results[-1][0] <= 3 * RESTART.initial_s


def test_the_next_model_has_its_own_three() -> None:
    rules = CrashRules()
    rules.crashed(0)
    rules.crashed(1)
    rules.another_model()
    assert rules.crashed(2)[1] is False
