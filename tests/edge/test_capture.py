from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest

from edge.backoff import Backoff, BackoffOptions
from edge.config import CameraConfig
from edge.frames.camera import open_camera
from edge.frames.capture import Arrival, Capture, CaptureError, CapturePhase
from edge.frames.frame import BrokenFrame, Frame
from edge.frames.mailbox import Mailbox
from edge.frames.outcomes import FrameCounts
from edge.frames.sources import LiveSource, Source, SourceError, open_source
from tests.recordings import write_pictures, write_video

LONG_S = 30.0
IMAGE = np.zeros((8, 8, 3), np.uint8)


class Camera:
    """A live source that gives so many frames, then ends or raises."""

    name = "fake"
    rate_hz: float | None = 10.0
    frame_count: int | None = None
    is_live = True

    def __init__(self, frames: int, then: Exception | None = None, block: Callable[[], None] | None = None):
        self.frames, self.then, self.block = frames, then, block
        self.closed = False

    def __iter__(self) -> Iterator[Frame | BrokenFrame]:
        for index in range(self.frames):
            if index == 1:
                yield BrokenFrame("fake", index, 0, index, "damaged rtsp://me:secret@cam/1")
            else:
                yield Frame("fake", index, 0, index, IMAGE.copy())
        if self.block is not None:
            self.block()
        if self.then is not None:
            raise self.then

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Camera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()


class Rig:
    def __init__(self, source: Source, reopen: Callable[[], Source] | None = None, **config: Any) -> None:
        self.mailbox: Mailbox[Arrival] = Mailbox()
        self.counts = FrameCounts()
        section = CameraConfig(name="front", url="fake", **config)
        self.capture = Capture(
            section,
            source,
            self.mailbox,
            self.counts,
            reopen=reopen,
            backoff=Backoff(BackoffOptions(0.001, 0.001)),
        )

    def frames(self) -> Iterator[Frame]:
        """What arrives until the capture has ended."""
        while True:
            arrival = self.mailbox.take(0.05)
            if arrival is not None:
                yield arrival.frame
            elif self.capture.status().phase is CapturePhase.ENDED:
                return

    def end(self) -> None:
        self.capture.stop()
        assert self.capture.join(LONG_S)

    def total(self) -> dict[str, int]:
        return {name: count for name, count in self.counts.tally().as_dict().items() if count}


def test_a_fake_is_a_live_source_and_a_recording_is_none(tmp_path: Path) -> None:
    assert isinstance(Camera(1), LiveSource)
    assert not isinstance(open_source(str(write_pictures(tmp_path))), LiveSource)


def test_lockstep_hands_over_every_frame_of_a_recording(tmp_path: Path) -> None:
    source = open_source(str(write_video(tmp_path / "drive.mp4", frames=30)))
    rig = Rig(source, pace="lockstep")
    rig.capture.start()
    frames = list(rig.frames())
    rig.end()
    assert [frame.sequence for frame in frames] == list(range(30))
    assert {frame.camera for frame in frames} == {"front"}
    assert rig.total() == {"captured": 30}
    assert rig.capture.status().detail == ""


def test_what_nobody_takes_is_superseded_and_the_last_stopped(tmp_path: Path) -> None:
    source = open_source(str(write_pictures(tmp_path, 12)), still_rate_hz=1000)
    rig = Rig(source)
    rig.capture.start()
    assert rig.capture.join(LONG_S)  # it drains whether anyone takes or not
    newest = rig.mailbox.take(0)
    assert newest is not None and newest.frame.sequence == 11
    rig.end()
    assert rig.total() == {"captured": 12, "superseded": 11}


def test_stopping_counts_the_frame_in_the_mailbox_and_wakes_lockstep(tmp_path: Path) -> None:
    source = open_source(str(write_pictures(tmp_path, 12)))
    rig = Rig(source, pace="lockstep")
    rig.capture.start()
    assert rig.mailbox.take(LONG_S) is not None  # the thread now waits with the next frame in its hand or box
    rig.end()
    total = rig.total()
    assert total.pop("captured") == 1 + total.pop("stopped")
    assert total == {}


def test_lockstep_keeps_a_speed_limit_until_it_is_lifted(tmp_path: Path) -> None:
    source = open_source(str(write_pictures(tmp_path, 12)))
    rig = Rig(source, pace="lockstep", speed_limit=1e-6)  # the second frame is due in a day
    rig.capture.start()
    first = rig.mailbox.take(LONG_S)
    assert first is not None and first.frame.sequence == 0
    assert rig.mailbox.take(0.1) is None
    rig.capture.limit_speed(None)
    assert [frame.sequence for frame in rig.frames()] == list(range(1, 12))
    rig.end()
    assert rig.total() == {"captured": 12}


def test_a_speed_limit_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    rig = Rig(open_source(str(write_pictures(tmp_path, 3))), pace="lockstep", speed_limit=1e-6)
    rig.capture.start()
    assert rig.mailbox.take(LONG_S) is not None
    rig.end()


