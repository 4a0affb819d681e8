"""The drift monitors as the frame loop drives them: which reference judges, what is told, what is kept."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.drift import fit
from edge.drift.features import extract
from edge.drift.reference import DriftReferenceError
from protos.traffic_vision.v1 import common_pb2 as common
from tests.edge.drift_watched import (
    BY_DAY,
    BY_NIGHT,
    MODEL,
    RATE_HZ,
    VERDICTS,
    Drive,
    Told,
    a_watch,
    day,
    day_and_night,
    saved,
)


def test_the_day_is_quiet_the_night_alarms_and_a_model_that_knows_it_is_quiet(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    watch = a_watch(tmp_path, told, reference=saved(tmp_path))
    drive = Drive(watch)
    with caplog.at_level(logging.INFO):
        drive.go(120, BY_DAY)
        assert "alarm" not in {after for _, after in told.changes}
        drive.go(120, BY_NIGHT)
    assert told.changes[-1][1] == "alarm"
    watched = watch.latest("front")
    assert watched is not None and watched.state is not None
    assert watched.state.reference_sha256 == day().digest and watched.state.model.sha256 == MODEL.digest
    (line,) = [r for r in caplog.records if getattr(r, "verdict", "") == "alarm"]
    assert line.event == "drift_verdict" and 120 < line.time_s < 240
    assert set(line.features) & {"brightness", "dark_tail", "bright_tail", "haze"}
    before = len(told.changes)
    drive.another_model(day_and_night())
    drive.go(120, BY_NIGHT)
    assert [after for _, after in told.changes[before:]] and told.changes[-1][1] != "alarm"
    assert "alarm" not in {after for _, after in told.changes[before:]}
    assert told.states[-1].model.sha256 == "b" * 64


def test_frames_between_two_looks_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def counted(picture: np.ndarray, boxes: np.ndarray, **more: object) -> np.ndarray:
        looked.append(1)
        assert more == {"class_names": MODEL.metadata.class_names, "embedding": None}
        return extract(picture, boxes, class_names=MODEL.metadata.class_names)

    monkeypatch.setattr("edge.drift.frames.extract", counted)
    Drive(a_watch(tmp_path, Told(), reference=saved(tmp_path))).go(30, BY_DAY)
    assert len(looked) == 60  # of 300 frames


def test_a_models_embedding_is_learned_then_judged_and_with_the_next_model_said_to_be_gone(
    tmp_path: Path,
) -> None:
    told = Told()
    drive = Drive(a_watch(tmp_path, told, reference=saved(tmp_path), learn_s=60))
    drive.go(20, BY_DAY)
    drive.another_model(day())
    drive.embedding = 0.0
    drive.go(150, BY_DAY)
    assert common.DRIFT_VERDICT_ALARM not in {state.verdict for state in told.states}
    drive.embedding = 6.0
    drive.go(60, BY_DAY)
    alarm = next(state for state in told.states if state.verdict == common.DRIFT_VERDICT_ALARM)
    carriers = {one.name: one.origin for one in alarm.features if one.verdict == alarm.verdict}
    assert set(carriers) <= {f"embedding_{number}" for number in range(1, 5)}
    assert set(carriers.values()) == {common.FEATURE_ORIGIN_EMBEDDING}
    assert "model's view of the picture (embedding " in alarm.explanation
    drive.digest, drive.embedding = "c" * 64, None
    drive.go(60, BY_DAY)
    last = told.states[-1]
    assert last.verdict == common.DRIFT_VERDICT_UNCALIBRATED
    assert "the model gives no embedding to judge" in last.explanation


def test_a_model_without_a_reference_of_its_own_is_learned(tmp_path: Path) -> None:
    told = Told()
    drive = Drive(a_watch(tmp_path, told, reference=saved(tmp_path), learn_s=30))
    drive.go(40, BY_DAY)
    drive.another_model(None)
    drive.go(20, BY_DAY)
    assert told.changes[-1][1] == "learning"


def test_the_models_own_prior_is_used_where_nothing_is_configured(tmp_path: Path) -> None:
    told = Told()
    drive = Drive(a_watch(tmp_path, told))
    drive.metadata = replace(MODEL.metadata, drift_prior=day().to_bytes().decode())
    drive.go(60, BY_DAY)
    assert told.states[-1].reference_sha256 == day().digest


def test_a_prior_that_cannot_be_read_is_told_and_learned_instead(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    drive = Drive(a_watch(tmp_path, told))
    drive.metadata = replace(MODEL.metadata, drift_prior="{}")
    drive.go(10, BY_DAY)
    assert VERDICTS[told.states[-1].verdict] == "learning"
    assert "is not used" in caplog.text


def test_a_restart_goes_on_where_the_monitor_was(tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    path = saved(tmp_path)
    watch = a_watch(tmp_path, Told(), reference=path)
    watch.start()
    first = Drive(watch)
    first.go(100, BY_NIGHT)
    watch.stop()
    watch.stop()
    assert watch.join(30)
    assert set(threading.enumerate()) <= threads
    told = Told()
    second = Drive(a_watch(tmp_path, told, reference=path))
    second.number = first.number
    second.go(2, BY_NIGHT)
    assert VERDICTS[told.states[0].verdict] == "alarm"  # a monitor that began anew would have no full window


def test_what_was_kept_and_is_damaged_is_told_and_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "drift").mkdir()
    (tmp_path / "drift" / "front.json").write_text("{")
    told = Told()
    Drive(a_watch(tmp_path, told, reference=saved(tmp_path))).go(60, BY_DAY)
    assert told.states and "its drift monitor begins anew" in caplog.text


def test_a_reference_of_other_features_is_refused_at_the_start(tmp_path: Path) -> None:
    other = fit(np.random.default_rng(0).normal(size=(100, 2)), RATE_HZ, ["speed", "echo"])
    other.save(tmp_path / "other.json")
    with pytest.raises(DriftReferenceError, match="the reference is of speed, echo"):
        a_watch(tmp_path, Told(), reference=tmp_path / "other.json")


def test_what_is_seen_while_standing_at_a_light_adds_nothing(tmp_path: Path) -> None:
    told, moves = Told(), True
    watch = a_watch(tmp_path, told, moving=lambda camera: moves, reference=saved(tmp_path))
    drive = Drive(watch)
    drive.go(100, BY_DAY)
    states, moves = len(told.states), False
    drive.go(120, BY_NIGHT)
    # It is judged on, by what was seen on the way.
    assert len(told.states) >= states + 110
    moves = True
    drive.go(60, BY_DAY)
    assert "alarm" not in {after for _, after in told.changes}
    drive.go(100, BY_NIGHT)
    assert told.changes[-1][1] == "alarm"


def test_each_camera_has_its_share_of_the_promise(tmp_path: Path) -> None:
    """The alarm of one camera of four begins at a quarter of the rate."""
    first: list[float] = []
    for number, cameras in enumerate((("front",), ("front", "rear", "left", "right"))):
        (tmp_path / str(number)).mkdir()
        told = Told()
        watch = a_watch(
            tmp_path / str(number), told, cameras=cameras, reference=saved(tmp_path), target_hours=12.0
        )
        drive = Drive(watch)
        drive.go(100, BY_DAY)
        drive.go(100, BY_NIGHT)
        alarms = [state for state in told.states if VERDICTS[state.verdict] == "alarm"]
        first.append(alarms[0].expected_false_alarms_per_day)
        assert first[-1] <= 2.0 / len(cameras)


def test_a_camera_whose_rate_changes_in_mid_stream_alarms_in_no_phase(tmp_path: Path) -> None:
    told = Told()
    drive = Drive(a_watch(tmp_path, told, reference=saved(tmp_path)))
    drive.go(120, BY_DAY)
    at_its_rate = told.states[-1]
    drive.every = 10
    drive.go(400, BY_DAY)
    slow = told.states[-1]
    drive.every = 1
    drive.go(200, BY_DAY)
    again = told.states[-1]
    assert not any(state.verdict == common.DRIFT_VERDICT_ALARM for state in told.states)
    assert "1 frames come a second, not 2" in slow.explanation
    assert "frames come a second" not in at_its_rate.explanation + again.explanation
    (context,) = day().contexts
    nominal = {one.name: [tail.frames / RATE_HZ for tail in one.tails] for one in context.features}
    for state, factor in ((at_its_rate, 1), (slow, 2), (again, 1)):
        judged = [one for one in state.features if one.window_s and one.name in nominal]
        assert judged
        for one in judged:
            assert min(abs(one.window_s / (factor * s) - 1) for s in nominal[one.name]) < 0.1
