from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import pytest

from edge.backoff import Backoff, BackoffOptions
from edge.config import CameraConfig
from edge.frame_loop import FrameLoop, FrameObserver
from edge.frames.camera import Camera, open_camera
from edge.frames.capture import Arrival
from edge.frames.frame import Frame
from edge.frames.mailbox import MailboxRow
from edge.perception.crashes import CrashRules
from edge.perception.detector import Detections, Detector, DetectorOptions, InferenceError, SessionError
from edge.perception.hot_swap import SwappableDetector
from edge.perception.on_demand import OnDemand
from edge.publication import Publication
from tests.models_factory import loaded, picture, rectangles_model
from tests.recordings import write_pictures

OPTIONS = DetectorOptions(threads=1)
OLD = loaded(rectangles_model(version="1"))
NEW = loaded(rectangles_model(version="2"))
SEEN = picture((96, 160), (20, 10, 60, 50, "red"))


class Observer:
    name = "observer"

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.seen: list[tuple[int, int]] = []

    def observe(self, frame: Frame, published: Publication) -> None:
        if self.fails:
            raise ValueError("an observer's own defect")
        self.seen.append((frame.sequence, len(published.detections.boxes)))


class Rig:
    """A frame loop whose steps the test takes itself."""

    def __init__(
        self,
        folder: Path,
        *observers: FrameObserver,
        names: tuple[str, ...] = ("front",),
        restart_after_s: float = 0.001,
    ) -> None:
        self.row: MailboxRow[Arrival] = MailboxRow(names)
        pictures = str(write_pictures(folder, 1))
        self.cameras: dict[str, Camera] = {
            name: open_camera(
                CameraConfig(name=name, url=pictures, stale_after_ms=60_000), self.row.boxes[name]
            )
            for name in names
        }
        self.detector = SwappableDetector(Detector(OLD, OPTIONS))
        self.on_demand = OnDemand(self.row.wake)
        self.published: list[Publication] = []
        self.fallbacks: list[str] = []
        self.loop = FrameLoop(
            list(self.cameras.values()),
            self.row,
            self.detector,
            self.published.append,
            observers=observers,
            fallback=self.fallbacks.append,
            on_demand=self.on_demand,
            crash_rules=CrashRules(Backoff(BackoffOptions(restart_after_s, restart_after_s))),
        )

    def frame(
        self, sequence: int, image: np.ndarray = SEEN, camera: str = "front", waited_s: float = 0
    ) -> None:
        """Let a frame come in, and one step be done."""
        self.cameras[camera].counts.captured()
        frame = Frame(camera, sequence, 0, sequence * 100, image)
        self.row.boxes[camera].put(Arrival(frame, time.monotonic_ns() - round(waited_s * 1e9)))
        self.loop.step(0)

    def steps_until_answered(self) -> None:
        """Step until the mailbox is empty, as the thread would."""
        deadline = time.monotonic() + 30
        while not self.row.boxes["front"].wait_empty(0):
            assert time.monotonic() < deadline
            self.loop.step(0.01)

    def total(self, camera: str = "front") -> dict[str, int]:
        return {name: count for name, count in self.cameras[camera].counts.tally().as_dict().items() if count}


def test_a_frame_is_published_counted_and_shown(tmp_path: Path) -> None:
    observer = Observer()
    rig = Rig(tmp_path, observer)
    rig.frame(4)
    (publication,) = rig.published
    assert publication.key == ("front", 0, 4)
    assert publication.captured_ns == 400 and not publication.is_live
    assert (publication.height, publication.width) == (96, 160)
    assert publication.detections.model_digest == OLD.digest
    assert 0 <= publication.wait_ns <= publication.age_ns
    assert observer.seen == [(4, 1)]
    assert rig.total() == {"captured": 1, "published": 1}