def test_a_rate_limit_is_by_the_frames_own_time(tmp_path: Path) -> None:
    source = open_source(str(write_pictures(tmp_path, 30)), still_rate_hz=10)
    rig = Rig(source, pace="lockstep", rate_limit_hz=5.0)
    rig.capture.start()
    kept = [frame.sequence for frame in rig.frames()]
    rig.end()
    assert len(kept) in (15, 16)
    assert rig.total()["rate_limited"] == 30 - len(kept)


def test_a_lost_camera_is_opened_again_with_a_new_epoch_and_one_sequence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sources = [
        Camera(3, SourceError("it hung up")),
        Camera(4),
        Camera(2, RuntimeError("a defect of a plug-in")),
    ]
    opened = list(sources)
    tries: list[str] = []

    def reopen() -> Source:
        if len(tries) in (0, 2):  # the next try fails, too
            tries.append("refused")
            raise SourceError("cannot connect to rtsp://me:secret@cam/1")
        tries.append("opened")
        return opened.pop(0) if opened else Camera(1)

    rig = Rig(opened.pop(0), reopen)
    seen = []
    rig.capture.start()
    while len({frame.epoch for frame in seen}) < 6:
        arrival = rig.mailbox.take(LONG_S)
        assert arrival is not None
        seen.append(arrival.frame)
        assert "secret" not in rig.capture.status().detail
    rig.end()
    assert all(source.closed for source in sources)
    assert [frame.sequence for frame in seen] == sorted({frame.sequence for frame in seen})
    assert [frame.epoch for frame in seen] == sorted(frame.epoch for frame in seen)
    assert rig.capture.status().losses >= 7
    told = [record.message for record in caplog.records if getattr(record, "event", "") == "camera_lost"]
    assert "it hung up" in told[0] and "its source ended" in told[1]
    assert not any("cannot connect" in line for line in told), "a try that fails while it is lost is counted"
    assert len([line for line in told if "its source ended" in line]) <= 2, "of one that comes and goes"
    later = seen[-1].epoch - 3  # connections of one frame each, some of which may have been superseded
    assert later >= 0 and seen[-1].sequence == 3 + 4 + 2 + later
    total = rig.total()
    captured = total.pop("captured")
    assert captured == sum(total.values()) + len(seen)
    assert total["decode_error"] == 3


class Changing(Camera):
    """Gives pictures of two shapes over one connection."""

    def __iter__(self) -> Iterator[Frame | BrokenFrame]:
        for index, side in enumerate((8, 8, 16, 16, 8)):
            yield Frame("fake", index, 0, time.monotonic_ns(), np.zeros((side, side, 3), np.uint8))
        self.changed.set()
        self.hold.wait(LONG_S)

    def __init__(self) -> None:
        super().__init__(0)
        self.changed, self.hold = threading.Event(), threading.Event()

    def interrupt(self) -> None:
        self.hold.set()


def test_another_shape_is_another_epoch_and_a_stop_ends_a_read_that_waits() -> None:
    source = Changing()
    rig = Rig(source)
    rig.capture.start()
    assert source.changed.wait(LONG_S)
    arrival = rig.mailbox.take(LONG_S)
    assert arrival is not None and arrival.frame.epoch == 2 and arrival.frame.image.shape == (8, 8, 3)
    assert arrival.arrived_ns == arrival.frame.captured_ns
    rig.end()
    assert source.hold.is_set() and source.closed


def test_a_mask_is_painted_before_anyone_sees_the_picture() -> None:
    rig = Rig(Camera(1), mask=(((0, 0.5), (1, 0.5), (1, 1), (0, 1)),), region=(0.25, 0, 0.5, 0.5))
    rig.capture.start()
    arrival = rig.mailbox.take(LONG_S)
    rig.end()
    assert arrival is not None and arrival.frame.region == (2, 0, 6, 4)
    assert (arrival.frame.image[4:] == 114).all() and not arrival.frame.image[:3].any()


def test_a_recording_that_breaks_ends_and_says_why() -> None:
    source = Camera(1, SourceError("cut off"))
    source.is_live = False
    rig = Rig(source)
    rig.capture.start()
    assert [frame.sequence for frame in rig.frames()] == [0]
    assert rig.capture.status().detail == "cut off"
    rig.end()


def test_a_camera_waits_for_nobody() -> None:
    with pytest.raises(CaptureError, match="camera 'front': pace 'lockstep' is for recordings"):
        Rig(Camera(1), pace="lockstep")


def test_what_cannot_be_opened_names_its_camera(tmp_path: Path) -> None:
    config = CameraConfig(name="rear", url=str(tmp_path / "none.mp4"))
    with pytest.raises(SourceError, match=r"camera 'rear': source .*none\.mp4' not found"):
        open_camera(config, Mailbox())


def test_a_capture_that_never_started_closes_its_source() -> None:
    source = Camera(1)
    rig = Rig(source)
    rig.end()
    assert source.closed
