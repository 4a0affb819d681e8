"""What a drift alarm says on its way out of the daemon: log, message, live page."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from edge.config import DriftConfig
from edge.drift import fit
from edge.drift.features import NAMES, ORIGINS, extract
from edge.drift.part import DriftWatch
from edge.drift.state import DriftState, FeatureDrift, Kind, Origin, Verdict
from edge.frames.frame import Frame
from edge.health import LoopHealth
from edge.machine.wall_clock import WallClock
from edge.messages import Clock, drift_state
from edge.perception.detector import Detections
from edge.perception.detector import StageTimes as FrameStageTimes
from edge.publication import Publication
from edge.serve.http.metrics import StageTimes
from edge.serve.http.overview import overview
from protos.traffic_vision.v1 import common_pb2 as common
from tests.models_factory import loaded, rectangles_model

MODEL = loaded(rectangles_model())
NO_BOXES = np.zeros((0, 6), np.float32)
MINUTE_NS = 60_000_000_000
NOON_NS = 1_780_056_000_000_000_000  # 2026-05-29 12:00 UTC


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def an_alarm(kind: Kind | None = None, change: float | None = None) -> DriftState:
    dark = FeatureDrift(
        "brightness", Origin.PICTURE, "day", 60.0, 0.7, 1e-9, 1e-4, -3.1, Verdict.ALARM
    )  # fmt: skip
    return DriftState(
        verdict=Verdict.ALARM,
        false_alarms_per_day=1e-3,
        context="day",
        unknown_context_share=0.0,
        features=(dark,),
        time_ns=12 * MINUTE_NS,
        since_ns=10 * MINUTE_NS,
        notes=("never changed in the reference, not judged: count",),
        kind=kind,
        estimated_map50_change=change,
    )


def told(state: DriftState, clock: Clock, *, is_live: bool) -> common.DriftState:
    return drift_state(
        "front",
        state,
        common.ModelRef(),
        "ab" * 32,
        lambda time_ns: clock.captured("front", time_ns, is_live=is_live),
    )


def test_an_alarm_tells_since_when_by_the_best_clock_there_is() -> None:
    def unreadable() -> int:
        raise OSError(5, "no clock")

    walls = {
        name: WallClock(read, monotonic_ns=lambda: 0)
        for name, read in (("right", lambda: NOON_NS), ("none", unreadable))
    }
    dark = "brightness 3.1 sigma below the day reference, since"
    notes = "; never changed in the reference, not judged: count"
    for wall, is_live, since in (
        ("right", True, "12:10 UTC"),
        ("none", True, "2 min ago"),
        ("right", False, "10:00 of the drive"),
    ):
        message = told(an_alarm(), Clock("run", walls[wall]), is_live=is_live)
        assert message.explanation == f"{dark} {since}{notes}"


def test_an_alarm_has_a_kind_and_what_it_costs_where_that_is_known() -> None:
    clock = Clock("run")
    message = told(an_alarm(), clock, is_live=False)
    assert message.kind == common.DRIFT_KIND_LIGHT
    assert not message.HasField("estimated_map50_change")
    message = told(an_alarm(Kind.CAMERA_MOVED, -0.125), clock, is_live=False)
    assert message.kind == common.DRIFT_KIND_CAMERA_MOVED
    assert message.estimated_map50_change == -0.125
    quiet = replace(an_alarm(), verdict=Verdict.STABLE, features=())
    message = told(quiet, clock, is_live=False)
    assert message.kind == common.DRIFT_KIND_UNSPECIFIED
    assert message.explanation == "never changed in the reference, not judged: count"


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_has_its_word_in_the_contract(kind: Kind) -> None:
    message = told(an_alarm(kind), Clock("run"), is_live=False)
    assert common.DriftKind.Name(message.kind) == f"DRIFT_KIND_{kind.name}"


def test_the_live_page_shows_words_kind_and_cost() -> None:
    status = common.VehicleStatus(
        drift=[told(an_alarm(Kind.CAMERA_MOVED, -0.125), Clock("r"), is_live=False)]
    )
    shown = overview(status, StageTimes(CollectorRegistry()), LoopHealth(True, 0), ())["drift"]
    (drift,) = shown
    assert (drift["verdict"], drift["kind"], drift["estimated_map50_change"]) == (
        "alarm", "camera_moved", -0.125,
    )  # fmt: skip
    assert drift["explanation"].startswith("brightness 3.1 sigma below")
    # What else there is to be told does not stand in the alarm's sentence.
    assert drift["notes"] == ["never changed in the reference, not judged: count"]
    assert drift["features"][0]["label"] == "brightness"
    quiet = replace(an_alarm(), verdict=Verdict.STABLE, features=())
    status = common.VehicleStatus(drift=[told(quiet, Clock("r"), is_live=False)])
    (drift,) = overview(status, StageTimes(CollectorRegistry()), LoopHealth(True, 0), ())["drift"]
    assert (drift["explanation"], drift["notes"]) == (
        "",
        ["never changed in the reference, not judged: count"],
    )
    status = common.VehicleStatus(drift=[common.DriftState(verdict=common.DRIFT_VERDICT_STABLE)])
    (drift,) = overview(status, StageTimes(CollectorRegistry()), LoopHealth(True, 0), ())["drift"]
    assert (drift["kind"], drift["estimated_map50_change"]) == ("", None)


def picture(number: int, level: float) -> np.ndarray:
    rng = np.random.default_rng(number)
    return np.clip(rng.normal(level + rng.normal(0, 6), 12, (36, 64, 3)), 0, 255).astype(np.uint8)


def test_the_onset_is_logged_once_with_kind_and_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drives = [
        np.array([extract(picture(100 * drive + number, 140.0), NO_BOXES) for number in range(60)])
        for drive in range(1, 5)
    ]
    fit(drives, 2.0, NAMES, origins=ORIGINS, context="day").save(tmp_path / "day.json")
    (tmp_path / "factory.onnx").write_bytes(MODEL.data)
    states: list[common.DriftState] = []
    watch = DriftWatch(
        DriftConfig(reference=tmp_path / "day.json"),
        ["front"],
        tmp_path / "factory.onnx",
        tmp_path / "drift",
        Clock("run"),
        states.append,
    )
    events: list[common.DriftState] = []
    watch.listen(lambda state, previous: events.append(state))
    found = Detections(NO_BOXES, MODEL.digest, FrameStageTimes(0, 0, 0))
    with caplog.at_level(logging.INFO, logger="edge.drift.part"):
        for number in range(240):
            frame = Frame(
                "front", number, 0, number * 500_000_000, picture(number, 140.0 if number < 80 else 30.0)
            )
            published = Publication(
                frame.key, frame.captured_ns, False, 36, 64, found, MODEL.metadata, 0, 0, 0
            )  # fmt: skip
            watch.observe(frame, published)
    (line,) = [record for record in caplog.records if "drift alarm" in record.getMessage()]
    (event,) = [state for state in events if state.verdict == common.DRIFT_VERDICT_ALARM]
    assert event.explanation in line.getMessage() and "below the day reference" in event.explanation
    kind = common.DriftKind.Name(event.kind).removeprefix("DRIFT_KIND_").lower()
    assert event.kind and f"drift alarm ({kind.replace('_', ' ')}): " in line.getMessage()
    assert line.__dict__["kind"] == kind
    # It goes on for long after, and says so without another line.
    assert sum(state.verdict == common.DRIFT_VERDICT_ALARM for state in states) > 10
