"""Features that users bring themselves: in whatever form, and of whatever size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.drift import DriftMonitor, DriftReferenceError, Reference, Verdict, fit, scan, scan_times
from tests.edge.drift_streams import ar1

NAMES = ["speed", "echo"]
RATE_HZ = 2.0


def series(seed: int, frames: int) -> np.ndarray:
    return ar1(np.random.default_rng(seed), 0.6, frames, 2)


def test_lists_are_as_good_as_arrays() -> None:
    drives = [series(seed, 400) for seed in range(3)]
    one, several = fit(drives[0], RATE_HZ, NAMES), fit(drives, RATE_HZ, NAMES)
    assert fit(drives[0].tolist(), RATE_HZ, NAMES).digest == one.digest
    assert fit(list(drives[0]), RATE_HZ, NAMES).digest == one.digest
    assert fit([drive.tolist() for drive in drives], RATE_HZ, NAMES).digest == several.digest
    named = ["day"] * 200 + ["night"] * 200
    by_context = fit(drives[0], RATE_HZ, NAMES, contexts=named)
    assert fit(drives[0].tolist(), RATE_HZ, NAMES, contexts=named).digest == by_context.digest
    (state,), (last,) = scan(one, drives[1], RATE_HZ)[-1:], scan(one, drives[1].tolist(), RATE_HZ)[-1:]
    assert state == last
    times = [number * 500_000_000 for number in range(400)]
    assert scan_times(one, drives[1].tolist(), times)[-1] == state
    monitor = DriftMonitor(one)
    for time_ns, row in zip(times, drives[1].tolist(), strict=True):
        monitor.observe(time_ns, row)
    assert monitor.state is not None and monitor.state.verdict is state.verdict


def test_a_list_of_nothing_is_a_value_that_is_not_to_be_had() -> None:
    rows = [[1.0, None] for _ in range(100)]
    (context,) = fit(rows, RATE_HZ, NAMES).contexts
    assert [feature.known for feature in context.features] == [True, False]


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ([[1.0, 2.0], [1.0]], "array of numbers"),
        ([[[1.0, 2.0], [1.0]]], "drive 0 can not be made an array of numbers"),
        ([["fast", "slow"]] * 40, "array of numbers"),
        ([1.0, 2.0], "expected"),
        ([], "no frames"),
    ],
)
def test_what_is_no_array_is_refused_in_words(rows: list, word: str) -> None:
    with pytest.raises(DriftReferenceError, match=word):
        fit(rows, RATE_HZ, NAMES)


def test_a_vector_or_a_series_of_no_numbers_is_refused_in_words() -> None:
    reference = fit(series(0, 400), RATE_HZ, NAMES)
    with pytest.raises(DriftReferenceError, match="the vector can not be made an array of numbers"):
        DriftMonitor(reference).observe(0, ["fast", "slow"])
    with pytest.raises(DriftReferenceError, match="2 features"):
        DriftMonitor(reference).observe(0, 1.0)
    with pytest.raises(DriftReferenceError, match="the series can not be made an array of numbers"):
        scan(reference, [[1.0, 2.0], [1.0]], RATE_HZ)
    with pytest.raises(DriftReferenceError, match="shape"):
        scan(reference, 1.0, RATE_HZ)


def alarmed_share(reference: Reference, offset: float, seed: int) -> float:
    found = scan(reference, series(seed, 7200) + offset, RATE_HZ)
    return float(np.mean([state.verdict is Verdict.ALARM for state in found[200:]]))


@pytest.mark.parametrize("offset", [1e5, 1e7, 3e7, -1e7])
@pytest.mark.parametrize("drives", [1, 8])
def test_values_far_from_zero_are_judged_as_they_were_fitted(
    offset: float, drives: int, tmp_path: Path
) -> None:
    """Of a deviation of 1, what float32 keeps of them is a count with a handful of values."""
    made = [series(seed, 7200 // drives) + offset for seed in range(drives)]
    reference = fit(made, RATE_HZ, NAMES)
    reference.save(tmp_path / "far.json")
    read = Reference.load(tmp_path / "far.json")
    assert [alarmed_share(one, offset, 100) for one in (reference, read)] == [0.0, 0.0]
    changed = np.concatenate([series(101, 1200), series(102, 1200) + 4.0]) + offset
    assert scan(read, changed, RATE_HZ)[-1].alarm


def test_what_float32_cannot_tell_apart_is_constant_and_that_is_said() -> None:
    reference = fit(series(0, 7200) + 1e10, RATE_HZ, NAMES)
    state = scan(reference, series(1, 400) + 1e10, RATE_HZ)[-1]
    assert state.verdict is Verdict.PAUSED
    assert any("never changed in the reference, not judged: speed, echo" in note for note in state.notes)
    far = fit(np.where(np.arange(100)[:, None] % 2, 1e300, 1.0) * np.ones(2), RATE_HZ, NAMES)
    assert [one.frames for one in far.contexts[0].features] == [50, 50]
