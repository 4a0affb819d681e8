"""A camera's first days: which frames count, when they are fitted, and what a kill or an update leaves."""

from __future__ import annotations

import errno
import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from edge.drift import DriftMonitor, fit
from edge.drift.commission_terms import Present, Terms
from edge.drift.commissioning import FLUSH_S, Commissioning
from edge.drift.fit_child import FitTerms, fit_context, sort
from edge.drift.own import UNSORTED, Own, merged
from edge.drift.recommission import WISH
from edge.drift.reference import (
    ContextReference,
    DriftReferenceError,
    Reference,
    unknown_feature,
)
from edge.drift.rows import Rows, read
from edge.drift.sieve import HOLD_S, PATIENCE_S
from edge.drift.state import Origin, Scope
from edge.machine.disk_budget import DiskBudget

S = 10**9
A, B = "a" * 64, "b" * 64
NAMES = ("brightness", "count")
ORIGINS = (Origin.PICTURE, Origin.DETECTIONS)
# A frame every half a minute makes hours of driving cheap.
RATE_HZ = 1 / 30
HOUR = 120
RUNS = itertools.count()
VECTOR = np.zeros(2, np.float32)


class Camera:
    """A commissioning whose writers do at once, or when told to, what they are given."""

    def __init__(self, folder: Path, hours: float = 24.0, budget: DiskBudget | None = None) -> None:
        self.now_s, self.fits = 0.0, 0
        self.waits: list[Callable[[], object]] = []
        self.fail: Exception | None = None
        self.at_once = True
        self.today = "2026-03-01"
        disk = budget or DiskBudget()
        self.it = Commissioning(
            "front",
            folder,
            Terms(hours, 24.0, NAMES, ORIGINS, f"run-{next(RUNS)}"),
            disk.lane("drift"),
            disk.lane("drift-rows"),
            lambda job: bool(job()) or True,
            self._submit,
            fitter=self._fit,
            clock_s=lambda: self.now_s,
            today=lambda: self.today,
        )
        self.number = 0

    def _submit(self, job: Callable[[], object]) -> bool:
        self.waits.append(job)
        while self.at_once and self.waits:
            self.waits.pop(0)()
        return True

    def _fit(
        self, folder: Path, terms: FitTerms, prior: ContextReference | None, stopping: threading.Event
    ) -> Reference:
        self.fits += 1
        if self.fail is not None:
            raise self.fail
        found = list(read(folder))
        return sort(found, terms) if terms.context == UNSORTED else fit_context(found, terms, prior)

    def drive(self, hours: float, context: str = "day", level: float = 0.0, *, alarm: bool = False) -> None:
        rng = np.random.default_rng(self.number)
        for _ in range(round(hours * HOUR)):
            vector = rng.normal(level, 1.0, 2).astype(np.float32)
            self.it.add(self.number * 30 * S, vector, context, context or "day", alarm=alarm)
            self.number += 1
        self.it.flush()

    def under(self, model: str, prior: Reference | None = None) -> Camera:
        self.it.begin(Present(model, prior, RATE_HZ))
        return self


def context_of(camera: Camera, name: str = "day") -> ContextReference:
    assert camera.it.own is not None
    found = camera.it.own.context(name)
    assert found is not None
    return found


def test_after_four_hours_the_camera_has_a_reference_of_its_own(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "front").under(A)
    camera.drive(3.9)
    assert camera.it.own is None
    assert camera.it.notes("day", LEARNING, alarm=False) == ("commissioning day: 3.9 of 4 h",)
    camera.drive(0.2)
    day = context_of(camera)
    assert day.scope is Scope.CAMERA and [one.known for one in day.features] == [True, True]
    assert Own.load(tmp_path / "front" / "own.json").reference.digest == camera.it.own.reference.digest  # type: ignore[union-attr]
    assert camera.it.notes("day", LEARNING, alarm=False) == ("commissioning day: 4.1 of 8 h",)


LEARNING = Reference(
    RATE_HZ,
    24.0,
    (ContextReference("day", tuple(unknown_feature(*one) for one in zip(NAMES, ORIGINS, strict=True)), 1.0),),
)


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
    assert again.it.own is not None and again.it.own.reference.digest == camera.it.own.reference.digest  # type: ignore[union-attr]


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
    monkeypatch.setattr("edge.drift.own.atomic_write", full)
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
    real = camera._fit
    camera.it._fitter = lambda *given: (real(*given), camera.it.look())[0]  # type: ignore[func-returns-value]
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
