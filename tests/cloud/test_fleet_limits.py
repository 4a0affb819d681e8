"""Rate limits and nonces of the listener that anybody reaches, on a clock of the test's own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloud.fleet.nonces import Nonces
from cloud.fleet.rate_limit import RateLimit

times = st.lists(st.floats(0, 100), min_size=1, max_size=200).map(sorted)


@given(times, st.floats(0.1, 10), st.integers(1, 20))
def test_no_more_than_the_burst_and_what_came_since(at: list[float], per_s: float, burst: int) -> None:
    clock = iter(at)
    limit = RateLimit(per_s, burst, clock=lambda: next(clock))
    taken = [moment for moment in at if limit.take("a")]
    assert taken[0] == at[0]
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + (taken[last] - taken[first]) * per_s + 1e-6


def test_who_waits_may_again_and_one_does_not_use_up_another() -> None:
    now = [0.0]
    limit = RateLimit(0.5, 2, clock=lambda: now[0])
    assert [limit.take("a") for _ in range(3)] == [True, True, False]
    assert limit.take("b")
    now[0] = 2.0
    assert [limit.take("a") for _ in range(2)] == [True, False]


def test_memory_does_not_grow_with_those_who_come() -> None:
    limit = RateLimit(1, 1, keys=10, clock=lambda: 0.0)
    for number in range(1000):
        assert limit.take(str(number))
    assert len(limit._left) == 10
    assert not limit.take("999") and limit.take("1")


def test_a_nonce_is_good_once_and_for_its_time() -> None:
    now = [10**9]
    nonces = Nonces(60, clock_ns=lambda: now[0])
    first, second, third = (nonces.make() for _ in range(3))
    assert len({first, second, third}) == 3
    assert nonces.spend(first) and not nonces.spend(first)
    now[0] += 60 * 10**9
    assert nonces.spend(second)
    now[0] += 1
    assert not nonces.spend(third), "a minute is over"
    now[0] += 61 * 10**9
    assert not nonces.spend(first) and not nonces.spend(second)
    assert not nonces._spent, "what is too old anyway is not remembered"


@given(st.binary(max_size=80), st.integers(0, 55), st.integers(1, 255))
def test_only_what_was_given_here_is_good(made_up: bytes, at: int, change: int) -> None:
    nonces = Nonces()
    assert not nonces.spend(made_up)
    changed = bytearray(nonces.make())
    assert len(changed) == 56
    changed[at] ^= change
    assert not nonces.spend(bytes(changed))
    assert not nonces.spend(Nonces().make())
