"""Drives that the bench of the drift monitor makes figures from: what counts of them, and what is kept."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.drift import DriftMonitor, fit
from tests.replays import write_model
from tools.bench.drift.drives import Drive, drive_features


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.mark.services
def test_processes_share_the_drives_and_find_the_same(model: Path, tmp_path: Path) -> None:
    urls = [f"sim:{seed}?seconds=2&rate=2" for seed in (60_001, 60_002, 60_003)]
    alone, shared = (drive_features(urls, model, None, workers=workers) for workers in (1, 2))
    assert set(alone) == set(shared) == set(urls)
    for url in urls:
        assert len(alone[url].times_ns) == 4
        assert np.array_equal(alone[url].values, shared[url].values, equal_nan=True)


def moving(values: np.ndarray) -> Drive:
    return Drive(np.arange(len(values), dtype=np.int64) * 500_000_000, values, np.ones(len(values), np.bool_))


def test_what_is_seen_while_a_vehicle_stands_adds_nothing(model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    pictures = [rng.integers(0, 255, (96, 160, 3)).astype(np.uint8) for _ in range(20)]
    file = cv2.VideoWriter(str(tmp_path / "stop.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 2.0, (160, 96))
    for picture in [*pictures, *[pictures[-1]] * 20]:
        file.write(cv2.resize(cv2.resize(picture, (16, 9)), (160, 96)))
    file.release()
    source, cache = str(tmp_path / "stop.mp4"), tmp_path / "kept"
    (drive,) = drive_features([source], model, cache).values()
    assert drive.moving[:20].all() and not drive.moving[-10:].any()
    assert len(drive.driven) == drive.moving.sum() < 30
    values = rng.normal(size=(4000, 1)).astype(np.float32)
    reference = fit(values, 2.0, ["a"])
    calm, lamp = values[:600], np.full((600, 1), 9.0, np.float32)
    stood = moving(np.concatenate([calm, lamp]))
    assert any(state.alarm for state in stood.judged_by(DriftMonitor(reference)))
    stands = np.arange(1200) >= 600
    stood = Drive(stood.times_ns, stood.values, ~stands)
    assert not any(state.alarm for state in stood.judged_by(DriftMonitor(reference)))


def test_an_older_cache_is_read_where_it_says_all(model: Path, tmp_path: Path) -> None:
    """Older files do not say what moves; a simulated drive always does, of a recording it is found out."""
    file = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 2.0, (160, 96))
    for level in range(20):
        file.write(np.full((96, 160, 3), 40 + level, np.uint8))
    file.release()
    simulated, recorded = "sim:60001?seconds=2&rate=2", str(tmp_path / "a.mp4")
    cache = tmp_path / "kept"
    made = drive_features([simulated, recorded], model, cache)
    for path in cache.iterdir():
        with np.load(path) as kept:
            older = {"times_ns": kept["times_ns"], "values": kept["values"] + 1}
        with path.open("wb") as written:
            np.savez_compressed(written, **older)
    again = drive_features([simulated, recorded], model, cache)
    assert made[simulated].moving.all()
    assert np.array_equal(again[simulated].values, made[simulated].values + 1, equal_nan=True), "as kept"
    assert again[simulated].moving.all()
    assert np.array_equal(again[recorded].values, made[recorded].values, equal_nan=True), "computed anew"
