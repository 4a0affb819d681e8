"""A camera that is commissioned while it drives: in a real watch, with the fit in its child process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.drift import Reference, combine, fit
from edge.drift.features import NAMES, ORIGINS, extract
from edge.drift.own import OF_A_MODEL, Own
from edge.drift.part import DriftWatch
from edge.drift.recommission import WISH
from edge.frames.frame import Frame
from edge.perception.detector import Detections, StageTimes
from edge.publication import Publication
from tests.edge.drift_watched import BY_DAY, BY_NIGHT, MODEL, RATE_HZ, VERDICTS, Told, a_watch, image
from tests.waiting import eventually

HOURS = 0.1  # of driving make a reference here: 6 minutes
THE_DAY = BY_DAY + 8  # as this camera sees it


def boxes(number: int, most: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    count = int(rng.binomial(most, 0.7))
    corners = rng.uniform(0, 20, (count, 2))
    return np.hstack(
        [corners, corners + rng.uniform(4, 14, (count, 2)), rng.uniform(0.3, 0.9, (count, 1)),
         rng.integers(0, 3, (count, 1))]
    ).astype(np.float32)  # fmt: skip


def prior(level: float, context: str) -> Reference:
    """The fleet's: cameras that see it lighter or darker; of what this model finds it knows nothing."""
    drives = [
        np.array(
            [extract(image(seed * 1000 + one, level + 2 * (seed - 5.5)), boxes(one, 12)) for one in range(60)]
        )
        for seed in range(1, 11)
    ]
    return fit(drives, RATE_HZ, NAMES, origins=ORIGINS, context=context).without(OF_A_MODEL)


@pytest.fixture(scope="module")
def day() -> Reference:
    return prior(BY_DAY, "daytime")


@pytest.fixture(scope="module")
def day_and_night(day: Reference) -> Reference:
    return combine(day, prior(BY_NIGHT, "night"))


class Commissioned:
    """Frames of one camera at the rate at which they are judged."""

    def __init__(
        self, folder: Path, prior: Reference | None, *, learn_s: float = 60, hours: float = HOURS
    ) -> None:
        self.learn_s, self.hours = learn_s, hours
        self.folder, self.told, self.number = folder, Told(), 0
        self.digest, self.metadata = MODEL.digest, MODEL.metadata
        self.is_parked = False
        if prior is not None:
            self.knows(prior)
        self.watch = self.start()

    def start(self) -> DriftWatch:
        watch = a_watch(
            self.folder,
            self.told,
            lambda camera: self.is_parked,
            learn_s=self.learn_s,
            commission_hours=self.hours,
        )
        watch.start()
        return watch

    def end(self) -> None:
        self.watch.stop()
        assert self.watch.join(60)

    def restart(self) -> None:
        self.end()
        self.watch = self.start()

    def knows(self, prior: Reference) -> None:
        self.metadata = replace(self.metadata, drift_prior=prior.to_bytes().decode())

    def another_model(self, prior: Reference) -> None:
        self.digest = "b" * 64
        self.knows(prior)

    def go(self, seconds: float, level: float, most: int = 12) -> list[str]:
        """Drive; gives the verdicts."""
        before = len(self.told.states)
        for _ in range(round(seconds * RATE_HZ)):
            at = round(self.number / RATE_HZ * 1e9)
            frame = Frame("front", self.number, 0, at, image(self.number, level))
            found = Detections(boxes(self.number, most), self.digest, StageTimes(0, 0, 0))
            self.watch.observe(
                frame, Publication(frame.key, at, False, 36, 64, found, self.metadata, 0, 0, 0)
            )
            self.number += 1
        return [VERDICTS[state.verdict] for state in self.told.states[before:]]

    def go_until_fitted(self, level: float, model: str, context: str) -> Own:
        self.go(3600 * self.hours + 60, level)
        return self.fitted(level, model, context)

    def fitted(self, level: float, model: str, context: str) -> Own:
        own: list[Own] = []
        # What was seen of a drive reaches the disk at its end.
        self.is_parked = True
        self.go(1, level)
        self.is_parked = False

        def is_there() -> bool:
            path = self.folder / "drift" / "front" / "own.json"
            if path.exists():
                own[:] = [Own.load(path)]
            return bool(own) and own[0].model == model and context in own[0].fitted

        eventually(is_there, f"an own reference of context {context}", within_s=240)
        self.go(2, level)
        return own[0]

    def alarming(self) -> set[str]:
        return {one.name for one in self.told.states[-1].features if VERDICTS[one.verdict] == "alarm"}


