"""The fit of a camera's own reference, in a child process that nothing depends on."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from edge.drift import fit
from edge.drift.fit_child import FitTerms, fit_context, fit_in_child
from edge.drift.own import UNSORTED
from edge.drift.reference import DriftReferenceError
from edge.drift.rows import Head, Rows, read
from edge.drift.state import Scope
from tests.processes import descendants

NAMES = ("brightness", "count")
ORIGINS = ("picture", "detections")
A, B = "a" * 64, "b" * 64
S = 10**9
TERMS = FitTerms("day", A, 2.0, NAMES, ORIGINS, 24.0)


def stretch(seconds: float, *, seed: int, level: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = np.empty((round(seconds * 2), 2), np.float32)
    values[0] = rng.normal(size=2)
    for number in range(1, len(values)):
        values[number] = 0.7 * values[number - 1] + rng.normal(size=2)
    return values + np.float32(level)


def keep(kept: Rows, values: np.ndarray, *, context: str = "day", model: str = A, run: str = "1") -> None:
    times = (np.arange(len(values)) * (S // 2)).astype(np.int64)
    assert kept.append(Head(context, model, 2.0, NAMES, run), times, values)


def fitting() -> list[psutil.Process]:
    return descendants(None, lambda child: "edge.drift.fit_child" in child.cmdline())


def test_it_is_what_a_fit_of_the_same_drives_gives(tmp_path: Path) -> None:
    first, second = stretch(600, seed=1), stretch(400, seed=2)
    kept = Rows(tmp_path)
    keep(kept, first)
    keep(kept, second, run="2")
    keep(kept, stretch(300, seed=3, level=9.0), context="night")
    found = fit_in_child(tmp_path, TERMS, None, threading.Event())
    expected = fit([first, second], 2.0, NAMES, origins=ORIGINS, context="day", scope=Scope.CAMERA)
    assert found.digest == expected.digest
    assert found.contexts[0].scope is Scope.CAMERA


def test_contexts_are_found_in_what_fits_none(tmp_path: Path) -> None:
    kept, day = Rows(tmp_path), 0
    for level in (0.0, 40.0):
        for _ in range(3):
            day += 1
            times = (np.arange(1200) * (S // 2)).astype(np.int64)
            head = Head(UNSORTED, A, 2.0, NAMES, "1", f"2026-03-{day:02d}")
            assert kept.append(head, times, stretch(600, seed=day, level=level))
    keep(kept, stretch(600, seed=9, level=-40.0))
    assert len(kept.days(UNSORTED)) == 6 and kept.days(UNSORTED) == Rows(tmp_path).days(UNSORTED)
    found = fit_in_child(tmp_path, replace(TERMS, context=UNSORTED), None, threading.Event())
    assert [one.name for one in found.contexts] == ["found-1", "found-2"]
    assert {round(one.features[0].mean / 40) for one in found.contexts} == {0, 1}
    assert all(one.scope is Scope.CAMERA for one in found.contexts)


def test_what_another_model_found_does_not_count_but_the_picture_does(tmp_path: Path) -> None:
    kept = Rows(tmp_path)
    keep(kept, stretch(600, seed=1, level=50.0), model=B)
    keep(kept, stretch(400, seed=2))
    picture, found = fit_context(list(read(tmp_path)), TERMS, None).contexts[0].features
    assert (picture.frames, found.frames) == (2000, 800)
    assert picture.mean > 10 > found.mean
    (_, nothing) = (
        fit_context(list(read(tmp_path)), replace(TERMS, model="c" * 64), None).contexts[0].features
    )
    assert not nothing.known


def test_rows_of_another_rate_are_another_camera(tmp_path: Path) -> None:
    kept = Rows(tmp_path)
    keep(kept, stretch(100, seed=1))
    assert fit_context(list(read(tmp_path)), replace(TERMS, rate_hz=2.05), None)
    with pytest.raises(DriftReferenceError, match="no frames of context day"):
        fit_context(list(read(tmp_path)), replace(TERMS, rate_hz=10.0), None)


def test_frames_that_came_slower_are_counted_in_time_and_in_frames_of_the_rate(tmp_path: Path) -> None:
    """A frame a second, of two; the vehicle stood for 50 s now and then, which is no rate."""
    values = stretch(1800, seed=1)
    times = np.arange(len(values)) * S + np.arange(len(values)) // 300 * 50 * S
    kept = Rows(tmp_path)
    assert kept.append(Head("day", A, 2.0, NAMES, "1"), times.astype(np.int64), values)
    made = fit_context(list(read(tmp_path)), TERMS, None)
    as_it_came = fit([values], 1.0, NAMES, origins=ORIGINS, context="day", scope=Scope.CAMERA)
    assert made.rate_hz == 2.0
    for one, other in zip(made.contexts[0].features, as_it_came.contexts[0].features, strict=True):
        assert one.frames / 2.0 == other.frames / 1.0 == 3600.0
        assert one.tau / 2.0 == pytest.approx(other.tau / 1.0)
        assert [tail.frames / 2.0 for tail in one.tails] == [tail.frames / 1.0 for tail in other.tails]
        assert (one.edges == other.edges).all() and (one.lower == other.lower).all()


def test_nothing_to_fit_is_said_by_the_child(tmp_path: Path) -> None:
    with pytest.raises(DriftReferenceError, match="no frames of context day"):
        fit_in_child(tmp_path, TERMS, None, threading.Event())


def test_a_child_that_is_killed_says_so_and_leaves_the_rows(tmp_path: Path) -> None:
    kept = Rows(tmp_path)
    for run in range(10):
        keep(kept, stretch(3600, seed=run), run=str(run))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    failed: list[str] = []

    def wait() -> None:
        try:
            fit_in_child(tmp_path, TERMS, None, threading.Event())
        except DriftReferenceError as error:
            failed.append(str(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    children: list[psutil.Process] = []
    while not children and waiting.is_alive():
        children = fitting()
    children[0].kill()
    waiting.join(60)
    assert failed and "the fit of a drift reference died (signal 9)" in failed[0]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_end_of_the_daemon_ends_it(tmp_path: Path) -> None:
    kept = Rows(tmp_path)
    for run in range(10):
        keep(kept, stretch(3600, seed=run), run=str(run))
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(DriftReferenceError, match="broken off: the daemon stops"):
        fit_in_child(tmp_path, TERMS, None, stopping)
    assert not fitting()
