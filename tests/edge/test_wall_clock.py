"""Wall time beside the monotonic clock: consistent, and missing rather than wrong."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import ClockConfig
from edge.machine.wall_clock import WallClock, WallClockError, open_wall_clock
from edge.messages import Clock
from protos.traffic_vision.v1 import common_pb2 as common

UNIX_NS = 1_700_000_000 * 10**9
PTP = common.CLOCK_SOURCE_PTP


class Machine:
    """Two clocks, of which each reading of the wall takes some time."""

    def __init__(self, takes_ns: tuple[int, ...] = (1000,)) -> None:
        self.now_ns = 10**12
        self.offset_ns = UNIX_NS
        self.fails = False
        self.takes = takes_ns
        self.readings = 0

    def monotonic(self) -> int:
        return self.now_ns

    def wall(self) -> int:
        if self.fails:
            raise OSError(19, "No such device")
        takes = self.takes[self.readings % len(self.takes)]
        self.readings += 1
        self.now_ns += takes // 2
        seen = self.now_ns + self.offset_ns
        self.now_ns += takes - takes // 2
        return seen

    def clock(self) -> WallClock:
        return WallClock(self.wall, PTP, name="PTP clock /dev/ptp9", monotonic_ns=self.monotonic)


@given(st.lists(st.integers(0, 10**6), min_size=3, max_size=3), st.integers(-(10**10), 10**10))
def test_a_moment_is_mapped_as_its_clock_had_it(takes: list[int], ago_ns: int) -> None:
    machine = Machine(tuple(takes))
    at = machine.now_ns - ago_ns
    found = machine.clock().at(at)
    assert found is not None and abs(found - (at + UNIX_NS)) <= min(takes) / 2 + 1


def test_one_moment_has_one_time_and_a_step_is_followed() -> None:
    machine = Machine((100, 90_000, 300))
    clock = machine.clock()
    first = clock.at(machine.now_ns)
    at = machine.now_ns
    readings = machine.readings
    assert clock.at(at) == clock.at(at) and machine.readings == readings
    machine.offset_ns += 10**9
    machine.now_ns += 600_000_000
    second = clock.at(at)
    assert first is not None and second is not None and second - first > 9 * 10**8


def test_a_device_that_fails_leaves_no_time_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    clock = Clock("run", machine.clock())
    assert clock.machine(machine.now_ns).source == PTP and clock.machine(machine.now_ns).HasField("wall_ns")
    machine.fails = True
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            machine.now_ns += 10**9
            stamped = clock.machine(machine.now_ns)
            assert stamped.monotonic_ns == machine.now_ns and not stamped.HasField("wall_ns")
    (line,) = caplog.records
    assert (
        line.getMessage().startswith("PTP clock /dev/ptp9 cannot be read") and "No such" in line.getMessage()
    )
    machine.fails = False
    machine.now_ns += 10**9
    assert clock.machine(machine.now_ns).HasField("wall_ns")


def test_the_systems_clock_says_which_source_keeps_it() -> None:
    clock = open_wall_clock(ClockConfig(source="gnss"))
    assert clock.source == common.CLOCK_SOURCE_GNSS
    found = clock.at(time.monotonic_ns())
    assert found is not None and abs(found - time.time_ns()) < 10**9


def test_a_device_that_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ptp0"
    with pytest.raises(WallClockError, match=r"ptp0' cannot be opened: No such file"):
        open_wall_clock(ClockConfig(source="ptp", ptp_device=file))
    file.write_text("no clock")
    with pytest.raises(WallClockError, match=r"ptp0' is no PTP clock that can be read"):
        open_wall_clock(ClockConfig(source="ptp", ptp_device=file))
