"""A vehicle that is parked and a camera that is lost: what is told, and what goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from protos.traffic_vision.v1 import common_pb2 as common
from tests.edge.drift_watched import (
    BY_DAY,
    BY_NIGHT,
    VERDICTS,
    Drive,
    Told,
    a_watch,
    by_name,
    day,
    day_and_night,
    saved,
)


class Parkable(Drive):
    """Its vehicle drives until it is parked, and knows the day."""

    def __init__(self, folder: Path) -> None:
        self.told, self.is_parked = Told(), False
        super().__init__(a_watch(folder, self.told, lambda camera: self.is_parked, reference=saved(folder)))


@pytest.mark.parametrize("seconds", [30, 300, 1200])
def test_a_parked_vehicle_raises_no_alarm_and_drives_on_as_it_was(tmp_path: Path, seconds: float) -> None:
    drive = Parkable(tmp_path)
    told = drive.told
    drive.go(200, BY_DAY)
    changes = len(told.changes)
    before, states = told.states[-1], len(told.states)
    assert before.verdict == common.DRIFT_VERDICT_UNCALIBRATED
    drive.is_parked = True
    drive.go(seconds, BY_NIGHT)
    assert told.changes[-1] == ("uncalibrated", "paused") and len(told.states) == states + 1
    watched = drive.watch.latest("front")
    assert watched is not None and watched.state is not None and VERDICTS[watched.state.verdict] == "paused"
    drive.is_parked = False
    drive.go(2, BY_DAY)
    assert told.changes[-1] == ("paused", "uncalibrated")
    # Its windows are full, as long as they were, and nothing is said of gaps or slow frames.
    assert [(one.name, one.window_s > 0) for one in by_name(told.states[-1])] == [
        (one.name, one.window_s > 0) for one in by_name(before)
    ]
    assert told.states[-1].explanation == before.explanation
    drive.go(100, BY_DAY)
    assert "alarm" not in {after for _, after in told.changes}
    assert len(told.changes) == changes + 2


@pytest.mark.parametrize("seconds", [30, 300])
def test_an_alarm_is_told_once_however_often_the_vehicle_is_parked_or_its_camera_lost(
    tmp_path: Path, seconds: float
) -> None:
    drive = Parkable(tmp_path)
    told = drive.told
    drive.go(100, BY_DAY)
    drive.go(100, BY_NIGHT)
    since = told.states[-1].since
    for _ in range(2):
        drive.is_parked = True
        drive.go(seconds, BY_DAY)
        drive.is_parked = False
        drive.go(60, BY_NIGHT)
        drive.reconnect(seconds + 40)
        drive.go(60, BY_NIGHT)
    assert [after for _, after in told.changes].count("alarm") == 1
    assert told.changes[-1][1] == "alarm" and told.states[-1].since == since
    drive.go(100, BY_DAY)
    assert told.changes[-1] == ("alarm", "uncalibrated")


def test_a_model_that_is_put_in_while_an_alarm_stands_parked_is_not_blamed_for_it(tmp_path: Path) -> None:
    drive = Parkable(tmp_path)
    told = drive.told
    drive.go(100, BY_NIGHT)
    drive.is_parked = True
    drive.go(10, BY_NIGHT)
    assert told.changes[-1][1] == "alarm"
    drive.another_model(day_and_night())
    drive.go(10, BY_NIGHT)
    assert told.changes[-1] == ("alarm", "paused")
    assert told.states[-1].model.sha256 == drive.digest


def test_a_camera_that_is_lost_and_back_again_and_again_raises_no_alarm_and_forgets_nothing_known(
    tmp_path: Path,
) -> None:
    told = Told()
    watch = a_watch(tmp_path, told, reference=saved(tmp_path), learn_s=60)
    drive = Drive(watch)
    drive.another_model(None)  # what it finds is learned on the way
    drive.go(300, BY_DAY)
    known = told.states[-1].reference_sha256  # of all that is judged by, what was learned included
    assert known != day().digest and VERDICTS[told.states[-1].verdict] == "uncalibrated"
    for lost_s in (15, 20, 15, 90, 20, 90):
        changes = len(told.changes)
        drive.reconnect(lost_s)
        drive.go(2, BY_DAY)
        assert VERDICTS[told.states[-1].verdict] == ("learning" if lost_s > 60 else "uncalibrated")
        drive.go(200, BY_DAY)
        assert [after for _, after in told.changes[changes:]] == ["learning", "uncalibrated"] * (lost_s > 60)
        assert told.states[-1].reference_sha256 == known
    latest = watch.latest("front")
    assert latest is not None and latest.frame.epoch == 6
    drive.reconnect(20)
    drive.go(100, BY_NIGHT)
    assert told.changes[-1] == ("uncalibrated", "alarm")
