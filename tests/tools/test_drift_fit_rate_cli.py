"""`drift fit` goes by the times at which frames came."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from edge.drift import Reference, fit
from edge.drift.features import NAMES, ORIGINS
from edge.drift.frame_rate import taken_to
from edge.errors import TrafficVisionError
from tests.replays import write_model
from tests.tools.drift_commands import done, run, sim
from tools.drift.fitting import Drive, fit_drives

SECOND = 10**9


def at_rate(seed: int, rate: float, seconds: int = 40) -> str:
    return sim(seed, seconds=seconds, rate=rate)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def fitted(model: Path, out: Path, *arguments: object) -> tuple[Reference, Result]:
    result = done("fit", *arguments, "--model", model, "-o", out)
    return Reference.load(out), result


def test_slow_drives_know_the_seconds_that_they_lasted(tmp_path: Path, model: Path) -> None:
    usual, said = fitted(model, tmp_path / "usual.json", at_rate(1, 2), at_rate(2, 2))
    slow, said_of_slow = fitted(model, tmp_path / "slow.json", at_rate(1, 0.5, 160), at_rate(2, 0.5, 160))
    assert (usual.rate_hz, slow.rate_hz) == (2.0, 2.0)
    brightness, slower = (one.contexts[0].features[0] for one in (usual, slow))
    assert (brightness.frames / 2.0, slower.frames / 2.0) == (80.0, 320.0)
    assert slower.tau >= 4  # of frames 2 s apart it is 2 s at the least
    assert "0.5 frames a second came of 'sim:1?" in said_of_slow.stderr
    assert "frames a second came" not in said.stderr


def test_a_rate_that_is_asked_for_is_the_reference_s(tmp_path: Path, model: Path) -> None:
    asked = (at_rate(1, 0.5, 160), at_rate(2, 2, 160), "--rate", "0.5")
    own, said = fitted(model, tmp_path / "own.json", *asked)
    assert (own.rate_hz, own.contexts[0].features[0].frames) == (0.5, 160)
    assert "frames a second came" not in said.stderr


def test_quicker_drives_are_taken_at_the_rate_of_the_slowest(tmp_path: Path, model: Path) -> None:
    mixed, said = fitted(model, tmp_path / "mixed.json", at_rate(1, 2), at_rate(2, 1), at_rate(3, 1))
    assert mixed.rate_hz == 2.0
    assert mixed.contexts[0].features[0].frames / 2.0 == 120.0
    assert "of 'sim:2?" in said.stderr and "quicker ones (1)" in said.stderr


@pytest.mark.parametrize("rate", ["0", "nan", "-1"])
def test_a_rate_that_makes_no_sense_is_refused(tmp_path: Path, model: Path, rate: str) -> None:
    result = run("fit", at_rate(1, 2), "--model", model, "-o", tmp_path / "x.json", "--rate", rate)
    assert isinstance(result.exception, TrafficVisionError) or result.exit_code == 2
    assert "rate" in f"{result.exception} {result.output}"


def drive(start_s: float, frames: int, step_s: float = 0.5) -> Drive:
    rng = np.random.default_rng(round(start_s) + frames)
    values = rng.normal(size=(frames, len(NAMES))).astype(np.float32)
    return Drive("one", "day", ((start_s + np.arange(frames) * step_s) * SECOND).astype(np.int64), values)


def test_what_lies_beyond_a_gap_is_another_stretch() -> None:
    first, second = drive(0, 100), drive(1000, 200)
    times, values = (
        np.concatenate([getattr(one, what) for one in (first, second)]) for what in ("times", "values")
    )
    made = fit_drives([Drive("both", "day", times, values)], target_hours=24.0, rate_hz=2.0)
    apart = fit([first.values, second.values], 2.0, NAMES, origins=ORIGINS, context="day")
    assert made.reference.digest == apart.digest
    assert made.reference.contexts[0].features[0].drives == 2


def test_a_slow_drive_is_fitted_as_it_came() -> None:
    slow = drive(0, 300, step_s=2.0)
    made = fit_drives([slow], target_hours=24.0, rate_hz=2.0)
    own = fit([slow.values], 0.5, NAMES, origins=ORIGINS, context="day")
    assert made.reference.digest == taken_to(own, 2.0).digest
    assert set(made.values.of) == {("day", name) for name in NAMES}
