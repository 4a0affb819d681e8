"""Single pictures between two frames: bounded, and never at the cameras' cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edge.perception.decode import InferenceError
from edge.perception.detector import Detections, Detector, DetectorOptions, SessionError
from edge.perception.on_demand import Answer, BusyError, NotInTimeError, OnDemand, UnavailableError
from tests.edge.test_frame_loop import NEW, OLD, SEEN, Rig
from tests.waiting import eventually

LONG_S = 30.0


@pytest.fixture
def asker() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def ask(asker: ThreadPoolExecutor, desk: OnDemand, image: np.ndarray = SEEN) -> Future[Answer]:
    future = asker.submit(desk.detect, image, LONG_S)
    eventually(lambda: desk._waiting is not None or future.done(), "the picture waits")
    return future


def test_a_picture_is_answered_with_the_model_that_runs(tmp_path: Path, asker: ThreadPoolExecutor) -> None:
    rig = Rig(tmp_path)
    first = ask(asker, rig.on_demand)
    rig.loop.step(0)
    answer = first.result(LONG_S)
    assert answer.model.digest == answer.detections.model_digest == OLD.digest
    assert len(answer.detections.boxes) == 1
    rig.detector.request(Detector(NEW, DetectorOptions(threads=1)))
    second = ask(asker, rig.on_demand)
    rig.loop.step(0)
    assert second.result(LONG_S).model.digest == NEW.digest
    assert rig.total() == {} and rig.published == []  # no frame of any camera


def test_one_waits_and_the_next_is_told_to_come_again(asker: ThreadPoolExecutor) -> None:
    desk = OnDemand()
    waiting = ask(asker, desk)
    with pytest.raises(BusyError):
        desk.detect(SEEN, LONG_S)
    desk.close()
    with pytest.raises(UnavailableError):
        waiting.result(LONG_S)
    with pytest.raises(UnavailableError):
        desk.detect(SEEN, LONG_S)


def test_who_is_not_answered_in_time_leaves_the_place_free(asker: ThreadPoolExecutor) -> None:
    desk = OnDemand()
    with pytest.raises(NotInTimeError):
        desk.detect(SEEN, 0.001)
    assert desk.take() is None
    assert not ask(asker, desk).done()
    desk.close()


def test_whoever_keeps_asking_costs_each_frame_one_inference_at_most(
    tmp_path: Path, asker: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each inference takes so long that pictures and frames always wait: the worst that can be asked for."""
    rig, order, stopping = Rig(tmp_path), [], threading.Event()
    frame, other = SEEN.copy(), SEEN.copy()
    working = Detector.detect

    def slow(self: Detector, image: np.ndarray) -> Detections:
        order.append("frame" if image is frame else "picture")
        eventually(lambda: rig.on_demand._waiting is not None or stopping.is_set(), "the next one asks")
        return working(self, image)

    monkeypatch.setattr(Detector, "detect", slow)

    def keep_asking() -> None:
        while not stopping.is_set():
            try:
                rig.on_demand.detect(other, LONG_S)
            except BusyError:
                time.sleep(0.001)

    askers = [asker.submit(keep_asking) for _ in range(3)]
    for sequence in range(20):
        rig.frame(sequence, frame)
    stopping.set()
    while not all(future.done() for future in askers):
        rig.loop.step(0.001)
    assert rig.total() == {"captured": 20, "published": 20}
    assert order[:40].count("frame") == 20  # one and one, from the first to the last


@pytest.mark.parametrize("error", [SessionError("the device is gone"), MemoryError()])
def test_a_crash_by_a_picture_is_answered_and_inference_starts_again(
    tmp_path: Path, asker: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    rig = Rig(tmp_path)

    def crash(self: Detector, image: np.ndarray) -> Detections:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(Detector, "detect", crash)
        first = ask(asker, rig.on_demand)
        rig.loop.step(0)
        with pytest.raises(UnavailableError):
            first.result(LONG_S)
    assert rig.loop.health().down_since_ns is not None
    rig.frame(0)
    rig.steps_until_answered()
    assert rig.total() == {"captured": 1, "published": 1} and rig.loop.health().restarts == 1


def test_while_inference_is_down_nobody_waits(
    tmp_path: Path, asker: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, restart_after_s=1000)

    def crash(self: Detector, image: np.ndarray) -> Detections:
        raise SessionError("down")

    monkeypatch.setattr(Detector, "detect", crash)
    rig.frame(0)
    question = ask(asker, rig.on_demand)
    rig.loop.step(0)
    with pytest.raises(UnavailableError):
        question.result(LONG_S)


def test_what_the_model_makes_nothing_of_costs_itself_alone(
    tmp_path: Path, asker: ThreadPoolExecutor
) -> None:
    rig = Rig(tmp_path)
    question = ask(asker, rig.on_demand, np.zeros((8, 8), np.uint8))
    rig.loop.step(0)
    with pytest.raises(InferenceError):
        question.result(LONG_S)
    assert rig.loop.health().down_since_ns is None
