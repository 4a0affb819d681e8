"""A daemon with cameras that fail in every way, beside one that does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from protos.traffic_vision.v1 import common_pb2, perception_pb2
from tests.daemons import DaemonProcess, counts_of, refused, write_config
from tests.models_factory import rectangles_model
from tests.processes import descendants, is_alive
from tests.rtsp.camera import RtspCamera
from tests.rtsp.line import Line, Way
from tests.waiting import Stopwatch, eventually

pytestmark = pytest.mark.services

WITHIN_S = 5.0  # what is promised

REAR = {"name": "rear", "url": "sim:7?seconds=0&rate=10&size=320x192"}
SIDE = {
    "name": "side",
    "url": "gst:videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=15/1",
    "rate_limit_hz": 5.0,
}


def front(line: Line, **more: object) -> dict[str, object]:
    return {"name": "front", "url": f"rtsp://driver:secret@127.0.0.1:{line.port}/cam", **more}


class Watch:
    """Asks a daemon for one camera."""

    def __init__(self, daemon: DaemonProcess, name: str) -> None:
        self.daemon, self.name = daemon, name

    def now(self) -> common_pb2.CameraStatus:
        return self.daemon.cameras()[self.name]

    def until(self, holds: Callable[[common_pb2.CameraStatus], bool], what: str) -> common_pb2.CameraStatus:
        """Wait until it is so; gives the status of which it was."""
        found: list[common_pb2.CameraStatus] = []

        def looked() -> bool:
            found.append(self.now())
            return holds(found[-1])

        eventually(looked, what)
        return found[-1]


def is_fresh_in(epoch: int) -> Callable[[common_pb2.CameraStatus], bool]:
    return lambda status: status.state == common_pb2.CAMERA_STATE_FRESH and status.epoch >= epoch


def test_a_camera_that_fails_in_each_way_comes_back_and_costs_no_other(tmp_path: Path) -> None:
    with RtspCamera(size="640x480", rate=15, keys=15) as camera, Line(camera.port) as line:
        # On this machine's clock a picture may wait for a check of a model beside it.
        config = write_config(tmp_path, front(line, stale_after_ms=5000, give_up_s=2), REAR, SIDE)
        with DaemonProcess(config) as daemon:
            watch, rear = Watch(daemon, "front"), Watch(daemon, "rear")
            epoch = watch.until(is_fresh_in(0), "the camera is fresh").epoch
            for way in (Way.STALLED, Way.SILENT, Way.HANGS, Way.GARBAGE, Way.REFUSED):
                before = rear.now().captured_frames
                losses = watch.now().losses
                line.way = Way.STALLED if way is Way.STALLED else Way.CUT
                took = Stopwatch()
                watch.until(lambda status, before=losses: status.losses > before, "it is lost")
                assert took() < WITHIN_S
                line.way = way
                if way is not Way.STALLED:
                    losses = watch.now().losses
                    watch.until(lambda status, before=losses: status.losses > before, "a try fails")
                line.way = Way.OPEN
                epoch = watch.until(is_fresh_in(epoch + 1), f"it is back after: {way.value}").epoch
                untouched = rear.until(is_fresh_in(0), "the other camera is fresh")
                assert untouched.captured_frames > before
                assert (untouched.losses, untouched.epoch) == (0, 0)

            # Damage and loss on the line, while the model is changed under it.
            line.way = Way.NOISY
            for version in ("2", "3"):
                (tmp_path / "factory.onnx").write_bytes(rectangles_model(version=version))
                answer = daemon.client.reload(common_pb2.SLOT_FACTORY)
                assert answer.outcome == perception_pb2.RELOAD_OUTCOME_SWAPPED
            watch.until(lambda status: counts_of(status).get("decode_error", 0) > 0, "damage is counted")
            line.way = Way.OPEN

            camera.size("320x240")
            frames = (one.detections.frame for one in daemon.client.detections(cameras=["front"]))
            sizes = ((frame.width_px, frame.height_px, frame.epoch) for frame in frames)
            width, height, changed = next(size for size in sizes if size[:2] != (640, 480))
            assert (width, height) == (320, 240) and changed > epoch
            assert {size[:2] for _, size in zip(range(3), sizes, strict=False)} == {(320, 240)}
            status = json.dumps([str(one) for one in daemon.cameras().values()])
            readers = descendants(daemon.process.pid, lambda one: "edge.frames" in str(one.cmdline()))
            assert readers
            took = Stopwatch()
            assert daemon.terminate() == 0
            assert took() < 3.0
        tallies = {one["camera"]: one["frames"] for one in daemon.log if one.get("event") == "frames"}
        told = json.dumps(daemon.log) + "".join(daemon.errors) + status
    for name in ("front", "rear", "side"):
        captured = tallies[name].pop("captured")
        assert captured == sum(tallies[name].values()) > 0, tallies
    assert set(tallies["rear"]) and tallies["rear"]["decode_error"] == 0
    assert tallies["side"]["rate_limited"] > 0
    assert "secret" not in told and "driver" not in told
    eventually(lambda: not [one for one in readers if is_alive(one)], "nothing of it is left")


def test_a_camera_that_is_not_there_at_start_is_waited_for_and_one_that_cannot_be_is_refused(
    tmp_path: Path,
) -> None:
    with RtspCamera() as camera, Line(camera.port) as line:
        line.way = Way.REFUSED
        with DaemonProcess(write_config(tmp_path / "waits", front(line), REAR)) as daemon:
            told = daemon.event("camera_lost")
            assert "Connection refused" in told["message"] and "secret" not in json.dumps(daemon.log)
            line.way = Way.OPEN
            Watch(daemon, "front").until(is_fresh_in(0), "it comes")
        wrong = {"name": "front", "url": "gst:nosuchsource99 ! videoscale"}
        assert "camera 'front': GStreamer has no element 'nosuchsource99'" in refused(
            write_config(tmp_path / "element", wrong)
        )
        missing = {"name": "front", "url": "/dev/video97"}
        assert "camera 'front': there is no device /dev/video97" in refused(
            write_config(tmp_path / "device", missing)
        )
