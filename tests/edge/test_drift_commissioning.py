"""A camera's first days: which frames count, when they are fitted, and what a kill or an update leaves."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import numpy as np
import pytest

from edge.drift import fit
from edge.drift.commissioning import FLUSH_S
from edge.drift.own import Own
from edge.drift.recommission import WISH
from edge.drift.reference import ContextReference, DriftReferenceError, Reference
from edge.drift.rows import Rows, read
from edge.drift.sieve import HOLD_S, PATIENCE_S
from edge.drift.state import Scope
from edge.machine.disk_budget import DiskBudget
from tests.edge.drift_camera import (
    HOUR,
    LEARNING,
    NAMES,
    ORIGINS,
    RATE_HZ,
    A,
    B,
    Camera,
    S,
    context_of,
    own_of,
)

VECTOR = np.zeros(2, np.float32)


def test_after_four_hours_the_camera_has_a_reference_of_its_own(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front").under(A)
    camera.drive(3.9)
    assert camera.it.own is None
    assert camera.it.notes("day", LEARNING, alarm=False) == ("commissioning day: 3.9 of 4 h",)
    camera.drive(0.2)
    day = context_of(camera)
    assert day.scope is Scope.CAMERA and [one.known for one in day.features] == [True, True]
    assert Own.load(tmp_path / "front" / "own.json").reference.digest == own_of(camera).reference.digest
    assert camera.it.notes("day", LEARNING, alarm=False) == ("commissioning day: 4.1 of 8 h",)


def test_once_all_was_seen_the_rows_go_and_nothing_is_collected_any_more(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front").under(A)
    for _ in range(60):
        camera.drive(0.5)
    assert camera.fits == 4
    assert list(read(tmp_path / "front")) == []
    assert camera.it.notes("day", LEARNING, alarm=False) == ()
    again = Camera(tmp_path / "front").under(A)
    again.drive(5.0)
    assert again.fits == 0 and list(read(tmp_path / "front")) == []
    assert own_of(again).reference.digest == own_of(camera).reference.digest


def test_each_context_has_its_own_days(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front").under(A)
    for _ in range(9):
        camera.drive(0.5, "day")
        camera.drive(0.25, "night", -9.0)
    assert camera.it.own is not None and [one.name for one in camera.it.own.reference.contexts] == ["day"]
    for _ in range(9):
        camera.drive(0.25, "night", -9.0)
    assert context_of(camera, "night").features[0].mean < -8 < context_of(camera).features[0].mean


def test_a_restart_in_the_middle_goes_on(tmp_path: Path) -> None:
    for _ in range(8):
        camera = Camera(tmp_path / "front").under(A)
        camera.drive(0.5)
    assert camera.fits == 1 and context_of(camera).features[0].frames >= 4 * HOUR


def test_a_new_model_begins_anew_for_what_it_finds_and_for_nothing_else(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front").under(A)
    for _ in range(50):
        camera.drive(0.5)
    picture, found = context_of(camera).features
    camera.under(B)
    camera.drive(3.0, level=1.0)
    assert context_of(camera).features == (picture, found), "the file stays until there is something better"
    assert camera.it.notes("day", LEARNING, alarm=False) == (
        "commissioning day: 3.0 of 4 h of what the new model finds",
    )
    camera.drive(1.5, level=1.0)
    new_picture, new_found = context_of(camera).features
    assert new_picture is picture and new_found.mean == pytest.approx(1.0, abs=0.3)
    assert camera.it.own is not None and camera.it.own.model == B


def test_a_model_that_comes_in_the_middle_takes_the_picture_over(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front").under(A)
    camera.drive(3.0)
    camera.under(B)
    camera.drive(1.5)
    picture, found = context_of(camera).features
    assert picture.frames >= 4 * HOUR and found.frames <= 1.5 * HOUR


def test_rows_of_many_models_do_not_grow_without_end(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front", hours=2.0)
    camera.fail = DriftReferenceError("never")
    for number in range(12):
        camera.under(f"{number:x}" * 64)
        camera.drive(1.5)
    assert sum(len(one.times) for one in read(tmp_path / "front")) <= 2 * 2.0 * HOUR + 1.5 * HOUR


def test_a_fit_that_fails_is_tried_again_later_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    camera = Camera(tmp_path / "front").under(A)
    camera.fail = DriftReferenceError("the fit of a drift reference died (signal 9)")
    camera.drive(4.5)
    camera.drive(0.5)
    assert camera.fits == 1, "not at once"
    assert (
        "the last fit failed: the fit of a drift reference died"
        in camera.it.notes("day", LEARNING, alarm=False)[-1]
    )
    assert "is not fitted" in caplog.text
    camera.fail, camera.now_s = None, 7 * 3600.0
    camera.drive(0.2)
    assert camera.it.own is not None and len(camera.it.notes("day", LEARNING, alarm=False)) == 1


def test_a_kill_while_fitting_leaves_what_was_there(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front").under(A)
    camera.drive(3.5)
    camera.at_once = False
    camera.drive(1.0)
    assert len(camera.waits) == 1, "the fit is under way, and the process is gone"
    again = Camera(tmp_path / "front").under(A)
    assert again.it.own is None and again.it.progress("day").hours == pytest.approx(4.5)
    again.drive(0.1)
    assert again.fits == 1 and again.it.own is not None


def test_a_full_disk_keeps_the_reference_from_being_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    camera = Camera(tmp_path / "front").under(A)
    monkeypatch.setattr("edge.drift.own.atomic_write", full)  # no disk can be filled for a test
    camera.drive(4.5)
    assert camera.it.own is None and "No space left on device" in caplog.text
    assert sum(len(one.times) for one in read(tmp_path / "front")) >= 4 * HOUR
    monkeypatch.undo()
    camera.now_s = 7 * 3600.0
    camera.drive(0.1)
    assert camera.it.own is not None


def test_the_days_bytes_slow_a_commissioning_down_and_break_nothing(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front", budget=DiskBudget(30_000)).under(A)
    for _ in range(20):
        camera.drive(0.5)
    assert 0 < camera.it.progress("day").hours < 4 and camera.it.own is None


def test_what_is_in_alarm_is_left_out_and_said(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front").under(A)
    camera.drive(1.0)
    camera.drive(3.0, level=9.0, alarm=True)
    assert camera.it.progress("day").hours == pytest.approx(1.0, abs=0.05)
    assert camera.it.notes("day", LEARNING, alarm=True)[-1] == (
        "what is in alarm is left out of the commissioning"
    )


def test_a_prior_that_is_in_alarm_for_a_day_is_not_believed_over_restarts(tmp_path: Path) -> None:
    for _ in range(5):
        camera = Camera(tmp_path / "front").under(A)
        camera.drive(6.0, level=9.0, alarm=True)
    assert context_of(camera).features[0].mean > 8, "from the last six hours"
    assert camera.it.progress("day").hours < 30 - PATIENCE_S / 3600 + 0.1


def test_a_configured_reference_that_promises_needs_no_commissioning(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(10 * HOUR, 2))
    given_by_hand = fit(values, RATE_HZ, NAMES, origins=[one.value for one in ORIGINS], context="day")
    camera = Camera(tmp_path / "front").under(A, given_by_hand)
    assert given_by_hand.promises("day")
    camera.drive(5.0)
    assert camera.it.own is None and not list(read(tmp_path / "front"))
    assert camera.it.notes("day", given_by_hand, alarm=False) == ()
    fleets = Camera(tmp_path / "rear").under(A, given_by_hand.scoped(Scope.FLEET))
    fleets.drive(4.5)
    assert fleets.it.own is not None


def test_what_was_not_told_apart_goes_when_a_model_tells_contexts_apart(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front").under(A)
    camera.drive(4.5, "default")
    assert context_of(camera, "default").scope is Scope.CAMERA
    values = np.random.default_rng(0).normal(size=(HOUR, 2))
    origins = [one.value for one in ORIGINS]
    camera.under(B, fit(values, RATE_HZ, NAMES, origins=origins, context="day"))
    camera.drive(1.0)
    assert {one.head.context for one in read(tmp_path / "front")} == {"day"}


@pytest.mark.parametrize("running", [True, False])
def test_a_camera_is_commissioned_anew_when_somebody_wishes(
    tmp_path: Path, running: bool, caplog: pytest.LogCaptureFixture
) -> None:
    camera = Camera(tmp_path / "front").under(A)
    camera.drive(4.5)
    camera.drive(0.5)
    (tmp_path / "front" / WISH).touch()
    with caplog.at_level(logging.INFO):
        if running:
            camera.it.look()
        else:
            camera = Camera(tmp_path / "front").under(A)
    assert camera.it.own is None and "commissioned anew" in caplog.text
    assert list((tmp_path / "front").iterdir()) == []
    camera.drive(4.5, level=5.0)
    assert context_of(camera).features[0].mean == pytest.approx(5.0, abs=0.2)


def test_a_fit_of_the_camera_that_was_before_is_not_used(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front").under(A)
    camera.at_once = False
    camera.drive(4.5)
    (job,) = camera.waits
    (tmp_path / "front" / WISH).touch()
    # The wish comes while the child is at work.
    camera.meanwhile = camera.it.look
    job()
    assert camera.it.own is None and not (tmp_path / "front" / "own.json").exists()


def test_a_fit_that_waits_while_a_camera_is_exchanged_is_none_that_failed(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front").under(A)
    camera.at_once = False
    camera.drive(4.5)
    job = camera.waits.pop()
    (tmp_path / "front" / WISH).touch()
    camera.it.look()
    job()
    assert camera.fits == 0
    camera.at_once = True
    camera.drive(4.5, level=5.0)
    assert context_of(camera).features[0].mean == pytest.approx(5.0, abs=0.2), "at once, not after a pause"


def test_a_damaged_own_reference_is_said_and_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "front").mkdir()
    (tmp_path / "front" / "own.json").write_text("{")
    (tmp_path / "front" / "patience.json").write_text("[]")
    camera = Camera(tmp_path / "front").under(A)
    assert camera.it.own is None and "made anew" in caplog.text
    camera.drive(4.5)
    assert camera.it.own is not None


def test_a_feature_that_is_watched_only_now_is_commissioned_beside_what_is_known(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front").under(A)
    for _ in range(50):
        camera.drive(0.5)
    own = camera.it.own
    assert own is not None
    narrow = Reference(
        RATE_HZ,
        24.0,
        (ContextReference("day", own.reference.contexts[0].features[:1], 3.0, Scope.CAMERA),),
    )
    Own(narrow, A, own.fitted).save(tmp_path / "front" / "own.json")
    again = Camera(tmp_path / "front").under(A)
    assert [one.known for one in context_of(again).features] == [True, False]
    again.drive(4.5)
    picture, found = context_of(again).features
    assert picture.frames >= 20 * HOUR and found.known


def test_frames_come_to_disk_every_five_minutes(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front").under(A)
    for number in range(200):
        camera.it.add(number * 30 * S, VECTOR, "day", "day", alarm=False)
    on_disk = Rows(tmp_path / "front").hours()["day", A] * 3600
    assert 200 * 30 - HOLD_S - 2 * FLUSH_S <= on_disk <= 200 * 30
