"""What candidates found in shadow: kept until it is used, and gone when it is of no use."""

from __future__ import annotations

import errno
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.drift.own import Own
from edge.drift.reference import DriftReferenceError
from edge.drift.rows import read
from edge.drift.shadow_seen import FILE_NAME, FOLDER, MOST_ROWS, SeenInShadow, rate_of
from tests.edge.drift_shadowed import NAMES, OLD, RATE_HZ, Camera, S, X, Y, kept, left


def test_what_passed_is_fitted_once_it_judges_and_its_rows_go(tmp_path: Path) -> None:
    camera = Camera(tmp_path).judges(OLD).shadow(X, level=4.0)
    assert left(tmp_path) == [], "until its end all is in memory"
    camera.it.passed()
    assert kept(tmp_path) == 200 and camera.knows() == ""
    camera.judges(X)
    assert camera.knows() == X and left(tmp_path) == [FILE_NAME] and not (tmp_path / FOLDER).exists()
    assert camera.it.known is not None
    (context,) = camera.it.known.reference.contexts
    assert [one.known for one in context.features] == [False, True]
    assert context.features[1].mean == pytest.approx(4.0, abs=0.3)
    assert camera.it.known.fitted[context.name].model_hours == pytest.approx(200 / 3600, rel=0.01)
    again = Camera(tmp_path).judges(X)
    assert again.knows() == X and again.fits == 0 and again.it.known is not None
    assert again.it.known.reference.digest == camera.it.known.reference.digest


@pytest.mark.parametrize("ends", ["forget", "begin", "restart"])
@pytest.mark.parametrize("has_passed", [False, True])
def test_a_shadow_that_ends_without_an_exchange_leaves_nothing(
    tmp_path: Path, has_passed: bool, ends: str
) -> None:
    camera = Camera(tmp_path).judges(OLD).shadow(X)
    if has_passed:
        camera.it.passed()
    if ends == "forget":
        camera.it.forget()
    elif ends == "begin":
        camera.it.begin(Y)
    else:
        camera = Camera(tmp_path).judges(OLD)
    assert left(tmp_path) == [] and not (tmp_path / FOLDER).exists()
    assert camera.judges(X).knows() == "" and camera.fits == 0


def test_a_fit_that_fails_is_said_and_not_tried_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    camera = Camera(tmp_path).judges(OLD).shadow(X)
    camera.it.passed()
    camera.fail = DriftReferenceError("it takes more than 1000 MB of memory")
    with caplog.at_level(logging.INFO):
        camera.judges(X)
    assert "is learned on the way: it takes more than 1000 MB" in caplog.text
    assert camera.knows() == "" and left(tmp_path) == []


def test_a_fit_whose_process_cannot_be_started_is_left_to_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    camera = Camera(tmp_path).judges(OLD).shadow(X)
    camera.it.passed()
    camera.fail = OSError(errno.EAGAIN, "no process more")
    with caplog.at_level(logging.WARNING):
        camera.judges(X)
    assert "fitted after the next start" in caplog.text
    assert camera.knows() == "" and kept(tmp_path) == 200
    assert Camera(tmp_path).judges(X).knows() == X


def test_what_finds_no_place_among_the_fits_is_said_and_left_to_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    camera = Camera(tmp_path).judges(OLD).shadow(X)
    camera.it.passed()
    camera.is_full = True
    with caplog.at_level(logging.WARNING):
        camera.judges(X)
    assert "waits for the next start" in caplog.text and kept(tmp_path) == 200
    assert Camera(tmp_path).judges(X).knows() == X


def test_a_model_that_is_taken_back_takes_along_what_it_was_known_by(tmp_path: Path) -> None:
    camera = Camera(tmp_path).judges(OLD).shadow(X)
    camera.it.passed()
    camera.judges(X).judges(OLD)
    assert camera.knows() == "" and left(tmp_path) == []


def test_a_model_that_is_taken_back_before_its_fit_is_not_fitted(tmp_path: Path) -> None:
    camera = Camera(tmp_path).judges(OLD).shadow(X)
    camera.it.passed()
    camera.at_once = False
    camera.judges(X).judges(OLD)
    camera.at_once = True
    camera._submit(lambda: None)
    assert camera.fits == 0 and left(tmp_path) == []


def test_the_next_candidate_does_not_take_away_what_the_one_that_judges_is_known_by(tmp_path: Path) -> None:
    camera = Camera(tmp_path).judges(OLD).shadow(X)
    camera.it.passed()
    camera.at_once = False
    camera.judges(X)
    camera.shadow(Y, level=7.0)
    assert kept(tmp_path) == 200, "it is put in, and waits for its fit"
    camera.waits.pop()()
    camera.at_once = True
    assert camera.knows() == X
    camera.it.passed()
    assert camera.knows() == X and kept(tmp_path) == 200
    assert camera.judges(Y).knows() == Y and camera.it.known is not None
    assert camera.it.known.reference.contexts[0].features[1].mean == pytest.approx(7.0, abs=0.3)


