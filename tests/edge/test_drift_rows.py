"""The rows of a commissioning on disk: what was taken is there again, whatever happened in between."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.drift import rows
from edge.drift.commissioning import FLUSH_S
from edge.drift.rows import SEGMENT_S, Head, Rows, drives, read, segments
from edge.drift.sieve import HOLD_S
from edge.machine.disk_budget import DiskBudget

NAMES = ("brightness", "count")
A, B = "a" * 64, "b" * 64
S = 10**9


def head(context: str = "day", model: str = A, run: str = "run-1", rate_hz: float = 2.0) -> Head:
    return Head(context, model, rate_hz, NAMES, run)


def some(count: int, start_s: float = 0.0, *, seed: int = 0) -> tuple[rows.Times, rows.Vectors]:
    times = (start_s * S + np.arange(count) * (S // 2)).astype(np.int64)
    values = np.random.default_rng(seed).normal(size=(count, len(NAMES))).astype(np.float32)
    values[::7, 1] = np.nan
    return times, values


def test_what_was_taken_is_there_after_a_restart(tmp_path: Path) -> None:
    kept = Rows(tmp_path / "front")
    first, second = some(300), some(200, 150, seed=1)
    assert kept.append(head(), *first) and kept.append(head(), *second)
    assert kept.append(head("night"), *some(50))
    again = Rows(tmp_path / "front")
    assert again.hours() == kept.hours() == {("day", A): 500 / 7200, ("night", A): 50 / 7200}
    day = [segment for segment in read(tmp_path / "front") if segment.head.context == "day"]
    assert [segment.head for segment in day] == [head()], "one segment grows"
    np.testing.assert_array_equal(day[0].times, np.concatenate([first[0], second[0]]))
    np.testing.assert_array_equal(day[0].values, np.concatenate([first[1], second[1]]))


def test_a_segment_is_of_one_hour_one_model_and_one_run(tmp_path: Path) -> None:
    kept = Rows(tmp_path)
    hour = round(SEGMENT_S * 2)
    for start in range(3):
        kept.append(head(), *some(hour, start * SEGMENT_S))
    kept.append(head(model=B), *some(10))
    kept.append(head(model=B, run="run-2"), *some(10))
    found = list(read(tmp_path))
    assert [len(segment.times) for segment in found] == [hour, hour, hour, 10, 10]
    assert kept.hours() == {("day", A): 3.0, ("day", B): 20 / 7200}


@settings(max_examples=40, deadline=None)  # each syncs to disk
@given(st.integers(0, 500), st.binary(max_size=70))
def test_a_torn_tail_costs_itself_alone(cut: int, tail: bytes) -> None:
    """Whatever stands behind the whole rows, and however much of them is gone."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        times, values = some(8)
        Rows(folder).append(head(), times, values)
        (path,) = segments(folder)
        whole, start = path.read_bytes(), len(head().to_bytes())
        size = (len(whole) - start) // 8
        path.write_bytes(whole[: max(start, len(whole) - cut)] + tail)
        left = max(0, len(whole) - start - cut) // size
        kept = Rows(folder)
        assert kept.hours().get(("day", A), 0.0) == left / 7200
        more = some(5, 100, seed=2)
        assert kept.append(head(), *more)
        found = list(read(folder))
        np.testing.assert_array_equal(np.concatenate([one.times for one in found])[:left], times[:left])
        np.testing.assert_array_equal(found[-1].values[-5:], more[1])


def test_rows_of_zeros_that_a_power_cut_left_are_no_rows(tmp_path: Path) -> None:
    Rows(tmp_path).append(head(), *some(4))
    (path,) = segments(tmp_path)
    path.write_bytes(path.read_bytes() + bytes(4096))
    assert Rows(tmp_path).hours() == {("day", A): 4 / 7200}
    assert [len(segment.times) for segment in read(tmp_path)] == [4]


