"""When the next look for a release is due."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge.backoff import BackoffOptions
from edge.updates.look_schedule import LEAST_PAUSE_S, LookSchedule

INTERVAL_S = 600.0


def schedule(now_s: list[float]) -> LookSchedule:
    return LookSchedule(INTERVAL_S, BackoffOptions(initial_s=1.0, limit_s=300.0), lambda: now_s[0])


def test_the_first_look_is_due_at_once_and_waits_for_the_clouds_first_word() -> None:
    made = schedule([0.0])
    assert made.wait_s(0.0) == 0
    assert made.wait_s(60.0) == 60
    made.nudge()
    assert made.wait_s(60.0) == 0, "that is the cloud's word"


@given(st.lists(st.sampled_from(["nudge", "look", "fail", "put off"]), max_size=60))
def test_however_often_it_is_nudged_looks_lie_apart(steps: list[str]) -> None:
    now_s, looked_s = [1000.0], []
    made = schedule(now_s)
    for step in steps:
        if step == "nudge":
            made.nudge()
            continue
        now_s[0] += made.wait_s(0.0)
        looked_s.append(now_s[0])
        made.begins()
        if step == "put off":
            made.put_off()
        else:
            made.ended(failed=step == "fail")
            assert made.wait_s(0.0) <= (300 if step == "fail" else 1.1 * INTERVAL_S)
    assert all(after - before >= LEAST_PAUSE_S - 1e-9 for before, after in pairwise(looked_s))


def test_a_nudge_during_a_look_is_for_the_next_one() -> None:
    made = schedule([0.0])
    made.nudge()
    made.begins()
    made.nudge()
    made.ended(failed=False)
    assert made.wait_s(0.0) == LEAST_PAUSE_S
    made.begins()
    made.ended(failed=False)
    assert made.wait_s(0.0) > LEAST_PAUSE_S


def test_a_look_that_was_put_off_is_as_wanted_as_before() -> None:
    now_s = [0.0]
    made = schedule(now_s)
    made.ended(failed=False)
    made.nudge()
    made.begins()
    made.put_off()
    made.within(INTERVAL_S)  # whatever came first has its own wish
    assert made.wait_s(0.0) == LEAST_PAUSE_S
