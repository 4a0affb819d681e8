"""What fits no known context, and comes again: it becomes a context of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edge.drift import DriftMonitor, fit
from edge.drift.own import UNSORTED, merged
from edge.drift.reference import Reference
from edge.drift.state import Scope
from tests.edge.drift_camera import HOUR, LEARNING, NAMES, ORIGINS, RATE_HZ, A, Camera, S, context_of


def fleets_day() -> Reference:
    values = np.random.default_rng(0).normal(size=(HOUR, 2))
    origins = [one.value for one in ORIGINS]
    return fit(values, RATE_HZ, NAMES, origins=origins, context="day", scope=Scope.FLEET)


def driven(folder: Path, drives: Sequence[tuple[str, float, str, float, bool]]) -> Camera:
    """A camera after drives, each after a restart: date, hours, context, level, whether in alarm."""
    prior = fleets_day()
    for day, hours, context, level, alarm in drives:
        camera = Camera(folder).under(A, prior)
        camera.today = day
        camera.drive(hours, context, level, alarm=alarm)
    return camera


LONG_ALARM = ("2026-03-01", 25.0, "", 9.0, True)


def test_what_fits_no_known_context_becomes_one_of_its_own_and_widens_none(tmp_path: Path) -> None:
    nights = [(f"2026-03-0{number}", 1.7, "", 9.0, True) for number in (2, 3)]
    days = [("2026-03-05", 4.2, "day", 0.0, False)]
    camera = driven(tmp_path / "front", [LONG_ALARM, *nights, *days])
    own = camera.it.own
    assert own is not None and [one.name for one in own.reference.contexts] == ["day", "found-1"]
    assert context_of(camera).features[0].mean == pytest.approx(0.0, abs=0.3)
    assert context_of(camera).features[0].sigma < 1.5, "no night is in it"
    night = context_of(camera, "found-1")
    assert night.features[0].mean == pytest.approx(9.0, abs=0.3) and night.scope is Scope.CAMERA
    assert own.fitted["found-1"].hours == pytest.approx(4.0, abs=0.2)
    assert camera.it.progress(UNSORTED).hours < 1.0, "what it was made of has gone"


def test_what_was_found_is_judged_beside_what_the_model_knows(tmp_path: Path) -> None:
    nights = [(f"2026-03-0{number}", 2.0, "", 9.0, True) for number in (2, 3, 4)]
    camera = driven(tmp_path / "front", [LONG_ALARM, *nights])
    judged = merged(camera.it.own, fleets_day(), A)
    assert judged is not None and {one.name for one in judged.contexts} == {"day", "found-1"}
    monitor, rng = DriftMonitor(judged), np.random.default_rng(1)
    states = [
        monitor.observe(number * 30 * S, rng.normal(level, 1.0, 2))
        for level, numbers in ((9.0, range(600)), (0.0, range(600, 1200)), (-9.0, range(1200, 1800)))
        for number in numbers
    ]
    seen = [state for state in states if state is not None]
    quiet = [state for state in seen if state.time_ns < 1200 * 30 * S]
    assert {state.context for state in quiet} >= {"found-1", "day"} and not any(one.alarm for one in quiet)
    assert seen[-1].alarm, "what is neither still alarms"


def test_two_bad_days_are_not_usual(tmp_path: Path) -> None:
    nights = [(f"2026-03-0{number}", 3.0, "", 9.0, True) for number in (1, 2)]
    camera = driven(tmp_path / "front", [LONG_ALARM, *nights])
    assert camera.it.own is None and camera.fits == 0
    (note,) = camera.it.notes("", LEARNING, alarm=True)
    assert note.startswith("commissioning of what fits no known context: 7.") and note.endswith(
        "on 2 of 3 days"
    )


def test_of_what_fits_no_known_context_each_group_needs_days_of_its_own(tmp_path: Path) -> None:
    nights = [(f"2026-03-0{number}", 2.0, "", 9.0, True) for number in (2, 3)]
    rain = [("2026-03-02", 1.0, "", -30.0, True)]
    camera = driven(tmp_path / "front", [LONG_ALARM, *rain, *nights])
    assert camera.it.own is not None
    (found,) = camera.it.own.reference.contexts
    assert found.name == "found-1" and found.features[0].mean == pytest.approx(9.0, abs=0.3)


def test_the_rim_of_a_known_context_is_no_other_and_is_looked_at_again_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rims = [(f"2026-03-0{number}", 2.0, "", 0.5, True) for number in (2, 3, 4)]
    with caplog.at_level(logging.INFO):
        camera = driven(tmp_path / "front", [LONG_ALARM, *rims])
    assert camera.it.own is None and "at the rim of one that is known" in caplog.text
    tried = camera.fits
    camera.drive(3.0, "", 0.5, alarm=True)
    assert camera.fits == tried + 3, "once in an hour more"
    camera.drive(40.0, "", 0.5, alarm=True)
    assert camera.it.progress(UNSORTED).hours <= 24.5, "it does not grow for ever"


def test_a_second_context_is_found_beside_the_first(tmp_path: Path) -> None:
    nights = [(f"2026-03-0{number}", 2.0, "", 9.0, True) for number in (2, 3, 4)]
    snows = [(f"2026-03-1{number}", 2.0, "", 30.0, True) for number in (2, 3, 4)]
    camera = driven(tmp_path / "front", [LONG_ALARM, *nights])
    first = context_of(camera, "found-1")
    camera = driven(tmp_path / "front", snows)
    assert context_of(camera, "found-1").features[0].frames == first.features[0].frames
    assert context_of(camera, "found-2").features[0].mean == pytest.approx(30.0, abs=0.3)
