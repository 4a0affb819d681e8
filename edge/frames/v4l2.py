"""A V4L2 device as a camera, by OpenCV: USB cameras, frame grabbers."""

from __future__ import annotations

import fcntl
import math
import os
import stat
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, cast

import cv2
import numpy as np

from edge.frames.frame import BrokenFrame, Frame, Image
from edge.frames.sources import LiveOptions, SourceError

# VIDIOC_QUERYCAP and what it answers (linux/videodev2.h): driver, card, bus, version, capabilities, and those
# of this very device.
_QUERYCAP = 0x80685600
_CAPABILITY = struct.Struct("=16s32s32sIII12x")
_CAPTURES, _HAS_DEVICE_CAPS = 0x00000001, 0x80000000
_RATE_TOLERANCE = 0.02  # a driver's rates are fractions: 29.97 for 30
# How long a read waits, whole seconds, 10 unless set; its V4L2 knows no CAP_PROP_READ_TIMEOUT_MSEC.
_SELECT_VARIABLE = "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"


class Device(Protocol):
    """What is used of `cv2.VideoCapture`."""

    def isOpened(self) -> bool: ...  # noqa: N802 - OpenCV's names
    def set(self, propId: int, value: float, /) -> bool: ...  # noqa: N803 - OpenCV's names
    def get(self, propId: int, /) -> float: ...  # noqa: N803 - OpenCV's names
    def grab(self) -> bool: ...
    def retrieve(self) -> tuple[bool, Any]: ...
    def release(self) -> None: ...


class V4l2Camera:
    """The frames of a device; a `LiveSource`. It is opened by its path each time."""

    is_live = True
    frame_count: int | None = None

    def __init__(
        self,
        path: str,
        options: LiveOptions,
        *,
        check: Callable[[str], None] | None = None,
        open_device: Callable[[str, float], Device] | None = None,
    ) -> None:
        """Open the device, and have it be what is asked for.

        Args:
            path: such as /dev/video0, or one under /dev/v4l/by-path.
            options: size, rate and pixel format that are asked for.
            check: raises a SourceError where the path is no device that captures; by asking the kernel.
            open_device: opens it, with the time that a read may take, seconds; by OpenCV.

        Raises:
            SourceError: there is no such device, it does not capture, is busy, or gives something else.
        """
        self.name = path
        self._give_up_s = options.give_up_s
        (check or check_device)(path)
        self._device = (open_device or _open)(path, options.give_up_s)
        try:
            self.rate_hz = _set_up(path, self._device, options)
        except SourceError:
            self.close()
            raise

    def __iter__(self) -> Iterator[Frame | BrokenFrame]:
        """Yield what the device gives.

        Raises:
            SourceError: it gives nothing any more.
        """
        sequence, whole_at = 0, time.monotonic()
        while self._device.grab():
            captured_ns = time.monotonic_ns()
            decoded, picture = self._device.retrieve()
            if decoded:
                whole_at = time.monotonic()
                yield Frame(self.name, sequence, 0, captured_ns, _bgr(picture))
            else:
                yield BrokenFrame(self.name, sequence, 0, captured_ns, "the frame does not decode")
                if time.monotonic() - whole_at > self._give_up_s:
                    raise SourceError(f"{self.name}: no frame decodes for {self._give_up_s:g} s")
            sequence += 1
        gone = "" if Path(self.name).exists() else ": it was pulled out"
        raise SourceError(f"{self.name} gives no frames any more{gone}")

    def close(self) -> None:
        """Give the device back."""
        self._device.release()

    def __enter__(self) -> V4l2Camera:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        self.close()


def check_device(path: str) -> None:
    """Ask the kernel whether a device captures video.

    Raises:
        SourceError: it is not there, may not be opened, or does not.
    """
    try:
        if not stat.S_ISCHR(Path(path).stat().st_mode):
            raise SourceError(f"{path} is no device")
        device = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        found = ", ".join(sorted(str(one) for one in Path("/dev").glob("video*"))) or "none"
        raise SourceError(f"there is no device {path}; here: {found}") from None
    except OSError as error:
        raise SourceError(
            f"device {path} cannot be opened: {error.strerror}; is this user in the group 'video'?"
        ) from None
    answer = bytearray(_CAPABILITY.size)
    try:
        fcntl.ioctl(device, _QUERYCAP, answer)
    except OSError:
        raise SourceError(f"{path} is no video device") from None
    finally:
        os.close(device)
    if not captures(bytes(answer)):
        raise SourceError(f"{path} captures no video: it is another of its camera's devices, or an output")


def captures(capability: bytes) -> bool:
    """Whether a device's answer to VIDIOC_QUERYCAP says that it captures video."""
    *_, all_devices, this_device = _CAPABILITY.unpack(capability)
    return bool((this_device if all_devices & _HAS_DEVICE_CAPS else all_devices) & _CAPTURES)


def _open(path: str, give_up_s: float) -> Device:
    if not cv2.videoio_registry.hasBackend(cv2.CAP_V4L2):
        raise SourceError("this OpenCV is built without V4L2; install opencv-python")
    # OpenCV reads it once, at the process's first wait for a frame: the first camera's holds for all.
    os.environ.setdefault(_SELECT_VARIABLE, str(max(1, math.floor(give_up_s))))
    device = cv2.VideoCapture(path, cv2.CAP_V4L2)
    if not device.isOpened():
        raise SourceError(f"device {path} does not open: another program may have it")
    return cast("Device", device)


def _set_up(path: str, device: Device, options: LiveOptions) -> float | None:
    """Ask for what is configured; returns the rate that the device says, None where it says none."""
    # The format first: sizes and rates depend on it.
    if options.fourcc is not None:
        device.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*options.fourcc))
    if options.size is not None:
        device.set(cv2.CAP_PROP_FRAME_WIDTH, options.size[0])
        device.set(cv2.CAP_PROP_FRAME_HEIGHT, options.size[1])
    if options.rate_hz is not None:
        device.set(cv2.CAP_PROP_FPS, options.rate_hz)
    fourcc = int(device.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=False).decode("latin-1")
    size = (int(device.get(cv2.CAP_PROP_FRAME_WIDTH)), int(device.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    rate_hz = device.get(cv2.CAP_PROP_FPS)
    wrong = []
    if options.fourcc is not None and fourcc != options.fourcc:
        wrong.append(f"fourcc = {options.fourcc!r}")
    if options.size is not None and size != options.size:
        wrong.append(f"size = {list(options.size)}")
    if options.rate_hz is not None and abs(rate_hz - options.rate_hz) > _RATE_TOLERANCE * options.rate_hz:
        wrong.append(f"rate_hz = {options.rate_hz:g}")
    if wrong:
        given = f"{size[0]}x{size[1]} at {rate_hz:g} frames/s in {fourcc!r}"
        raise SourceError(f"{path} cannot give {', '.join(wrong)}; it gives {given}")
    return rate_hz if rate_hz > 0 else None


def _bgr(picture: Any) -> Image:
    image = np.asarray(picture, np.uint8)
    if image.ndim == 3 and image.shape[2] == 3:
        return image
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
