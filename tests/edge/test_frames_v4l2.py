"""The logic of V4L2 cameras, on devices that are not: a container has none, nor can it load one's driver."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.frames.frame import BrokenFrame, Frame
from edge.frames.sources import LiveOptions, LiveSource, SourceError, open_source
from edge.frames.v4l2 import V4l2Camera, captures, check_device


class Device:
    """Gives pictures until it is pulled out; it keeps the size and rate that it has where `is_stubborn`."""

    def __init__(self, frames: int = 5, is_stubborn: bool = False, broken: tuple[int, ...] = ()) -> None:
        self.values = {
            cv2.CAP_PROP_FRAME_WIDTH: 640.0,
            cv2.CAP_PROP_FRAME_HEIGHT: 480.0,
            cv2.CAP_PROP_FPS: 30.0,
            cv2.CAP_PROP_FOURCC: float(cv2.VideoWriter.fourcc(*"YUYV")),
        }
        self.is_stubborn, self.broken, self.frames = is_stubborn, broken, frames
        self.grabbed, self.released = 0, False
        self.asked: list[int] = []

    def isOpened(self) -> bool:
        return not self.released

    def set(self, propId: int, value: float, /) -> bool:
        self.asked.append(propId)
        if not self.is_stubborn:
            self.values[propId] = value
        return not self.is_stubborn

    def get(self, propId: int, /) -> float:
        return self.values[propId]

    def grab(self) -> bool:
        self.grabbed += 1
        return self.grabbed <= self.frames

    def retrieve(self) -> tuple[bool, Any]:
        if self.grabbed - 1 in self.broken:
            return False, None
        return True, np.full((4, 4, 3), self.grabbed, np.uint8)

    def release(self) -> None:
        self.released = True


def camera(device: Device, **options: Any) -> V4l2Camera:
    return V4l2Camera(
        "/dev/video9",
        LiveOptions(**options),
        check=lambda path: None,
        open_device=lambda path, give_up_s: device,
    )


def test_frames_come_until_it_is_pulled_out_and_broken_ones_in_their_places() -> None:
    device = Device(broken=(1, 3))
    shots = []
    with camera(device) as source:
        assert isinstance(source, LiveSource) and source.rate_hz == 30
        with pytest.raises(SourceError, match="/dev/video9 gives no frames any more: it was pulled out"):
            shots.extend(iter_into(source, shots))
    assert device.released
    assert [shot.sequence for shot in shots] == [0, 1, 2, 3, 4]
    assert [shot.sequence for shot in shots if isinstance(shot, BrokenFrame)] == [1, 3]
    times = [shot.captured_ns for shot in shots]
    assert times == sorted(times)


def iter_into(source: V4l2Camera, shots: list[Frame | BrokenFrame]) -> list[Frame | BrokenFrame]:
    for shot in source:
        shots.append(shot)
    return []


def test_it_is_asked_for_the_format_first_and_checked_afterwards() -> None:
    device = Device()
    source = camera(device, size=(1280, 720), rate_hz=15.0, fourcc="MJPG")
    assert device.asked[0] == cv2.CAP_PROP_FOURCC and source.rate_hz == 15
    untouched = Device()
    camera(untouched)
    assert untouched.asked == []


def test_what_it_gives_instead_is_an_error_that_says_it() -> None:
    device = Device(is_stubborn=True)
    told = (
        r"cannot give fourcc = 'MJPG', size = \[1280, 720\], rate_hz = 60;"
        r" it gives 640x480 at 30 frames/s in 'YUYV'"
    )
    with pytest.raises(SourceError, match=told):
        camera(device, size=(1280, 720), rate_hz=60.0, fourcc="MJPG")
    assert device.released
    device = Device(is_stubborn=True)
    device.values[cv2.CAP_PROP_FPS] = 29.97
    assert camera(device, size=(640, 480), rate_hz=30.0).rate_hz == 29.97


def test_a_device_whose_pictures_never_decode_is_lost() -> None:
    device = Device(frames=10**9, broken=range(10**9))
    source = camera(device, give_up_s=0.05)
    with pytest.raises(SourceError, match=r"no frame decodes for 0\.05 s"):
        for shot in source:
            assert isinstance(shot, BrokenFrame)


def test_grey_cameras_become_bgr() -> None:
    device = Device()
    device.retrieve = lambda: (True, np.zeros((4, 6), np.uint8))
    (shot,) = itertools.islice(camera(device), 1)
    assert isinstance(shot, Frame) and shot.image.shape == (4, 6, 3)


def test_the_kernels_answer_tells_what_captures() -> None:
    def answer(all_devices: int, this_device: int) -> bytes:
        return struct.pack("=16s32s32sIII12x", b"uvcvideo", b"", b"", 0, all_devices, this_device)

    has_own, capture, metadata = 0x80000000, 0x1, 0x00800000
    assert captures(answer(capture, 0))
    assert captures(answer(has_own | capture, capture))
    assert not captures(answer(has_own | capture, metadata))  # the second device of every USB camera
    assert not captures(answer(0x2, 0))


def test_what_is_no_such_device_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no device /dev/video97; here: "):
        open_source("/dev/video97")
    with pytest.raises(SourceError, match="there is no device /dev/v4l/by-path/none"):
        open_source("v4l2:/dev/v4l/by-path/none")
    with pytest.raises(SourceError, match="/dev/null is no video device"):
        check_device("/dev/null")
    with pytest.raises(SourceError, match="is no device"):
        check_device(str(tmp_path))


def test_what_is_for_devices_alone_is_refused_elsewhere() -> None:
    with pytest.raises(
        SourceError, match=r"'size' is for V4L2 devices, and 'rtsp://\*\*\*@10\.0\.0\.2/cam' is none"
    ):
        open_source("rtsp://me:secret@10.0.0.2/cam", live=LiveOptions(size=(640, 480)))