def known(own: Own, context: str) -> set[str]:
    (one,) = [one for one in own.reference.contexts if one.name == context]
    return {feature.name for feature in one.features if feature.known}


def test_a_commissioned_camera_over_an_update(
    tmp_path: Path, day: Reference, day_and_night: Reference
) -> None:
    camera = Commissioned(tmp_path, day)
    camera.go(40, THE_DAY)
    assert "commissioning daytime: 0.0 of 0.1 h" in camera.told.states[-1].explanation
    assert camera.told.states[-1].reference_sha256 == day.digest
    own = camera.go_until_fitted(THE_DAY, MODEL.digest, "daytime")
    # The camera is judged by what it saw itself, of picture and detections.
    assert camera.told.states[-1].reference_sha256 not in ("", day.digest)
    assert own.reference.contexts[0].features[0].mean == pytest.approx(THE_DAY, abs=2)
    assert {"brightness", "count"} <= known(own, "daytime")
    assert "alarm" not in camera.go(60, THE_DAY)
    assert "commissioning" not in camera.told.states[-1].explanation
    # The night is new to it.
    assert camera.go(60, BY_NIGHT)[-1] == "alarm"
    # A model that knows the night is quiet, of a camera that never saw the night before.
    camera.another_model(day_and_night)
    assert "alarm" not in camera.go(60, BY_NIGHT)
    assert camera.told.states[-1].context == "night"
    own = camera.go_until_fitted(BY_NIGHT, "b" * 64, "night")
    by_name = {one.name: one for one in own.reference.contexts}
    assert by_name["daytime"].features[0].mean == pytest.approx(THE_DAY, abs=2), "the picture stays"
    assert "count" not in known(own, "daytime"), "what another model found does not count"
    assert {"brightness", "count"} <= known(own, "night")
    # A further change alarms.
    assert "alarm" not in camera.go(60, BY_NIGHT)
    assert camera.go(60, BY_NIGHT, most=6)[-1] == "alarm"
    assert "count" in camera.alarming()
    camera.end()


def test_without_any_reference_day_and_night_are_told_apart(tmp_path: Path) -> None:
    camera = Commissioned(tmp_path, None, hours=0.68)
    for level in (THE_DAY, BY_NIGHT) * 3:
        camera.go(420, level)
    own = camera.fitted(BY_NIGHT, MODEL.digest, "found-1")
    assert {one.name for one in own.reference.contexts} == {"found-1", "found-2"}
    for level in (THE_DAY, BY_NIGHT):
        assert camera.go(120, level)[-1] == "uncalibrated"
        assert camera.told.states[-1].context in {"found-1", "found-2"}
    camera.go(120, THE_DAY)
    assert camera.go(40, THE_DAY + 25)[-1] == "alarm" and "brightness" in camera.alarming()
    camera.end()


def test_a_restart_judges_by_the_cameras_own_reference_and_goes_on(tmp_path: Path, day: Reference) -> None:
    camera = Commissioned(tmp_path, day)
    camera.go_until_fitted(THE_DAY, MODEL.digest, "daytime")
    camera.go(100, THE_DAY)
    judged_by = camera.told.states[-1].reference_sha256
    camera.restart()
    # A monitor that began anew would have no full window.
    assert camera.go(2, THE_DAY)[0] == "uncalibrated"
    assert camera.told.states[-1].reference_sha256 == judged_by
    # A camera that is exchanged is the fleet's again.
    (tmp_path / "drift" / "front" / WISH).touch()
    camera.restart()
    camera.go(2, THE_DAY)
    assert camera.told.states[-1].reference_sha256 == day.digest
    assert not (tmp_path / "drift" / "front" / "own.json").exists()
    camera.end()


def test_a_short_drive_is_not_lost(tmp_path: Path, day: Reference) -> None:
    camera = Commissioned(tmp_path, day)
    for _ in range(8):
        camera.go(50, THE_DAY)
        camera.restart()
    own = camera.go_until_fitted(THE_DAY, MODEL.digest, "daytime")
    assert own.fitted["daytime"].hours >= HOURS
    camera.end()


def test_without_commissioning_nothing_is_kept(tmp_path: Path, day: Reference) -> None:
    camera = Commissioned(tmp_path, day)
    camera.end()
    camera.watch = a_watch(tmp_path, camera.told, commission_hours=0)
    camera.watch.start()
    camera.go(400, THE_DAY)
    camera.end()
    assert not (tmp_path / "drift" / "front").exists()
    assert "commissioning" not in camera.told.states[-1].explanation
