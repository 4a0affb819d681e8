"""`drift fit` says for whose camera its reference promises anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge.drift import Reference, Scope
from tests.replays import write_model
from tests.tools.drift_rows import noise
from tools.cli import root
from tools.drift.fitting import Drive, fit_drives
from tools.drift.words import reference_text


@pytest.fixture(scope="module")
def day() -> Drive:
    """Of so many hours that a reference of it promises."""
    return Drive("day", "day", np.arange(30_000) * 500_000_000, noise(1, 30_000))


def test_a_reference_promises_for_the_camera_that_its_drives_are_of(day: Drive) -> None:
    made = fit_drives([day], target_hours=24.0, rate_hz=2.0).reference
    assert made.promises("day")
    assert (
        "promised, of the very camera that these drives are of; if they are of others, fit with --fleet"
        in (reference_text(made))
    )


def test_the_fleet_s_promises_nothing(day: Drive) -> None:
    made = fit_drives([day], target_hours=24.0, rate_hz=2.0, scope=Scope.FLEET).reference
    assert not made.promises("day")
    told = reference_text(made)
    assert "it is of other vehicles' cameras" in told and "--fleet" not in told


@pytest.mark.parametrize(("more", "scope"), [((), Scope.SERIES), (("--fleet",), Scope.FLEET)])
def test_the_fleet_s_is_asked_for(tmp_path: Path, more: tuple[str, ...], scope: Scope) -> None:
    out = tmp_path / "day.json"
    source = "sim:1?seconds=20&rate=2&size=160x90"
    asked = ["drift", "fit", source, "--model", str(write_model(tmp_path)), "-o", str(out), *more]
    assert CliRunner().invoke(root, asked).exit_code == 0
    assert [context.scope for context in Reference.load(out).contexts] == [scope]
