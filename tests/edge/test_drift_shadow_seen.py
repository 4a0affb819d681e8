"""What candidates found in shadow: kept until it is used, and gone when it is of no use; over any kill."""

from __future__ import annotations

import errno
import itertools
import logging
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.drift import Reference, fit
from edge.drift.own import OF_A_MODEL, Own
from edge.drift.reference import DriftReferenceError
from edge.drift.rows import read
from edge.drift.shadow_fit import ShadowFitTerms, fit_shadow
from edge.drift.shadow_seen import FILE_NAME, FOLDER, MOST_ROWS, SeenInShadow, SeenTerms, ShadowSeen, rate_of
from edge.drift.state import Origin
from edge.machine.disk_budget import DiskBudget

S = 10**9
OLD, X, Y = "0" * 64, "a" * 64, "b" * 64
NAMES = ("brightness", "count")
ORIGINS = (Origin.PICTURE, Origin.DETECTIONS)
RATE_HZ = 2.0
RUNS = itertools.count()
PICTURE = fit(
    np.random.default_rng(0).normal(size=(1200, 2)), RATE_HZ, NAMES, origins=[o.value for o in ORIGINS]
).without(OF_A_MODEL)


class Camera:
    """One run of the daemon: its fitter does at once, or when it is let, what it is given."""

    def __init__(self, folder: Path, budget: DiskBudget | None = None) -> None:
        disk = budget or DiskBudget()
        self.folder = folder
        self.at_once, self.waits = True, list[Callable[[], object]]()
        self.is_full = False
        self.fail: Exception | None = None
        self.fits = 0
        self.meanwhile: Callable[[], object] = lambda: None  # while a fit is under way
        self.number = 0
        self.judged = PICTURE
        self.it = ShadowSeen(
            "front",
            folder,
            SeenTerms(NAMES, ORIGINS, 60.0, f"run-{next(RUNS)}"),
            disk.lane("drift"),
            disk.lane("drift-rows"),
            self._submit,
            fitter=self._fit,
        )

    def _submit(self, job: Callable[[], object]) -> bool:
        if self.is_full:
            return False
        self.waits.append(job)
        while self.at_once and self.waits:
            self.waits.pop(0)()
        return True

    def _fit(
        self,
        folder: Path,
        terms: ShadowFitTerms,
        judged: Reference,
        past: Reference | None,
        stopping: threading.Event,
    ) -> Reference:
        self.fits += 1
        if self.fail is not None:
            raise self.fail
        made = fit_shadow(list(read(folder)), terms, judged, past)
        self.meanwhile()
        return made

    def judges(self, model: str) -> Camera:
        self.it.judges(model, self.judged, None, 24.0)
        return self

    def shadow(self, model: str, rows: int = 200, level: float = 0.0) -> Camera:
        self.it.begin(model)
        self.see(model, rows, level)
        return self

    def see(self, model: str, rows: int = 200, level: float = 0.0, every_ns: int = S) -> None:
        rng = np.random.default_rng(self.number)
        for _ in range(rows):
            self.it.add(model, self.number * every_ns, rng.normal([0.0, level], 1.0).astype(np.float32))
            self.number += 1

    def knows(self) -> str:
        return "" if self.it.known is None else self.it.known.model


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def kept(folder: Path) -> int:
    return sum(len(one.times) for one in read(folder / FOLDER))


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


def test_a_kill_between_the_exchange_and_the_end_of_the_fit_costs_nothing(tmp_path: Path) -> None:
    camera = Camera(tmp_path).judges(OLD).shadow(X)
    camera.it.passed()
    camera.at_once = False
    camera.judges(X)
    assert len(camera.waits) == 1 and camera.knows() == "", "the fit is under way, and the process is gone"
    again = Camera(tmp_path).judges(X)
    assert again.knows() == X and left(tmp_path) == [FILE_NAME]


def test_an_orderly_stop_in_a_fit_leaves_it_to_the_next_start(tmp_path: Path) -> None:
    camera = Camera(tmp_path).judges(OLD).shadow(X)
    camera.it.passed()
    camera.fail = DriftReferenceError("the fit of a drift reference was broken off: the daemon stops")
    camera.it.stop()
    camera.judges(X)
    camera.it.forget()  # as the updates do at their end
    assert Camera(tmp_path).judges(X).knows() == X


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


def test_the_days_bytes_are_asked_and_a_full_disk_loses_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    poor = Camera(tmp_path / "poor", DiskBudget(4096)).judges(OLD).shadow(X)
    poor.it.passed()
    assert left(tmp_path) == [] and poor.judges(X).knows() == ""

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    camera = Camera(tmp_path / "full").judges(OLD).shadow(X)
    camera.it.passed()
    monkeypatch.setattr("edge.drift.own.atomic_write", full)  # no disk can be filled for a test
    assert camera.judges(X).knows() == X, "until the next start"
    assert "No space left on device" in caplog.text and left(tmp_path) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "traffic-vision own drift reference"}'])
def test_a_damaged_file_is_said_and_not_used(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    camera = Camera(tmp_path).judges(X)
    assert camera.knows() == "" and "what was seen in shadow is not used" in caplog.text


def test_torn_rows_are_used_as_far_as_they_are_whole(tmp_path: Path) -> None:
    camera = Camera(tmp_path).judges(OLD).shadow(X)
    camera.it.passed()
    camera.at_once = False
    camera.judges(X)
    (path,) = (tmp_path / FOLDER).iterdir()
    path.write_bytes(path.read_bytes()[:-1000])
    again = Camera(tmp_path).judges(X)
    assert again.knows() == X and again.it.known is not None
    hours = max(one.model_hours for one in again.it.known.fitted.values())
    assert 60 / 3600 <= hours < 200 / 3600


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


STEPS = st.lists(
    st.tuples(st.sampled_from(["begin", "see", "passed", "forget", "judges", "kill", "let"]),
              st.sampled_from([OLD, X, Y])),
    max_size=25,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(STEPS, st.booleans())
def test_what_is_on_disk_is_of_a_model_that_passed_or_judges(
    steps: list[tuple[str, str]], at_once: bool
) -> None:
    """Whatever happens in whichever order, and is cut where it may be."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        camera = Camera(folder).judges(OLD)
        camera.at_once = at_once
        judging, candidate = OLD, ""
        seen, passed = 0, set[str]()  # of those that may yet be used
        for step, model in steps:
            if step == "begin":
                camera.it.begin(model)
                candidate, seen = model, 0
                passed &= {judging}
            elif step == "see":
                camera.see(model, 70)
                seen += 70 * (model == candidate)
            elif step == "passed":
                camera.it.passed()
                passed = {candidate} if seen else set()
                candidate, seen = "", 0
            elif step == "forget":
                camera.it.forget()
                candidate, seen = "", 0
                passed &= {judging}
            elif step == "judges":
                judging = model
                camera.judges(model)
            elif step == "let":
                while camera.waits:
                    camera.waits.pop(0)()
            else:
                camera = Camera(folder)
                camera.at_once = at_once
                camera.judges(judging)
                candidate, seen = "", 0
                passed &= {judging}
            while at_once and camera.waits:
                camera.waits.pop(0)()
            if camera.waits:
                continue
            assert {one.head.model for one in read(folder / FOLDER)} <= passed | {judging}
            assert camera.knows() in ("", judging)
            if (folder / FILE_NAME).exists():
                assert Own.load(folder / FILE_NAME).model == judging