def test_a_damaged_row_takes_those_behind_it_along_and_no_others(tmp_path: Path) -> None:
    Rows(tmp_path).append(head(), *some(10))
    (path,) = segments(tmp_path)
    data = bytearray(path.read_bytes())
    start = len(head().to_bytes())
    data[start + 6 * (len(data) - start) // 10 + 3] ^= 1
    path.write_bytes(bytes(data))
    assert Rows(tmp_path).hours() == {("day", A): 6 / 7200}


def test_a_hole_in_the_longest_write_of_a_fast_camera_is_found(tmp_path: Path) -> None:
    at_30_hz = head(rate_hz=30.0)
    count = round((FLUSH_S + HOLD_S) * 30)
    Rows(tmp_path).append(at_30_hz, *some(count))
    (path,) = segments(tmp_path)
    data, start = bytearray(path.read_bytes()), len(at_30_hz.to_bytes())
    size = (len(data) - start) // count
    # Pages come to disk in any order.
    data[start + 100 * size : start + 200 * size] = bytes(100 * size)
    path.write_bytes(bytes(data))
    assert Rows(tmp_path).hours() == {("day", A): pytest.approx(100 / 30 / 3600)}


def test_a_segment_that_somebody_removes_costs_itself_alone(tmp_path: Path) -> None:
    kept, last = Rows(tmp_path / "front"), some(5, 10)
    kept.append(head(), *some(20))
    (path,) = segments(tmp_path / "front")
    path.unlink()
    (tmp_path / "front").rmdir()
    assert kept.append(head(), *last)
    assert kept.hours() == Rows(tmp_path / "front").hours() == {("day", A): 5 / 7200}


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\x00" * 100, head().to_bytes()[:-9], head().to_bytes()])
def test_what_is_no_segment_is_removed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows-000001.f32").write_bytes(content)
    (tmp_path / "own.json").write_text("{}")
    kept = Rows(tmp_path)
    assert kept.hours() == {} and segments(tmp_path) == []
    assert (tmp_path / "own.json").exists()
    assert kept.append(head(), *some(3)) and kept.hours() == {("day", A): 3 / 7200}


def test_a_full_disk_loses_what_comes_and_nothing_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, first = Rows(tmp_path), some(20)
    kept.append(head(), *first)
    real = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if len(data) > 40:
            return real(descriptor, data[:40], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("edge.drift.rows.os.pwrite", full)  # no disk can be filled for a test
    assert not kept.append(head(), *some(20, 10))
    assert not kept.append(head("night"), *some(20, 10))
    monkeypatch.undo()
    last = some(5, 20, seed=3)
    assert kept.append(head(), *last)
    (segment,) = read(tmp_path)
    np.testing.assert_array_equal(segment.times, np.concatenate([first[0], last[0]]))
    assert Rows(tmp_path).hours() == {("day", A): 25 / 7200}


def test_the_days_bytes_are_kept(tmp_path: Path) -> None:
    budget = DiskBudget(50_000)
    kept = Rows(tmp_path, budget.lane("drift-rows"))
    taken = 0
    while kept.append(head(), *some(100, taken * 50)):
        taken += 1
    assert 1 < taken < 20 and budget.written() <= 50_000
    assert kept.hours() == {("day", A): taken * 100 / 7200}


def test_dropping_takes_one_context_or_the_oldest(tmp_path: Path) -> None:
    kept = Rows(tmp_path)
    for number in range(3):
        kept.append(head(run=f"run-{number}"), *some(7200))
    kept.append(head("night"), *some(100))
    kept.drop("day", keep_hours=2.0)
    assert [segment.head.run for segment in read(tmp_path)] == ["run-1", "run-2", "run-1"]
    kept.drop("day")
    assert kept.hours() == Rows(tmp_path).hours() == {("night", A): 100 / 7200}
    kept.drop()
    assert segments(tmp_path) == []


def test_drives_end_at_gaps_at_a_time_that_goes_back_and_with_the_run(tmp_path: Path) -> None:
    kept = Rows(tmp_path)
    kept.append(head(), *some(100))
    kept.append(head(), *some(100, 70))  # 20 s at a light
    kept.append(head(), *some(100, 500))  # a gap
    kept.append(head(), *some(100, 10))  # the clock went back
    kept.append(head(run="run-2"), *some(100, 61))
    kept.append(head(run="run-2", model=B), *some(30, 111))
    found = drives(list(read(tmp_path)), ("count", "haze"), 60.0)
    assert [len(values) for _, values in found] == [200, 100, 100, 100, 30]
    assert all(np.isnan(values[:, 1]).all() for _, values in found), "a feature that the rows do not have"
    np.testing.assert_array_equal(found[1][1][:, 0], some(100)[1][:, 1])
    assert [segment.head.model for segment, _ in found] == [A, A, A, A, B]


def test_an_hour_goes_on_in_the_next_segment(tmp_path: Path) -> None:
    kept = Rows(tmp_path)
    for part in range(30):
        kept.append(head(), *some(600, part * 300))
    assert len(segments(tmp_path)) == 3
    ((_, values),) = drives(list(read(tmp_path)), NAMES, 60.0)
    assert len(values) == 18_000
