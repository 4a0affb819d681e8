from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.frames.mailbox import BACKLOG_ITEMS, BACKLOG_S, Mailbox, MailboxClosed, MailboxRow

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
            assert box.put(offered) == ([] if inside is None else [inside])
            inside = offered
            offered += 1
        elif step == "take":
            assert box.take(0) == inside
            inside = None
        else:
            assert box.close() == ([] if inside is None else [inside])
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
        displaced.extend(box.put(item))
    left = box.close()
    consumer.join(LONG_S)
    assert not consumer.is_alive()
    assert sorted([*taken, *displaced, *left]) == list(range(20_000))
    assert taken == sorted(taken)


@given(
    st.lists(
        st.one_of(
            st.sampled_from(["put", "take", "keep", "let go"]),
            st.floats(0.001, 2 * BACKLOG_S),  # seconds that go by
        ),
        max_size=60,
    )
)
def test_a_backlog_is_in_order_bounded_and_loses_nothing_uncounted(steps: list[str | float]) -> None:
    now, keeps, offered = 100.0, False, 0
    box: Mailbox[int] = Mailbox(keeps=lambda: keeps, clock=lambda: now)
    born: list[float] = []
    taken: list[int] = []
    displaced: list[int] = []
    for step in steps:
        if isinstance(step, float):
            now += step
        elif step == "put":
            waiting = sorted(set(range(offered)) - set(taken) - set(displaced))
            out = box.put(offered)
            assert out in ([], waiting)  # all that waited, or nothing of it
            if waiting and (not keeps or len(waiting) == BACKLOG_ITEMS or now - born[waiting[0]] > BACKLOG_S):
                assert out == waiting
            displaced += out
            born.append(now)
            offered += 1
        elif step == "take":
            item = box.take(0)
            taken += [] if item is None else [item]
        else:
            keeps = step == "keep"
    left = box.close()
    assert len(left) <= BACKLOG_ITEMS
    assert taken == sorted(taken) and left == sorted(left)
    assert sorted([*taken, *displaced, *left]) == list(range(offered))


def test_while_frames_are_kept_a_stall_loses_none_and_the_newest_wins_again_after_it() -> None:
    row: MailboxRow[int] = MailboxRow(["a"])
    box = row.boxes["a"]
    with row.keeping(), row.keeping():
        for item in range(BACKLOG_ITEMS):
            assert box.put(item) == []
    assert [row.take(0) for _ in range(BACKLOG_ITEMS)] == [("a", item) for item in range(BACKLOG_ITEMS)]
    other: MailboxRow[int] = MailboxRow(["a"])
    assert other.boxes["a"].put(0) == []
    assert other.boxes["a"].put(1) == [0]


def test_a_camera_that_outruns_the_loop_gets_no_backlog() -> None:
    now = 0.0
    box: Mailbox[int] = Mailbox(keeps=lambda: True, clock=lambda: now)
    for item in range(BACKLOG_ITEMS):
        assert box.put(item) == []
    assert box.put(BACKLOG_ITEMS) == list(range(BACKLOG_ITEMS))
    for item in range(100, 110):  # nothing is older than what it would be without
        now += 0.1
        assert len(box.put(item)) == 1
    assert box.take(0) == 109
    now += 1.0
    assert box.put(200) == [] and box.put(201) == []  # it kept up for a second


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
