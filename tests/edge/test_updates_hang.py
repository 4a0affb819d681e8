"""When the frame loop stands still: not where the whole process did, and not where it works slowly."""

from __future__ import annotations

import pytest

from edge.health import STUCK_AFTER_S, LoopHealth
from edge.updates.hang import HANG_S, Hang


def at(stepped_ns: int, *, is_running: bool = True) -> LoopHealth:
    return LoopHealth(is_running=is_running, stepped_ns=stepped_ns)


def test_a_loop_that_does_not_come_round_hangs() -> None:
    hang, now_s = Hang(), 100.0
    assert hang.look(at(7), now_s) == ""
    while now_s < 100 + HANG_S - 1:
        now_s += 1
        assert hang.look(at(7), now_s) == ""
    assert "has not come round for 20 s" in hang.look(at(7), now_s + 1)
    assert hang.look(at(8), now_s + 2) == "", "it did come round"
    assert HANG_S > STUCK_AFTER_S


def test_a_process_that_stood_still_itself_says_nothing_of_the_loop() -> None:
    hang = Hang()
    for now_s in (0.0, 1000.0, 2000.0, 3000.0):
        assert hang.look(at(7), now_s) == ""


@pytest.mark.parametrize("is_running", [False, True])
def test_a_loop_that_was_asked_to_end_or_comes_round_seldom_does_not_hang(is_running: bool) -> None:
    hang = Hang()
    for second in range(200):
        assert hang.look(at(second // 15 if is_running else 7, is_running=is_running), float(second)) == ""
