"""RTSP cameras on a real server, over a line that is cut in each way."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from edge.backoff import Backoff, BackoffOptions
from edge.config import CameraConfig
from edge.frames.capture import Arrival, Capture
from edge.frames.frame import BrokenFrame, Frame
from edge.frames.mailbox import Mailbox
from edge.frames.outcomes import FrameCounts
from edge.frames.probe import probe_camera
from edge.frames.sources import LiveOptions, LiveSource, SourceError, open_source
from tests.processes import descendants
from tests.rtsp.camera import RtspCamera, is_true, number_of
from tests.rtsp.line import Line, Way
from tests.waiting import Stopwatch, eventually

pytestmark = pytest.mark.services

LONG_S = 30.0
WITHIN_S = 5.0  # what is promised


@pytest.fixture(scope="module")
def camera() -> Iterator[RtspCamera]:
    with RtspCamera(size="640x480", rate=25, keys=25) as running:
        yield running


@pytest.fixture
def line(camera: RtspCamera) -> Iterator[Line]:
    with Line(camera.port) as opened:
        yield opened


def url(line: Line) -> str:
    return f"rtsp://driver:secret@127.0.0.1:{line.port}/cam"


def test_every_picture_is_the_cameras_in_order_and_of_now(line: Line) -> None:
    with open_source(url(line)) as source:
        assert isinstance(source, LiveSource) and "secret" not in source.name
        frames = list(itertools.islice(source, 50))
    assert all(isinstance(frame, Frame) and is_true(frame.image) for frame in frames)
    numbers = [number_of(frame.image) for frame in frames if isinstance(frame, Frame)]
    assert numbers == list(range(numbers[0] or 0, (numbers[0] or 0) + 50))
    assert [frame.sequence for frame in frames] == list(range(50))
    assert all(
        one.captured_ns < other.captured_ns <= time.monotonic_ns()
        for one, other in itertools.pairwise(frames)
    )


@pytest.mark.parametrize("way", [Way.LOSSY, Way.NOISY])
def test_what_is_lost_or_damaged_on_the_way_never_becomes_a_picture(line: Line, way: Way) -> None:
    with open_source(url(line), live=LiveOptions(give_up_s=20)) as source:
        shots = iter(source)
        assert isinstance(next(shots), Frame)
        line.way = way
        seen = list(itertools.islice(shots, 150))
        line.way = Way.OPEN
        after = list(itertools.islice(shots, 60))
    assert line.hurt > 0
    assert any(isinstance(shot, BrokenFrame) for shot in seen)
    smeared = [shot for shot in [*seen, *after] if isinstance(shot, Frame) and not is_true(shot.image)]
    assert not smeared
    assert isinstance(after[-1], Frame), "it recovers by the next key frame"
    sequences = [shot.sequence for shot in [*seen, *after]]
    assert sequences == list(range(1, len(sequences) + 1))


@pytest.mark.parametrize(
    "way, told",
    [
        (Way.SILENT, "no answer while opening for 4 s"),
        (Way.HANGS, "no answer while opening for 4 s"),
        (Way.REFUSED, "Connection refused"),
        (Way.GARBAGE, "."),
    ],
)
def test_a_camera_that_cannot_be_opened_is_found_in_time(line: Line, way: Way, told: str) -> None:
    line.way = way
    took = Stopwatch()
    with open_source(url(line)) as source, pytest.raises(SourceError, match=told) as raised:
        list(source)
    assert took() < WITHIN_S
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("way", [Way.STALLED, Way.GARBAGE, Way.CUT])
def test_a_camera_that_fails_while_it_sends_is_found_in_time(line: Line, way: Way) -> None:
    with open_source(url(line)) as source:
        shots = iter(source)
        assert isinstance(next(shots), Frame)
        line.way = way
        took = Stopwatch()
        with pytest.raises(SourceError):
            for shot in shots:
                assert isinstance(shot, BrokenFrame) or is_true(shot.image)
        assert took() < WITHIN_S


def test_udp_is_read_and_its_end_is_found(camera: RtspCamera) -> None:
    options = LiveOptions(transport="udp", give_up_s=2)
    with open_source(f"rtsp://127.0.0.1:{camera.port}/cam", live=options) as source:
        shots = iter(source)
        assert all(isinstance(shot, Frame) and is_true(shot.image) for shot in itertools.islice(shots, 20))
        camera.freeze(True)
        try:
            with pytest.raises(SourceError, match="for 2 s"):
                list(shots)
        finally:
            camera.freeze(False)


def test_the_probe_says_size_and_measured_rate_or_names_the_camera(line: Line) -> None:
    told = probe_camera(CameraConfig(name="front", url=url(line)))
    assert "rtsp://***@127.0.0.1" in told and "640x480, 2" in told and "frames/s measured" in told
    line.way = Way.CUT
    with pytest.raises(SourceError, match="camera 'front': ") as raised:
        probe_camera(CameraConfig(name="front", url=url(line)))
    assert "secret" not in str(raised.value)


class Watched:
    """A capture of a camera, its mailbox emptied by the test."""

    def __init__(self, line: Line, backoff: Backoff | None = None, **config: object) -> None:
        self.mailbox: Mailbox[Arrival] = Mailbox()
        self.counts = FrameCounts()
        section = CameraConfig.model_validate({"name": "front", "url": url(line), **config})
        self.capture = Capture(section, open_source(section.url), self.mailbox, self.counts, backoff=backoff)

    def frame(self, fits: Callable[[Frame], bool] = lambda frame: True) -> Frame:
        end = time.monotonic() + LONG_S
        while time.monotonic() < end:
            arrival = self.mailbox.take(LONG_S)
            if arrival is not None and fits(arrival.frame):
                return arrival.frame
        raise AssertionError(f"no such frame: {self.capture.status()}")


def readers() -> list[psutil.Process]:
    """The capturing processes that this one has, ended ones that were not reaped included."""
    return descendants(
        None,
        lambda child: child.status() == psutil.STATUS_ZOMBIE or "edge.frames.rtsp_reader" in child.cmdline(),
    )


def test_a_stop_does_not_wait_for_a_camera_that_says_nothing(line: Line) -> None:
    line.way = Way.SILENT
    watched = Watched(line)
    watched.capture.start()
    eventually(lambda: bool(readers()), "it connects")
    watched.capture.stop()
    assert watched.capture.join(LONG_S)
    assert readers() == []


@pytest.mark.timeout(900)
def test_two_hundred_reconnects_leave_nothing_behind(line: Line) -> None:
    process = psutil.Process()
    # The waits between are not what is tried here.
    watched = Watched(line, Backoff(BackoffOptions(0.001, 0.001)))
    watched.capture.start()
    before: tuple[int, int] = (0, 0)
    resident = []
    for number in range(200):
        frame = watched.frame(lambda frame, number=number: frame.epoch >= number)
        assert is_true(frame.image)
        if number == 20:
            before = process.num_fds(), process.num_threads()
        if number >= 20:
            resident.append(process.memory_info().rss)
        line.way = Way.CUT
        eventually(lambda: not line.connections, "the line is cut")
        line.way = Way.OPEN
    last = watched.frame(lambda frame: frame.epoch >= 200)
    assert last.sequence >= 200
    assert len(readers()) == 1
    # The line's own sockets and threads come and go with the connection.
    eventually(
        lambda: process.num_fds() <= before[0] + 4 and process.num_threads() <= before[1] + 2,
        "what was open for lost connections is given back",
    )
    print(f"RSS after 20 reconnects {resident[0] / 1e6:.1f} MB, after 200 {resident[-1] / 1e6:.1f} MB")
    assert resident[-1] - resident[0] < 8_000_000
    watched.capture.stop()
    assert watched.capture.join(LONG_S)
    assert readers() == []
    tally = watched.counts.tally().as_dict()
    assert tally["captured"] >= 201
