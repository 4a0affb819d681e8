"""The optional parts as the daemon treats them, with parts made for the test."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge.config import EdgeConfig, load_config
from edge.daemon import EXIT_FAILED, Daemon
from edge.errors import TrafficVisionError
from edge.frames import mailbox
from edge.frames.frame import Frame
from edge.parts import FactoryModel, Links, ModelStore, Parts
from edge.perception.detector import Detections, Detector, SessionError
from edge.perception.model_change import ChangeOutcome
from edge.perception.model_file import ModelFile
from edge.publication import Publication
from edge.serve.client import PerceptionClient
from protos.traffic_vision.v1 import common_pb2
from tests.daemons import LONG_S, write_config
from tests.models_factory import loaded, rectangles_model
from tests.replays import write_drive
from tests.waiting import eventually

pytestmark = pytest.mark.services

NEW = loaded(rectangles_model(version="2"))


@dataclass
class Recorder:
    """Drift monitor, uplink and updates in one: notes what the daemon asks of it."""

    name: str = "recorder"
    links: Links | None = None
    events: list[str] = field(default_factory=list)
    frames: int = 0
    sequences: list[int] = field(default_factory=list)
    goes_on: threading.Event = field(default_factory=threading.Event)
    stalls: threading.Event = field(default_factory=threading.Event)
    models: list[str] = field(default_factory=list)
    swapped: threading.Event = field(default_factory=threading.Event)
    failed: threading.Event = field(default_factory=threading.Event)

    def observe(self, frame: Frame, published: Publication) -> None:
        self.frames += 1
        self.sequences.append(frame.sequence)
        if self.stalls.is_set():
            assert self.goes_on.wait(LONG_S)
        self.models.append(published.detections.model_digest)
        if self.models[-1] != self.models[0]:
            self.swapped.set()
        assert self.links is not None
        verdict = common_pb2.DRIFT_VERDICT_LEARNING
        self.links.publish_drift(common_pb2.DriftState(camera=frame.camera, verdict=verdict))

    def model_failed(self, model: ModelFile, reason: str) -> None:
        self.events.append(f"failed: {reason}")
        self.failed.set()

    def loop_failed(self) -> None:
        self.events.append("loop failed")

    def start(self) -> None:
        self.events.append("start")

    def stop(self) -> None:
        self.events.append("stop")

    def join(self, timeout_s: float) -> bool:
        self.events.append("join")
        return True

    def fill_status(self, status: common_pb2.VehicleStatus) -> None:
        status.spool.samples = 42


class Factory:
    def __init__(self, refuses: bool = False) -> None:
        self.recorder = Recorder()
        self.refuses = refuses

    def open_models(self, config: EdgeConfig) -> ModelStore:
        return FactoryModel(config.model)

    def build_parts(self, config: EdgeConfig, links: Links) -> Parts:
        if self.refuses:
            raise TrafficVisionError("the certificate is of another authority")
        self.recorder.links = links
        return Parts((self.recorder,), (self.recorder,), self.recorder)


@pytest.fixture
def config(tmp_path: Path) -> EdgeConfig:
    write_drive(tmp_path / "drive", 40)
    return load_config(write_config(tmp_path, {"url": "drive", "pace": "realtime", "still_rate_hz": 50}))


def test_parts_see_frames_fill_the_status_and_are_stopped(config: EdgeConfig) -> None:
    threads_before = set(threading.enumerate())
    factory = Factory()
    recorder = factory.recorder
    daemon = Daemon(config, factory)
    daemon.startup()
    with PerceptionClient(daemon.address) as client:
        states = client.drift()
        assert next(states).state.verdict == common_pb2.DRIFT_VERDICT_LEARNING
        status = client.status().status
        assert status.spool.samples == 42
        assert [state.camera for state in status.drift] == ["camera0"]
        assert status.device_drift.verdict == status.drift[0].verdict
        assert list(status.device_drift.cameras) == ["camera0"]
        assert recorder.links is not None
        assert recorder.links.change_model(NEW).outcome is ChangeOutcome.SWAPPED
        assert client.status().status.model.active.sha256 == NEW.digest
        assert recorder.links.status().spool.samples == 42
    daemon.shutdown()
    assert recorder.events == ["start", "stop", "join"]
    assert recorder.frames > 0
    for thread in set(threading.enumerate()) - threads_before:
        thread.join(LONG_S)
        assert not thread.is_alive(), thread


def test_observers_see_which_model_answered(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, {"url": "sim:7?seconds=0&size=64x64", "pace": "lockstep"}))
    factory = Factory()
    recorder = factory.recorder
    daemon = Daemon(config, factory)
    daemon.startup()
    try:
        assert recorder.links is not None
        recorder.links.change_model(NEW)
        assert recorder.swapped.wait(LONG_S)
    finally:
        daemon.shutdown()
    assert recorder.models[-1] == NEW.digest and recorder.models[0] != NEW.digest


def test_a_stall_while_the_model_is_changed_supersedes_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may stall longer than what is waited for.
    monkeypatch.setattr(mailbox, "BACKLOG_S", LONG_S)
    monkeypatch.setattr(mailbox, "BACKLOG_ITEMS", 20 * int(LONG_S))
    config = load_config(write_config(tmp_path, {"url": "sim:7?seconds=0&rate=20&size=64x64"}))
    factory = Factory()
    recorder = factory.recorder
    daemon = Daemon(config, factory)
    daemon.startup()

    def newest() -> int:
        return client.status().status.cameras[0].captured_frames

    try:
        with PerceptionClient(daemon.address) as client:
            assert recorder.links is not None
            eventually(lambda: recorder.frames > 0, "a first frame")
            with recorder.links.keep_frames():
                recorder.stalls.set()
                begin = newest()
                eventually(lambda: newest() >= begin + 5, "five frames more")
                recorder.stalls.clear()
                recorder.goes_on.set()
                eventually(lambda: recorder.sequences[-1] >= begin + 5, "them to be answered")
    finally:
        recorder.goes_on.set()
        daemon.shutdown()
    kept = recorder.sequences[recorder.sequences.index(begin) :]
    assert kept == list(range(begin, begin + len(kept)))


def test_updates_are_told_of_a_model_that_crashes(
    config: EdgeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(self: Detector, image: object) -> Detections:
        raise SessionError("the device is gone")

    monkeypatch.setattr(Detector, "detect", crash)
    factory = Factory()
    daemon = Daemon(config, factory)
    daemon.startup()
    try:
        assert factory.recorder.failed.wait(LONG_S)
    finally:
        daemon.shutdown()
    assert factory.recorder.events[1] == "failed: the device is gone"


def test_a_part_that_cannot_be_built_leaves_nothing_behind(config: EdgeConfig) -> None:
    threads_before = set(threading.enumerate())
    with pytest.raises(TrafficVisionError, match="another authority"):
        Daemon(config, Factory(refuses=True)).run()
    for thread in set(threading.enumerate()) - threads_before:
        thread.join(LONG_S)
        assert not thread.is_alive(), thread
    with pytest.raises(TrafficVisionError, match="another authority"):
        Daemon(config, Factory(refuses=True)).run()  # the lock and the port are free again


def test_a_loop_that_fails_ends_the_daemon_with_its_own_code(
    config: EdgeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_: object) -> None:
        raise AssertionError("a defect of the loop's own")

    monkeypatch.setattr("edge.frame_loop.FrameLoop._pass_on", defect)
    factory = Factory()
    assert Daemon(config, factory).run() == EXIT_FAILED
    assert factory.recorder.events == ["start", "loop failed", "stop", "join"]