def test_a_fit_that_ends_after_the_next_shadow_leaves_its_rows(tmp_path: Path) -> None:
    camera = Camera(tmp_path).judges(OLD).shadow(X)
    camera.it.passed()

    def another() -> None:
        camera.shadow(Y)
        camera.it.passed()

    camera.meanwhile = another
    camera.judges(X)
    assert camera.knows() == X and kept(tmp_path) == 200
    camera.meanwhile = lambda: None
    assert camera.judges(Y).knows() == Y


def test_another_camera_is_known_by_nothing(tmp_path: Path) -> None:
    camera = Camera(tmp_path).judges(OLD).shadow(X)
    camera.it.passed()
    camera.judges(X)
    camera.it.camera_is_another()
    assert camera.knows() == "" and left(tmp_path) == []
    # Nor by a fit of the one before that was under way.
    camera.shadow(Y)
    camera.it.passed()
    camera.meanwhile = camera.it.camera_is_another
    assert camera.judges(Y).knows() == "" and left(tmp_path) == []


def test_the_latest_rows_are_kept_and_no_more(tmp_path: Path) -> None:
    camera = Camera(tmp_path).judges(OLD)
    camera.it.begin(X)
    camera.see(X, MOST_ROWS, level=-5.0)
    camera.see(X, MOST_ROWS // 2, level=5.0)
    camera.it.passed()
    (segment,) = read(tmp_path / FOLDER)
    assert len(segment.times) == MOST_ROWS and (np.diff(segment.times) == S).all()
    assert int(segment.times[-1]) == (MOST_ROWS + MOST_ROWS // 2 - 1) * S
    assert (segment.values[-MOST_ROWS // 4 :, 1] > 0).all()


def test_rows_come_at_most_at_the_cameras_rate(tmp_path: Path) -> None:
    camera = Camera(tmp_path).judges(OLD)
    camera.it.begin(X)
    camera.see(X, 3000, every_ns=S // 30)
    camera.it.passed()
    (segment,) = read(tmp_path / FOLDER)
    assert len(segment.times) == pytest.approx(200, abs=2) and segment.head.rate_hz == pytest.approx(
        RATE_HZ, rel=0.05
    )


@given(st.lists(st.integers(1, 40), min_size=2, max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_the_rate_is_that_of_most_frames(steps: list[int], gaps: list[int]) -> None:
    """Whatever pauses lie between stretches of driving, and wherever the time went back."""
    times = np.cumsum([0, *(step * S // 10 for step in steps)]).astype(np.int64)
    expected = rate_of(times)
    assert expected == pytest.approx(10 / float(np.median(steps)))
    for gap in gaps:
        times[gap % len(times) :] += 3600 * S
    broken = [step for at, step in enumerate(steps, 1) if at not in {gap % len(times) for gap in gaps}]
    found = rate_of(times)
    assert found == (pytest.approx(10 / float(np.median(broken))) if broken else None)


def test_a_handful_of_rows_is_not_worth_a_fit(tmp_path: Path) -> None:
    camera = Camera(tmp_path).judges(OLD).shadow(X, rows=20)
    camera.it.passed()
    assert left(tmp_path) == []


def test_a_late_answer_of_a_candidate_that_was_is_not_the_next_ones(tmp_path: Path) -> None:
    camera = Camera(tmp_path).judges(OLD).shadow(X)
    camera.it.forget()
    camera.see(X)
    camera.it.begin(Y)
    camera.see(X, level=9.0)
    camera.it.passed()
    assert left(tmp_path) == []


def test_features_that_are_watched_only_now_are_learned(tmp_path: Path) -> None:
    camera = Camera(tmp_path).judges(OLD).shadow(X)
    camera.it.passed()
    camera.judges(X)
    own = Own.load(tmp_path / FILE_NAME)
    narrow = replace(
        own.reference,
        contexts=tuple(replace(one, features=one.features[1:]) for one in own.reference.contexts),
    )
    Own(narrow, X, own.fitted).save(tmp_path / FILE_NAME)
    again = Camera(tmp_path).judges(X)
    assert again.it.known is not None and again.it.known.reference.names == NAMES


def test_each_camera_has_its_own_and_strangers_none(tmp_path: Path) -> None:
    cameras = {name: Camera(tmp_path / name).judges(OLD) for name in ("front", "rear")}
    seen = SeenInShadow({name: camera.it for name, camera in cameras.items()})
    seen.begin(X)
    for number in range(200):
        seen.add(X, "front", number * S, np.full(2, number % 7, np.float32))
        seen.add(X, "roof", number * S, np.zeros(2, np.float32))
    seen.passed()
    assert kept(tmp_path / "front") == 200 and kept(tmp_path / "rear") == 0
    seen.forget()
    assert left(tmp_path) == []
