"""A camera that no reference tells contexts apart for: day and night come and go, a change is told soon."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edge.drift import combine, fit, scan_arrays
from edge.drift.own import UNNAMED, Own
from edge.drift.rows import read
from edge.drift.series import VERDICTS
from edge.drift.state import Scope, Verdict
from edge.drift.unsorted import told_apart
from tests.edge.drift_camera import HOUR, NAMES, ORIGINS, RATE_HZ, A, B, Camera, S, context_of, own_of

DAY, NIGHT, SMEARED = 0.0, -30.0, 15.0


def alternating(camera: Camera, hours: float) -> None:
    for number in range(round(2 * hours)):
        camera.drive(0.5, UNNAMED, (DAY, NIGHT)[number % 2])


def delays(camera: Camera, shift: float) -> tuple[float, float]:
    """What share of 20 h of day and night is in alarm, and the frames until a change by day is found."""
    rng = np.random.default_rng(1)
    quiet = np.concatenate([rng.normal((DAY, NIGHT)[n % 2], 1.0, (HOUR // 2, 2)) for n in range(40)])
    changed = rng.normal(DAY, 1.0, (5 * HOUR, 2)) + np.array([shift, 0.0])
    judged = scan_arrays(own_of(camera).reference, np.concatenate([quiet, changed]), RATE_HZ)
    frames = judged.time_ns / S * RATE_HZ
    alarming = frames[judged.verdict == VERDICTS.index(Verdict.ALARM)]
    after = alarming[alarming >= len(quiet)]
    return (len(alarming) - len(after)) / len(quiet), (after[0] - len(quiet)) if len(after) else np.inf


def test_day_and_night_become_contexts_and_a_change_is_found_soon(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front").under(A)
    alternating(camera, 5.0)
    own = own_of(camera)
    assert [one.name for one in own.reference.contexts] == ["found-1", "found-2"]
    means = sorted(one.features[0].mean for one in own.reference.contexts)
    assert means == pytest.approx([NIGHT, DAY], abs=0.3)
    assert all(one.features[0].sigma < 1.5 and one.scope is Scope.CAMERA for one in own.reference.contexts)
    alarmed, frames = delays(camera, 3.0)
    # Two hours of each promise nothing yet: a single false alarm is none too many.
    assert alarmed < 0.02 and frames < 60
    assert Own.load(tmp_path / "front" / "own.json").reference.digest == own.reference.digest


def test_one_world_stays_one_context_that_all_frames_are_of(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front").under(A)
    for _ in range(9):
        camera.drive(0.5, UNNAMED, DAY)
    own = own_of(camera)
    assert [one.name for one in own.reference.contexts] == [UNNAMED]
    assert context_of(camera, UNNAMED).features[0].frames >= 4 * HOUR


def test_what_came_once_gets_no_context_in_which_it_would_be_usual(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front").under(A)
    alternating(camera, 1.5)
    camera.drive(1.0, UNNAMED, SMEARED)
    alternating(camera, 6.5)
    own = own_of(camera)
    means = sorted(one.features[0].mean for one in own.reference.contexts)
    assert len(means) == 2 and means[0] == pytest.approx(NIGHT, abs=0.3), "the night has nothing of it"


def test_a_night_that_came_twice_waits_for_the_third(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front").under(A)
    for level in (DAY, NIGHT, DAY, NIGHT, DAY):
        camera.drive(0.9, UNNAMED, level)
    assert [one.name for one in own_of(camera).reference.contexts] == [UNNAMED]
    for level in (NIGHT, DAY, NIGHT, DAY):
        camera.drive(0.9, UNNAMED, level)
    own = own_of(camera)
    assert [one.name for one in own.reference.contexts] == ["found-1", "found-2"]
    assert {"found-1", "found-2"} == set(own.fitted), "nothing of what was one context is left"


def test_each_of_the_contexts_is_commissioned_on_and_the_rest_goes(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front").under(A)
    alternating(camera, 4.5)
    before = context_of(camera, "found-1").features[0].frames
    assert camera.it.progress(UNNAMED).hours <= 0.5
    camera.drive(4.5, "found-1", context_of(camera, "found-1").features[0].mean)
    assert context_of(camera, "found-1").features[0].frames > before
    assert {one.head.context for one in read(tmp_path / "front")} == {"found-1"}
    # Another model without a reference finds the contexts as they were.
    camera.under(B)
    camera.drive(4.5, "found-1", context_of(camera, "found-1").features[0].mean)
    assert [one.name for one in own_of(camera).reference.contexts] == ["found-1", "found-2"]


def test_under_a_reference_of_one_context_there_is_one(tmp_path: Path) -> None:
    mixed = np.concatenate([np.random.default_rng(0).normal(level, 1.0, (HOUR, 2)) for level in (DAY, NIGHT)])
    prior = fit(mixed, RATE_HZ, NAMES, origins=[one.value for one in ORIGINS], scope=Scope.FLEET)
    assert combine(prior).contexts[0].name == UNNAMED
    camera = Camera(tmp_path / "front").under(A, prior)
    alternating(camera, 5.0)
    assert [one.name for one in own_of(camera).reference.contexts] == [UNNAMED]


@pytest.mark.parametrize("values", [[np.full((300, 2), np.nan, np.float32)], [np.ones((1, 2), np.float32)]])
def test_what_has_no_picture_or_does_not_last_is_one_context(values: Sequence[np.ndarray]) -> None:
    ((name, drives),) = told_apart(values, 1.0, ORIGINS)
    assert name == UNNAMED and [len(one) for one in drives] == [len(one) for one in values]
