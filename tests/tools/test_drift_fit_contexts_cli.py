"""`drift fit` makes several contexts in one run: named by their sources, or found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.drift import Reference, fit
from edge.drift.features import NAMES, ORIGINS
from edge.errors import TrafficVisionError
from tests.replays import write_model
from tests.tools.drift_commands import done, run, sim
from tests.tools.drift_rows import noise
from tools.drift.fitting import Drive, contexts_of, fit_drives
from tools.drift.values import load_values, values_path

BY_DAY, BY_NIGHT = ([sim(seed, light, seconds=20) for seed in range(3)] for light in ("noon", "night"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def fitted(model: Path, out: Path, *arguments: str) -> tuple[Reference, str]:
    said = done("fit", *arguments, "--model", model, "-o", out).stderr
    return Reference.load(out), said


def test_sources_are_of_the_context_whose_pattern_they_fit(tmp_path: Path, model: Path) -> None:
    named = ("--context", "night=*light=night*", "--context", "day")
    both, _ = fitted(model, tmp_path / "both.json", *BY_DAY, *BY_NIGHT, *named)
    day, _ = fitted(model, tmp_path / "day.json", *BY_DAY)
    assert [context.name for context in both.contexts] == ["day", "night"]
    assert both.contexts[0].features[0].mean == day.contexts[0].features[0].mean
    assert both.contexts[1].features[0].mean < both.contexts[0].features[0].mean - 20
    kept = load_values(values_path(tmp_path / "both.json"), both)
    assert {context for context, _ in kept.of} == {"day", "night"}


def test_contexts_are_found(tmp_path: Path, model: Path) -> None:
    drives = [sim(seed, light, seconds=80) for seed in (1, 2) for light in ("noon", "night")]
    found, said = fitted(model, tmp_path / "found.json", *drives, "--find-contexts")
    assert [context.name for context in found.contexts] == ["found-1", "found-2"]
    assert "contexts found: found-1 (" in said


def test_one_context_that_is_found_has_the_name_that_is_given() -> None:
    times = np.arange(3_000) * 500_000_000
    drives = [Drive(f"{seed}", "noon", times, noise(seed, 3_000)) for seed in range(2)]
    made = fit_drives(drives, target_hours=24.0, rate_hz=2.0, find=True)
    assert [context.name for context in made.reference.contexts] == ["noon"]
    assert made.notes == ("contexts found: noon (100 % of the frames); 0 % are of none, and were left out",)


def test_what_is_fitted_of_named_drives_is_what_python_makes_of_named_frames() -> None:
    rng = np.random.default_rng(0)
    values = [rng.normal(level, 1.0, (200, len(NAMES))).astype(np.float32) for level in (0, 9, 1)]
    times = np.arange(200) * 500_000_000
    names = ["day", "night", "day"]
    drives = [Drive(name, name, times, rows) for name, rows in zip(names, values, strict=True)]
    made = fit_drives(drives, target_hours=24.0, rate_hz=2.0).reference
    of_frames = [[name] * 200 for name in names]
    assert made.digest == fit(values, 2.0, NAMES, origins=ORIGINS, contexts=of_frames).digest


def test_the_first_pattern_that_fits_counts_and_a_name_is_for_all_others() -> None:
    sources = ["a/night1.mp4", "a/day1.mp4", "sim:5?light=night&seconds=3"]
    assert contexts_of(sources, ["day", "night=*night*", "never=*night1*"]) == ["night", "day", "night"]
    assert contexts_of(sources, ["day"]) == ["day"] * 3
    assert contexts_of(sources, ["x=sim:5?light=night&seconds=3", "y=a/*"]) == ["y", "y", "x"]


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        (["night=*night*"], "'day1.mp4' fits no PATTERN"),
        (["day", "night=*dusk*"], "no SOURCE fits '*dusk*'"),
        (["day", "night"], "day and night are for all sources"),
    ],
)
def test_what_names_no_context_is_refused(asked: list[str], word: str) -> None:
    with pytest.raises(TrafficVisionError) as error:
        contexts_of(["night1.mp4", "day1.mp4"], asked)
    assert word in str(error.value)


def test_contexts_are_found_in_all_drives_together(tmp_path: Path, model: Path) -> None:
    day = tmp_path / "day.json"
    fit(np.zeros((90, len(NAMES))), 2.0, NAMES, origins=ORIGINS).save(day)
    for more in (("--context", "night=*"), ("--beside", str(day))):
        result = run(
            "fit", "nowhere", "--model", model, "-o", tmp_path / "out.json", "--find-contexts", *more
        )
        assert result.exit_code == 2 and "all drives together" in result.stderr
