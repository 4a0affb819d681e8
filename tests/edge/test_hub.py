from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from edge.serve.hub import Hub

LONG_S = 30.0


@given(st.integers(1, 5), st.lists(st.one_of(st.integers(0, 9), st.none()), max_size=60))
def test_a_client_gets_the_newest_in_order_and_is_told_of_every_drop(
    limit: int, steps: list[int | None]
) -> None:
    """A number is published; None is the client coming round. Odd numbers are not wanted."""
    hub: Hub[int] = Hub()
    client = hub.subscribe(limit=limit, accepts=lambda item: item % 2 == 0)
    wanted: list[int] = []
    got = []
    for step in steps:
        if step is None:
            delivery = client.next(0)
            if delivery is not None:
                got.append(delivery)
        else:
            hub.publish(step)
            if step % 2 == 0:
                wanted.append(step)
    hub.close()
    while (delivery := client.next(0)) is not None:
        got.append(delivery)
    assert client.ended
    assert [wanted[delivery.sequence] for delivery in got] == [delivery.item for delivery in got]
    accounted = sum(delivery.dropped for delivery in got) + len(got)
    assert accounted == len(wanted)
    expected = 0
    for delivery in got:
        assert delivery.sequence == expected + delivery.dropped
        expected = delivery.sequence + 1


def test_a_client_that_never_comes_round_holds_nobody_up() -> None:
    hub: Hub[int] = Hub()
    hub.subscribe(limit=3)
    quick = hub.subscribe(limit=1000)
    for item in range(1000):
        hub.publish(item)
    assert [delivery.item for delivery in iter(lambda: quick.next(0), None)] == list(range(1000))


def test_what_is_retained_is_given_to_a_new_client() -> None:
    hub: Hub[tuple[str, int]] = Hub(retain=lambda item: item[0])
    for item in (("a", 1), ("b", 2), ("a", 3)):
        hub.publish(item)
    client = hub.subscribe(limit=5)
    assert sorted(delivery.item for delivery in iter(lambda: client.next(0), None)) == [("a", 3), ("b", 2)]
    assert sorted(hub.retained()) == [("a", 3), ("b", 2)]


def test_clients_come_and_go_and_the_end_wakes_them() -> None:
    hub: Hub[int] = Hub()
    clients = [hub.subscribe(limit=1) for _ in range(3)]
    clients[0].close()
    clients[0].close()
    assert hub.clients == 2
    waiter = threading.Thread(target=clients[1].next, args=(LONG_S,))
    waiter.start()
    hub.close()
    waiter.join(LONG_S)
    assert not waiter.is_alive()
    assert hub.clients == 0
    assert hub.subscribe(limit=1).ended


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5)), min_size=1, max_size=4),
    st.lists(st.integers(0, 4), max_size=80),
)
def test_whatever_comes_round_when_each_clients_sum_is_what_was_made(
    clients: list[tuple[int, int]], steps: list[int]
) -> None:
    """Zero publishes; any other number has the so-manieth client come round. `clients`: limit and phase."""
    hub: Hub[int] = Hub()
    subscriptions = [hub.subscribe(limit=limit) for limit, _ in clients]
    sums, made, since = [0] * len(clients), 0, [0] * len(clients)
    for step in steps:
        if step == 0:
            hub.publish(made)
            made += 1
            since = [count + 1 for count in since]
            continue
        number = (step - 1) % len(clients)
        got = 0
        while (delivery := subscriptions[number].next(0)) is not None:
            sums[number] += 1 + delivery.dropped
            got += 1
        assert got == min(since[number], clients[number][0])  # never more than its limit was queued
        since[number] = 0
        assert sums[number] == made
    hub.close()


def test_the_sums_hold_between_threads() -> None:
    hub: Hub[int] = Hub()
    made, limit = 20_000, 8
    sums: dict[int, int] = {}

    def take(number: int) -> None:
        subscription, total, last = subscriptions[number], 0, -1
        while not subscription.ended:
            delivery = subscription.next(LONG_S)
            if delivery is not None:
                assert delivery.item == delivery.sequence > last
                total, last = total + 1 + delivery.dropped, delivery.item
        sums[number] = total

    subscriptions = [hub.subscribe(limit=limit) for _ in range(3)]
    takers = [threading.Thread(target=take, args=(number,)) for number in range(3)]
    for taker in takers:
        taker.start()
    for item in range(made):
        hub.publish(item)
    hub.close()
    for taker in takers:
        taker.join(LONG_S)
        assert not taker.is_alive()
    assert sums == dict.fromkeys(range(3), made)
