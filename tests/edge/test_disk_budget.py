"""The day's bytes of all that writes, over restarts and clocks that jump."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.day_budget import DAY_NS, HOUR_NS
from edge.fleet.spool import Refusal, Spool
from edge.machine.disk_budget import BLOCK_BYTES, DiskBudget, on_disk
from protos.traffic_vision.v1 import common_pb2


class Clocks:
    def __init__(self) -> None:
        self.wall = 1_800_000_000 * 10**9
        self.monotonic = 5 * 10**9

    def budget(self, limit: int | None, path: Path | None = None) -> DiskBudget:
        return DiskBudget(limit, path, wall_ns=lambda: self.wall, clock_ns=lambda: self.monotonic)

    def go(self, ns: int) -> None:
        self.wall += ns
        self.monotonic += ns


@given(st.integers(0, 10**9))
def test_whole_blocks_are_counted(size: int) -> None:
    assert size < on_disk(size) <= size + 2 * BLOCK_BYTES
    assert on_disk(size) % BLOCK_BYTES == 0


@given(st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 6 * HOUR_NS)), max_size=60))
def test_no_24_hours_hold_more_than_the_limit(writes: list[tuple[int, int]]) -> None:
    clocks, limit = Clocks(), 200_000
    lane = clocks.budget(limit).lane("samples")
    done: list[tuple[int, int]] = []
    for size, pause_ns in writes:
        if lane.allows(size):
            lane.wrote(size)
            done.append((clocks.monotonic, on_disk(size)))
        clocks.go(pause_ns)
    for at, _ in done:
        assert sum(size for when, size in done if at <= when < at + DAY_NS) <= limit


def test_what_must_be_written_is_counted_and_leaves_less_for_the_rest() -> None:
    budget = Clocks().budget(100_000)
    slots, samples = budget.lane("slots"), budget.lane("samples", 50_000)
    assert samples.allows(40_000) and not samples.allows(60_000), "its own limit is below the whole's"
    slots.wrote(300_000)
    assert not samples.allows(1)
    assert budget.written("slots") == on_disk(300_000) and budget.written("samples") == 0


def test_a_restart_and_a_clock_that_goes_back_forget_nothing(tmp_path: Path) -> None:
    clocks, path = Clocks(), tmp_path / "budget.json"
    budget = clocks.budget(1_000_000, path)
    budget.lane("samples").wrote(500_000)
    budget.join(1)
    written = budget.written()
    clocks.wall, clocks.monotonic = 0, 10**9  # a board without a battery, after a power cut
    again = clocks.budget(1_000_000, path)
    again.lane("samples")
    assert again.written() == written
    clocks.wall = 1_800_000_000 * 10**9  # NTP
    assert again.written() == written, "a jump of the clock is no day"
    clocks.go(26 * HOUR_NS)
    assert again.written() == 0


def test_a_day_without_power_is_a_day(tmp_path: Path) -> None:
    clocks, path = Clocks(), tmp_path / "budget.json"
    budget = clocks.budget(1_000_000, path)
    budget.lane("samples").wrote(500_000)
    budget.save()
    clocks.wall += 26 * HOUR_NS
    assert clocks.budget(1_000_000, path).written() == 0


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"now_ns": "x"}', b'{"now_ns": 1, "total": 3, "lanes": {}}', b"[" * 10**5],
)
def test_a_damaged_file_is_nothing_written(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "budget.json").write_bytes(content)
    assert DiskBudget(10, tmp_path / "budget.json").written() == 0


def test_a_kill_forgets_little(tmp_path: Path) -> None:
    budget = DiskBudget(10_000_000, tmp_path / "budget.json")
    lane = budget.lane("samples")
    for _ in range(200):
        lane.wrote(4096)
    assert DiskBudget(10_000_000, tmp_path / "budget.json").written() >= budget.written() - 100_000
    assert 0 < budget.written("budgets") < budget.written("samples")


def test_it_is_told_once_and_shown(caplog: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    budget = clocks.budget(100_000)
    lane = budget.lane("samples")
    with caplog.at_level(logging.INFO):
        lane.wrote(84_000)
        for size in (90_000, 1, 90_000, 90_000):
            lane.allows(size)
        clocks.go(26 * HOUR_NS)
        assert lane.allows(90_000) and lane.allows(1)
    assert [record.event for record in caplog.records] == ["disk_budget_spent", "disk_budget_free"]
    status = common_pb2.VehicleStatus()
    lane.wrote(5000)
    budget.fill_status(status)
    assert (status.disk.written_bytes, status.disk.limit_bytes_per_day) == (on_disk(5000), 100_000)
    assert status.disk.refused_writes == 3
    first = status.disk.writers[0]
    assert (first.name, first.written_bytes) == ("samples", on_disk(5000))


def test_limits_change_while_it_runs() -> None:
    budget = Clocks().budget(1_000_000)
    lane = budget.lane("samples", 500_000)
    budget.limit_to(20_000, {"samples": 10_000, "nobody": 1})
    assert not lane.allows(8000) and lane.allows(4000)


def test_a_spool_refuses_what_the_day_does_not_allow_and_keeps_what_must_be(tmp_path: Path) -> None:
    clocks = Clocks()
    budget = clocks.budget(10 * BLOCK_BYTES)
    samples = Spool(tmp_path / "samples", disk=budget.lane("samples"))
    events = Spool(tmp_path / "events", disk=budget.lane("events"), is_optional=False)
    assert samples.append("a", bytes(8 * BLOCK_BYTES)) and not samples.append("b", bytes(100))
    assert samples.status().refused[Refusal.BUDGET] == 1
    assert events.append("c", bytes(5000))
    assert budget.written("events") == 3 * BLOCK_BYTES
    clocks.go(26 * HOUR_NS)
    assert samples.append("d", bytes(100))
