from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.frames.outcomes import FrameCounts, Outcome


@given(st.lists(st.one_of(st.none(), st.sampled_from(Outcome))))
def test_the_sum_holds_after_every_event(events: list[Outcome | None]) -> None:
    counts = FrameCounts()
    expected_in_flight = 0
    for event in events:
        if event is None:
            counts.captured()
            expected_in_flight += 1
        elif expected_in_flight > 0:
            counts.left(event)
            expected_in_flight -= 1
        else:
            with pytest.raises(RuntimeError):
                counts.left(event)
        tally = counts.tally()
        assert tally.in_flight == expected_in_flight
        assert tally.captured == sum(tally.left.values()) + tally.in_flight


def test_two_threads_lose_no_count() -> None:
    counts = FrameCounts()

    def work(outcome: Outcome) -> None:
        for _ in range(5000):
            counts.captured()
            counts.left(outcome)

    threads = [
        threading.Thread(target=work, args=(outcome,)) for outcome in (Outcome.PUBLISHED, Outcome.STALE)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts.tally().as_dict() == {
        "captured": 10_000,
        "published": 5000,
        "superseded": 0,
        "stale": 5000,
        "rate_limited": 0,
        "decode_error": 0,
        "inference_error": 0,
        "stopped": 0,
    }