def test_boxes_of_a_region_are_in_pixels_of_the_whole_picture(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.frame(0)
    (x1, y1, x2, y2), whole = rig.published[0].detections.boxes[0, :4], np.zeros((196, 260, 3), np.uint8)
    whole[50:146, 40:200] = SEEN
    rig.cameras["front"].counts.captured()
    frame = Frame("front", 1, 0, 1, whole, region=(40, 50, 200, 146))
    rig.row.boxes["front"].put(Arrival(frame, time.monotonic_ns()))
    rig.loop.step(0)
    published = rig.published[1]
    assert (published.height, published.width) == (196, 260)
    assert published.detections.boxes[0, :4].tolist() == [x1 + 40, y1 + 50, x2 + 40, y2 + 50]


def test_a_frame_beyond_its_budget_is_not_looked_at(tmp_path: Path) -> None:
    observer = Observer()
    rig = Rig(tmp_path, observer)
    rig.frame(0, waited_s=61)
    assert not rig.published and not observer.seen
    assert rig.total() == {"captured": 1, "stale": 1}


def test_a_picture_that_cannot_be_inferred_costs_itself_alone(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.frame(0, np.zeros((8, 8), np.uint8))
    rig.frame(1)
    assert [publication.key.sequence for publication in rig.published] == [1]
    assert rig.total() == {"captured": 2, "published": 1, "inference_error": 1}


def test_an_observers_defect_costs_nobody_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    failing, after = Observer(fails=True), Observer()
    failing.name = "failing"
    rig = Rig(tmp_path, failing, after)
    with caplog.at_level(logging.ERROR):
        rig.frame(0)
        rig.frame(1)
    assert [sequence for sequence, _ in after.seen] == [0, 1]
    assert rig.total() == {"captured": 2, "published": 2}
    assert len([record for record in caplog.records if "observer failing failed" in record.message]) == 1


def swaps(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if getattr(record, "event", "") == "model_swapped"]


def test_a_swap_is_applied_between_two_frames_and_told_with_the_first_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rig = Rig(tmp_path)
    rig.frame(0)
    pending = rig.detector.request(Detector(NEW, OPTIONS))
    rig.frame(1)
    rig.frame(2)
    assert pending.wait_applied(0)
    digests = [publication.detections.model_digest for publication in rig.published]
    assert digests == [OLD.digest, NEW.digest, NEW.digest]
    assert [publication.model.version for publication in rig.published] == ["1", "2", "2"]
    (report,) = swaps(caplog)
    assert report.frame_before == ("front", 0, 0) and report.frame_after == ("front", 0, 1)


def test_a_swap_needs_no_frame_to_be_applied(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rig = Rig(tmp_path)
    pending = rig.detector.request(Detector(NEW, OPTIONS))
    rig.loop.step(0)
    assert pending.wait_applied(0) and swaps(caplog) == []


def test_every_camera_has_its_turn(tmp_path: Path) -> None:
    rig = Rig(tmp_path, names=("front", "rear"))
    rig.cameras["rear"].counts.captured()
    rig.row.boxes["rear"].put(Arrival(Frame("rear", 0, 0, 0, SEEN), time.monotonic_ns()))
    rig.frame(0)
    rig.loop.step(0)
    assert [publication.key.camera for publication in rig.published] == ["front", "rear"]
    assert rig.total("rear") == {"captured": 1, "published": 1}


@pytest.mark.parametrize("error", [SessionError("the device is gone"), MemoryError()])
def test_a_crash_starts_inference_again_and_the_third_calls_for_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    caplog.set_level(logging.INFO)
    rig = Rig(tmp_path)
    working = Detector.detect

    def crash(self: Detector, image: np.ndarray) -> Detections:
        raise error

    monkeypatch.setattr(Detector, "detect", crash)
    broken = rig.detector.active
    for sequence in range(3):
        rig.frame(sequence)
        rig.steps_until_answered()
    assert len(rig.fallbacks) == 1
    assert rig.total() == {"captured": 3, "inference_error": 3}
    assert rig.loop.health().down_since_ns is not None and rig.loop.health().restarts == 2
    monkeypatch.setattr(Detector, "detect", working)
    rig.frame(3)
    rig.steps_until_answered()
    assert rig.total()["published"] == 1
    assert rig.detector.active is not broken and rig.detector.active.model.digest == OLD.digest
    assert rig.loop.health().down_since_ns is None and rig.loop.health().restarts == 3
    events = [getattr(record, "event", "") for record in caplog.records]
    crashed = [] if isinstance(error, SessionError) else ["inference_crashed"]
    assert events == [*crashed, "inference_down", "inference_up"], "what repeats is told once a minute"


def test_another_model_ends_the_wait_for_a_broken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, restart_after_s=1000)
    original = Detector.detect

    def old_crashes(self: Detector, image: np.ndarray) -> Detections:
        if self.model.digest == OLD.digest:
            raise SessionError("down")
        return original(self, image)

    monkeypatch.setattr(Detector, "detect", old_crashes)
    rig.frame(0)
    rig.frame(1)  # stays in its mailbox: inference is down
    assert rig.published == []
    rig.detector.request(Detector(NEW, OPTIONS))
    rig.loop.step(0)
    assert [publication.key.sequence for publication in rig.published] == [1]
    assert rig.loop.health().down_since_ns is None and rig.loop.health().restarts == 0


def test_an_error_of_inference_that_is_no_crash_restarts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path)
    before = rig.detector.active

    def nonsense(self: Detector, image: np.ndarray) -> Detections:
        raise InferenceError("the output makes no sense")

    monkeypatch.setattr(Detector, "detect", nonsense)
    for sequence in range(5):
        rig.frame(sequence)
        health = rig.loop.health()
        assert health.fruitless_since_ns is not None and health.taken_ns is not None
        assert health.fruitless_since_ns <= health.taken_ns and health.down_since_ns is None
    assert rig.detector.active is before and rig.fallbacks == []
    assert rig.total() == {"captured": 5, "inference_error": 5}


def test_the_thread_ends_after_the_frame_in_hand_and_says_when_it_fails(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    failed: list[bool] = []
    assert not rig.loop.health().is_running
    rig.loop.start(failed=lambda: failed.append(True))
    assert rig.loop.health().is_running
    rig.loop.stop()
    assert not rig.loop.health().is_running
    assert rig.loop.join(30) and failed == []

    broken = Rig(tmp_path)
    broken.cameras["front"].counts.captured()
    broken.loop._publish = None  # a defect
    broken.row.boxes["front"].put(Arrival(Frame("front", 0, 0, 0, SEEN), time.monotonic_ns()))
    broken.loop.start(failed=lambda: failed.append(True))
    assert broken.loop.join(30) and failed == [True]
