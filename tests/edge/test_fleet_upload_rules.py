"""The rules of an upload, on answers and cuts that hypothesis makes up."""

from __future__ import annotations

import grpc
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.backoff import BackoffOptions
from edge.fleet.upload_rules import Fate, UploadRules, reason_name
from protos.traffic_vision.v1 import fleet_pb2 as fleet

STORED, DUPLICATE = fleet.UPLOAD_OUTCOME_STORED, fleet.UPLOAD_OUTCOME_DUPLICATE
REFUSED, DEFERRED = fleet.UPLOAD_OUTCOME_REFUSED, fleet.UPLOAD_OUTCOME_DEFERRED
BACKOFF = BackoffOptions(0.5, 4.0)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.just(0)),
        st.tuples(st.just("answer"), st.integers(0, 99)),
        st.tuples(st.just("cut"), st.integers(0, 2)),
        st.tuples(st.just("limit"), st.integers(0, 10)),
        st.tuples(st.just("pass"), st.integers(0, 700)),
    ),
    max_size=60,
)
CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.OK)


@settings(deadline=None)
@given(steps, st.integers(1, 8))
def test_nothing_is_lost_and_nothing_acknowledged_that_was_not_answered(
    steps: list[tuple[str, int]], limit: int
) -> None:
    rules, now = UploadRules(limit, BACKOFF), 0.0
    spool = [f"i{number}" for number in range(12)]  # as the spool would give them, in order
    acknowledged: list[str] = []
    discarded: list[str] = []
    for step, value in steps:
        if step == "send" and rules.wait_s(now) == 0:
            eligible = [item_id for item_id in spool if item_id not in rules.skip(now)]
            if eligible:
                rules.sent(eligible[0], 100)
        elif step == "answer":
            target = f"i{value % 12}"
            outcome = (STORED, DUPLICATE, REFUSED, DEFERRED, 99)[value % 5]
            asked = target in rules.in_flight
            fate = rules.answer(target, outcome, 0, value * 10, now)
            assert (fate is Fate.STRAY) == (not asked)
            if fate is Fate.ACKNOWLEDGE:
                assert outcome in (STORED, DUPLICATE)
                acknowledged.append(target)
                spool.remove(target)
            elif fate is Fate.DISCARD:
                assert outcome == REFUSED
                discarded.append(target)
                spool.remove(target)
        elif step == "cut":
            rules.closed(CODES[value], now)
            assert not rules.in_flight
        elif step == "limit":
            rules.limit_to(value)
            limit = max(1, value)
        else:
            now += value
        assert rules.in_flight <= set(spool)
    assert len(acknowledged) == len(set(acknowledged))
    counts = rules.counts
    assert counts.stored + counts.duplicates == len(acknowledged)
    assert counts.refused.total() == len(discarded)
    answered = len(acknowledged) + len(discarded) + counts.deferred
    assert counts.sent == answered + counts.unanswered + len(rules.in_flight)
    # Whatever happened, everything that is left may be sent in the end.
    rules.closed(grpc.StatusCode.UNAVAILABLE, now)
    now += 3600
    while spool:
        assert rules.wait_s(now) == 0
        (item_id, *_) = [item_id for item_id in spool if item_id not in rules.skip(now)]
        rules.sent(item_id, 100)
        assert rules.answer(item_id, STORED, 0, 0, now) is Fate.ACKNOWLEDGE
        spool.remove(item_id)


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 20))
def test_no_more_than_the_limit_are_in_flight(limit: int, lowered: int) -> None:
    rules = UploadRules(limit)
    rules.limit_to(lowered)
    for number in range(30):
        if rules.wait_s(0.0) == 0:
            rules.sent(f"i{number}", 1)
    assert len(rules.in_flight) == min(limit, lowered) if lowered <= limit else limit


def test_a_deferral_holds_the_lane_for_as_long_as_was_asked_at_least() -> None:
    rules = UploadRules(8, BACKOFF)
    rules.sent("a", 1)
    assert rules.answer("a", DEFERRED, fleet.REFUSAL_REASON_QUOTA, 30_000, 100.0) is Fate.KEEP
    assert rules.wait_s(100.0) == 30.0 and rules.wait_s(129.0) == 1.0 and rules.wait_s(130.0) == 0
    rules.sent("a", 1)
    rules.answer("a", DEFERRED, fleet.REFUSAL_REASON_QUOTA, 0, 200.0)
    assert rules.wait_s(200.0) >= 0.5  # a cloud that asks for nothing is not asked again at once
    rules.sent("b", 1)
    rules.answer("b", DEFERRED, fleet.REFUSAL_REASON_QUOTA, 2**32 - 1, 300.0)
    assert rules.wait_s(300.0) <= 3600.0


def test_a_cut_without_an_answer_makes_it_careful_until_one_comes() -> None:
    rules = UploadRules(8, BACKOFF)
    for item_id in "abcd":
        rules.sent(item_id, 1)
    rules.closed(grpc.StatusCode.INTERNAL, 0.0)
    assert rules.skip(0.0) == set()  # any of them may have been to blame
    rules.sent("a", 1)
    assert rules.wait_s(0.0) > 0
    rules.closed(grpc.StatusCode.UNAVAILABLE, 0.0)
    assert rules.skip(0.0) == set()  # the network was
    rules.sent("a", 1)
    rules.closed(grpc.StatusCode.INTERNAL, 0.0)
    assert rules.skip(0.0) == {"a"}
    assert rules.skips_until_s(0.0) == 0.5
    rules.sent("b", 1)
    rules.answer("b", STORED, 0, 0, 0.0)
    rules.sent("c", 1)
    assert rules.wait_s(0.0) == 0
    assert rules.skip(1.0) == {"c"} and rules.skips_until_s(1.0) is None


def test_reasons_have_names_those_of_a_newer_cloud_too() -> None:
    assert reason_name(fleet.REFUSAL_REASON_TOO_LARGE) == "too_large"
    assert reason_name(77) == "reason_77"
