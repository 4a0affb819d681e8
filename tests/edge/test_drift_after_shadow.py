"""A camera whose next model was in shadow: what that found is judged at once, in a real watch and child."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.drift import Reference, combine
from edge.drift.features import extract
from edge.drift.shadow_seen import FILE_NAME, FOLDER
from protos.traffic_vision.v1 import common_pb2
from tests.edge.drift_watched import BY_DAY, BY_NIGHT, MODEL, RATE_HZ, VERDICTS, image
from tests.edge.test_drift_commissioned import HOURS, Commissioned, boxes, prior
from tests.waiting import eventually

B = "b" * 64
LEARN_S = 60
MOST = 24  # things that the new model finds, about; the old one finds half


@pytest.fixture(scope="module")
def day() -> Reference:
    return prior(BY_DAY, "daytime")


@pytest.fixture(scope="module")
def day_and_night(day: Reference) -> Reference:
    return combine(day, prior(BY_NIGHT, "night"))


class InShadow(Commissioned):
    """The same camera, and a candidate that is shown each second frame of it."""

    def __init__(self, folder: Path, prior: Reference, hours: float = 24.0) -> None:
        super().__init__(folder, prior, learn_s=LEARN_S, hours=hours)

    def drive_with_shadow(self, seconds: float, level: float) -> None:
        shadow = self.watch.in_shadow
        for _ in range(round(seconds / 10)):
            first = self.number
            self.go(10, level)
            for number in range(first, self.number, 2):
                # Seed by seed another frame's boxes: it is another model.
                found = boxes(number + 10**6, MOST)
                features = extract(image(number, level), found, class_names=MODEL.metadata.class_names)
                shadow.add(B, "front", round(number / RATE_HZ * 1e9), features)

    def files(self) -> set[str]:
        folder = self.folder / "drift" / "front"
        return {path.name for path in folder.iterdir()} if folder.exists() else set()

    def seen_of(self, name: str) -> common_pb2.FeatureDrift:
        (found,) = (one for one in self.told.states[-1].features if one.name == name and one.context)
        return found


def in_shadow(folder: Path, before: Reference, seconds: float = 300, hours: float = 24.0) -> InShadow:
    """It has driven by night with the old model, which raised an alarm, and the candidate has passed."""
    camera = InShadow(folder, before, hours)
    camera.go(20, BY_DAY)
    camera.watch.in_shadow.begin(B)
    camera.drive_with_shadow(seconds, BY_NIGHT)
    assert VERDICTS[camera.told.states[-1].verdict] == "alarm"
    camera.watch.in_shadow.passed()
    assert FOLDER in camera.files()
    return camera


def exchanged(camera: InShadow, after: Reference) -> None:
    camera.another_model(after)
    camera.go(1, BY_NIGHT, MOST)
    until_fitted(camera)


def until_fitted(camera: InShadow) -> None:
    """Then it is known, and its rows are gone."""
    eventually(lambda: {FILE_NAME, FOLDER} & camera.files() == {FILE_NAME}, "the fit", within_s=240)


def test_after_the_exchange_nothing_is_learned_that_shadow_has_seen(
    tmp_path: Path, day: Reference, day_and_night: Reference
) -> None:
    """The drive that raised the alarm is quiet under the new model, and a further change alarms."""
    camera = in_shadow(tmp_path, day)
    exchanged(camera, day_and_night)
    verdicts = camera.go(LEARN_S - 5, BY_NIGHT, MOST)
    assert "alarm" not in verdicts and verdicts[-1] == "uncalibrated", "sooner than anything is learned"
    count = camera.seen_of("count")
    assert count.context == "night" and count.window_s > 0
    assert VERDICTS[count.verdict] == "uncalibrated" and abs(count.shift_sigma) < 0.5
    said = camera.told.states[-1].explanation
    assert "what the model finds is judged by 0.1 h of it in shadow, uncalibrated" in said
    assert camera.go(60, BY_NIGHT, 6)[-1] == "alarm" and "count" in camera.alarming()
    camera.end()


def test_without_a_shadow_it_is_learned_as_ever(
    tmp_path: Path, day: Reference, day_and_night: Reference
) -> None:
    camera = InShadow(tmp_path, day)
    camera.go(20, BY_NIGHT)
    camera.another_model(day_and_night)
    assert set(camera.go(LEARN_S - 5, BY_NIGHT, MOST)[20:]) == {"learning"}
    assert "in shadow" not in camera.told.states[-1].explanation
    camera.end()


@pytest.mark.services
def test_what_shadow_saw_too_little_of_is_learned(
    tmp_path: Path, day: Reference, day_and_night: Reference
) -> None:
    camera = in_shadow(tmp_path, day)
    exchanged(camera, day_and_night)
    camera.go(LEARN_S - 5, BY_NIGHT, MOST)
    assert "learning" not in camera.go(2, BY_NIGHT, MOST)
    verdicts = camera.go(40, BY_DAY, MOST)
    assert verdicts[-1] == "learning" and camera.told.states[-1].context == "daytime"
    assert "in shadow" not in camera.told.states[-1].explanation
    camera.end()


@pytest.mark.services
def test_a_restart_goes_on_with_it(tmp_path: Path, day: Reference, day_and_night: Reference) -> None:
    camera = in_shadow(tmp_path, day)
    exchanged(camera, day_and_night)
    camera.go(LEARN_S - 5, BY_NIGHT, MOST)
    window_s = camera.seen_of("count").window_s
    camera.restart()
    assert set(camera.go(2, BY_NIGHT, MOST)) == {"uncalibrated"}
    assert camera.seen_of("count").window_s == window_s and abs(camera.seen_of("count").shift_sigma) < 0.5
    assert "of it in shadow, uncalibrated" in camera.told.states[-1].explanation
    # Where the monitor's own state is lost, what was seen is not.
    camera.end()
    (tmp_path / "drift" / "front.json").unlink()
    camera.watch = camera.start()
    assert camera.go(LEARN_S - 5, BY_NIGHT, MOST)[-1] == "uncalibrated"
    assert camera.seen_of("count").window_s == window_s and abs(camera.seen_of("count").shift_sigma) < 0.5
    camera.end()


@pytest.mark.services
def test_a_model_without_a_reference_is_judged_in_the_contexts_that_there_are(
    tmp_path: Path, day: Reference
) -> None:
    camera = InShadow(tmp_path, day)
    camera.go(30, BY_DAY)
    camera.watch.in_shadow.begin(B)
    camera.drive_with_shadow(100, BY_DAY)
    camera.watch.in_shadow.passed()
    camera.digest, camera.metadata = B, MODEL.metadata
    camera.go(1, BY_DAY, MOST)
    until_fitted(camera)
    # The windows of the picture go on: they are full at once.
    verdicts = camera.go(LEARN_S - 5, BY_DAY, MOST)
    assert set(verdicts[1:]) == {"uncalibrated"}
    assert camera.seen_of("count").window_s > 0 and camera.seen_of("count").context == "daytime"
    camera.end()


@pytest.mark.services
def test_a_model_that_is_taken_back_leaves_nothing(
    tmp_path: Path, day: Reference, day_and_night: Reference
) -> None:
    camera = in_shadow(tmp_path, day)
    exchanged(camera, day_and_night)
    camera.digest = MODEL.digest
    camera.knows(day)
    camera.go(2, BY_NIGHT)
    eventually(lambda: FILE_NAME not in camera.files(), "nothing of it")
    camera.end()
    assert not {FILE_NAME, FOLDER} & camera.files()


@pytest.mark.services
def test_an_own_reference_that_comes_later_takes_its_place(
    tmp_path: Path, day: Reference, day_and_night: Reference
) -> None:
    camera = in_shadow(tmp_path, day, hours=HOURS)
    exchanged(camera, day_and_night)
    camera.go(60, BY_NIGHT)
    assert "count" in camera.alarming(), "less than in shadow"
    camera.go_until_fitted(BY_NIGHT, B, "night")
    eventually(lambda: camera.go(1, BY_NIGHT)[-1] == "learning", "the own reference is taken over")
    assert "alarm" not in camera.go(60, BY_NIGHT)
    assert abs(camera.seen_of("count").shift_sigma) < 0.5, "as usual, by the camera's own"
    assert "in shadow" not in camera.told.states[-1].explanation
    camera.end()


@pytest.mark.services
def test_a_candidate_that_never_judges_leaves_nothing_behind(tmp_path: Path, day: Reference) -> None:
    camera = in_shadow(tmp_path, day)
    camera.end()
    camera.watch = camera.start()
    camera.go(2, BY_NIGHT)
    camera.end()
    assert not {FILE_NAME, FOLDER} & camera.files()
