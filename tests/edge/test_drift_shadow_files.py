"""What candidates found in shadow, on disk: over any kill, on a full disk, and with a damaged file."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.drift.own import Own
from edge.drift.reference import DriftReferenceError
from edge.drift.rows import read
from edge.drift.shadow_seen import FILE_NAME, FOLDER
from edge.machine.disk_budget import DiskBudget
from tests.edge.drift_shadowed import OLD, Camera, X, Y, left


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
