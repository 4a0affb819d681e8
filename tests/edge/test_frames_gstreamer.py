"""GStreamer pipelines as cameras, run for real."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import psutil
import pytest

from edge.config import CameraConfig
from edge.frames.frame import Frame
from edge.frames.probe import probe_camera
from edge.frames.sources import LiveOptions, LiveSource, SourceError, open_source
from tests.processes import descendants
from tests.waiting import Stopwatch, eventually

pytestmark = pytest.mark.services

LIVE = "gst:videotestsrc is-live=true pattern=ball"


def pipelines(of: int | None = None) -> list[psutil.Process]:
    return descendants(of, lambda one: one.status() != psutil.STATUS_ZOMBIE and "gst-launch" in one.name())


@pytest.mark.parametrize("width, height", [(320, 240), (321, 243)])
def test_frames_have_the_pipelines_size_whatever_padding_its_rows_have(width: int, height: int) -> None:
    url = (
        "gst:videotestsrc is-live=true pattern=smpte"
        f" ! video/x-raw,width={width},height={height},framerate=30/1"
    )
    with open_source(url) as source:
        assert isinstance(source, LiveSource)
        frames = list(itertools.islice(source, 5))
    assert [frame.sequence for frame in frames] == [0, 1, 2, 3, 4] and {frame.epoch for frame in frames} == {
        0
    }
    for frame in frames:
        assert isinstance(frame, Frame) and frame.image.shape == (height, width, 3)
        # SMPTE's bars: every row of the upper half is the one above it, which a sheared picture's is not.
        assert (frame.image[10] == frame.image[height // 2 - 10]).all()
        assert frame.captured_ns <= time.monotonic_ns()
    assert pipelines() == []


def test_another_size_in_the_middle_is_another_epoch_and_shears_nothing() -> None:
    bars = (
        "videotestsrc is-live=true num-buffers=6 pattern=smpte"
        " ! video/x-raw,framerate=20/1,width={},height={} ! c."
    )
    url = f"gst:concat name=c {bars.format(320, 240)} {bars.format(642, 363)} c."
    frames: list[Frame] = []
    with open_source(url) as source, pytest.raises(SourceError, match="the pipeline ended with exit code 0"):
        for frame in source:
            assert isinstance(frame, Frame)
            frames.append(frame)
    assert {frame.epoch for frame in frames} == {0, 1}
    for frame in frames:
        height, width = frame.image.shape[:2]
        assert (width, height) == ((320, 240), (642, 363))[frame.epoch]
        assert (frame.image[10] == frame.image[height // 2 - 10]).all()


def test_a_slow_taker_gets_the_newest_and_not_what_waited(tmp_path: Path) -> None:
    """Each picture is noise of its own, and is kept as a file too: by that, a frame has its number."""
    url = (
        "gst:videotestsrc is-live=true pattern=snow"
        " ! video/x-raw,format=BGR,framerate=50/1,width=640,height=480 ! tee name=both"
        f" both. ! queue ! multifilesink location={tmp_path}/%05d both."
    )

    numbers: dict[bytes, int] = {}

    def kept() -> int:
        whole = [path for path in tmp_path.iterdir() if path.name.isdecimal()]
        for path in whole:
            if int(path.name) not in numbers.values():
                numbers[sha256(path.read_bytes()).digest()] = int(path.name)
        return len(numbers)

    with open_source(url) as source:
        frames = iter(source)
        next(frames)
        eventually(lambda: kept() >= 50, "the camera goes on, and nobody takes")
        before = max(numbers.values()) + 1
        late = [sha256(frame.image).digest() for frame in itertools.islice(frames, 8)]
        eventually(lambda: kept() > 0 and numbers.keys() >= set(late), "all of them are on disk")
    taken = [numbers[digest] for digest in late]
    assert len(taken) == 8 and taken == sorted(set(taken))
    # What waited in the pipe and in the queue is three pictures or fewer, not fifty; one may come meanwhile.
    assert len([number for number in taken if number < before]) <= 4


def test_a_pipeline_that_falls_silent_is_found_and_its_process_ended() -> None:
    with open_source(f"{LIVE} ! valve drop=true", live=LiveOptions(give_up_s=0.5)) as source:
        took = Stopwatch()
        with pytest.raises(SourceError, match=r"gave no frame for 0\.5 s"):
            list(source)
        assert took() < 5
    assert pipelines() == []


def test_a_pipeline_that_is_killed_or_fails_says_so_without_passwords() -> None:
    with open_source(LIVE) as source:
        frames = iter(source)
        next(frames)
        pipelines()[0].send_signal(signal.SIGKILL)
        with pytest.raises(SourceError, match="died by SIGKILL"):
            list(frames)
    failing = "gst:rtspsrc location=rtsp://driver:secret@127.0.0.1:9/cam ! decodebin"
    with open_source(failing) as source, pytest.raises(SourceError) as raised:
        list(source)
    assert "secret" not in source.name
    told = probe_failure(failing)
    assert "camera 'front'" in told and "secret" not in told and "secret" not in str(raised.value)


def probe_failure(url: str) -> str:
    with pytest.raises(SourceError) as raised:
        probe_camera(CameraConfig(name="front", url=url))
    return str(raised.value)


def test_the_probe_measures_the_rate() -> None:
    told = probe_camera(CameraConfig(name="front", url=f"{LIVE} ! video/x-raw,framerate=20/1"))
    assert "320x240, " in told and "frames/s measured" in told


def test_a_missing_element_is_named_at_start() -> None:
    with pytest.raises(SourceError, match="GStreamer has no element 'nvarguscamerasrc99' here"):
        open_source("gst:nvarguscamerasrc99 sensor-id=0 ! nvvidconv")


def test_the_pipeline_dies_with_whoever_runs_it_even_by_sigkill() -> None:
    url = f"{LIVE} ! valve drop=true"
    program = f"from edge.frames.sources import open_source\nfor frame in open_source({url!r}): pass"
    holder = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(Path.cwd())}
    )
    with holder:
        try:
            eventually(lambda: bool(pipelines(holder.pid)), "the pipeline runs")
            (running,) = pipelines(holder.pid)
        finally:
            holder.kill()
    eventually(lambda: not running.is_running() or running.status() == psutil.STATUS_ZOMBIE, "it is gone")
