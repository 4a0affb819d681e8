from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.frames.mailbox import Mailbox, MailboxClosed, MailboxRow

LONG_S = 30.0  # a wait that is never waited out


@given(st.lists(st.sampled_from(["put", "take", "close"])))
def test_every_item_leaves_in_one_way_and_the_newest_wins(steps: list[str]) -> None:
    box: Mailbox[int] = Mailbox()
    offered = 0
    inside: int | None = None
    closed = False
    for step in steps:
        if step == "put" and closed:
            with pytest.raises(MailboxClosed):
                box.put(offered)
        elif step == "put":
            assert box.put(offered) == inside
            inside = offered
            offered += 1
        elif step == "take":
            assert box.take(0) == inside
            inside = None
        else:
            assert box.close() == inside
            inside, closed = None, True
        assert box.wait_empty(0) == (inside is None)


def test_no_item_is_lost_or_taken_twice_between_threads() -> None:
    box: Mailbox[int] = Mailbox()
    taken: list[int] = []
    displaced: list[int] = []

    def consume() -> None:
        while (item := box.take(LONG_S)) is not None:
            taken.append(item)

    consumer = threading.Thread(target=consume)
    consumer.start()
    for item in range(20_000):
        before = box.put(item)
        if before is not None:
            displaced.append(before)
    left = box.close()
    consumer.join(LONG_S)
    assert not consumer.is_alive()
    assert sorted([*taken, *displaced, *([] if left is None else [left])]) == list(range(20_000))
    assert taken == sorted(taken)


def test_closing_wakes_who_waits() -> None:
    box: Mailbox[int] = Mailbox()
    waiter = threading.Thread(target=box.take, args=(LONG_S,))
    waiter.start()
    box.close()
    waiter.join(LONG_S)
    assert not waiter.is_alive()


def test_taking_makes_room_for_who_waits_for_it() -> None:
    box: Mailbox[int] = Mailbox()
    box.put(1)
    assert not box.wait_empty(0)
    emptied = threading.Event()
    waiter = threading.Thread(target=lambda: box.wait_empty(LONG_S) and emptied.set())
    waiter.start()
    assert box.take(0) == 1
    assert emptied.wait(LONG_S)
    waiter.join(LONG_S)


def test_a_fast_camera_does_not_starve_the_others() -> None:
    row: MailboxRow[int] = MailboxRow(["a", "b", "c"])
    row.boxes["b"].put(0)
    row.boxes["c"].put(0)
    served = []
    for number in range(6):
        row.boxes["a"].put(number)
        taken = row.take(0)
        assert taken is not None
        served.append(taken[0])
    assert served[:3] == ["a", "b", "c"]
    assert served[3:] == ["a", "a", "a"]


def test_a_row_is_woken_once_without_taking() -> None:
    row: MailboxRow[int] = MailboxRow(["a"])
    row.boxes["a"].put(1)
    row.wake()
    assert row.take(LONG_S) is None
    assert row.take(0) == ("a", 1)
    row.wake()
    row.pause(LONG_S)
    assert row.take(0) is None
